// to_text and parse_plan walk one list of fields, so that they can't disagree about order or spelling.
#include "core/plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <system_error>
#include <type_traits>

namespace gdn::core {
namespace {

template <class Enum>
struct Word {
  Enum value;
  std::string_view text;
};

// One table per enum; found by overload on the enum's type.
constexpr std::array<Word<bool>, 2> words(bool) { return {{{false, "false"}, {true, "true"}}}; }
constexpr std::array<Word<Rule>, 2> words(Rule) { return {{{Rule::kGdn, "gdn"}, {Rule::kKda, "kda"}}}; }
constexpr std::array<Word<Pairing>, 2> words(Pairing) {
  return {{{Pairing::kGrouped, "grouped"}, {Pairing::kTiled, "tiled"}}};
}
constexpr std::array<Word<Activation>, 3> words(Activation) {
  return {{{Activation::kNone, "none"}, {Activation::kSilu, "silu"}, {Activation::kSigmoid, "sigmoid"}}};
}
constexpr std::array<Word<NormWeight>, 3> words(NormWeight) {
  return {{{NormWeight::kW, "w"}, {NormWeight::kOnePlusW, "1+w"}, {NormWeight::kTwiceOnePlusW, "2*(1+w)"}}};
}
constexpr std::array<Word<EpsAt>, 3> words(EpsAt) {
  return {{{EpsAt::kSum, "sum"}, {EpsAt::kMean, "mean"}, {EpsAt::kMax, "max"}}};
}
constexpr std::array<Word<DecayForm>, 2> words(DecayForm) {
  return {{{DecayForm::kSoftplus, "softplus"}, {DecayForm::kBounded, "bounded"}}};
}
constexpr std::array<Word<AStored>, 3> words(AStored) {
  return {{{AStored::kLog, "log"}, {AStored::kNegativeExp, "negative_exp"}, {AStored::kAbsent, "absent"}}};
}
constexpr std::array<Word<Domain>, 5> words(Domain) {
  return {{{Domain::kLogit, "logit"},
           {Domain::kLn, "ln"},
           {Domain::kLog2, "log2"},
           {Domain::kExp, "exp"},
           {Domain::kSigmoid, "sigmoid"}}};
}
constexpr std::array<Word<Anchor>, 2> words(Anchor) { return {{{Anchor::kFirst, "first"}, {Anchor::kLast, "last"}}}; }
constexpr std::array<Word<Padding>, 3> words(Padding) {
  return {{{Padding::kNone, "none"}, {Padding::kNegative, "negative"}, {Padding::kZeroOrNegative, "zero_or_negative"}}};
}
constexpr std::array<Word<PaddedOutput>, 2> words(PaddedOutput) {
  return {{{PaddedOutput::kZero, "zero"}, {PaddedOutput::kUntouched, "untouched"}}};
}
constexpr std::array<Word<InitialStates>, 3> words(InitialStates) {
  return {{{InitialStates::kNone, "none"}, {InitialStates::kAll, "all"}, {InitialStates::kFlagged, "flagged"}}};
}
constexpr std::array<Word<Rollback>, 4> words(Rollback) {
  return {{{Rollback::kNone, "none"},
           {Rollback::kSlots, "slots"},
           {Rollback::kIntermediate, "intermediate"},
           {Rollback::kReplay, "replay"}}};
}
constexpr std::array<Word<Counts>, 2> words(Counts) {
  return {{{Counts::kTokens, "tokens"}, {Counts::kDrafts, "drafts"}}};
}
constexpr std::array<Word<Access>, 3> words(Access) {
  return {{{Access::kRead, "read"}, {Access::kWrite, "write"}, {Access::kReadWrite, "read_write"}}};
}
constexpr std::array<Word<Role>, 13> words(Role) {
  return {{{Role::kInput, "input"},
           {Role::kParameter, "parameter"},
           {Role::kPool, "pool"},
           {Role::kSlots, "slots"},
           {Role::kOutput, "output"},
           {Role::kScale, "scale"},
           {Role::kRecord, "record"},
           {Role::kWorkspace, "workspace"},
           {Role::kCounts, "counts"},
           {Role::kOffsets, "offsets"},
           {Role::kFlags, "flags"},
           {Role::kSeed, "seed"},
           {Role::kSnapshots, "snapshots"}}};
}
constexpr std::array<Word<FloorAt>, 4> words(FloorAt) {
  return {
      {{FloorAt::kNone, "none"}, {FloorAt::kAmax, "amax"}, {FloorAt::kScale, "scale"}, {FloorAt::kReplace, "replace"}}};
}
constexpr std::array<Word<Leading>, 6> words(Leading) {
  return {{{Leading::kNone, "none"},
           {Leading::kToken, "token"},
           {Leading::kSlot, "slot"},
           {Leading::kSequence, "sequence"},
           {Leading::kScaleGroup, "scale_group"},
           {Leading::kSnapshot, "snapshot"}}};
}
constexpr std::array<Word<Grid>, 2> words(Grid) {
  return {{{Grid::kTokens, "tokens"}, {Grid::kSequences, "sequences"}}};
}
constexpr std::array<Word<Edges>, 3> words(Edges) {
  return {{{Edges::kBoth, "both"}, {Edges::kPlain, "plain"}, {Edges::kProgrammatic, "programmatic"}}};
}
constexpr std::array<Word<HeadKind>, 3> words(HeadKind) {
  return {{{HeadKind::kNone, "none"}, {HeadKind::kKey, "key"}, {HeadKind::kValue, "value"}}};
}

template <class T>
constexpr bool kWordy = std::is_enum_v<T> || std::is_same_v<T, bool>;

constexpr std::string_view kAbsent = "absent";

// A text is one line: backslash and line ends are escaped.
std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else {
      out += c;
    }
  }
  return out;
}

class Writer {
 public:
  static constexpr bool kReading = false;

  template <class T>
  void field(std::string_view key, const T& value) {
    line(key, format(value));
  }
  // Fields until close() stand deeper.
  void open(std::string_view key) {
    line(key, "");
    nest();
  }
  void nest() { ++depth_; }
  void close() { --depth_; }
  void line(std::string_view key, std::string_view value) {
    text_.append(2 * depth_, ' ').append(key).append(":");
    if (!value.empty()) text_.append(" ").append(value);
    text_.append("\n");
  }
  std::string take() { return std::move(text_); }

  static std::string format(const std::string& value) { return escape(value); }
  static std::string format(const Identity& value) {
    return value.text.empty() ? id_text(value.id) : id_text(value.id) + " " + escape(value.text);
  }
  template <class T>
  static std::string format(const T& value) {
    if constexpr (std::is_same_v<T, DType>) {
      return std::string(to_string(value));
    } else if constexpr (kWordy<T>) {
      for (const auto& word : words(value)) {
        if (word.value == value) return std::string(word.text);
      }
      throw std::runtime_error("plan: an enum holds a value that has no name");
    } else {  // integers, and reals in the shortest form that reads back as the same bits
      char buffer[64];
      const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value);
      return std::string(buffer, end.ptr);
    }
  }

 private:
  std::string text_;
  std::size_t depth_ = 0;
};

class Reader {
 public:
  static constexpr bool kReading = true;

  explicit Reader(std::string_view text) : rest_(text) {}

  template <class T>
  void field(std::string_view key, T& value) {
    parse(line(key), key, value);
  }
  void open(std::string_view key) {
    if (!line(key).empty()) fail("`" + std::string(key) + ":` opens a group and takes no value");
    nest();
  }
  void nest() { ++depth_; }
  void close() { --depth_; }

  // The value of the next line, which must have this key and the group's indentation.
  std::string_view line(std::string_view key) {
    ++number_;
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) fail("the text ends where `" + std::string(key) + ":` should stand");
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    const std::string start = std::string(2 * depth_, ' ') + std::string(key) + ":";
    if (line.substr(0, start.size()) != start) {
      fail("`" + start + "` should stand here, not `" + std::string(line.substr(0, 60)) + "`");
    }
    line.remove_prefix(start.size());
    if (line.empty()) return line;
    if (line[0] != ' ' || line.size() == 1) fail("one space and a value should follow `" + start + "`");
    return line.substr(1);
  }

  template <class T>
  void parse(std::string_view text, std::string_view key, T& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      value = unescape(text);
    } else if constexpr (std::is_same_v<T, Identity>) {
      value = identity(text);
    } else if constexpr (std::is_same_v<T, DType>) {
      const auto dtype = parse_dtype(text);
      if (!dtype) fail("`" + std::string(text) + "` is no dtype");
      value = *dtype;
    } else if constexpr (kWordy<T>) {
      for (const auto& word : words(T{})) {
        if (word.text != text) continue;
        value = word.value;
        return;
      }
      fail("`" + std::string(text) + "` is no value of `" + std::string(key) + "`");
    } else {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) {
        fail("`" + std::string(text) + "` is no number that `" + std::string(key) + "` can hold");
      }
    }
  }

  // Nothing may follow the last field.
  void finish() {
    ++number_;
    if (!rest_.empty()) fail("text after the end of the plan");
  }

  [[noreturn]] void fail(const std::string& text) const {
    throw std::runtime_error("plan text, line " + std::to_string(number_) + ": " + text);
  }

 private:
  std::string unescape(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char next = ++i < text.size() ? text[i] : '\0';
      if (next != '\\' && next != 'n' && next != 'r') fail("an escape that is none of \\\\, \\n, \\r");
      out += next == 'n' ? '\n' : next == 'r' ? '\r' : '\\';
    }
    return out;
  }

  Identity identity(std::string_view text) const {
    Identity value;
    const std::string_view digits = text.substr(0, 16);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value.id, 16);
    if (error != std::errc() || digits.size() != 16 || end != digits.data() + 16) {
      fail("an identity begins with 16 hexadecimal digits");
    }
    if (text.size() > 16) {
      if (text[16] != ' ' || text.size() == 17) fail("one space stands between an identity's number and its text");
      value.text = unescape(text.substr(17));
    }
    const bool none = value.id == 0 && value.text.empty();
    if (!none && value.id != fnv1a(value.text)) {
      fail("the identity " + id_text(value.id) + " does not belong to its text: one of the two was altered");
    }
    return value;
  }

  std::string_view rest_;
  std::size_t depth_ = 0;
  std::size_t number_ = 0;
};

// The functions below take `const X` with a Writer and `X` with a Reader.

template <class Visitor, class Value>
void visit_map(Visitor& visitor, std::string_view key, Value& map) {
  std::string whole;
  if constexpr (Visitor::kReading) {
    const std::string_view text = visitor.line(key);
    map = Map{};
    if (text == kAbsent) return;
    whole = std::string(text);
  } else {
    if (!map.present()) {
      visitor.line(key, kAbsent);
      return;
    }
  }
  std::string_view rest = whole;
  const auto word = [&](std::string_view name, auto& value) {
    const std::string start = std::string(name) + "=";
    if constexpr (Visitor::kReading) {
      if (rest.substr(0, start.size()) != start) {
        visitor.fail("`" + start + "` should stand before `" + std::string(rest) + "`");
      }
      rest.remove_prefix(start.size());
      const std::size_t end = std::min(rest.find(' '), rest.size());
      visitor.parse(rest.substr(0, end), name, value);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    } else {
      if (!whole.empty()) whole += ' ';
      whole += start + Visitor::format(value);
    }
  };
  word("operand", map.operand);
  word("dtype", map.dtype);
  word("heads", map.heads);
  word("offset", map.offset);
  word("key_head", map.key_head_stride);
  word("group", map.group_stride);
  word("inner", map.inner_stride);
  word("outer", map.outer_stride);
  word("tap", map.tap_stride);
  word("run", map.run);
  word("align", map.align);
  if constexpr (Visitor::kReading) {
    if (!rest.empty()) visitor.fail("`" + std::string(rest) + "` after the last field of `" + std::string(key) + "`");
    if (!map.present()) visitor.fail("a part without an operand is written as `" + std::string(kAbsent) + "`");
  } else {
    visitor.line(key, whole);
  }
}

template <class Visitor, class Value>
void visit_facts(Visitor& visitor, Value& facts) {
  visitor.open("facts");
  visitor.field("rule", facts.rule);
  visitor.field("key_heads", facts.key_heads);
  visitor.field("value_heads", facts.value_heads);
  visitor.field("group", facts.group);
  visitor.field("pairing", facts.pairing);
  visitor.field("key_dim", facts.key_dim);
  visitor.field("value_dim", facts.value_dim);
  visitor.field("conv_width", facts.conv_width);
  visitor.field("conv_activation", facts.conv_activation);
  visitor.field("conv_bias", facts.conv_bias);
  visitor.field("taps_oldest_first", facts.taps_oldest_first);
  visitor.field("window", facts.window);
  visitor.field("anchor", facts.anchor);
  visitor.field("qk_norm", facts.qk_norm);
  visitor.field("qk_eps", facts.qk_eps);
  visitor.field("qk_eps_at", facts.qk_eps_at);
  visitor.field("q_scale", facts.q_scale);
  visitor.field("k_scale", facts.k_scale);
  visitor.field("decay_form", facts.decay_form);
  visitor.field("softplus_threshold", facts.softplus_threshold);
  visitor.field("decay_bound", facts.decay_bound);
  visitor.field("a_stored", facts.a_stored);
  visitor.field("g_handover", facts.g_handover);
  visitor.field("beta_factor", facts.beta_factor);
  visitor.field("norm_eps", facts.norm_eps);
  visitor.field("norm_weight", facts.norm_weight);
  visitor.field("norm_gate", facts.norm_gate);
  visitor.field("norm_before_gate", facts.norm_before_gate);
  visitor.field("quant_group", facts.quant_group);
  visitor.field("quant_max", facts.quant_max);
  visitor.field("quant_floor_at", facts.quant_floor_at);
  visitor.field("quant_floor", facts.quant_floor);
  visitor.field("quant_power_of_two", facts.quant_power_of_two);
  visitor.field("quant_from", facts.quant_from);
  visitor.field("quant_divides", facts.quant_divides);
  visitor.field("scale_group_first", facts.scale_group_first);
  visitor.field("stochastic_state", facts.stochastic_state);
  visitor.field("seed_operand", facts.seed_operand);
  visitor.field("round_conv", facts.round_conv);
  visitor.field("round_qk", facts.round_qk);
  visitor.field("round_beta", facts.round_beta);
  visitor.field("round_o", facts.round_o);
  visitor.field("round_norm", facts.round_norm);
  visitor.field("slot_dtype", facts.slot_dtype);
  visitor.field("padding", facts.padding);
  visitor.field("padded_output", facts.padded_output);
  visitor.field("excess_output", facts.excess_output);
  visitor.field("slots_operand", facts.slots_operand);
  visitor.field("offset_dtype", facts.offset_dtype);
  visitor.field("offsets_operand", facts.offsets_operand);
  visitor.field("chunk", facts.chunk);
  visitor.field("initial_states", facts.initial_states);
  visitor.field("final_states", facts.final_states);
  visitor.field("round_prefill_qk", facts.round_prefill_qk);
  visitor.field("flag_dtype", facts.flag_dtype);
  visitor.field("flags_operand", facts.flags_operand);
  visitor.field("snapshots", facts.snapshots);
  visitor.field("snapshot_rows_operand", facts.snapshot_rows_operand);
  visitor.field("snapshot_slots_operand", facts.snapshot_slots_operand);
  visitor.field("tokens", facts.tokens);
  visitor.field("rollback", facts.rollback);
  visitor.field("counts", facts.counts);
  visitor.field("accepted_dtype", facts.accepted_dtype);
  visitor.field("accepted_operand", facts.accepted_operand);
  visit_map(visitor, "in_q", facts.in_q);
  visit_map(visitor, "in_k", facts.in_k);
  visit_map(visitor, "in_v", facts.in_v);
  visit_map(visitor, "in_z", facts.in_z);
  visit_map(visitor, "in_b", facts.in_b);
  visit_map(visitor, "in_a", facts.in_a);
  visit_map(visitor, "in_g", facts.in_g);
  visit_map(visitor, "in_beta", facts.in_beta);
  visit_map(visitor, "in_o", facts.in_o);
  visit_map(visitor, "out_q", facts.out_q);
  visit_map(visitor, "out_k", facts.out_k);
  visit_map(visitor, "out_v", facts.out_v);
  visit_map(visitor, "out_z", facts.out_z);
  visit_map(visitor, "out_b", facts.out_b);
  visit_map(visitor, "out_a", facts.out_a);
  visit_map(visitor, "out_g", facts.out_g);
  visit_map(visitor, "out_beta", facts.out_beta);
  visit_map(visitor, "out_o", facts.out_o);
  visit_map(visitor, "out", facts.out);
  visit_map(visitor, "weight_q", facts.weight_q);
  visit_map(visitor, "weight_k", facts.weight_k);
  visit_map(visitor, "weight_v", facts.weight_v);
  visit_map(visitor, "bias_q", facts.bias_q);
  visit_map(visitor, "bias_k", facts.bias_k);
  visit_map(visitor, "bias_v", facts.bias_v);
  visit_map(visitor, "window_q", facts.window_q);
  visit_map(visitor, "window_k", facts.window_k);
  visit_map(visitor, "window_v", facts.window_v);
  visit_map(visitor, "state", facts.state);
  visit_map(visitor, "intermediate", facts.intermediate);
  visit_map(visitor, "record_k", facts.record_k);
  visit_map(visitor, "record_u", facts.record_u);
  visit_map(visitor, "record_decay", facts.record_decay);
  visit_map(visitor, "state_scale", facts.state_scale);
  visit_map(visitor, "a_log", facts.a_log);
  visit_map(visitor, "dt_bias", facts.dt_bias);
  visit_map(visitor, "norm_w", facts.norm_w);
  visit_map(visitor, "norm_b", facts.norm_b);
  visit_map(visitor, "out_scale", facts.out_scale);
  visitor.close();
}

template <class Visitor, class Value>
void visit_operand(Visitor& visitor, Value& operand) {
  visitor.field("operand", operand.name);
  visitor.nest();
  visitor.field("role", operand.role);
  visitor.field("access", operand.access);
  visitor.field("dtype", operand.dtype);
  visitor.field("leading", operand.leading);
  visitor.field("launch_stride", operand.launch_stride);
  visitor.field("inner", operand.inner);
  visitor.field("align", operand.align);
  visitor.field("optional", operand.optional);
  visitor.field("layout", operand.layout);
  visitor.close();
}

// The number of elements of the list that follows. A wrong number in an altered text must not become an allocation.
template <class Visitor, class List>
void visit_count(Visitor& visitor, std::string_view key, List& list) {
  constexpr std::size_t kMost = 1024;
  std::size_t count = list.size();
  visitor.field(key, count);
  if constexpr (Visitor::kReading) {
    if (count > kMost) visitor.fail("more than " + std::to_string(kMost) + " " + std::string(key));
    list.resize(count);
  }
}

template <class Visitor, class Value>
void visit_launch(Visitor& visitor, Value& launch) {
  visitor.field("threads", launch.threads);
  visitor.field("blocks_per_row", launch.blocks_per_row);
  visitor.field("shared_bytes", launch.shared_bytes);
  visitor.field("grid", launch.grid);
  visitor.field("one_dimension", launch.one_dimension);
  visitor.field("cluster", launch.cluster);
  visitor.field("rows_per_block", launch.rows_per_block);
}

template <class Visitor, class Value>
void visit_choices(Visitor& visitor, Value& choices) {
  visit_count(visitor, "choices", choices);
  visitor.nest();
  for (auto& choice : choices) {
    visitor.field("choice", choice.first);
    visitor.field("value", choice.second);
  }
  visitor.close();
}

template <class Visitor, class Value>
void visit_plan(Visitor& visitor, Value& plan) {
  int format = kPlanFormat;
  visitor.field("plan", format);
  if constexpr (Visitor::kReading) {
    if (format != kPlanFormat) {
      visitor.fail("format " + std::to_string(format) + ", and this program reads format " +
                   std::to_string(kPlanFormat) + ": make the plan again with this version of gdn-gen");
    }
  }
  visitor.field("symbol", plan.symbol);
  visitor.field("spec", plan.spec);
  visitor.field("spec_file", plan.spec_file);
  visitor.field("operation", plan.operation);
  visitor.field("target", plan.target);
  visitor.field("identity", plan.identity);
  visitor.open("launch");
  visit_launch(visitor, plan.launch);
  visitor.close();
  visit_count(visitor, "stages", plan.stages);
  visitor.nest();
  for (auto& stage : plan.stages) {
    visitor.field("stage", stage.symbol);
    visitor.nest();
    visitor.field("body", stage.body);
    visit_launch(visitor, stage.launch);
    visitor.field("resident", stage.resident);
    visitor.close();
  }
  visitor.close();
  visit_count(visitor, "operands", plan.operands);
  visitor.nest();
  for (auto& operand : plan.operands) visit_operand(visitor, operand);
  visitor.close();
  visit_choices(visitor, plan.choices);
  visit_count(visitor, "variants", plan.variants);
  visitor.nest();
  for (auto& variant : plan.variants) {
    visitor.field("variant", variant.symbol);
    visitor.nest();
    visitor.field("max_rows", variant.max_rows);
    visitor.field("edges", variant.edges);
    visit_launch(visitor, variant.launch);
    visit_choices(visitor, variant.choices);
    visitor.close();
  }
  visitor.close();
  visit_facts(visitor, plan.facts);
}

}  // namespace

std::int64_t choice_of(const Choices& choices, std::string_view name, std::int64_t missing) {
  for (const auto& [key, value] : choices) {
    if (key == name) return value;
  }
  return missing;
}

std::string_view to_string(Leading leading) {
  for (const auto& word : words(leading)) {
    if (word.value == leading) return word.text;
  }
  return "?";
}

std::string_view to_string(Edge edge) { return to_string(only(edge)); }

std::string_view to_string(Edges edges) {
  for (const auto& word : words(edges)) {
    if (word.value == edges) return word.text;
  }
  return "?";
}

Edges only(Edge edge) { return edge == Edge::kPlain ? Edges::kPlain : Edges::kProgrammatic; }

bool has(Edges edges, Edge edge) { return edges == Edges::kBoth || edges == only(edge); }

std::vector<const Variant*> distinct_forms(const KernelPlan& plan) {
  std::vector<const Variant*> forms;
  for (const Variant& variant : plan.variants) {
    const bool known =
        variant.symbol == plan.symbol ||
        std::any_of(forms.begin(), forms.end(), [&](const Variant* form) { return form->symbol == variant.symbol; });
    if (!known) forms.push_back(&variant);
  }
  return forms;
}

std::string to_text(const KernelPlan& plan) {
  Writer writer;
  visit_plan(writer, plan);
  return writer.take();
}

KernelPlan parse_plan(std::string_view text) {
  Reader reader(text);
  KernelPlan plan;
  visit_plan(reader, plan);
  reader.finish();
  return plan;
}

bool waits_for_previous(std::string_view operation) { return operation == "decode" || operation == "decode_spec"; }

}  // namespace gdn::core
