// hiprtc compiles in a child process. It is here or this test fails.
#include "compile/elf.h"
#include "compile/resources.h"
#include "small_kernels.h"
#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::small_hip_source;
using gdn::test::thrown_by;

TEST_CASE("a kernel compiles to a code object for gfx90a") {
  const auto hiprtc = make_hiprtc();
  CHECK(hiprtc->name() == "hiprtc");
  CHECK_THAT(hiprtc->version(), Catch::Contains("HIP "));
  REQUIRE(hiprtc->knows("gfx90a"));
  Binary binary = hiprtc->compile(small_hip_source(), "gfx90a");
  CHECK(is_elf(binary.bytes, Machine::kAmdGpu));
  binary.assembly = disassembly(binary);
  CHECK_THAT(binary.assembly, Catch::Contains("\tglobal_store_dword"));
  const Resources resources = resources_of(binary, "scale");
  CHECK(resources.registers > 0);
  CHECK_FALSE(resources.has_scratch);
  CHECK_FALSE(resources.has_flat);

  Source source = small_hip_source();
  source.text = "extern \"C\" __attribute__((global)) void scale(void* to) { **(float* volatile*)to = 1.0f; }\n";
  binary = hiprtc->compile(source, "gfx90a");
  binary.assembly = disassembly(binary);
  CHECK(resources_of(binary, "scale").has_flat);
  binary.bytes.resize(50);
  CHECK(thrown_by([&] { disassembly(binary); }).code == Code::kCompileFailed);
}

TEST_CASE("an error's text arrives from the child") {
  Source source = small_hip_source();
  source.headers[0].second = "#pragma once\nconstexpr float kFactor = undeclared_thing;\n";
  const auto thrown = thrown_by([&] { make_hiprtc()->compile(source, "gfx90a"); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("small/factor.h:2:"));
  CHECK(thrown.has("undeclared_thing"));
}

TEST_CASE("an architecture that it doesn't know is refused, and this process lives") {
  const auto hiprtc = make_hiprtc();
  for (const char* target : {"gfx942", "gfx9999", "sm_90a", ""}) {
    INFO(target);
    if (hiprtc->knows(target)) continue;  // a ROCm newer than Debian's
    const auto thrown = thrown_by([&] { hiprtc->compile(small_hip_source(), target); });
    CHECK(thrown.code == Code::kUnsupported);
    CHECK(thrown.has(target));
    CHECK(thrown.has("gfx90a"));
  }
}

// The table can be wrong; the child is what keeps the process alive then. A second --offload-arch overrides the first.
TEST_CASE("an abort inside the library ends the child only") {
  const auto hiprtc = make_hiprtc();
  Options options;
  options.extra = {"--offload-arch=gfx9999"};
  const auto thrown = thrown_by([&] { hiprtc->compile(small_hip_source(), "gfx90a", options); });
  CHECK(thrown.code == Code::kCompileFailed);
  CHECK(thrown.has("gfx90a"));
}

TEST_CASE("no hiprtc: the error says what was tried and what to do") {
  const auto thrown = thrown_by([] { make_hiprtc({"/nonexistent/libhiprtc.so"}); });
  CHECK(thrown.code == Code::kMissingLibrary);
  for (const char* word : {"hiprtc", "/nonexistent/libhiprtc.so", "GDN_HIPRTC"}) CHECK(thrown.has(word));
  CHECK(thrown_by([] { make_hiprtc({"libm.so.6"}); }).has("hiprtcVersion"));
}

}  // namespace
