# gdn_gen_add_library(<target> SPECS <spec>... TARGETS <target>...
#                     [OPERATIONS <operation>...] [RANKS <n>] [BUNDLE <file>] [ALLOW_UNVERIFIED])
#
# A static library that holds the kernels of specs, compiled when the project is built:
#
#   gdn_gen_add_library(kernels SPECS specs/my_model.yaml TARGETS sm_90a gfx942 avx512bf16)
#   target_link_libraries(engine PRIVATE kernels)
#
#   #include "kernels.h"
#   gdn_set* set;
#   kernels_open(NULL, NULL, &set);    /* a spec's name where there are several, options, the set */
#
# SPECS             files, relative to the current source directory, or names of specs that come with gdn-gen; each with
#                   overlays where wanted: "specs/my_model.yaml+vllm_ds"
# TARGETS           sm_90a, gfx942, ..., or all. Compilers for them must be here: NVRTC, clang or hiprtc; none for a CPU
# OPERATIONS        decode, unpack, ...; default: all
# RANKS             kernels of one rank of so many
# BUNDLE            the bundle's file; default: <target>.gdnb in the current binary directory
# ALLOW_UNVERIFIED  accept specs with values that nobody has read in a primary source
#
# The library links gdn_gen::gdn. The bundle is made again when a spec, an overlay or gdn-gen itself changes, and what
# depends on it only when its content does. A cross build sets GDN_GEN_EXECUTABLE to a gdn-gen that runs on the host.

set(GDN_GEN_EXECUTABLE "" CACHE FILEPATH "A gdn-gen that runs on this machine; empty: the package's own")

function(gdn_gen_add_library target)
  set(flags ALLOW_UNVERIFIED)
  set(single RANKS BUNDLE)
  set(multiple SPECS TARGETS OPERATIONS)
  cmake_parse_arguments(PARSE_ARGV 1 arg "${flags}" "${single}" "${multiple}")
  set(where "gdn_gen_add_library(${target})")
  list(JOIN flags ", " known_flags)
  set(legal "SPECS, TARGETS, OPERATIONS (each with values); RANKS, BUNDLE (one value); ${known_flags} (none)")
  if(arg_UNPARSED_ARGUMENTS)
    list(JOIN arg_UNPARSED_ARGUMENTS " " unknown)
    message(FATAL_ERROR "${where}: unknown arguments: ${unknown}. The keywords are ${legal}")
  endif()
  if(arg_KEYWORDS_MISSING_VALUES)
    list(JOIN arg_KEYWORDS_MISSING_VALUES ", " empty)
    message(FATAL_ERROR "${where}: no value for ${empty}. The keywords are ${legal}")
  endif()
  foreach(keyword SPECS TARGETS)
    if(NOT arg_${keyword})
      message(FATAL_ERROR "${where}: ${keyword} is missing. The keywords are ${legal}")
    endif()
  endforeach()
  if(TARGET ${target})
    message(FATAL_ERROR "${where}: there is a target of this name")
  endif()
  if(NOT target MATCHES "^[A-Za-z_][A-Za-z0-9_]*$")
    message(FATAL_ERROR "${where}: the name becomes that of C functions: letters, digits and _ only")
  endif()
  foreach(name IN LISTS arg_TARGETS)
    if(NOT name IN_LIST GDN_GEN_TARGETS AND NOT name STREQUAL "all")
      list(JOIN GDN_GEN_TARGETS ", " names)
      message(FATAL_ERROR "${where}: unknown target ${name} in TARGETS. The targets are ${names}, or all")
    endif()
  endforeach()
  foreach(name IN LISTS arg_OPERATIONS)
    if(NOT name IN_LIST GDN_GEN_OPERATIONS)
      list(JOIN GDN_GEN_OPERATIONS ", " names)
      message(FATAL_ERROR "${where}: unknown operation ${name} in OPERATIONS. The operations are ${names}")
    endif()
  endforeach()
  if(DEFINED arg_RANKS AND NOT arg_RANKS MATCHES "^[1-9][0-9]*$")
    message(FATAL_ERROR "${where}: RANKS takes a positive number, not ${arg_RANKS}")
  endif()

  set(specs "")
  set(files "")
  foreach(spec IN LISTS arg_SPECS)
    string(REGEX MATCH "^[^+]*" file "${spec}")
    string(LENGTH "${file}" length)
    string(SUBSTRING "${spec}" ${length} -1 overlays)
    if(file MATCHES "\\.yaml$" OR file MATCHES "/")
      get_filename_component(file "${file}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
      if(NOT EXISTS "${file}")
        message(FATAL_ERROR "${where}: no spec ${file}")
      endif()
      list(APPEND files "${file}")
    endif()
    list(APPEND specs "${file}${overlays}")
  endforeach()

  set(bundle "${CMAKE_CURRENT_BINARY_DIR}/${target}.gdnb")
  if(DEFINED arg_BUNDLE)
    get_filename_component(bundle "${arg_BUNDLE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")
  endif()
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}_kernels")
  set(stamp "${folder}/stamp")
  set(depfile "${folder}/depfile")
  if(GDN_GEN_EXECUTABLE)
    set(tool "${GDN_GEN_EXECUTABLE}")
  else()
    set(tool gdn_gen::gdn-gen)
  endif()
  list(JOIN arg_TARGETS "," targets)
  set(options --target ${targets} --bundle ${bundle} --depfile ${depfile} --depfile-target ${stamp} --quiet)
  if(arg_OPERATIONS)
    list(JOIN arg_OPERATIONS "," operations)
    list(APPEND options --operation ${operations})
  endif()
  if(arg_RANKS)
    list(APPEND options --tp ${arg_RANKS})
  endif()
  if(arg_ALLOW_UNVERIFIED)
    list(APPEND options --allow-unverified)
  endif()

  # A stamp, since an unchanged bundle keeps its time: as an OUTPUT it would be out of date for ever under make.
  add_custom_command(OUTPUT ${stamp}
    BYPRODUCTS ${bundle}
    COMMAND ${tool} build ${specs} ${options}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${tool} ${files}
    DEPFILE ${depfile}
    WORKING_DIRECTORY ${GDN_GEN_DATA_DIR}
    COMMENT "Building the kernels of ${target}"
    VERBATIM)
  add_custom_target(${target}_bundle DEPENDS ${stamp})

  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  set(extension c)
  if(NOT C IN_LIST languages)
    set(extension cpp)
  endif()
  set(GDN_LIBRARY ${target})
  set(GDN_BUNDLE ${bundle})
  configure_file(${GDN_GEN_CMAKE_DIR}/library.h.in ${folder}/${target}.h @ONLY)
  configure_file(${GDN_GEN_CMAKE_DIR}/library.c.in ${folder}/${target}.${extension} @ONLY)
  add_library(${target} STATIC ${folder}/${target}.${extension})
  set_source_files_properties(${folder}/${target}.${extension} PROPERTIES OBJECT_DEPENDS ${bundle})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON GDN_GEN_BUNDLE ${bundle})
  add_dependencies(${target} ${target}_bundle)
  target_include_directories(${target} PUBLIC ${folder})
  target_link_libraries(${target} PUBLIC gdn_gen::gdn)
endfunction()
