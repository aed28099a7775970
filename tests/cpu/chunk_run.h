// Chunks of the delta rule with facts made by hand, run against the recurrence in double precision over the same
// rounded q, k and v: for shapes that no spec has. With tiles it runs under the emulator where there are none.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <sstream>

#include "cpu/chunk.h"
#include "harness.h"
#include "oracle/convert.h"
#include "support/amx_emulator.h"

namespace gdn::test {

struct ChunkCase {
  int key_heads = 1, group = 1, key_dim = 32, value_dim = 32;
  std::vector<int> lengths = {64};
  bool keys_innermost = false;             // state as (V, K)
  bool by_channel = false;                 // kda
  double decay = 0.1;                      // g is drawn from [-decay, 0], of a channel or of the head
  bool same_decay = false;                 // kda: all channels of a head have the head's g
  double correlation = 0;                  // the part of each key that all keys of a head have in common: its square
  double beta = 1;                         // is drawn from [0, beta]
  core::DType input = core::DType::kBf16;  // of q, k and v
  cpu::Parts parts = {};
  bool halves = false;  // of registers, as on avx2; not by tiles

  std::string text() const {
    std::ostringstream out;
    out << (by_channel ? "kda " : "gdn ") << key_heads << "x" << group << " " << key_dim << "/" << value_dim
        << (keys_innermost ? " VK" : " KV") << " decay " << decay << " correlation " << correlation << " beta " << beta
        << " " << core::to_string(input) << " of";
    for (const int length : lengths) out << " " << length;
    if (halves) out << " by halves";
    return out.str();
  }
};

struct ChunkRun {
  double output_error = 0, state_error = 0;
  std::vector<float> output, state;
  AmxMachine::Counts counts = {};  // under the emulator
};

inline std::uint16_t to_bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline double rounded_to_bf16(double value) {
  const std::uint32_t bits = std::uint32_t{to_bf16(static_cast<float>(value))} << 16;
  float result = 0;
  std::memcpy(&result, &bits, 4);
  return static_cast<double>(result);
}

inline core::Facts facts_of(const ChunkCase& s) {
  core::Facts f;
  f.rule = s.by_channel ? core::Rule::kKda : core::Rule::kGdn;
  f.key_heads = s.key_heads;
  f.group = s.group;
  f.value_heads = s.key_heads * s.group;
  f.key_dim = s.key_dim;
  f.value_dim = s.value_dim;
  f.qk_norm = true;
  f.qk_eps = 1e-6;
  f.qk_eps_at = core::EpsAt::kSum;
  f.q_scale = 1 / std::sqrt(static_cast<double>(s.key_dim));
  f.g_handover = core::Domain::kLn;
  const auto heads = [&](int operand, core::DType dtype, bool value, std::int64_t run) {
    core::Map map;
    map.operand = operand;
    map.dtype = dtype;
    map.heads = value ? core::HeadKind::kValue : core::HeadKind::kKey;
    map.key_head_stride = value ? s.group * run : run;
    map.group_stride = value ? run : 0;
    map.inner_stride = 1;
    map.run = run;
    return map;
  };
  f.in_q = heads(0, s.input, false, s.key_dim);
  f.in_k = heads(1, s.input, false, s.key_dim);
  f.in_v = heads(2, s.input, true, s.value_dim);
  f.in_g = heads(3, core::DType::kFp32, true, s.by_channel ? s.key_dim : 1);
  f.in_beta = heads(4, core::DType::kFp32, true, 1);
  f.state = heads(5, core::DType::kFp32, true, std::int64_t{1} * s.key_dim * s.value_dim);
  f.state.run = s.key_dim;
  f.state.inner_stride = s.keys_innermost ? 1 : s.value_dim;
  f.state.outer_stride = s.keys_innermost ? s.key_dim : 1;
  f.slots_operand = 6;
  f.offsets_operand = 7;
  f.initial_states = core::InitialStates::kAll;
  f.final_states = true;
  f.out_o = heads(8, core::DType::kFp32, true, s.value_dim);
  return f;
}

// Rows of one of the inputs, in the case's element type.
class ChunkInput {
 public:
  ChunkInput(core::DType dtype, std::size_t elements)
      : dtype_(dtype), bytes_(elements * core::size_of(dtype)), values_(elements) {}

  // Keeps the value as the type holds it.
  void set(std::size_t i, double value) {
    std::byte* const to = bytes_.data() + i * core::size_of(dtype_);
    oracle::store(dtype_, to, value);
    values_[i] = oracle::load(dtype_, to);
  }
  double value(std::size_t i) const { return values_[i]; }
  void* data() { return bytes_.data(); }

 private:
  core::DType dtype_;
  std::vector<std::byte> bytes_;
  std::vector<double> values_;
};

inline cpu::Kernel make_chunked(const ChunkCase& s, bool tiles, std::int64_t& scratch) {
  const core::Facts facts = facts_of(s);
  cpu::Emitter emitter;
  cpu::Context context{emitter, facts, cpu::Frame(facts)};
  cpu::Palette palette;
  palette.fill({16, 64});
  cpu::Tiles amx(emitter, palette);
  cpu::ChunkContext cc{context, cpu::Buffers(facts), tiles ? &amx : nullptr, s.parts};
  scratch = cc.at.size;
  if (s.halves) {
    emitter.narrow(cpu::reg::work, static_cast<int>(scratch));
    scratch += cpu::Halves::kBytes;
  }
  cpu::emit_chunk_delta(cc);
  auto program = emitter.finish("test");
  return cpu::Kernel(program.code, std::move(program.listing));
}

inline double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = static_cast<double>(got[i]) - want[i];
    difference += d * d;
    size += want[i] * want[i];
  }
  return std::sqrt(difference / size);
}

inline ChunkRun run_chunked(const ChunkCase& s, bool tiles) {
  const core::Facts f = facts_of(s);
  std::int64_t scratch_bytes = 0;
  const cpu::Kernel kernel = make_chunked(s, tiles, scratch_bytes);
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<int> offsets = {0};
  for (const int length : s.lengths) offsets.push_back(offsets.back() + length);
  const auto tokens = static_cast<std::size_t>(offsets.back());
  const auto sequences = s.lengths.size();
  const std::size_t K = static_cast<std::size_t>(s.key_dim), V = static_cast<std::size_t>(s.value_dim);
  const std::size_t key_row = static_cast<std::size_t>(s.key_heads) * K;
  const auto value_heads = static_cast<std::size_t>(f.value_heads);
  const std::size_t value_row = value_heads * V;
  const std::size_t gates = s.by_channel ? K : 1;
  ChunkInput q(s.input, tokens * key_row), k(s.input, tokens * key_row), v(s.input, tokens * value_row);
  std::vector<float> g(tokens * value_heads * gates), beta(tokens * value_heads), o(tokens * value_row, NAN);
  std::vector<float> state((sequences + 1) * value_heads * K * V);
  std::vector<double> common(key_row);
  for (auto& x : common) x = normal(random);
  for (std::size_t i = 0; i < tokens * key_row; ++i) {
    q.set(i, normal(random));
    k.set(i, s.correlation * common[i % key_row] + std::sqrt(1 - s.correlation * s.correlation) * normal(random));
  }
  for (std::size_t i = 0; i < tokens * value_row; ++i) v.set(i, normal(random));
  for (std::size_t i = 0; i < g.size(); ++i) {
    const bool first = !s.same_decay || i % gates == 0;
    g[i] = first ? -static_cast<float>(s.decay * uniform(random)) : g[i - 1];
  }
  for (auto& x : beta) x = static_cast<float>(s.beta * uniform(random));
  for (auto& x : state) x = static_cast<float>(0.3 * normal(random));
  std::vector<int> slots;
  for (std::size_t i = 0; i < sequences; ++i) slots.push_back(static_cast<int>(sequences - i));

  std::vector<double> reference(state.begin(), state.end());
  std::vector<double> want(o.size()), S(K * V), p(V);
  const auto ready = [&](const ChunkInput& rows, std::size_t token, std::size_t head) {
    std::vector<double> x(K);
    double sum = 0;
    for (std::size_t i = 0; i < K; ++i) {
      x[i] = rows.value(token * key_row + head * K + i);
      sum += x[i] * x[i];
    }
    for (double& value : x) value = rounded_to_bf16(value / std::sqrt(sum + 1e-6));
    return x;
  };
  for (std::size_t n = 0; n < sequences; ++n) {
    for (std::size_t h = 0; h < value_heads; ++h) {
      double* const stored = &reference[(static_cast<std::size_t>(slots[n]) * value_heads + h) * K * V];
      const auto place = [&](std::size_t i, std::size_t j) { return s.keys_innermost ? j * K + i : i * V + j; };
      for (std::size_t i = 0; i < K; ++i) {
        for (std::size_t j = 0; j < V; ++j) S[i * V + j] = stored[place(i, j)];
      }
      for (auto t = static_cast<std::size_t>(offsets[n]); t < static_cast<std::size_t>(offsets[n + 1]); ++t) {
        const auto qt = ready(q, t, h / static_cast<std::size_t>(s.group));
        const auto kt = ready(k, t, h / static_cast<std::size_t>(s.group));
        const float* const gt = &g[(t * value_heads + h) * gates];
        double* const out = &want[t * value_row + h * V];
        std::fill(p.begin(), p.end(), 0.0);
        for (std::size_t i = 0; i < K; ++i) {
          const double d = std::exp(static_cast<double>(gt[s.by_channel ? i : 0])), ki = kt[i];
          double* const row = &S[i * V];
          for (std::size_t j = 0; j < V; ++j) p[j] += (row[j] *= d) * ki;
        }
        for (std::size_t j = 0; j < V; ++j) {
          p[j] = static_cast<double>(beta[t * value_heads + h]) *
                 (rounded_to_bf16(v.value(t * value_row + h * V + j)) - p[j]);
        }
        for (std::size_t i = 0; i < K; ++i) {
          const double ki = kt[i], qi = qt[i] * f.q_scale;
          double* const row = &S[i * V];
          for (std::size_t j = 0; j < V; ++j) out[j] += (row[j] += ki * p[j]) * qi;
        }
      }
      for (std::size_t i = 0; i < K; ++i) {
        for (std::size_t j = 0; j < V; ++j) stored[place(i, j)] = S[i * V + j];
      }
    }
  }

  Args args{};
  void* const operands[] = {q.data(),     k.data(),     v.data(),       g.data(), beta.data(),
                            state.data(), slots.data(), offsets.data(), o.data()};
  const std::size_t strides[] = {key_row, key_row, value_row, value_heads * gates, value_heads, value_heads * K * V,
                                 1,       1,       value_row};
  for (std::size_t i = 0; i < 9; ++i) {
    args.operand[i] = operands[i];
    args.stride[i] = static_cast<long long>(strides[i]);
  }
  args.rows = static_cast<int>(tokens);
  args.sequences = static_cast<int>(sequences);
  args.slots = static_cast<int>(sequences) + 1;
  std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, static_cast<std::size_t>(scratch_bytes)),
                                                      std::free);
  std::memset(scratch.get(), 0xff, static_cast<std::size_t>(scratch_bytes));  // NaN
  const auto items = static_cast<std::int64_t>(sequences) * s.key_heads;
  ChunkRun result;
  if (tiles && !cpu::cpu_supports("amx")) {
    AmxEmulator emulator;
    emulator.reset_counts();
    emulator.run([&] { kernel.function()(&args, 0, items, scratch.get()); });
    result.counts = emulator.counts();
  } else {
    kernel.function()(&args, 0, items, scratch.get());
  }
  result.output_error = relative_error(o, want);
  result.state_error = relative_error(state, reference);
  result.output = std::move(o);
  result.state = std::move(state);
  return result;
}

}  // namespace gdn::test
