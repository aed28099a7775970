// The delta rule by chunks against the recurrence in double precision, over the same rounded q and k: with tiles
// (emulated where there are none) and without, over ragged sequences.
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "cpu/chunk.h"
#include "harness.h"
#include "support/amx_emulator.h"
#include "support/catch.h"

using namespace gdn;
using core::DType;
using core::Map;

namespace {

struct Shape {
  int key_heads, group, key_dim, value_dim;
  bool keys_innermost;  // state as (V, K)
  std::vector<int> lengths;
  double decay;  // g is drawn from [-decay, 0]
  float correlation = 0;
};

std::uint16_t to_bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float from_bf16(std::uint16_t value) {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float result = 0;
  std::memcpy(&result, &bits, 4);
  return result;
}

double rounded(double value) { return static_cast<double>(from_bf16(to_bf16(static_cast<float>(value)))); }

core::Facts facts_of(const Shape& s) {
  core::Facts f;
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
  const auto heads = [&](int operand, DType dtype, bool value, std::int64_t run) {
    Map map;
    map.operand = operand;
    map.dtype = dtype;
    map.heads = value ? core::HeadKind::kValue : core::HeadKind::kKey;
    map.key_head_stride = value ? s.group * run : run;
    map.group_stride = value ? run : 0;
    map.inner_stride = 1;
    map.run = run;
    return map;
  };
  f.in_q = heads(0, DType::kBf16, false, s.key_dim);
  f.in_k = heads(1, DType::kBf16, false, s.key_dim);
  f.in_v = heads(2, DType::kBf16, true, s.value_dim);
  f.in_g = heads(3, DType::kFp32, true, 1);
  f.in_beta = heads(4, DType::kFp32, true, 1);
  f.state = heads(5, DType::kFp32, true, std::int64_t{1} * s.key_dim * s.value_dim);
  f.state.run = s.key_dim;
  f.state.inner_stride = s.keys_innermost ? 1 : s.value_dim;
  f.state.outer_stride = s.keys_innermost ? s.key_dim : 1;
  f.slots_operand = 6;
  f.offsets_operand = 7;
  f.initial_states = core::InitialStates::kAll;
  f.final_states = true;
  f.out_o = heads(8, DType::kFp32, true, s.value_dim);
  return f;
}

cpu::Kernel make(const core::Facts& facts, bool tiles, std::int64_t& scratch) {
  cpu::Emitter emitter;
  cpu::Context context{emitter, facts, cpu::Frame(facts)};
  cpu::Palette palette;
  palette.fill({16, 64});
  cpu::Tiles amx(emitter, palette);
  cpu::ChunkContext cc{context, cpu::Buffers(facts), tiles ? &amx : nullptr};
  scratch = cc.at.size;
  cpu::emit_chunk_delta(cc);
  auto program = emitter.finish("test");
  return cpu::Kernel(program.code, std::move(program.listing));
}

using Function = void (*)(const Args*, std::int64_t, std::int64_t, void*);

struct Errors {
  double output, state;
};

// Of the last run under the emulator.
test::AmxMachine::Counts counts;

Errors run(const Shape& s, bool tiles) {
  const core::Facts f = facts_of(s);
  std::int64_t scratch_bytes = 0;
  const cpu::Kernel kernel = make(f, tiles, scratch_bytes);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<int> offsets = {0};
  for (const int length : s.lengths) offsets.push_back(offsets.back() + length);
  const auto tokens = static_cast<std::size_t>(offsets.back());
  const auto sequences = s.lengths.size();
  const std::size_t key_row = static_cast<std::size_t>(s.key_heads * s.key_dim);
  const std::size_t value_row = static_cast<std::size_t>(f.value_heads * s.value_dim);
  const auto value_heads = static_cast<std::size_t>(f.value_heads);
  const std::size_t head_state = static_cast<std::size_t>(s.key_dim * s.value_dim);
  std::vector<std::uint16_t> q(tokens * key_row), k(tokens * key_row), v(tokens * value_row);
  std::vector<float> g(tokens * value_heads), beta(tokens * value_heads), o(tokens * value_row, NAN);
  std::vector<float> state((sequences + 1) * value_heads * head_state);
  for (auto& x : q) x = to_bf16(normal(random));
  for (std::size_t i = 0; i < k.size(); ++i) {
    const float before = i < key_row ? 0 : from_bf16(k[i - key_row]);
    k[i] = to_bf16(s.correlation * before + std::sqrt(1 - s.correlation * s.correlation) * normal(random));
  }
  for (auto& x : v) x = to_bf16(normal(random));
  std::uniform_real_distribution<float> uniform(0, 1);
  for (auto& x : g) x = -static_cast<float>(s.decay) * uniform(random);
  for (auto& x : beta) x = uniform(random);
  for (auto& x : state) x = 0.3f * normal(random);
  std::vector<int> slots;
  for (std::size_t i = 0; i < sequences; ++i) slots.push_back(static_cast<int>(sequences - i));

  std::vector<double> reference(state.begin(), state.end());
  std::vector<double> want(o.size());
  const auto K = static_cast<std::size_t>(s.key_dim), V = static_cast<std::size_t>(s.value_dim);
  const auto ready = [&](const std::vector<std::uint16_t>& rows, std::size_t token, std::size_t head) {
    std::vector<double> x(K);
    double sum = 0;
    for (std::size_t i = 0; i < K; ++i) {
      x[i] = static_cast<double>(from_bf16(rows[token * key_row + head * K + i]));
      sum += x[i] * x[i];
    }
    for (double& value : x) value = rounded(value / std::sqrt(sum + 1e-6));
    return x;
  };
  for (std::size_t n = 0; n < sequences; ++n) {
    for (std::size_t h = 0; h < value_heads; ++h) {
      double* const S = &reference[(static_cast<std::size_t>(slots[n]) * value_heads + h) * head_state];
      const auto at = [&](std::size_t i, std::size_t j) -> double& {
        return S[s.keys_innermost ? j * K + i : i * V + j];
      };
      for (auto t = static_cast<std::size_t>(offsets[n]); t < static_cast<std::size_t>(offsets[n + 1]); ++t) {
        const auto qt = ready(q, t, h / static_cast<std::size_t>(s.group));
        const auto kt = ready(k, t, h / static_cast<std::size_t>(s.group));
        const double d = std::exp(static_cast<double>(g[t * value_heads + h]));
        for (std::size_t j = 0; j < V; ++j) {
          double p = 0;
          for (std::size_t i = 0; i < K; ++i) p += (at(i, j) *= d) * kt[i];
          const double u = static_cast<double>(beta[t * value_heads + h]) *
                           (static_cast<double>(from_bf16(v[t * value_row + h * V + j])) - p);
          double out = 0;
          for (std::size_t i = 0; i < K; ++i) out += (at(i, j) += kt[i] * u) * qt[i];
          want[t * value_row + h * V + j] = out * f.q_scale;
        }
      }
    }
  }

  Args args{};
  void* const operands[] = {q.data(),     k.data(),     v.data(),       g.data(), beta.data(),
                            state.data(), slots.data(), offsets.data(), o.data()};
  const std::size_t strides[] = {key_row, key_row, value_row, value_heads, value_heads, value_heads * head_state,
                                 1,       1,       value_row};
  for (std::size_t i = 0; i < 9; ++i) {
    args.operand[i] = operands[i];
    args.stride[i] = static_cast<long long>(strides[i]);
  }
  args.rows = static_cast<int>(tokens);
  args.sequences = static_cast<int>(sequences);
  args.slots = static_cast<int>(sequences) + 1;
  Function function = nullptr;
  const auto entry = kernel.function();
  std::memcpy(&function, &entry, sizeof(function));
  std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, static_cast<std::size_t>(scratch_bytes)),
                                                      std::free);
  std::memset(scratch.get(), 0xff, static_cast<std::size_t>(scratch_bytes));  // NaN
  const auto items = static_cast<std::int64_t>(sequences) * s.key_heads;
  if (tiles && !cpu::cpu_supports("amx")) {
    test::AmxEmulator emulator;
    emulator.reset_counts();
    emulator.run([&] { function(&args, 0, items, scratch.get()); });
    counts = emulator.counts();
  } else {
    function(&args, 0, items, scratch.get());
  }
  const auto error = [](const std::vector<float>& got, const std::vector<double>& reference_values) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double d = static_cast<double>(got[i]) - reference_values[i];
      difference += d * d;
      size += reference_values[i] * reference_values[i];
    }
    return std::sqrt(difference / size);
  };
  return {error(o, want), error(state, reference)};
}

}  // namespace

TEST_CASE("chunks agree with the recurrence") {
  if (!test::runs_here()) return;
  const Shape shapes[] = {
      {1, 1, 32, 32, false, {64}, 0.1},
      {1, 1, 32, 32, false, {16}, 0.1},
      {1, 1, 64, 64, false, {128}, 0.1},
      {2, 3, 32, 48, false, {133}, 0.2},
      {2, 3, 32, 48, true, {133, 1, 64, 65, 31}, 5},
      {2, 2, 48, 80, true, {100}, 0.05, 0.9f},
      {1, 2, 128, 128, false, {256}, 0.05, 0.9f},
  };
  for (const Shape& shape : shapes) {
    for (const bool tiles : {false, true}) {
      const Errors errors = run(shape, tiles);
      INFO(shape.key_heads << "x" << shape.group << " " << shape.key_dim << "/" << shape.value_dim << " tiles " << tiles
                           << ": output " << errors.output << ", state " << errors.state);
      CHECK(errors.output < 6e-3);
      CHECK(errors.state < 6e-3);
    }
  }
}

TEST_CASE("as many tile instructions as the shapes need, and no more") {
  if (!test::runs_here() || cpu::cpu_supports("amx")) return;
  // Of a key head with 2 value heads of 128 x 128, two chunks of 64 tokens. Products of 32 x 32 by 32: of tokens
  // (k.k, q.k: 3 blocks on and below the diagonal, 4 steps each), and of each value head K S and Q S (2 blocks of
  // tokens by 4 strips, 4 steps), T R by two parts (3 steps for each strip), B U the same once, K^T U (4 by 4 blocks, 2
  // steps).
  run({1, 2, 128, 128, false, {128}, 0.05}, true);
  const std::uint64_t chunks = 2, heads = 2;
  const std::uint64_t tokens = 2 * 3 * 4, states = 2 * 2 * 4 * 4, inverse = 3 * 4, update = 16 * 2;
  CHECK(counts.multiply == chunks * 4 * (tokens + heads * (states + 2 * inverse + inverse + update)));
  CHECK(counts.multiply == chunks * 1152);
  // Two tiles of each operand a step; the second part of T meets the same right tiles.
  CHECK(counts.load ==
        chunks * 4 * (tokens + heads * (states + inverse + inverse + update)) + chunks * heads * 2 * inverse);
  // Each block is zeroed and stored once.
  const std::uint64_t blocks = 2 * 3 + heads * (2 * 2 * 4 + 2 * 4 + 2 * 4 + 16);
  CHECK(counts.zero == chunks * 4 * blocks);
  CHECK(counts.store == chunks * 4 * blocks);
  CHECK(counts.store == chunks * 408);
  CHECK(counts.configure == 1);
  CHECK(counts.release == 1);
}
