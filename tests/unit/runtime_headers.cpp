// The headers inside the library are the files, all of them, to the byte.
#include "compile/headers.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "support/catch.h"

namespace {

using gdn::runtime::Header;

std::map<std::string, std::string> files_of(const std::string& folder, const std::string& prefix) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file() || entry.path().extension() == ".md") continue;  // a page beside the headers
    std::ifstream file(entry.path(), std::ios::binary);
    files[prefix + entry.path().lexically_relative(folder).generic_string()] = {std::istreambuf_iterator<char>(file),
                                                                                std::istreambuf_iterator<char>()};
  }
  return files;
}

void compare(const std::vector<Header>& embedded, const std::map<std::string, std::string>& files) {
  CHECK_FALSE(files.empty());
  CHECK(embedded.size() == files.size());
  for (const auto& [name, text] : embedded) {
    INFO(name);
    const auto file = files.find(name);
    REQUIRE(file != files.end());
    CHECK(file->second.size() == text.size());
    CHECK((file->second == text));
  }
}

TEST_CASE("the template headers") {
  compare(gdn::runtime::template_headers(), files_of(GDN_SOURCE_DIR "/templates/gdn", "gdn/"));
}

TEST_CASE("the host shim's headers") {
  compare(gdn::runtime::host_headers(), files_of(GDN_SOURCE_DIR "/runtime/host/gdn_host", "gdn_host/"));
}

}  // namespace
