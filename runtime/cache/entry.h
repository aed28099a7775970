// One entry of the disk cache as files in a folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "cache/key.h"
#include "compile/compiler.h"

namespace gdn::runtime {

// Reads and checks an entry: owner, sizes, checksums, key. Nothing where anything differs; never throws. Renews the
// time of use.
std::optional<Binary> read_entry(const std::filesystem::path& folder, const CacheKey& key);

// Writes an entry's files into an empty folder. Returns why it failed; empty: it did not.
std::string write_entry(const std::filesystem::path& folder, const CacheKey& key, const Source& source,
                        const Binary& binary);

// The file whose time is the entry's last use.
inline constexpr const char* kEntryInfo = "info";

}  // namespace gdn::runtime
