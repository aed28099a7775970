# Writes a C++ file that holds header files as text.
#
#   cmake -DROOT=<folder> -DHEADERS="gdn/a.h,gdn/b.h" -DFUNCTION=<name> -DOUTPUT=<file.cpp> -P embed_headers.cmake
#
# The file defines gdn::runtime::<name>(): the pairs (name below ROOT, text) in the order of HEADERS. A header is cut
# into pieces, since compilers bound the length of one string literal.
foreach(variable ROOT HEADERS FUNCTION OUTPUT)
  if(NOT DEFINED ${variable})
    message(FATAL_ERROR "embed_headers.cmake: give -D${variable}=...")
  endif()
endforeach()

string(REPLACE "," ";" headers "${HEADERS}")
set(text "// Made from ${FUNCTION} by embed_headers.cmake.\n#include \"compile/headers.h\"\n\nnamespace gdn::runtime {\n\n")
string(APPEND text "const std::vector<Header>& ${FUNCTION}() {\n  static const std::vector<Header> headers = {\n")
foreach(header IN LISTS headers)
  file(READ "${ROOT}/${header}" body)
  string(FIND "${body}" ")gdn_text\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "${ROOT}/${header} holds the end of a raw string: )gdn_text\"")
  endif()
  string(APPEND text "      {\"${header}\",\n       std::string()")
  string(LENGTH "${body}" length)
  set(begin 0)
  while(begin LESS length)
    string(SUBSTRING "${body}" ${begin} 8000 piece)
    string(APPEND text "\n           .append(R\"gdn_text(${piece})gdn_text\")")
    math(EXPR begin "${begin} + 8000")
  endwhile()
  string(APPEND text "},\n")
endforeach()
string(APPEND text "  };\n  return headers;\n}\n\n}  // namespace gdn::runtime\n")
file(WRITE "${OUTPUT}" "${text}")
