# `cmake --install`: the program with its pages, the C library with what finds it, documents. `cpack -G DEB` makes a package of it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The manual page and the completions, which the program writes from its list of options.
set(SEPLLM_PAGES ${CMAKE_BINARY_DIR}/pages)
add_custom_command(
  OUTPUT ${SEPLLM_PAGES}/sepllm.1 ${SEPLLM_PAGES}/sepllm.bash
  COMMAND ${CMAKE_COMMAND} -E make_directory ${SEPLLM_PAGES}
  COMMAND sepllm --help-man > ${SEPLLM_PAGES}/sepllm.1
  COMMAND sepllm --completion bash > ${SEPLLM_PAGES}/sepllm.bash
  DEPENDS sepllm VERBATIM)
add_custom_target(sepllm_pages ALL DEPENDS ${SEPLLM_PAGES}/sepllm.1 ${SEPLLM_PAGES}/sepllm.bash)

# Programs that use the library link with nothing else: all that it needs is its own.
set(SEPLLM_PC_PREFIX "\${pcfiledir}/../..")
configure_file(${CMAKE_SOURCE_DIR}/cmake/sepllm.pc.in ${CMAKE_BINARY_DIR}/sepllm.pc @ONLY)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/sepllm-config.cmake.in ${CMAKE_BINARY_DIR}/sepllm-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sepllm)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/sepllm-config-version.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS sepllm RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# Next to the program, which looks for it there. Not in the Debian package: it would need all of Open MPI.
install(TARGETS sepllm_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT mpi)
install(TARGETS sepllm_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/sepllm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/sepllm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/sepllm-config.cmake ${CMAKE_BINARY_DIR}/sepllm-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sepllm)
install(FILES ${SEPLLM_PAGES}/sepllm.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${SEPLLM_PAGES}/sepllm.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME sepllm)
install(FILES README.md CHANGELOG.md docs/CLI.md docs/C-API.md docs/METHOD.md docs/NOTICES.md examples/generate.c
        DESTINATION ${CMAKE_INSTALL_DOCDIR})
include(${CMAKE_CURRENT_LIST_DIR}/licences.cmake)
sepllm_install_licences(${CMAKE_INSTALL_DOCDIR}/licences)

set(CPACK_GENERATOR DEB)
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};${PROJECT_NAME};Unspecified;/")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_CONTACT "The SepLLM developers <sepllm@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Language models on the CPU whose attention keeps separators and a window")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_STRIP_FILES ON)
include(CPack)
