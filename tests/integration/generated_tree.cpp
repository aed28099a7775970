// generated/ is what the specs say, and writing it is fast.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "support/catch.h"
#include "support/command_line.h"
#include "support/pace.h"

using gdn::test::CommandLine;

TEST_CASE("the generated tree is current") {
  const auto result = CommandLine::run({GDN_PROGRAM, "check", "specs", "generated"});
  INFO(result.output);
  CHECK(result.status == 0);
}

TEST_CASE("all specs for all targets are emitted within a second") {
  // The best of three: what else runs on the machine says nothing about the generator.
  const gdn::test::Pace pace;
  double best_s = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    const gdn::test::TemporaryFolder folder;
    const auto start = std::chrono::steady_clock::now();
    const auto result = CommandLine::run({GDN_PROGRAM, "emit", "specs", "--out", folder.path().string()});
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    INFO(result.output);
    CHECK(result.status == 0);
    best_s = std::min(best_s, spent.count());
  }
  std::printf("emit of all specs for all targets: %.2f s\n", best_s);
  CHECK(best_s < pace.allow(1.0));
}

TEST_CASE("emitting one spec into a whole tree leaves the tree current") {
  const gdn::test::TemporaryFolder folder;
  const std::string out = folder.path().string();
  REQUIRE(CommandLine::run({GDN_PROGRAM, "emit", "specs", "--out", out}).status == 0);
  for (const std::vector<std::string>& part : std::vector<std::vector<std::string>>{
           {"qwen3_5_27b"}, {"specs", "--target", "sm_80"}, {"specs", "--operation", "gating"}}) {
    std::vector<std::string> arguments = {GDN_PROGRAM, "emit", "--out", out};
    arguments.insert(arguments.end(), part.begin(), part.end());
    REQUIRE(CommandLine::run(arguments).status == 0);
    const auto result = CommandLine::run({GDN_PROGRAM, "check", "specs", out});
    INFO(part[0] << ": " << result.output);
    CHECK(result.status == 0);
  }
}

TEST_CASE("a changed, a missing and an orphaned file are each found") {
  const gdn::test::TemporaryFolder folder;
  const std::string out = folder.path().string();
  REQUIRE(CommandLine::run({GDN_PROGRAM, "emit", "specs", "--out", out}).status == 0);
  REQUIRE(CommandLine::run({GDN_PROGRAM, "check", "specs", out}).status == 0);
  gdn::test::append(folder.path() / "cuda/gdn_qwen3_5_27b_decode_sm_90a.cu", "// by hand\n");
  std::filesystem::remove(folder.path() / "hip/gdn_olmo_hybrid_7b_unpack_gfx942.hip");
  gdn::test::append(folder.path() / "cuda/gdn_nobody_decode_sm_90a.cu", "// left over\n");
  const auto result = CommandLine::run({GDN_PROGRAM, "check", "specs", out});
  INFO(result.output);
  CHECK(result.status == 1);
  CHECK(result.has("changed: " + out + "/cuda/gdn_qwen3_5_27b_decode_sm_90a.cu"));
  CHECK(result.has("missing: " + out + "/hip/gdn_olmo_hybrid_7b_unpack_gfx942.hip"));
  CHECK(result.has("orphaned: " + out + "/cuda/gdn_nobody_decode_sm_90a.cu"));
}
