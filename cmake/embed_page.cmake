# Writes OUT, a source file that holds the page IN.
file(READ "${IN}" page)
string(LENGTH "${page}" length)
if(length GREATER 60000)
  message(FATAL_ERROR "${IN} is longer than compilers must accept as one string literal")
endif()
file(WRITE "${OUT}" "#include \"server/page/page.h\"\n\nnamespace sepllm::server {\n\nstd::string_view page_html() {\n  return R\"~PAGE~(${page})~PAGE~\";\n}\n\n}  // namespace sepllm::server\n")
