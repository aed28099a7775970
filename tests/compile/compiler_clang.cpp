// clang as a subprocess for AMD's GPUs. clang-19 and clang-22 are here or this test fails.
#include "compile/elf.h"
#include "compile/resources.h"
#include "small_kernels.h"
#include "support/catch.h"
#include "support/environment.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::Environment;
using gdn::test::fake_program;
using gdn::test::small_hip_source;
using gdn::test::thrown_by;
using std::chrono::milliseconds;

TEST_CASE("a kernel compiles to a code object for each target") {
  const auto clang = make_clang();
  CHECK(clang->name() == "clang");
  CHECK_THAT(clang->version(), Catch::Contains("clang version"));
  Options options;
  options.assembly = true;
  for (const char* target : {"gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1200"}) {
    INFO(target);
    CHECK(clang->knows(target));
    const Binary binary = clang->compile(small_hip_source(), target, options);
    CHECK(is_elf(binary.bytes, Machine::kAmdGpu));
    // GCN's name of a store of 32 bits, or RDNA's.
    CHECK_THAT(binary.assembly, Catch::Contains(target) &&
                                    (Catch::Contains("global_store_dword") || Catch::Contains("global_store_b32")));
    CHECK_THAT(binary.log, Catch::Contains("ScratchSize"));
    const Resources resources = resources_of(binary, "scale");
    CHECK(resources.registers > 0);
    CHECK(resources.stack_bytes == 0);
    CHECK(resources.spill_bytes == 0);
    CHECK_FALSE(resources.has_scratch);
    CHECK_FALSE(resources.has_flat);
    CHECK(thrown_by([&] { resources_of(binary, "other"); }).has("other"));
  }
}

TEST_CASE("scratch and flat accesses show in the resources") {
  const auto clang = make_clang();
  Options options;
  options.assembly = true;
  Source source = small_hip_source();
  source.text = gdn::test::with_stack(source.text);
  const Resources scratch = resources_of(clang->compile(source, "gfx942", options), "scale");
  CHECK(scratch.has_scratch);
  CHECK(scratch.stack_bytes >= 256);

  source = small_hip_source();  // a pointer out of memory: the compiler can't tell where it points
  source.text =
      "extern \"C\" __attribute__((global)) void scale(float* __attribute__((address_space(1)))* out) "
      "{ float* to = (float*)((float* volatile*)out)[0]; *to = 1.0f; }\n";
  CHECK(resources_of(clang->compile(source, "gfx942", options), "scale").has_flat);
}

TEST_CASE("an error names the file that is wrong and its line, and no temporary path") {
  const auto clang = make_clang();
  Source source = small_hip_source();
  source.headers[0].second = "#pragma once\nconstexpr float kFactor = undeclared_thing;\n";
  const auto thrown = thrown_by([&] { clang->compile(source, "gfx90a"); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("small/factor.h:2:"));
  CHECK(thrown.has("undeclared_thing"));
  CHECK_FALSE(thrown.has("/gdn-"));
}

TEST_CASE("a target that it doesn't know is refused by name") {
  const auto clang = make_clang();
  for (const char* target : {"gfx9999", "sm_90a", "", "gfx90a -o /tmp/x", "gfx90a;id"}) {
    INFO(target);
    CHECK_FALSE(clang->knows(target));
    const auto thrown = thrown_by([&] { clang->compile(small_hip_source(), target); });
    CHECK(thrown.code == Code::kUnsupported);
    CHECK(thrown.has(target));
  }
  // An older one does not stand in for a newer one, and is not asked to try.
  CHECK_FALSE(make_clang({"clang++-19"})->knows("gfx950"));
  CHECK(make_clang({"clang++-19", "clang++-22"})->knows("gfx950"));
}

TEST_CASE("no clang: the error says what was tried and what to do") {
  const auto thrown = thrown_by([] { make_clang({"clang++-nonexistent"}); });
  CHECK(thrown.code == Code::kMissingLibrary);
  for (const char* word : {"clang++-nonexistent", "Install clang-19", "GDN_CLANG"}) CHECK(thrown.has(word));
  const Environment own("GDN_CLANG", "/nonexistent/clang++");
  CHECK(thrown_by([] { make_clang(); }).has("/nonexistent/clang++"));
}

// What a compiler may do wrong, once it said that it knows the target.
TEST_CASE("a compiler that hangs, crashes or returns garbage is an error") {
  const PrivateDir dir;
  const std::string ask = "case \"$*\" in *-fsyntax-only*) exit 0;; esac\n";
  const std::string last = "for last; do :; done\n";  // the name after -o
  Options options;
  options.time_limit = milliseconds(700);

  const std::string hangs = fake_program(dir, "hangs", ask + "sleep 100");
  const auto hung = thrown_by([&] { make_clang({hangs})->compile(small_hip_source(), "gfx942", options); });
  CHECK(hung.code == Code::kTimedOut);
  CHECK(hung.has("killed after"));

  const std::string crashes =
      fake_program(dir, "crashes", ask + "echo 'PLEASE submit a bug report' >&2; kill -SEGV $$");
  const auto crashed = thrown_by([&] { make_clang({crashes})->compile(small_hip_source(), "gfx942"); });
  CHECK(crashed.code == Code::kCompileFailed);
  CHECK(crashed.has("signal 11"));
  CHECK(crashed.has("PLEASE submit a bug report"));

  const std::string garbles = fake_program(dir, "garbles", ask + last + "echo garbage > \"$last\"");
  const auto garbled = thrown_by([&] { make_clang({garbles})->compile(small_hip_source(), "gfx942"); });
  CHECK(garbled.code == Code::kCompileFailed);
  CHECK(garbled.has("no AMD GPU code object"));

  const std::string silent = fake_program(dir, "silent", "exit 0");
  CHECK(thrown_by([&] { make_clang({silent})->compile(small_hip_source(), "gfx942"); }).code == Code::kCompileFailed);
}

}  // namespace
