#include "spec/validator_dims.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "spec/pieces.h"
#include "spec/rules.h"
#include "spec/tensor_keys.h"

namespace gdn::spec {
namespace {

std::string_view leading_name(Leads leads) {
  switch (leads) {
    case Leads::kNone:
      return "";
    case Leads::kToken:
      return "token";
    case Leads::kSlot:
      return "slot";
    case Leads::kSequence:
      return "sequence";
  }
  return "";
}

bool is_leading_name(std::string_view name) { return name == "token" || name == "slot" || name == "sequence"; }

bool has_value_heads(Holds holds) {
  return holds == Holds::kValueChannels || holds == Holds::kValueHeads || holds == Holds::kStateRows ||
         holds == Holds::kDecays || holds == Holds::kState;
}

// The dimensions of a part besides its value heads, token, slot and tap.
std::vector<std::string_view> own_dims(Holds holds, core::Rule rule) {
  switch (holds) {
    case Holds::kDecays:
      if (rule == core::Rule::kGdn) break;
      return {"key_dim"};
    case Holds::kKeyChannels:
      return {"key_head", "key_dim"};
    case Holds::kValueChannels:
    case Holds::kStateRows:
    case Holds::kValueDim:
      return {"value_dim"};
    case Holds::kState:
      return {"key_dim", "value_dim"};
    case Holds::kScaleGroups:
      return {"scale_group"};
    case Holds::kValueHeads:
    case Holds::kInputParts:
    case Holds::kConvParts:
      break;
  }
  return {};
}

std::string all_dims_text(const TensorKey& key, Holds holds, core::Rule rule) {
  std::vector<std::string_view> names;
  if (key.leads != Leads::kNone) names.push_back(leading_name(key.leads));
  if (key.tap) names.push_back("tap");
  if (key.step) names.push_back("step");
  if (has_value_heads(holds)) names.push_back("value_head (or key_head and group)");
  for (const std::string_view name : own_dims(holds, rule)) names.push_back(name);
  std::string text;
  for (const std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

bool belongs(const TensorKey& key, Holds holds, core::Rule rule, std::string_view name) {
  if (is_leading_name(name)) return key.leads != Leads::kNone;  // where it stands is dims.leading's business
  if (name == "tap") return key.tap;
  if (name == "step") return key.step;
  if (has_value_heads(holds) && (name == "value_head" || name == "key_head" || name == "group")) return true;
  for (const std::string_view own : own_dims(holds, rule)) {
    if (own == name) return true;
  }
  return false;
}

const Dim* find_dim(const Piece& piece, std::string_view name) {
  for (const Dim* dim : piece.dims) {
    if (*dim->name == name) return dim;
  }
  return nullptr;
}

void for_each_piece(const Spec& spec, const std::function<void(const TensorKey&, const Piece&)>& visit) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    for (const Piece& piece : pieces_of(section, key, tensor)) visit(key, piece);
  });
}

// An outer dimension is shared by all parts of its tensor: a mistake in it is reported for the first of them only.
class Once {
 public:
  bool first(Place place, std::string_view what) {
    return seen_.insert(std::make_tuple(place.line, place.column, std::string(what))).second;
  }

 private:
  std::set<std::tuple<int, int, std::string>> seen_;
};

// Scales lie token by token or group by group; nothing else stands in their list, so that its two entries say it all.
void check_scale_order(const std::string& path, const Tensor& tensor, Diagnostics& diagnostics) {
  int tokens = 0;
  for (const Dim& dim : tensor.dims) {
    if (*dim.name == "slot") {
      diagnostics.error(dim.name.place, id(RuleId::kDimsLeading), fmt::format("{}: slot can't stand here", path));
    }
    tokens += *dim.name == "token" ? 1 : 0;
  }
  if (tokens == 1) return;
  diagnostics.error(tensor.dims_place, id(RuleId::kDimsLeading),
                    fmt::format("{}: token stands once, before scale_group or behind it", path));
}

// Group by group, two groups lie as far apart as the buffer has tokens, which only the launch knows.
void check_scale_strides(const std::string& path, const Tensor& tensor, Diagnostics& diagnostics) {
  for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
    const Dim& dim = tensor.dims[i];
    if (i == 0 && *dim.name == "scale_group" && !dim.at_launch) {
      diagnostics.error(dim.name.place, id(RuleId::kDimsLaunch),
                        fmt::format("{}: two groups are as far apart as the buffer has tokens: write "
                                    "scale_group@launch",
                                    path));
    }
    if (i > 0 && dim.at_launch) {
      diagnostics.error(
          dim.name.place, id(RuleId::kDimsLaunch),
          fmt::format("{}: {}@launch: the last dimension has no gaps: write {}", path, *dim.name, *dim.name));
    }
  }
}

// All dimensions of a list, inside its packed dimensions too.
void for_each_dim(const std::vector<Dim>& dims, const std::function<void(const Dim&)>& visit) {
  for (const Dim& dim : dims) {
    visit(dim);
    for (const Part& part : dim.parts) for_each_dim(part.dims, visit);
  }
}

}  // namespace

void check_packed_one(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    const std::string path = path_of(section, tensor);
    const bool packable = key.holds == Holds::kInputParts || key.holds == Holds::kConvParts;
    const Dim* first = nullptr;
    for_each_dim(tensor.dims, [&](const Dim& dim) {
      if (!dim.packed()) return;
      if (!packable) {
        diagnostics.error(dim.name.place, id(RuleId::kPackedOne),
                          fmt::format("{} holds one thing: its dimensions are {}, none of them packed", path,
                                      all_dims_text(key, key.holds, *spec.rule)));
      } else if (first) {
        diagnostics
            .error(dim.name.place, id(RuleId::kPackedOne),
                   fmt::format("{} has a second packed dimension: a list has at most one, and parts have plain ones",
                               path))
            .note(first->name.place, "the first packed dimension is here");
      }
      if (!first) first = &dim;
    });
  });
}

void check_packed_parts(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    const bool conv = key.holds == Holds::kConvParts;
    const Dim* packed = packed_dim(tensor);
    if (tensor.dims.empty() || (!conv && !(packed && key.holds == Holds::kInputParts))) return;
    const std::string path = path_of(section, tensor);
    if (!packed) {
      diagnostics.error(tensor.dims_place, id(RuleId::kPackedParts),
                        fmt::format("{} has no packed dimension of q, k and v: write channel, or {{q: [...], k: [...], "
                                    "v: [...]}}",
                                    path));
      return;
    }
    for (const Part& part : packed->parts) {
      const bool legal = part_holds(*part.name) != nullptr;
      const bool conv_part = *part.name == "q" || *part.name == "k" || *part.name == "v";
      if (conv ? conv_part : legal) continue;
      diagnostics.error(part.name.place, id(RuleId::kPackedParts),
                        fmt::format("{}: {} is not a part: its parts are {}", path, quote(*part.name),
                                    conv ? "q, k and v" : "of q, k, v, z, b, a"));
    }
    if (!conv) return;
    for (const std::string_view name : {"q", "k", "v"}) {
      bool found = false;
      for (const Part& part : packed->parts) found = found || *part.name == name;
      if (found) continue;
      diagnostics.error(packed->name.place, id(RuleId::kPackedParts),
                        fmt::format("{}: part {} is missing: the convolution runs over q, k and v", path, name));
    }
  });
}

void check_dims_leading(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    if (key.leads == Leads::kNone || tensor.dims.empty()) return;
    const std::string path = path_of(section, tensor);
    if (key.holds == Holds::kScaleGroups) {
      check_scale_order(path, tensor, diagnostics);
      return;
    }
    const std::string_view wanted = leading_name(key.leads);
    if (*tensor.dims[0].name != wanted) {
      const bool misplaced = tensor.dims[0].packed() || !is_leading_name(*tensor.dims[0].name);
      diagnostics.error(tensor.dims[0].name.place, id(RuleId::kDimsLeading),
                        fmt::format("{}: the first dimension must be {}{}", path, wanted,
                                    misplaced ? "" : fmt::format(", not {}", *tensor.dims[0].name)));
    }
    bool first = true;
    for_each_dim(tensor.dims, [&](const Dim& dim) {
      if (!first && is_leading_name(*dim.name)) {
        diagnostics.error(dim.name.place, id(RuleId::kDimsLeading),
                          fmt::format("{}: {} can't stand here: {} stands once, first", path, *dim.name, wanted));
      }
      first = false;
    });
  });
}

void check_dims_launch(const Spec& spec, Diagnostics& diagnostics) {
  for_each_tensor(spec, [&](const SectionKey& section, const TensorKey& key, const Tensor& tensor) {
    if (key.holds == Holds::kScaleGroups) {
      check_scale_strides(path_of(section, tensor), tensor, diagnostics);
      return;
    }
    for_each_dim(tensor.dims, [&](const Dim& dim) {
      if (!dim.at_launch || is_leading_name(*dim.name)) return;
      diagnostics.error(dim.name.place, id(RuleId::kDimsLaunch),
                        fmt::format("{}: {}@launch: only the stride of token or slot is given at launch, every other "
                                    "is a constant: write {}",
                                    path_of(section, tensor), *dim.name, *dim.name));
    });
  });
}

void check_dims_duplicate(const Spec& spec, Diagnostics& diagnostics) {
  Once once;
  for_each_piece(spec, [&](const TensorKey&, const Piece& piece) {
    for (std::size_t i = 0; i < piece.dims.size(); ++i) {
      const std::string& name = *piece.dims[i]->name;
      if (is_leading_name(name)) continue;
      for (std::size_t j = 0; j < i; ++j) {
        if (*piece.dims[j]->name != name) continue;
        if (!once.first(piece.dims[i]->name.place, name)) break;
        diagnostics
            .error(piece.dims[i]->name.place, id(RuleId::kDimsDuplicate),
                   fmt::format("{}: {} stands twice: remove one", piece.label, name))
            .note(piece.dims[j]->name.place, "it stands here already");
        break;
      }
    }
    const Dim* value_head = find_dim(piece, "value_head");
    if (!has_value_heads(piece.holds) || !value_head) return;
    for (const std::string_view name : {"key_head", "group"}) {
      const Dim* other = find_dim(piece, name);
      if (!other || !once.first(value_head->name.place, "value_head")) continue;
      diagnostics
          .error(value_head->name.place, id(RuleId::kDimsDuplicate),
                 fmt::format("{}: value_head stands for key_head and group: with {} it counts heads twice; write "
                             "value_head alone, or key_head and group",
                             piece.label, name))
          .note(other->name.place, fmt::format("{} is here", name));
    }
  });
}

void check_dims_foreign(const Spec& spec, Diagnostics& diagnostics) {
  Once once;
  for_each_piece(spec, [&](const TensorKey& key, const Piece& piece) {
    for (const Dim* dim : piece.dims) {
      if (belongs(key, piece.holds, *spec.rule, *dim->name) || !once.first(dim->name.place, *dim->name)) continue;
      diagnostics.error(dim->name.place, id(RuleId::kDimsForeign),
                        fmt::format("{} has no {}: its dimensions are {}", piece.label, *dim->name,
                                    all_dims_text(key, piece.holds, *spec.rule)));
    }
  });
}

void check_dims_missing(const Spec& spec, Diagnostics& diagnostics) {
  Once once;
  for_each_piece(spec, [&](const TensorKey& key, const Piece& piece) {
    std::vector<std::string> missing;
    if (has_value_heads(piece.holds) && !find_dim(piece, "value_head")) {
      const bool key_head = find_dim(piece, "key_head") != nullptr;
      const bool group = find_dim(piece, "group") != nullptr;
      if (!key_head && !group) missing.push_back("value_head (or key_head and group)");
      if (key_head && !group) missing.push_back("group (or value_head in place of key_head)");
      if (!key_head && group) missing.push_back("key_head (or value_head in place of group)");
    }
    for (const std::string_view name : own_dims(piece.holds, *spec.rule)) {
      if (!find_dim(piece, name)) missing.emplace_back(name);
    }
    for (const std::string& name : missing) {
      diagnostics.error(piece.place, id(RuleId::kDimsMissing),
                        fmt::format("{}: {} is missing: its dimensions are {}", piece.label, name,
                                    all_dims_text(key, piece.holds, *spec.rule)));
    }
    // The taps, or steps, are the whole tensor's: missing in all its parts, they are missing once.
    const Place list = piece.tensor->dims_place;
    const std::string_view shared = key.tap ? "tap" : key.step ? "step" : "";
    if (shared.empty() || find_dim(piece, shared) || !once.first(list, shared)) return;
    diagnostics.error(list, id(RuleId::kDimsMissing),
                      fmt::format("{}: {} is missing: its dimensions are {}", piece.label, shared,
                                  all_dims_text(key, piece.holds, *spec.rule)));
  });
}

}  // namespace gdn::spec
