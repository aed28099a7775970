// The generated tree: written where it differs, whole or not at all, and compared without asking the tree what to
// expect.
#include <filesystem>
#include <fstream>

#include "emit/tree.h"
#include "support/catch.h"
#include "support/command_line.h"

using namespace gdn;
using gdn::test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

const std::vector<emit::EmittedFile> kFiles = {{"cuda/a.cu", "a\n"}, {"hip/b.hip", "b\n"}};

}  // namespace

TEST_CASE("a tree is written once and left alone when it is current") {
  const TemporaryFolder folder;
  emit::Written first = emit::write(kFiles, folder.path());
  CHECK(first.written == 2);
  const auto stamp = fs::last_write_time(folder.path() / "cuda/a.cu");
  emit::Written second = emit::write(kFiles, folder.path());
  CHECK(second.written == 0);
  CHECK(second.unchanged == 2);
  CHECK(fs::last_write_time(folder.path() / "cuda/a.cu") == stamp);
  CHECK(emit::compare(kFiles, folder.path()).empty());
}

TEST_CASE("changed, missing and orphaned files are found") {
  const TemporaryFolder folder;
  emit::write(kFiles, folder.path());
  put(folder.path() / "cuda/a.cu", "edited by hand\n");
  fs::remove(folder.path() / "hip/b.hip");
  put(folder.path() / "hip/old.hip", "nobody's\n");
  put(folder.path() / "stray.txt", "nobody's\n");
  const auto findings = emit::compare(kFiles, folder.path());
  std::vector<std::pair<emit::Difference, std::string>> found;
  for (const emit::Finding& finding : findings) found.emplace_back(finding.difference, finding.path);
  std::sort(found.begin(), found.end());
  CHECK(found == std::vector<std::pair<emit::Difference, std::string>>{{emit::Difference::kChanged, "cuda/a.cu"},
                                                                       {emit::Difference::kMissing, "hip/b.hip"},
                                                                       {emit::Difference::kOrphaned, "hip/old.hip"},
                                                                       {emit::Difference::kOrphaned, "stray.txt"}});
}

TEST_CASE("a file that cannot be written keeps its old content and leaves nothing beside it") {
  const TemporaryFolder folder;
  emit::write(kFiles, folder.path());
  // A folder where the file should be cannot be replaced by a rename, whoever runs the test.
  fs::create_directories(folder.path() / "cuda/c.cu/inside");
  CHECK_THROWS_WITH(emit::write({{"cuda/c.cu", "c\n"}}, folder.path()), Catch::Contains("cannot write"));
  CHECK(fs::is_directory(folder.path() / "cuda/c.cu/inside"));
  int entries = 0;
  for (const auto& entry : fs::directory_iterator(folder.path() / "cuda")) {
    CHECK(entry.path().extension() != ".tmp");
    ++entries;
  }
  CHECK(entries == 2);
  CHECK_THROWS_WITH(emit::write({{"cuda/a.cu/d.cu", "d\n"}}, folder.path()), Catch::Contains("cannot make"));
  CHECK(emit::read_file(folder.path() / "cuda/a.cu") == "a\n");
}
