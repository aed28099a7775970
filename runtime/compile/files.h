// A source and its headers as files, for compilers that are programs.
#pragma once

#include <string>

#include "compile/compiler.h"
#include "compile/private_dir.h"

namespace gdn::runtime {

// Writes the source and its headers below `dir` and returns the source's file name there. Compilers run with `dir` as
// their directory and see relative names only, so that neither diagnostics nor binaries name a temporary path.
std::string write_source(const PrivateDir& dir, const Source& source);

// A program or library as it lies on the disk: its path with links followed, size and time of its last change. Another
// version has another stamp. Starts no process.
std::string file_stamp(const std::string& path);

// The first line of `program --version`. Throws kMissingLibrary naming the program when there is none.
std::string version_line(const std::string& program);

}  // namespace gdn::runtime
