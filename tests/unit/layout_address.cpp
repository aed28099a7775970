// Every element of every tensor has one address, and kernels' maps agree with the layout's.
#include "core/maps.h"
#include "layout/map.h"
#include "layout/resolve.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

// Calls visit(Coordinates) for every element of a part.
template <class Visit>
void each_element(const core::Facts& numbers, const layout::PartLayout& part, Visit visit) {
  bool value_heads = false, key_heads = false;
  layout::Coordinates size{1, 1, 1, 1, 1, 1};
  for (const layout::Axis& axis : part.axes) {
    if (axis.name == "group" || axis.name == "value_head") value_heads = true;
    if (axis.name == "key_head") key_heads = true;
    if (axis.name == "key_dim") size.key_dim = axis.size;
    if (axis.name == "value_dim") size.value_dim = axis.size;
    if (axis.name == "tap" || axis.name == "step") size.tap = axis.size;
    if (axis.name == "scale_group") size.scale_group = axis.size;
  }
  if (value_heads) {
    size.value_head = numbers.value_heads;
  } else if (key_heads) {
    size.key_head = numbers.key_heads;
  }
  layout::Coordinates at;
  for (at.key_head = 0; at.key_head < size.key_head; ++at.key_head)
    for (at.value_head = 0; at.value_head < size.value_head; ++at.value_head)
      for (at.key_dim = 0; at.key_dim < size.key_dim; ++at.key_dim)
        for (at.value_dim = 0; at.value_dim < size.value_dim; ++at.value_dim)
          for (at.tap = 0; at.tap < size.tap; ++at.tap)
            for (at.scale_group = 0; at.scale_group < size.scale_group; ++at.scale_group) visit(at);
}

std::vector<const layout::TensorLayout*> tensors(const layout::Layout& layout) {
  std::vector<const layout::TensorLayout*> all;
  for (const auto* section : {&layout.inputs, &layout.parameters, &layout.pools, &layout.handover, &layout.outputs}) {
    for (const layout::TensorLayout& tensor : *section) all.push_back(&tensor);
  }
  return all;
}

}  // namespace

TEST_CASE("every element of every tensor has an address of its own and every address an element") {
  for (const std::string& file : test::all_specs()) {
    const layout::Layout layout = layout::resolve(test::load_spec(file));
    for (const layout::TensorLayout* tensor : tensors(layout)) {
      INFO(file << " " << tensor->name);
      if (tensor->leading == core::Leading::kScaleGroup) continue;  // groups are as far apart as a launch says
      std::vector<int> hits(static_cast<std::size_t>(tensor->inner));
      bool inside = true;
      for (const layout::PartLayout& part : tensor->parts) {
        each_element(layout.numbers, part, [&](const layout::Coordinates& at) {
          const std::int64_t element = layout::address(layout.numbers, part, at);
          inside = inside && element >= 0 && element < tensor->inner;
          if (inside) ++hits[static_cast<std::size_t>(element)];
        });
      }
      CHECK(inside);
      // Zeros behind the heads' entries of a padded A_log are no element's.
      const std::int64_t used = tensor->name == "a_log" ? layout.numbers.value_heads : tensor->inner;
      CHECK(std::all_of(hits.begin(), hits.begin() + used, [](int count) { return count == 1; }));
    }
  }
}

TEST_CASE("a kernel's map gives the layout's address for every element") {
  for (const std::string& file : test::all_specs()) {
    const layout::Layout layout = layout::resolve(test::load_spec(file));
    for (const layout::TensorLayout* tensor : tensors(layout)) {
      for (const layout::PartLayout& part : tensor->parts) {
        INFO(file << " " << tensor->name << " part " << part.name);
        const core::Map map = layout::map_of(layout.numbers, *tensor, part, 0);
        bool same = true;
        bool aligned = true;
        each_element(layout.numbers, part, [&](const layout::Coordinates& at) {
          const bool state = part.name == "state" || part.name == "intermediate_state";
          const std::int64_t head = map.heads == core::HeadKind::kKey ? at.key_head : at.value_head;
          const std::int64_t base = layout::base(layout.numbers, map, head);
          const std::int64_t inner = state ? at.key_dim : at.key_dim + at.value_dim + at.scale_group;  // one is not 0
          const std::int64_t element =
              base + inner * map.inner_stride + (state ? at.value_dim * map.outer_stride : 0) + at.tap * map.tap_stride;
          same = same && element == layout::address(layout.numbers, part, at);
          aligned = aligned && base % map.align == 0;
        });
        CHECK(same);
        CHECK(aligned);
      }
    }
  }
}

TEST_CASE("a plan asserts the first and last element at heads 0, 1 and last of every present map") {
  const layout::Layout layout = layout::resolve(test::fuzz("fuzz_gdn"));
  const plan::Planned planned = plan::make(layout, "decode", *plan::find_target("sm_90a"));
  std::size_t expected = 0;
  for (const core::NamedMap& named : core::kMaps) {
    const core::Map& map = planned.kernel.facts.*named.map;
    if (!map.present()) continue;
    const int heads = map.heads == core::HeadKind::kNone  ? 1
                      : map.heads == core::HeadKind::kKey ? layout.numbers.key_heads
                                                          : layout.numbers.value_heads;
    expected += static_cast<std::size_t>(std::min(heads, 3));
  }
  CHECK(planned.checks.size() == expected);
}
