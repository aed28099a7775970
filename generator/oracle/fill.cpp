#include "oracle/fill.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "oracle/random.h"

namespace gdn::oracle {
namespace {

constexpr double kTieMargin = 0.02;  // of a last place
constexpr double kSumMargin = 4e-6;  // of the sum of the terms' absolute values
constexpr int kMaxTries = 200;
constexpr int kFarHead = 3, kFarPeriod = 7;  // heads whose softplus lies beyond the threshold

std::string last_word(const std::string& key) { return key.substr(key.find('.') + 1); }
bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

// None without an A_log: nothing would then make so large a softplus a decay that leaves something.
bool far_head(const Problem& problem, int head) {
  return problem.options().strong_decay && *problem.spec().decay.a_log != core::AStored::kAbsent &&
         *problem.spec().decay.form == core::DecayForm::kSoftplus && head % kFarPeriod == kFarHead;
}

// How large a head's q, k, v or o is. Of two or more key heads one of q and one of k is as small as 2e-3, where the
// norm's eps shows. Without a norm, k is about one long after conv and activation, so that a state does not grow.
double amplitude(const Problem& problem, const std::string& part, int head) {
  const spec::Spec& spec = problem.spec();
  Random random(problem.options().seed, "amplitude." + part, head, 0);
  const bool of_keys = part == "q" || part == "k";
  if (of_keys && !*spec.qk_norm.enabled) {
    const double length = problem.operands().find("in.g").operand >= 0 ? 1 : 3;
    return length / std::sqrt(static_cast<double>(*spec.dims.key)) * random.uniform(0.8, 1.2);
  }
  const int key_heads = *spec.heads.key;
  if (part == "q" && key_heads > 1 && head % 4 == 1) return 2e-3;
  if (part == "k" && key_heads > 1 && head % 4 == (key_heads > 2 ? 2 : 0)) return 2e-3;
  return std::ldexp(1.0, random.below(3) - 1) * random.uniform(0.7, 1.4);
}

int head_of(const PartMap& map, std::size_t index) {
  return static_cast<int>(index / (static_cast<std::size_t>(map.key_dim) * map.value_dim * map.taps));
}

// a + dt_bias of a head of a row. A third of them forgets nearly all, wherever the numbers fall: there a prediction
// from the undecayed state is plainly wrong.
double draw_logit(const Problem& problem, int head, std::int64_t row, Random& random) {
  if (!problem.options().strong_decay) return random.uniform(-6, -3);
  if (far_head(problem, head)) return random.uniform(60, 120);
  const double most = *problem.spec().decay.form == core::DecayForm::kBounded ? 1.2 : 2.2;
  return (head + row) % 3 == 0 ? random.uniform(most - 0.8, most) : random.uniform(-5, most);
}

double draw_a_log(const Problem& problem, int head, Random& random) {
  const bool stored_negative = *problem.spec().decay.a_log == core::AStored::kNegativeExp;
  if (far_head(problem, head)) return stored_negative ? -0.011 : -4.5;
  if (*problem.spec().decay.form == core::DecayForm::kBounded) {
    return stored_negative ? -random.uniform(0.7, 1.3) : random.uniform(-0.3, 0.3);
  }
  return stored_negative ? -random.uniform(0.37, 1.65) : random.uniform(-1, 0.5);
}

// g over many tokens. A third of the heads forgets within a few tokens, a third remembers for hundreds, and a third
// remembers but for tokens that wipe nearly all.
double draw_prefill_decay(const Problem& problem, int head, Random& random) {
  const bool weak = !problem.options().strong_decay;
  double g = -random.uniform(0, 0.02);
  if (!weak && head % 3 == 0) g = -random.uniform(0.001, 3.9);
  if (!weak && head % 3 == 2 && random.below(16) == 0) g = -random.uniform(5, 20);
  return from_ln(*problem.spec().decay.handover, g);
}

double draw_handover_decay(core::Domain domain, Random& random) {
  if (domain == core::Domain::kExp) return random.uniform(0.02, 0.999);
  const double g = -random.uniform(0.001, 3.9);
  return domain == core::Domain::kLog2 ? g * 1.4426950408889634 : g;
}

// Where a row's numbers come from: a stream of the part's own, one that q and k have in common, and one that gives all
// rows the same.
struct Draws {
  std::int64_t row;
  Random own, shared, constant;
};

// Draws an element of a head; `bias` is the head's (or channel's) dt_bias, used for a.
using Drawer = std::function<double(int head, double bias, Draws&)>;

std::vector<double> amplitudes(const Problem& problem, const std::string& part, const PartMap& map, double scale) {
  std::vector<double> scales;
  for (int head = 0; head < map.heads; ++head) scales.push_back(scale * amplitude(problem, part, head));
  return scales;
}

Drawer bell(double centre, double scale) {
  return [centre, scale](int, double, Draws& draws) { return centre + scale * draws.own.bell(); };
}

Drawer bell_by_head(const Problem& problem, const std::string& part, const PartMap& map, double scale) {
  const std::vector<double> scales = amplitudes(problem, part, map, scale);
  return [scales](int head, double, Draws& draws) { return scales[static_cast<std::size_t>(head)] * draws.own.bell(); };
}

// q and k: half of what is drawn is common to both, so that q and k point in similar directions and what a step does
// along k shows in its output at any key_dim.
Drawer alike_by_head(const Problem& problem, const std::string& part, const PartMap& map) {
  const std::vector<double> scales = amplitudes(problem, part, map, 1);
  return [scales](int head, double, Draws& draws) {
    return scales[static_cast<std::size_t>(head)] * (0.75 * draws.shared.bell() + 0.66 * draws.own.bell());
  };
}

// k where all keys of a head have most of themselves in common.
Drawer similar_by_head(const Problem& problem, const std::string& part, const PartMap& map) {
  const std::vector<double> scales = amplitudes(problem, part, map, 1);
  const double common = problem.options().keys == Keys::kRepeated ? 0.9995 : std::sqrt(0.8);
  const double rest = std::sqrt(1 - common * common);
  return [scales, common, rest](int head, double, Draws& draws) {
    return scales[static_cast<std::size_t>(head)] * (common * draws.constant.bell() + rest * draws.own.bell());
  };
}

// How the part with that key is drawn.
Drawer drawer_of(const Problem& problem, const std::string& key, const PartMap& map) {
  const spec::Spec& spec = problem.spec();
  const std::string part = last_word(key);
  if (starts_with(key, "conv_weight.")) return bell(0.35, 0.35);
  const bool scaled_state = problem.operands().find("state_scale").operand >= 0;
  if (key == "state") return bell(0, scaled_state ? 100 : 0.5);  // codes
  if (key == "intermediate_state") return bell(0, 0.5);
  if (key == "state_scale") return [](int, double, Draws& draws) { return draws.own.uniform(0.003, 0.007); };
  if (key == "record_k") return bell(0, 1 / std::sqrt(static_cast<double>(*spec.dims.key)));
  if (key == "record_u") return bell(0, 0.5);
  if (key == "record_decay") return [](int, double, Draws& draws) { return draws.own.uniform(0.02, 0.999); };
  if (starts_with(key, "conv_bias.")) return bell_by_head(problem, part, map, 0.3);
  if (key == "a_log") return [&](int head, double, Draws& draws) { return draw_a_log(problem, head, draws.own); };
  if (key == "dt_bias") return [](int, double, Draws& draws) { return draws.own.uniform(-1.5, 1.5); };
  if (key == "norm_weight") {
    const double centre = *spec.out_norm.weight == core::NormWeight::kW ? 1 : 0;
    return [centre](int, double, Draws& draws) { return centre + draws.own.uniform(-0.5, 0.5); };
  }
  if (part == "a") {
    return [&](int head, double bias, Draws& draws) { return draw_logit(problem, head, draws.row, draws.own) - bias; };
  }
  if (part == "g" && problem.operands().prefills()) {
    return [&](int head, double, Draws& draws) { return draw_prefill_decay(problem, head, draws.own); };
  }
  if (part == "g") {
    return [&](int, double, Draws& draws) { return draw_handover_decay(*spec.decay.handover, draws.own); };
  }
  if (part == "beta") {
    return [&](int, double, Draws& draws) { return *spec.beta.factor * draws.own.uniform(0.05, 0.95); };
  }
  if (key == "norm_bias") return bell(0, 0.2);
  if (part == "z" && *spec.output_quant.given && *spec.out_norm.gate != core::Activation::kNone) {
    // Some heads, and some whole rows, are almost closed: what their scales are, the floor says.
    return [](int head, double, Draws& draws) {
      const bool quiet = draws.row % 4 == 3 || (head + draws.row) % 5 == 4;
      return quiet ? -24 + 0.5 * draws.own.bell() : 1.5 * draws.own.bell();
    };
  }
  if (part == "b" || part == "z") return bell(0, 1.5);
  if (part == "k" && problem.options().keys != Keys::kRandom) return similar_by_head(problem, part, map);
  if (part == "q" || part == "k") return alike_by_head(problem, part, map);
  return bell_by_head(problem, part, map, part == "o" ? 0.3 : 1.0);
}

Buffer& buffer_of(Problem& problem, const BoundPart& part) {
  return problem.buffers()[static_cast<std::size_t>(part.operand)];
}

std::vector<double> load_constant(Problem& problem, const std::string& key) {
  const BoundPart part = problem.operands().find(key);
  if (part.operand < 0) return {};
  const Buffer& buffer = buffer_of(problem, part);
  return load_part(buffer.dtype, buffer.row(0), *part.map);
}

void fill_part(Problem& problem, const std::string& key, const BoundPart& part, int step) {
  Buffer& buffer = buffer_of(problem, part);
  const bool token = buffer.leading == Leading::kToken;
  const std::vector<double> biases = key == "in.a" ? load_constant(problem, "dt_bias") : std::vector<double>{};
  const bool bias_by_head = biases.size() == static_cast<std::size_t>(part.map->heads);
  const std::string common = key.substr(0, key.find('.')) + ".qk";
  const Drawer drawer = drawer_of(problem, key, *part.map);
  std::vector<double> values(part.map->offset.size());
  for (std::int64_t row = 0; row < buffer.rows; ++row) {
    if (token && problem.padding(static_cast<int>(row))) continue;  // stays NaN
    const std::uint64_t seed = problem.options().seed;
    Draws draws{row, Random(seed, key, row, step), Random(seed, common, row, step),
                Random(seed, key + ".constant", 0, step)};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int head = head_of(*part.map, i);
      const double bias = biases.empty() ? 0 : biases[bias_by_head ? static_cast<std::size_t>(head) : i];
      values[i] = drawer(head, bias, draws);
    }
    store_part(buffer.dtype, buffer.row(row), *part.map, values);
  }
}

// Draws a token's conv inputs again wherever the conv's output lies too near a tie of its rounding.
void avoid_conv_ties(Problem& problem) {
  const spec::Spec& spec = problem.spec();
  const core::DType rounding = *spec.rounding.conv;
  const Operands& operands = problem.operands();
  if (rounding == core::DType::kFp32 || operands.find("conv_weight.q").operand < 0) return;
  if (operands.find("in.q").operand < 0) return;
  for (const char* name : {"q", "k", "v"}) {
    const std::string part = name;
    const BoundPart input = operands.at("in." + part);
    const BoundPart window = operands.find("conv_state." + part);  // not in a prefill that starts from zeros
    const core::DType window_dtype =
        window.operand >= 0 ? buffer_of(problem, window).dtype : buffer_of(problem, input).dtype;
    const std::vector<double> weights = load_constant(problem, "conv_weight." + part);
    const std::vector<double> biases = load_constant(problem, "conv_bias." + part);
    Buffer& inputs = buffer_of(problem, input);
    const bool pooled = window.operand >= 0;
    std::vector<double> past;
    for (int row = 0; row < problem.rows(); ++row) {
      if (problem.padding(row)) continue;
      // A sequence's later tokens find what its earlier ones left.
      const TokenRun* sequence = problem.sequence_of(row);
      if (sequence == nullptr || row == sequence->first) {
        past.assign(input.map->offset.size() * static_cast<std::size_t>(*spec.conv.window), 0.0);
        const bool read = pooled && (sequence == nullptr || sequence->initial || operands.drafts());
        if (read) past = load_part(window_dtype, buffer_of(problem, window).row(problem.row_slot(row)), *window.map);
        if (sequence != nullptr) discard_oldest(spec, problem.window_offset(*sequence), past);
      }
      std::vector<double> current = load_part(inputs.dtype, inputs.row(row), *input.map);
      Random random(problem.options().seed, "ties." + part, row, problem.step());
      for (std::size_t c = 0; c < current.size(); ++c) {
        const double* w = weights.data() + c * static_cast<std::size_t>(*spec.conv.width);
        double* u = past.data() + c * static_cast<std::size_t>(*spec.conv.window);
        const double bias = biases.empty() ? 0 : biases[c];
        for (int attempt = 0; attempt < kMaxTries; ++attempt) {
          const double y = activate(*spec.conv.activation, conv_channel(spec.conv, w, u, current[c], bias));
          const double terms = conv_magnitude(spec.conv, w, u, current[c], bias);
          const double place = std::fabs(y) * (rounding == core::DType::kBf16 ? 0x1p-8 : 0x1p-11);
          if (distance_from_tie(rounding, y) * place > std::max(kTieMargin * place, kSumMargin * terms)) break;
          current[c] = round_to(inputs.dtype, amplitude(problem, part, head_of(*input.map, c)) * random.bell());
        }
        shift_window(spec.conv, u, round_to(window_dtype, current[c]));
      }
      store_part(inputs.dtype, inputs.row(row), *input.map, current);
    }
  }
}

void avoid_beta_ties(Problem& problem) {
  const spec::Spec& spec = problem.spec();
  const core::DType rounding = *spec.rounding.beta;
  const BoundPart input = problem.operands().find("in.b");
  if (rounding == core::DType::kFp32 || input.operand < 0) return;
  Buffer& inputs = buffer_of(problem, input);
  for (int row = 0; row < problem.rows(); ++row) {
    if (problem.padding(row)) continue;
    std::vector<double> values = load_part(inputs.dtype, inputs.row(row), *input.map);
    Random random(problem.options().seed, "ties.b", row, problem.step());
    for (double& b : values) {
      for (int attempt = 0; attempt < kMaxTries; ++attempt) {
        if (distance_from_tie(rounding, beta_of(spec.beta, b)) > kTieMargin) break;
        b = round_to(inputs.dtype, 1.5 * random.bell());
      }
    }
    store_part(inputs.dtype, inputs.row(row), *input.map, values);
  }
}

int part_number(const std::string& part) {
  const std::size_t at = std::string("qkvzba").find(part);
  return part.size() == 1 && at != std::string::npos ? static_cast<int>(at) : 6;
}

double tag_value(const std::string& part, const PartMap& map, std::size_t index, std::int64_t row, Tag tag) {
  std::size_t left = index;
  const int tap = static_cast<int>(left % static_cast<std::size_t>(map.taps));
  left /= static_cast<std::size_t>(map.taps);
  const int value_channel = static_cast<int>(left % static_cast<std::size_t>(map.value_dim));
  left /= static_cast<std::size_t>(map.value_dim);
  const int key_channel = static_cast<int>(left % static_cast<std::size_t>(map.key_dim));
  std::int64_t number = 0;
  switch (tag) {
    case Tag::kPart:
      number = part_number(part);
      break;
    case Tag::kHead:
      number = head_of(map, index);
      break;
    case Tag::kChannel:
      number = std::max(key_channel, value_channel);
      break;
    case Tag::kTap:
      number = tap;
      break;
    case Tag::kRow:
      number = row;
      break;
  }
  return static_cast<double>(1 + number % 256);
}

}  // namespace

void fill_constants(Problem& problem) {
  for (const auto& [key, part] : problem.operands().parts()) {
    const Kind kind = buffer_of(problem, part).kind;
    if (kind == Kind::kParameter || kind == Kind::kPool) fill_part(problem, key, part, 0);
  }
}

void fill_inputs(Problem& problem) {
  for (const auto& [key, part] : problem.operands().parts()) {
    if (buffer_of(problem, part).kind == Kind::kInput) fill_part(problem, key, part, problem.step());
  }
  avoid_conv_ties(problem);
  avoid_beta_ties(problem);
}

void fill_tags(Problem& problem, Tag tag, Kind kind) {
  for (const auto& [key, part] : problem.operands().parts()) {
    Buffer& buffer = buffer_of(problem, part);
    if (buffer.kind != kind || key == "state") continue;
    std::vector<double> values(part.map->offset.size());
    for (std::int64_t row = 0; row < buffer.rows; ++row) {
      if (buffer.leading == Leading::kToken && problem.padding(static_cast<int>(row))) continue;
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = tag_value(last_word(key), *part.map, i, row, tag);
      store_part(buffer.dtype, buffer.row(row), *part.map, values);
    }
  }
}

}  // namespace gdn::oracle
