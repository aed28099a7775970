#include "review/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "layout/map.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "plan/target.h"
#include "spec/keys.h"

namespace gdn::review {
namespace {

using layout::PartLayout;
using layout::TensorLayout;

// Keys that say how large something is: they show in shapes, unless all shapes stay as they were.
bool sizes_something(std::string_view path) {
  static constexpr std::string_view kSizes[] = {"heads.key",  "heads.value", "dims.key",  "dims.value",
                                                "conv.width", "conv.window", "conv.bias", "slots.dtype"};
  return std::find(std::begin(kSizes), std::end(kSizes), path) != std::end(kSizes);
}

// layers.base says how layers.list counts, which is compared as it counts from 0.
bool names_only(std::string_view path) {
  return path == "gdn_gen" || path == "name" || path == "model" || path == "layers.base";
}

std::string layers_text(const spec::Spec& spec) {
  if (spec.layers.list->empty()) return "unread";
  return fmt::format("[{}] from 0", fmt::join(spec::layers_from_zero(spec), ", "));
}

std::string shown(const spec::Key& key, const spec::Spec& spec) {
  if (key.applies && key.applies(spec) != spec::Applies::kYes) return "not written";
  if (key.path == "qk_scale.q") return fmt::format("{} = {:.9g}", key.show(spec), *spec.qk_scale.q);
  if (key.path == "qk_scale.k") return fmt::format("{} = {:.9g}", key.show(spec), *spec.qk_scale.k);
  if (key.path == "layers.list") return layers_text(spec);
  return key.show(spec);
}

bool same_value(const spec::Key& key, const spec::Spec& a, const spec::Spec& b) {
  if (key.path == "qk_scale.q") return *a.qk_scale.q == *b.qk_scale.q;
  if (key.path == "qk_scale.k") return *a.qk_scale.k == *b.qk_scale.k;
  return shown(key, a) == shown(key, b);
}

// Sizes of a part, each once, whatever the order of its axes.
struct Extents {
  std::int64_t heads = 1, inner = 1, outer = 1, taps = 1;
  bool operator==(const Extents& o) const {
    return heads == o.heads && inner == o.inner && outer == o.outer && taps == o.taps;
  }
};

Extents extents_of(const core::Facts& numbers, const PartLayout& part, const core::Map& map) {
  Extents e;
  e.heads = map.heads == core::HeadKind::kNone  ? 1
            : map.heads == core::HeadKind::kKey ? numbers.key_heads
                                                : numbers.value_heads;
  e.inner = map.run;
  for (const layout::Axis& axis : part.axes) {
    if (axis.name == "tap" || axis.name == "step") e.taps = axis.size;
    if (axis.name == "value_dim" && part.name == "state") e.outer = axis.size;
  }
  return e;
}

// How many elements of a part lie at the same place below the row on both sides, and the first that does not.
struct Moved {
  std::int64_t stay = 0, all = 0;
  std::string first;
};

void compare_part(const Side& before, const Side& after, const TensorLayout& old_tensor, const TensorLayout& new_tensor,
                  const PartLayout& old_part, const PartLayout& new_part, Moved& moved) {
  const core::Facts& old_numbers = before.layout.numbers;
  const core::Facts& new_numbers = after.layout.numbers;
  const core::Map a = layout::map_of(old_numbers, old_tensor, old_part, 0);
  const core::Map b = layout::map_of(new_numbers, new_tensor, new_part, 0);
  const Extents e = extents_of(old_numbers, old_part, a);
  for (std::int64_t h = 0; h < e.heads; ++h) {
    const std::int64_t base_a = layout::base(old_numbers, a, h), base_b = layout::base(new_numbers, b, h);
    for (std::int64_t outer = 0; outer < e.outer; ++outer) {
      for (std::int64_t tap = 0; tap < e.taps; ++tap) {
        for (std::int64_t inner = 0; inner < e.inner; ++inner) {
          const std::int64_t at = base_a + outer * a.outer_stride + tap * a.tap_stride + inner * a.inner_stride;
          const std::int64_t to = base_b + outer * b.outer_stride + tap * b.tap_stride + inner * b.inner_stride;
          ++moved.all;
          if (at == to) {
            ++moved.stay;
          } else if (moved.first.empty()) {
            moved.first = fmt::format("{}{} from {} to {}", old_part.name,
                                      e.heads > 1 ? fmt::format(" of head {}", h) : "", at, to);
          }
        }
      }
    }
  }
}

std::string described(const TensorLayout& tensor) {
  return fmt::format("{} {}", core::to_string(tensor.dtype), tensor.list);
}

class Comparison {
 public:
  Comparison(const Side& before, const Side& after) : before_(before), after_(after) {}

  Difference run() {
    result_.before = before_.layout.spec;
    result_.after = after_.layout.spec;
    tensors();
    numbers();
    pools();
    rebuild();
    std::stable_sort(result_.changes.begin(), result_.changes.end(),
                     [](const Change& a, const Change& b) { return a.silent && !b.silent; });
    return std::move(result_);
  }

 private:
  void numbers() {
    std::vector<Change> numbers;
    for (const spec::Key& key : spec::keys()) {
      if (names_only(key.path) || same_value(key, before_.spec, after_.spec)) continue;
      // One value head per key head: both pairings are one layout.
      if (key.path == "heads.pairing" && !before_.layout.pairing_visible && !after_.layout.pairing_visible) continue;
      Change change;
      change.what = key.path;
      change.how = "number";
      change.before = shown(key, before_.spec);
      change.after = shown(key, after_.spec);
      change.note = key.help;
      // An engine makes as many layers as there are: their number shows, which of them are of this kind does not.
      // How a state is rounded is written where it has 16 bits, which its dtype shows.
      const bool by_dtype = change.before == "not written" || change.after == "not written";
      // With the norm goes its weight, an operand, and with that all that is written of it.
      const bool of_norm = key.path == "rounding.norm" || key.path.rfind("out_norm.", 0) == 0;
      const bool visible = key.path == "slots.dtype" || (key.path == "rounding.state" && by_dtype) ||
                           key.path == "out_norm.kind" || (of_norm && by_dtype) || key.path == "layers.count" ||
                           (key.path == "layers.list" && *before_.spec.layers.count != *after_.spec.layers.count);
      change.silent = !visible && !(sizes_something(key.path) && shapes_change_);
      numbers.push_back(std::move(change));
    }
    result_.changes.insert(result_.changes.begin(), numbers.begin(), numbers.end());
  }

  void tensors() {
    const std::vector<Section> old_sections = sections_of(before_), new_sections = sections_of(after_);
    for (std::size_t s = 0; s < old_sections.size(); ++s) {
      const std::string& section = old_sections[s].name;
      std::vector<TensorPair> removed, added;
      for (const TensorPair& tensor : old_sections[s].tensors) {
        const TensorPair* match = named(new_sections[s], *tensor.written->name);
        if (match) {
          tensor_change(section, tensor, *match);
        } else {
          removed.push_back(tensor);
        }
      }
      for (const TensorPair& tensor : new_sections[s].tensors) {
        if (!named(old_sections[s], *tensor.written->name)) added.push_back(tensor);
      }
      // An input may have any name: what stands at the same place is the same operand under another name.
      if (removed.size() == added.size() && section == "inputs") {
        for (std::size_t i = 0; i < removed.size(); ++i) renamed(section, removed[i], added[i]);
        removed.clear();
        added.clear();
      }
      for (const TensorPair& tensor : removed) presence(section, tensor, "removed");
      for (const TensorPair& tensor : added) presence(section, tensor, "added");
      if (section == "inputs") order(old_sections[s], new_sections[s]);
    }
  }

  static const TensorPair* named(const Section& section, const std::string& name) {
    for (const TensorPair& tensor : section.tensors) {
      if (*tensor.written->name == name) return &tensor;
    }
    return nullptr;
  }

  void presence(const std::string& section, const TensorPair& tensor, const char* how) {
    shapes_change_ = true;
    Change change{false, section + "." + *tensor.written->name, how, "", "", "another number of operands"};
    (how[0] == 'r' ? change.before : change.after) = described(*tensor.resolved);
    result_.changes.push_back(std::move(change));
  }

  void renamed(const std::string& section, const TensorPair& a, const TensorPair& b) {
    result_.changes.push_back({false, section + "." + *a.written->name, "renamed", *a.written->name, *b.written->name,
                               "the operand has another name"});
    tensor_change(section, a, b);
  }

  // Inputs are operands in the order of the spec.
  void order(const Section& a, const Section& b) {
    const auto names = [](const Section& section, const Section& other) {
      std::string text;
      for (const TensorPair& tensor : section.tensors) {
        if (named(other, *tensor.written->name)) text += (text.empty() ? "" : ", ") + *tensor.written->name;
      }
      return text;
    };
    if (names(a, b) == names(b, a)) return;
    bool alike = a.tensors.size() == b.tensors.size();
    for (std::size_t i = 0; alike && i < a.tensors.size(); ++i) {
      alike = a.tensors[i].resolved->inner == b.tensors[i].resolved->inner &&
              a.tensors[i].resolved->dtype == b.tensors[i].resolved->dtype;
    }
    result_.changes.push_back(
        {alike, "inputs", "order", names(a, b), names(b, a), "operands are passed in this order"});
  }

  void tensor_change(const std::string& section, const TensorPair& a, const TensorPair& b) {
    const TensorLayout& old_tensor = *a.resolved;
    const TensorLayout& new_tensor = *b.resolved;
    const std::vector<std::int64_t> old_shape = shape_of(before_, section, a), new_shape = shape_of(after_, section, b);
    Change change{false, section + "." + *b.written->name, "", described(old_tensor), described(new_tensor), ""};
    if (old_tensor.dtype != new_tensor.dtype) {
      change.how = "dtype";
      change.note = fmt::format("{} bytes an element instead of {}", core::size_of(new_tensor.dtype),
                                core::size_of(old_tensor.dtype));
    }
    if (old_shape != new_shape) {
      shapes_change_ = true;
      change.how = "shape";
      change.note = fmt::format("{} becomes {}", shape_text(old_tensor, old_shape), shape_text(new_tensor, new_shape));
    }
    if (!change.how.empty()) {
      result_.changes.push_back(std::move(change));
      return;
    }
    if (old_tensor.launch_stride != new_tensor.launch_stride) {
      change.how = "stride";
      change.note = "whether the rows' distance is given at launch";
      result_.changes.push_back(change);
    }
    if (old_tensor.replicated != new_tensor.replicated) {
      change.how = "replicated";
      change.note = new_tensor.replicated ? "every rank has the whole of it now, and slices its rows"
                                          : "each rank has its own heads alone now";
      result_.changes.push_back(change);
    }
    if (!same_parts(old_tensor, new_tensor)) {
      change.silent = true;
      change.how = "moved";
      change.note = fmt::format("both are {} {}; other parts lie in it", core::to_string(old_tensor.dtype),
                                shape_text(old_tensor, old_shape));
      result_.changes.push_back(std::move(change));
      return;
    }
    Moved moved;
    for (const PartLayout& part : old_tensor.parts) {
      compare_part(before_, after_, old_tensor, new_tensor, part, *new_tensor.find(part.name), moved);
    }
    if (moved.stay == moved.all) return;
    change.silent = true;
    change.how = "moved";
    change.note = fmt::format("both are {} {}; {} of {} elements keep their place; the first that moves: {}",
                              core::to_string(old_tensor.dtype), shape_text(old_tensor, old_shape), moved.stay,
                              moved.all, moved.first);
    result_.changes.push_back(std::move(change));
  }

  // The same parts with the same sizes.
  bool same_parts(const TensorLayout& a, const TensorLayout& b) const {
    if (a.parts.size() != b.parts.size()) return false;
    for (const PartLayout& part : a.parts) {
      const PartLayout* other = b.find(part.name);
      // A tensor that holds one part under another name holds another part.
      if (other == nullptr) return false;
      const core::Map map_a = layout::map_of(before_.layout.numbers, a, part, 0);
      const core::Map map_b = layout::map_of(after_.layout.numbers, b, *other, 0);
      if (!(extents_of(before_.layout.numbers, part, map_a) == extents_of(after_.layout.numbers, *other, map_b))) {
        return false;
      }
    }
    return true;
  }

  void pools() {
    for (const TensorLayout& pool : before_.layout.pools) {
      PoolVerdict verdict{pool.name, false, ""};
      const TensorLayout* now = nullptr;
      for (const TensorLayout& candidate : after_.layout.pools) {
        if (candidate.name == pool.name) now = &candidate;
      }
      if (now == nullptr) {
        verdict.why = "it is gone";
      } else if (layout::identity(before_.layout, pool) == layout::identity(after_.layout, *now)) {
        verdict.readable = true;
      } else {
        verdict.why = fmt::format("it was written as {} and is read as {}", layout::identity(before_.layout, pool).text,
                                  layout::identity(after_.layout, *now).text);
      }
      result_.pools.push_back(std::move(verdict));
    }
  }

  // A kernel changes when its plan does, its name aside.
  void rebuild() {
    const plan::Target& target = plan::targets().front();
    const auto planned = [&](const layout::Layout& layout, std::string_view operation) {
      layout::Layout nameless = layout;
      nameless.spec = "spec";
      nameless.spec_file = "spec";
      try {
        return core::to_text(plan::make(nameless, operation, target).kernel);
      } catch (const plan::Unplannable& error) {
        return std::string(error.what());
      }
    };
    for (const std::string_view operation : plan::operations()) {
      if (planned(before_.layout, operation) != planned(after_.layout, operation)) {
        result_.rebuild.emplace_back(operation);
      }
    }
  }

  const Side& before_;
  const Side& after_;
  bool shapes_change_ = false;
  Difference result_;
};

}  // namespace

std::size_t Difference::silent() const {
  return static_cast<std::size_t>(
      std::count_if(changes.begin(), changes.end(), [](const Change& change) { return change.silent; }));
}

Difference compare(const Side& before, const Side& after) { return Comparison(before, after).run(); }

}  // namespace gdn::review
