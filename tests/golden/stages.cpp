// The value of every stage for one spec, held against checked-in text: spec, layout, plan, source, so that a change
// points at the stage that made it. GDN_UPDATE_GOLDENS=1 writes them anew.
#include <cstdlib>
#include <filesystem>

#include "emit/source.h"
#include "emit/tree.h"
#include "layout/layout_text.h"
#include "layout/resolve.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "spec/spec_text.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

void check_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(GDN_SOURCE_DIR) / "tests/golden/expected" / name;
  if (std::getenv("GDN_UPDATE_GOLDENS") != nullptr) {
    emit::write_file(path, text);
    return;
  }
  INFO(path.string() << ": GDN_UPDATE_GOLDENS=1 writes it anew");
  REQUIRE(std::filesystem::is_regular_file(path));
  CHECK(emit::read_file(path) == text);
}

layout::Layout fuzz_layout(const std::string& name) {
  layout::Layout layout = layout::resolve(test::fuzz(name));
  layout.spec_file = "fuzz/" + name + ".yaml";
  return layout;
}

}  // namespace

TEST_CASE("stage spec") { check_golden("fuzz_gdn.spec.txt", spec::to_text(test::fuzz("fuzz_gdn"))); }

TEST_CASE("stage layout") { check_golden("fuzz_gdn.layout.txt", layout::to_text(fuzz_layout("fuzz_gdn"))); }

TEST_CASE("stage plan") {
  const layout::Layout layout = fuzz_layout("fuzz_gdn");
  for (const char* target : {"sm_90a", "avx512bf16"}) {
    const plan::Planned planned = plan::make(layout, "decode", *plan::find_target(target));
    check_golden(std::string("fuzz_gdn.decode.") + target + ".plan.txt", core::to_text(planned.kernel));
  }
}

TEST_CASE("stage source") {
  const layout::Layout layout = fuzz_layout("fuzz_gdn");
  for (const std::string_view operation : plan::operations_of(layout)) {
    check_golden("fuzz_gdn." + std::string(operation) + ".sm_90a.cu",
                 emit::source(plan::make(layout, operation, *plan::find_target("sm_90a"))).text);
  }
  check_golden("fuzz_gdn.decode.gfx942.hip",
               emit::source(plan::make(layout, "decode", *plan::find_target("gfx942"))).text);
  check_golden("fuzz_gdn.decode.avx512bf16.cpp",
               emit::source(plan::make(layout, "decode", *plan::find_target("avx512bf16"))).text);
}

TEST_CASE("emitting twice gives the same bytes") {
  for (const std::string& file : test::released_specs()) {
    const auto text = [&] {
      return emit::source(plan::make(layout::resolve(test::load_spec(file)), "decode", *plan::find_target("sm_80")))
          .text;
    };
    CHECK(text() == text());
  }
}
