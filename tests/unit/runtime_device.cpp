// What the device interface does without a device.
#include "device/device.h"

#include "support/catch.h"
#include "support/thrown.h"

namespace {

using namespace gdn::runtime;
using gdn::test::thrown_by;

TEST_CASE("a missing driver or device is an error, not an end of the process") {
  const auto thrown = thrown_by([] { open_cuda(cuda_device_count()); });
  if (cuda_device_count() > 0) {
    CHECK(thrown.code == Code::kUnsupported);
  } else {
    CHECK((thrown.code == Code::kUnsupported || thrown.code == Code::kMissingLibrary));
  }
  CHECK(thrown_by([] { open_hip(hip_device_count()); }).code);
}

TEST_CASE("which code runs on which device") {
  CHECK(runs_on("sm_90a", "sm_90"));
  CHECK(runs_on("sm_80", "sm_80"));
  CHECK(runs_on("sm_80", "sm_86"));
  CHECK(runs_on("gfx942", "gfx942"));
  CHECK(runs_on("sm_100a", "sm_100"));
  CHECK(runs_on("sm_120a", "sm_120"));
  CHECK(runs_on("gfx1100", "gfx1100"));
  CHECK(runs_on("gfx1200", "gfx1200"));
  // Code for one very architecture: neither its brothers nor its successors run it.
  CHECK_FALSE(runs_on("sm_100a", "sm_103"));
  CHECK_FALSE(runs_on("sm_100a", "sm_120"));
  CHECK_FALSE(runs_on("sm_120a", "sm_121"));
  CHECK_FALSE(runs_on("sm_120a", "sm_100"));
  CHECK_FALSE(runs_on("gfx1100", "gfx1101"));
  CHECK_FALSE(runs_on("gfx1200", "gfx1201"));
  CHECK_FALSE(runs_on("sm_80", "sm_90"));
  CHECK_FALSE(runs_on("sm_90a", "sm_100"));
  CHECK_FALSE(runs_on("sm_86", "sm_80"));
  CHECK_FALSE(runs_on("sm_100a", "sm_90"));
  CHECK_FALSE(runs_on("sm_10", "sm_100"));
  CHECK_FALSE(runs_on("gfx942", "gfx90a"));
  CHECK_FALSE(runs_on("sm_90a", "gfx90a"));
  CHECK_FALSE(runs_on("avx512bf16", "sm_90"));
}

}  // namespace
