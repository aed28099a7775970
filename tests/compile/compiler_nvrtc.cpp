// NVRTC needs no GPU: it is here or this test fails.
#include <algorithm>

#include "compile/elf.h"
#include "compile/resources.h"
#include "small_kernels.h"
#include "support/catch.h"
#include "support/environment.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::Environment;
using gdn::test::small_cuda_source;
using gdn::test::thrown_by;

TEST_CASE("a kernel compiles to a cubin for each target") {
  const auto nvrtc = make_nvrtc();
  CHECK(nvrtc->name() == "nvrtc");
  CHECK_THAT(nvrtc->version(), Catch::Contains("NVRTC 1"));
  for (const char* target : {"sm_80", "sm_90a", "sm_100a", "sm_120a"}) {
    INFO(target);
    CHECK(nvrtc->knows(target));
    Options options;
    options.no_cache = true;
    const Binary binary = nvrtc->compile(small_cuda_source(), target, options);
    CHECK(is_elf(binary.bytes, Machine::kCuda));
    CHECK_FALSE(section(binary.bytes, ".text.scale").empty());
    CHECK(binary.seconds > 0);
    const Resources resources = resources_of(binary, "scale");
    CHECK(resources.registers > 0);
    CHECK(resources.registers < 64);
    CHECK(resources.stack_bytes == 0);
    CHECK(resources.spill_bytes == 0);
    CHECK_FALSE(resources.has_scratch);
    CHECK(thrown_by([&] { resources_of(binary, "other"); }).has("other"));
  }
}

TEST_CASE("memory of the thread shows in the resources") {
  Source source = small_cuda_source();
  source.text = gdn::test::with_stack(source.text);
  Options options;
  options.no_cache = true;
  const Resources resources = resources_of(make_nvrtc()->compile(source, "sm_90a", options), "scale");
  CHECK(resources.stack_bytes >= 256);
  CHECK(resources.has_scratch);
}

TEST_CASE("a repeated compilation gives the same resources, the library's cache or not") {
  const auto nvrtc = make_nvrtc();
  const Binary first = nvrtc->compile(small_cuda_source(), "sm_80");
  const Binary second = nvrtc->compile(small_cuda_source(), "sm_80");
  CHECK((first.bytes == second.bytes));
  CHECK(resources_of(second, "scale").registers == resources_of(first, "scale").registers);
}

TEST_CASE("an error names the file that is wrong and its line") {
  const auto nvrtc = make_nvrtc();
  Source source = small_cuda_source();
  source.text += "float broken = undeclared_thing;\n";
  const auto thrown = thrown_by([&] { nvrtc->compile(source, "sm_80"); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("small.cu(6)"));
  CHECK(thrown.has("undeclared_thing"));

  source = small_cuda_source();
  source.headers[0].second = "#pragma once\nconstexpr float kFactor = ;\n";
  CHECK(thrown_by([&] { nvrtc->compile(source, "sm_80"); }).has("small/factor.h(2)"));

  source.headers.clear();
  CHECK(thrown_by([&] { nvrtc->compile(source, "sm_80"); }).has("small/factor.h"));
}

TEST_CASE("a target that it doesn't know is refused by name") {
  const auto nvrtc = make_nvrtc();
  for (const char* target : {"sm_1", "sm_", "sm_90x", "sm_9000000000", "gfx942", "avx512bf16", "", "sm_80 --foo"}) {
    INFO(target);
    CHECK_FALSE(nvrtc->knows(target));
    const auto thrown = thrown_by([&] { nvrtc->compile(small_cuda_source(), target); });
    CHECK(thrown.code == Code::kUnsupported);
    CHECK(thrown.has(target));
    CHECK(thrown.has("sm_90"));
  }
}

TEST_CASE("no NVRTC: the error says what was tried and what to do") {
  const auto thrown = thrown_by([] { make_nvrtc({"/nonexistent/libnvrtc.so.13"}); });
  CHECK(thrown.code == Code::kMissingLibrary);
  for (const char* word : {"NVRTC", "/nonexistent/libnvrtc.so.13", "GDN_NVRTC"}) CHECK(thrown.has(word));

  const Environment own("GDN_NVRTC", "/nonexistent/mine.so");
  CHECK(thrown_by([] { make_nvrtc(); }).has("/nonexistent/mine.so"));
  // A library that is another one.
  CHECK(thrown_by([] { make_nvrtc({"libm.so.6"}); }).has("nvrtcVersion"));
}

TEST_CASE("PyPI's packages are found below the toolchain's folder") {
  const PrivateDir dir;
  // Not a library, but found: the error names the file.
  dir.write("nvidia/cu13/lib/libnvrtc.so.13", "not a library");
  dir.write("venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "not a library");
  const Environment toolchain("GDN_TOOLCHAIN_DIR", dir.path().string());
  const std::vector<std::string> candidates = nvrtc_candidates();
  const auto has = [&](const std::string& name) {
    return std::find(candidates.begin(), candidates.end(), (dir.path() / name).string()) != candidates.end();
  };
  CHECK(has("nvidia/cu13/lib/libnvrtc.so.13"));
  CHECK(has("venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"));
  CHECK(thrown_by([&] { make_nvrtc({(dir.path() / "nvidia/cu13/lib/libnvrtc.so.13").string()}); }).code ==
        Code::kMissingLibrary);
}

}  // namespace
