// The CPU's prefill of a whole layer beside a plain C++ loop over the same numbers, in one run: 16 key heads and 32
// value heads of 128 x 128, one sequence. Both on all processors that the process may use.
//
// The times are shown, not judged: what else a machine does is not known here. tests/bench/NOTES.md has figures of an
// idle one. That both compute the same is checked.
#include "plain_prefill.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "cpu/support.h"
#include "kernel.h"
#include "layout/resolve.h"
#include "oracle/convert.h"
#include "plan/plan.h"
#include "processors.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

constexpr int kRounds = 5;

struct Cost {
  double wall = 1e9;
  double processor = 1e9;  // of all threads: what a machine that does other things too still tells
};

// The least of several calls: what else the machine does only ever adds.
void measure(Cost& best, const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t before = std::clock();
  work();
  const double spent = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  best.wall = std::min(best.wall, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  best.processor = std::min(best.processor, spent);
}

// Operands of a launch by name, each with numbers of a kind.
class Operands {
 public:
  Operands(const core::KernelPlan& plan, int tokens) : plan_(plan) {
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    args_.rows = tokens;
    args_.sequences = 1;
    args_.slots = 1;
    for (std::size_t i = 0; i < plan.operands.size(); ++i) {
      const core::Operand& operand = plan.operands[i];
      const bool of_tokens = operand.leading == core::Leading::kToken;
      const auto rows = static_cast<std::size_t>(of_tokens ? tokens : operand.role == core::Role::kOffsets ? 2 : 1);
      const auto inner = static_cast<std::size_t>(operand.inner);
      const std::size_t size = core::size_of(operand.dtype);
      bytes_.emplace_back(rows * inner * size + 64);
      std::byte* const data = aligned(bytes_.back());
      for (std::size_t at = 0; at < rows * inner; ++at) {
        double value = 0.5 * normal(random);
        if (operand.name == "a_log") value = std::log(0.5 + std::fabs(value));
        if (operand.name == "norm_weight") value = 1 + 0.1 * value;
        if (operand.name == "state") value = 0;
        if (operand.role == core::Role::kSlots || operand.role == core::Role::kFlags) value = 0;
        if (operand.role == core::Role::kOffsets) value = at == 0 ? 0 : tokens;
        oracle::store(operand.dtype, data + at * size, value);
      }
      args_.operand[i] = data;
      args_.stride[i] = operand.inner;
    }
  }

  const Args& args() const { return args_; }
  std::byte* data(std::string_view name) const {
    return static_cast<std::byte*>(args_.operand[static_cast<std::size_t>(index(name))]);
  }
  // An operand's numbers as fp32, in its own order.
  std::vector<float> numbers(std::string_view name) const {
    const core::Operand& operand = plan_.operands[static_cast<std::size_t>(index(name))];
    const std::int64_t rows = operand.leading == core::Leading::kToken ? args_.rows : 1;
    std::vector<float> all;
    for (std::int64_t i = 0; i < rows * operand.inner; ++i) {
      const auto at = static_cast<std::size_t>(i) * core::size_of(operand.dtype);
      all.push_back(static_cast<float>(oracle::load(operand.dtype, data(name) + at)));
    }
    return all;
  }

 private:
  static std::byte* aligned(std::vector<std::byte>& memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (64 - address % 64) % 64;
  }
  int index(std::string_view name) const {
    for (std::size_t i = 0; i < plan_.operands.size(); ++i) {
      if (plan_.operands[i].name == name) return static_cast<int>(i);
    }
    throw std::out_of_range(std::string(name));
  }

  const core::KernelPlan& plan_;
  std::vector<std::vector<std::byte>> bytes_;
  Args args_{};
};

double error_of(const std::vector<float>& got, const std::vector<float>& want) {
  double squares = 0, reference = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    squares += difference * difference;
    reference += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return std::sqrt(squares / reference);
}

void compare(int tokens) {
  const spec::Spec spec = test::released("qwen3_5_35b_a3b");
  const char* const target = cpu::cpu_supports("amx") ? "amx" : "avx512bf16";
  const core::KernelPlan plan = plan::make(layout::resolve(spec), "prefill", *plan::find_target(target)).kernel;
  const auto kernel = runtime::load_cpu(plan);
  const core::Facts& f = plan.facts;
  REQUIRE(f.norm_weight == core::NormWeight::kW);
  Operands operands(plan, tokens);

  bench::PlainLayer layer;
  layer.key_heads = f.key_heads, layer.group = f.group, layer.key_dim = f.key_dim, layer.value_dim = f.value_dim;
  layer.tokens = tokens;
  layer.q_scale = static_cast<float>(f.q_scale);
  layer.qk_eps = static_cast<float>(f.qk_eps), layer.norm_eps = static_cast<float>(f.norm_eps);
  layer.qkvz = reinterpret_cast<const std::uint16_t*>(operands.data("qkvz"));
  const auto heads = static_cast<std::size_t>(f.value_heads);
  const auto count = static_cast<std::size_t>(tokens);
  const std::vector<float> ba = operands.numbers("ba"), conv = operands.numbers("conv_weight");
  std::vector<float> b(count * heads), a(b), weight(conv.size()), norm = operands.numbers("norm_weight");
  for (std::size_t t = 0; t < count; ++t) {
    for (std::size_t h = 0; h < heads; ++h) b[t * heads + h] = ba[2 * t * heads + h];
    for (std::size_t h = 0; h < heads; ++h) a[t * heads + h] = ba[(2 * t + 1) * heads + h];
  }
  const std::size_t channels = conv.size() / 4;
  for (std::size_t i = 0; i < conv.size(); ++i) weight[i % 4 * channels + i / 4] = conv[i];
  const std::vector<float> a_log = operands.numbers("a_log"), dt_bias = operands.numbers("dt_bias");
  const auto key = static_cast<std::size_t>(f.key_dim), value = static_cast<std::size_t>(f.value_dim);
  std::vector<float> state(heads * key * value);
  std::vector<std::uint16_t> out(count * heads * value);
  layer.b = b.data(), layer.a = a.data(), layer.conv_weight = weight.data(), layer.a_log = a_log.data();
  layer.dt_bias = dt_bias.data(), layer.norm_weight = norm.data(), layer.state = state.data(), layer.out = out.data();

  const int threads = std::min(runtime::allowed_processors(), f.key_heads);
  const auto plain = [&] {
    std::vector<std::thread> others;
    const auto share = [&](int t) {
      bench::plain_prefill(layer, f.key_heads * t / threads, f.key_heads * (t + 1) / threads);
    };
    for (int t = 1; t < threads; ++t) others.emplace_back(share, t);
    share(0);
    for (std::thread& other : others) other.join();
  };
  const auto ours = [&] { kernel->launch_prepared(operands.args()); };
  Cost best_ours, best_plain;
  for (int round = 0; round < kRounds; ++round) {
    measure(best_ours, ours);
    measure(best_plain, plain);
  }
  fmt::print(
      "prefill of {} tokens, {} threads, {}: {:.2f} ms ({:.2f} ms of processors); plain C++ {:.2f} ms ({:.2f} ms): "
      "{:.1f} "
      "times as long ({:.1f} times)\n",
      tokens, threads, target, best_ours.wall * 1e3, best_ours.processor * 1e3, best_plain.wall * 1e3,
      best_plain.processor * 1e3, best_plain.wall / best_ours.wall, best_plain.processor / best_ours.processor);

  std::vector<float> want;
  for (const std::uint16_t x : out) {
    want.push_back(static_cast<float>(oracle::load(core::DType::kBf16, reinterpret_cast<const std::byte*>(&x))));
  }
  CHECK(error_of(operands.numbers("out"), want) < 1e-2);
  std::vector<float> across(state.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    const std::size_t head = i / (key * value), row = i / value % key, column = i % value;
    across[(head * value + column) * key + row] = state[i];
  }
  CHECK(error_of(operands.numbers("state"), across) < 1e-2);
}

}  // namespace

TEST_CASE("prefill beside a plain loop") {
  if (!cpu::cpu_supports("avx512bf16")) {
    std::puts("[SKIP] this CPU has no AVX512-BF16");
    return;
  }
  for (const int tokens : {512, 2048}) compare(tokens);
}
