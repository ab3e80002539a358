# sepllm_install_licences(DESTINATION [COMPONENT NAME]): the notices of the libraries inside, as the system that builds has them.
function(sepllm_install_licences destination)
  foreach(package libhwy-dev libopenblas0-pthread nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev libpcre2-dev libutf8proc-dev
                  libsentencepiece-dev libyaml-cpp-dev zlib1g-dev libzstd-dev libopenmpi-dev libboost1.74-dev prometheus-cpp-dev)
    if(EXISTS /usr/share/doc/${package}/copyright)
      install(FILES /usr/share/doc/${package}/copyright DESTINATION ${destination} RENAME ${package} ${ARGN})
    endif()
  endforeach()
endfunction()
