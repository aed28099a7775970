// Names of generated code for perf: whole lines, and only in a file that can be nobody else's.
#include "perf_map.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "support/command_line.h"
#include "support/environment.h"
#include "support/thrown.h"

using namespace gdn;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

}  // namespace

TEST_CASE("start, size and name of each kernel, whole lines from several threads, for the owner alone") {
  const test::TemporaryFolder folder;
  const std::string path = (folder.path() / "perf-1.map").string();
  std::vector<std::thread> threads;
  for (std::uintptr_t i = 0; i < 4; ++i) {
    threads.emplace_back([&path, i] {
      for (int j = 0; j < 50; ++j) runtime::append_to_perf_map(path, at(0x1000 * (i + 1)), 0x2f0, "gdn_x_decode_amx");
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = lines_of(path);
  REQUIRE(lines.size() == 200);
  for (const std::string& line : lines) CHECK_THAT(line, Catch::Matches("[1-4]000 2f0 gdn_x_decode_amx"));
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("a file that could be somebody else's is left as it is") {
  const test::TemporaryFolder folder;
  const std::string victim = (folder.path() / "victim").string();
  std::ofstream(victim) << "precious\n";
  const auto refused = [](const std::string& path) {
    return test::thrown_by([&] { runtime::append_to_perf_map(path, at(1), 1, "x"); });
  };
  const std::string link = (folder.path() / "link").string();
  fs::create_symlink(victim, link);
  CHECK(refused(link).code == runtime::Code::kSystem);
  const std::string name = (folder.path() / "name").string();
  fs::create_hard_link(victim, name);
  CHECK(refused(name).has("other names"));
  const std::string pipe = (folder.path() / "folder").string();
  fs::create_directory(pipe);
  CHECK(refused(pipe).code == runtime::Code::kSystem);
  CHECK(lines_of(victim) == std::vector<std::string>{"precious"});
}

TEST_CASE("nothing is written unless it is asked for") {
  const std::string path = "/tmp/perf-" + std::to_string(::getpid()) + ".map";
  fs::remove(path);
  runtime::name_for_perf(at(1), 1, "x");
  {
    const test::Environment off("GDN_PERF_MAP", "0");
    runtime::name_for_perf(at(1), 1, "x");
  }
  CHECK_FALSE(fs::exists(path));
  {
    const test::Environment odd("GDN_PERF_MAP", "yes");
    CHECK(test::thrown_by([] { runtime::name_for_perf(at(1), 1, "x"); }).code == runtime::Code::kBadArgument);
  }
  const test::Environment on("GDN_PERF_MAP", "1");
  runtime::name_for_perf(at(0xabc0), 16, "gdn_x");
  CHECK(lines_of(path) == std::vector<std::string>{"abc0 10 gdn_x"});
  fs::remove(path);
}
