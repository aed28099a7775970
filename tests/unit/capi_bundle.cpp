// Bundles through the C interface: the kernels of one spec of several, and a file that is no good.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "gdn/gdn.hpp"
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/command_line.h"
#include "support/specs.h"

namespace {

using namespace gdn;

runtime::BundleKernel kernel(const spec::Spec& spec, const char* operation, const char* target) {
  runtime::BundleKernel made;
  made.plan = plan::make(layout::resolve(spec), operation, *plan::find_target(target)).kernel;
  if (std::string(target) != "avx512bf16") made.binary = {1, 2, 3};
  return made;
}

struct File {
  test::TemporaryFolder folder;
  std::string path = (folder.path() / "model.gdnb").string();
  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
};

gdn_status status_of(const std::string& path, const char* spec = nullptr) {
  gdn_set* set = nullptr;
  const gdn_status status = gdn_set_open_bundle(path.c_str(), spec, nullptr, &set);
  gdn_set_close(set);
  return status;
}

TEST_CASE("a bundle's kernels of one spec become a set") {
  const File file;
  file.write(runtime::make_bundle({kernel(test::fuzz("fuzz_gdn"), "gating", "avx512bf16"),
                                   kernel(test::fuzz("fuzz_gdn"), "decode", "sm_90a"),
                                   kernel(test::fuzz("fuzz_split"), "decode", "sm_90a")}));
  const Set set = Set::open_bundle(file.path, "fuzz_gdn");
  CHECK(gdn_set_size(set.get()) == 2);
  CHECK(set.supports("decode", "sm_90a"));
  CHECK_FALSE(set.supports("decode", "avx512bf16"));
  CHECK_THAT(set.plan("gating", "avx512bf16"), Catch::Contains("gdn_fuzz_gdn_gating_avx512bf16"));
  if (set.supports("gating", "cpu")) CHECK(set.open("gating", "cpu").symbol() == "gdn_fuzz_gdn_gating_avx512bf16");
  // A binary for GPUs is of no use on the host shim, and there is no source.
  CHECK_THROWS_WITH(set.open("decode", "simt"), Catch::Contains("neither a binary nor a source"));

  CHECK(gdn_set_size(Set::open_bundle(file.path, "fuzz_split").get()) == 1);
  CHECK_THROWS_WITH(Set::open_bundle(file.path), Catch::Contains("fuzz_gdn, fuzz_split"));
  CHECK_THROWS_WITH(Set::open_bundle(file.path, "other"), Catch::Contains("no kernels of spec other"));
  CHECK(gdn_last_error() == GDN_BAD_ARGUMENT);
}

TEST_CASE("bundles that are no good are each their own error") {
  const File file;
  const std::string good = runtime::make_bundle({kernel(test::fuzz("fuzz_gdn"), "gating", "avx512bf16")});
  file.write(good);
  CHECK(status_of(file.path) == GDN_OK);
  file.write(good.substr(0, good.size() - 1));
  CHECK(status_of(file.path) == GDN_TRUNCATED);
  std::string altered = good;
  altered[good.size() / 2] = static_cast<char>(altered[good.size() / 2] ^ 1);
  file.write(altered);
  CHECK(status_of(file.path) == GDN_ALTERED);
  CHECK(status_of(file.path + ".gone") == GDN_SYSTEM);
  CHECK(gdn_set_open_bundle(nullptr, nullptr, nullptr, nullptr) == GDN_BAD_ARGUMENT);
}

}  // namespace
