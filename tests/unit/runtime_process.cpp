// Child processes: their output, their endings, their time limit, and nothing left behind.
#include "compile/process.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "compile/library.h"
#include "compile/private_dir.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::thrown_by;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("a program's output, errors and status arrive") {
  const ProcessResult result =
      run_process({"/bin/sh", "-c", "echo out; echo 'two  words' >&2; exit 3"}, "/", seconds(20));
  CHECK(result.output == "out\n");
  CHECK(result.errors == "two  words\n");
  CHECK(result.status == 3);
  CHECK_FALSE(result.ok());
  CHECK(result.ending() == "exit status 3");
  CHECK(run_process({"/bin/pwd"}, "/usr", seconds(20)).output == "/usr\n");
  // No shell looks at the arguments.
  CHECK(run_process({"/bin/echo", "$HOME; `id`", "*"}, "", seconds(20)).output == "$HOME; `id` *\n");
}

TEST_CASE("much output on both streams does not block") {
  const ProcessResult result =
      run_process({"/bin/sh", "-c", "head -c 3000000 /dev/zero >&2; head -c 20000000 /dev/zero"}, "", seconds(60));
  CHECK(result.ok());
  CHECK(result.errors.size() == 3000000);
  CHECK(result.output.size() == std::size_t{16} << 20);
}

TEST_CASE("a program that hangs is killed with its children") {
  const PrivateDir dir;
  const std::string child_file = (dir.path() / "child").string();
  const ProcessResult result =
      run_process({"/bin/sh", "-c", "sleep 100 & echo $! > \"$0\"; wait", child_file}, "", milliseconds(500));
  CHECK(result.timed_out);
  CHECK_FALSE(result.ok());
  CHECK(result.seconds < 20);
  CHECK_THAT(result.ending(), Catch::Contains("killed after"));
  const pid_t grandchild = std::atoi(dir.read("child").c_str());
  REQUIRE(grandchild > 0);
  int tries = 0;  // until init has reaped it, its number is there as a zombie's
  const std::string stat = "/proc/" + std::to_string(grandchild) + "/stat";
  const auto runs = [&] {
    const ProcessResult state = run_process({"/bin/cat", stat}, "", seconds(20));
    return state.ok() && state.output.find(") Z ") == std::string::npos;
  };
  while (runs() && ++tries < 50) usleep(20000);
  CHECK_FALSE(runs());
}

TEST_CASE("a grandchild that keeps the pipes open does not hold its caller") {
  const ProcessResult result = run_process({"/bin/sh", "-c", "sleep 100 & echo done"}, "", seconds(60));
  CHECK(result.ok());
  CHECK(result.output == "done\n");
  CHECK(result.seconds < 30);
}

TEST_CASE("a program that is not there is an error with its name") {
  const auto thrown = thrown_by([] { run_process({"/nonexistent/compiler"}, "", seconds(5)); });
  CHECK(thrown.code == Code::kSystem);
  CHECK(thrown.has("/nonexistent/compiler"));
}

TEST_CASE("a forked body returns bytes, and its failures stay in the child") {
  const std::string bytes("a\0b", 3);
  CHECK(run_forked([&] { return bytes; }, seconds(20)).output == bytes);

  const ProcessResult thrown = run_forked([]() -> std::string { throw std::runtime_error("not today"); }, seconds(20));
  CHECK(thrown.status == 1);
  CHECK(thrown.errors == "not today");

  const ProcessResult aborted = run_forked([]() -> std::string { std::abort(); }, seconds(20));
  CHECK(aborted.signal == SIGABRT);
  CHECK_THAT(aborted.ending(), Catch::Contains("signal 6"));

  const ProcessResult hung = run_forked(
      []() -> std::string {
        sleep(100);
        return "late";
      },
      milliseconds(200));
  CHECK(hung.timed_out);
  CHECK(hung.output.empty());
}

TEST_CASE("a private directory is this user's alone and goes with its object") {
  std::filesystem::path path;
  {
    const PrivateDir dir;
    path = dir.path();
    struct stat info = {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
    CHECK(info.st_uid == geteuid());
    const PrivateDir other;
    CHECK(other.path() != path);
    dir.write("gdn/deep/file.h", "text\n");
    CHECK(dir.read("gdn/deep/file.h") == "text\n");
    for (const char* name : {"../out", "/tmp/out", "", "a/../../out"}) {
      INFO(name);
      CHECK(thrown_by([&] { dir.write(name, "x"); }).code == Code::kBadArgument);
    }
    CHECK(thrown_by([&] { dir.read("missing"); }).code == Code::kSystem);
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a temporary folder that can't be had is an error with the fix") {
  const std::string before = environment("TMPDIR");
  setenv("TMPDIR", "/nonexistent/folder", 1);
  const auto thrown = thrown_by([] { const PrivateDir dir; });
  before.empty() ? unsetenv("TMPDIR") : setenv("TMPDIR", before.c_str(), 1);
  CHECK(thrown.code == Code::kSystem);
  CHECK(thrown.has("/nonexistent/folder"));
  CHECK(thrown.has("TMPDIR"));
}

TEST_CASE("a library that is not there is an error that names what was tried") {
  const auto thrown =
      thrown_by([] { Library("the thing", {"libnot-there.so.1", "/nonexistent/lib.so"}, "Install it."); });
  CHECK(thrown.code == Code::kMissingLibrary);
  for (const char* word : {"the thing", "libnot-there.so.1", "/nonexistent/lib.so", "Install it."})
    CHECK(thrown.has(word));

  const Library math("the math library", {"libnot-there.so.1", "libm.so.6"}, "");
  CHECK_THAT(math.path(), Catch::Contains("libm.so.6"));
  CHECK(math.find("no_such_function") == nullptr);
  CHECK(thrown_by([&] { math.require("no_such_function"); }).has("no_such_function"));
}

}  // namespace
