// At the edges: odd addresses, slots out of range, several threads, numbers that are none.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>

#include "harness.h"
#include "kernel.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

bool has_slots(std::string_view operation) {
  return plan::drafts(operation) || operation == "decode" || operation == "conv_update" || operation == "delta_update";
}

bool pads(const spec::Spec& spec) { return *spec.slots.padding != core::Padding::kNone; }

spec::Spec named_spec(const std::string& name) {
  return spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
}

spec::Spec fuzz_spec() { return named_spec("fuzz_gdn"); }

// All bytes of a problem's operands.
std::vector<std::vector<std::byte>> bytes_of(const oracle::Problem& problem) {
  std::vector<std::vector<std::byte>> all;
  for (const oracle::Buffer& buffer : problem.buffers()) {
    all.emplace_back(buffer.data(), buffer.data() + buffer.size_bytes());
  }
  return all;
}

void set_slot(oracle::Problem& problem, int row, std::int64_t slot) {
  oracle::Buffer& slots = problem.buffer("slots");
  if (slots.dtype == core::DType::kInt64) {
    std::memcpy(slots.row(row), &slot, 8);
  } else {
    const auto narrow = static_cast<std::int32_t>(slot);
    std::memcpy(slots.row(row), &narrow, 4);
  }
}

}  // namespace

TEST_CASE("any split of the items gives the bytes of one call, from two threads at once too") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    const spec::Spec spec = spec::load_or_throw(file);
    for (const auto& [target, operation] : test::kernels_of(spec)) {
      const core::KernelPlan plan = test::plan_of(spec, operation, target);
      const cpu::Kernel kernel = cpu::generate(plan);
      oracle::Options options;
      options.rows = 5;
      if (has_slots(operation) && pads(spec)) options.padding_rows = 1;
      const oracle::Problem fresh = oracle::make_problem(spec, operation, options);
      oracle::Problem whole = fresh;
      const Args all = test::args_of(whole, plan);
      const std::int64_t items = test::items_of(all, plan);
      test::call(kernel, all, 0, items);

      oracle::Problem single = fresh;
      const Args one = test::args_of(single, plan);
      for (std::int64_t item = items; item-- > 0;) test::call(kernel, one, item, item + 1);
      test::call(kernel, one, items, items);  // nothing to do
      test::call(kernel, one, 3, 3);

      oracle::Problem split = fresh;
      const Args two = test::args_of(split, plan);
      const std::int64_t middle = items / 2 - 1;
      std::thread other([&] { test::call(kernel, two, middle, items); });
      test::call(kernel, two, 0, middle);
      other.join();

      INFO(file << " " << target << " " << operation);
      CHECK(bytes_of(whole) != bytes_of(fresh));
      CHECK(bytes_of(single) == bytes_of(whole));
      CHECK(bytes_of(split) == bytes_of(whole));
    }
  }
}

TEST_CASE("decode in parts of items, in any order and from two threads at once, gives the bytes of whole items") {
  if (!test::runs_here()) return;
  std::vector<std::pair<std::string, const char*>> kernels;
  for (const std::string& file : test::held_specs()) {
    for (const char* const target : {test::kCpuTarget, "avx2"}) kernels.emplace_back(file, target);
  }
  for (const auto& [file, target] : kernels) {
    const spec::Spec spec = spec::load_or_throw(file);
    const core::KernelPlan plan = test::plan_of(spec, "decode", target);
    const cpu::Kernel kernel = cpu::generate(plan), parts = cpu::generate_parts(plan);
    if (!parts) continue;
    oracle::Options options;
    options.rows = 3;
    if (pads(spec)) options.padding_rows = 1;
    const oracle::Problem fresh = oracle::make_problem(spec, "decode", options);
    oracle::Problem whole = fresh;
    const Args all = test::args_of(whole, plan);
    const std::int64_t items = test::items_of(all, plan), count = items * parts.parts().count;
    test::call(kernel, all, 0, items);

    const auto exchange = [&] {
      const auto bytes = static_cast<std::size_t>(parts.parts().exchange_bytes);
      std::vector<std::byte> memory(static_cast<std::size_t>(items) * bytes + 64, std::byte{0xff});
      const std::size_t shift = (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
      for (std::size_t i = 0; i < static_cast<std::size_t>(items); ++i) {
        std::memset(memory.data() + shift + i * bytes, 0, static_cast<std::size_t>(parts.parts().counter_bytes));
      }
      return std::pair(std::move(memory), shift);
    };
    INFO(file << ", " << target << ", " << parts.parts().count << " parts");
    for (const bool backwards : {false, true}) {
      oracle::Problem single = fresh;
      const Args one = test::args_of(single, plan);
      auto [memory, shift] = exchange();
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t part = backwards ? count - 1 - i : i;
        parts.function()(&one, part, part + 1, memory.data() + shift);
      }
      CHECK(bytes_of(single) == bytes_of(whole));
    }
    for (std::int64_t cut = 1; cut < count; cut += std::max<std::int64_t>(count / 7, 1)) {
      oracle::Problem split = fresh;
      const Args two = test::args_of(split, plan);
      auto [memory, shift] = exchange();
      std::byte* const data = memory.data() + shift;
      std::thread other([&] { parts.function()(&two, cut, count, data); });
      parts.function()(&two, 0, cut, data);
      other.join();
      CHECK(bytes_of(split) == bytes_of(whole));
    }
  }
}

TEST_CASE("a slot outside of the pools is a padding row") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    const spec::Spec spec = spec::load_or_throw(file);
    if (!pads(spec)) continue;
    for (const auto& [target, operation] : test::kernels_of(spec)) {
      if (operation != "decode" && operation != "conv_update" && operation != "delta_update") continue;
      const core::KernelPlan plan = test::plan_of(spec, operation, target);
      const cpu::Kernel kernel = cpu::generate(plan);
      oracle::Options options;
      options.rows = 4;
      options.padding_rows = 2;
      oracle::Problem problem = oracle::make_problem(spec, operation, options);
      std::vector<std::int64_t> beyond = {problem.slots(), std::numeric_limits<std::int32_t>::max(), -1,
                                          std::numeric_limits<std::int32_t>::min()};
      if (plan.facts.slot_dtype == core::DType::kInt64) {
        beyond.push_back(std::int64_t{1} << 32);
        beyond.push_back(std::numeric_limits<std::int64_t>::max());
      }
      for (const std::int64_t slot : beyond) {
        oracle::Problem run = problem;
        const oracle::Expectation expectation = oracle::expect(run);
        const std::vector<std::byte> slots(run.buffer("slots").data(),
                                           run.buffer("slots").data() + run.buffer("slots").size_bytes());
        for (int row = 0; row < options.rows; ++row) {
          if (run.padding(row)) set_slot(run, row, slot);
        }
        const Args args = test::args_of(run, plan);
        test::call(kernel, args, 0, test::items_of(args, plan));
        std::memcpy(run.buffer("slots").data(), slots.data(), slots.size());
        const auto deviations = oracle::compare(expectation, run);
        INFO(file << " " << target << " " << operation << " slot " << slot << "\n" << oracle::describe(deviations));
        CHECK(oracle::all_good(deviations));
      }
    }
  }
}

TEST_CASE("rows of an output beyond the batch are zero, or as they were, as the spec says") {
  if (!test::runs_here()) return;
  for (const core::PaddedOutput excess : {core::PaddedOutput::kZero, core::PaddedOutput::kUntouched}) {
    spec::Spec spec = fuzz_spec();
    spec.slots.excess_output.value = excess;
    for (const char* operation : {"decode", "norm_quant", "prefill"}) {
      const layout::Layout layout = layout::resolve(spec);
      const core::KernelPlan plan = test::plan_of(spec, operation);
      const auto kernel = runtime::load_cpu(plan, {runtime::Threading::Kind::kPool, 2});
      oracle::Options options;
      options.rows = 3;
      if (plan::prefills(operation)) options.lengths = {2, 66, 0};
      options.extra_stride = 16;
      options.excess_rows = 9;
      oracle::Problem problem = oracle::make_problem(spec, operation, options);
      const oracle::Expectation expectation = oracle::expect(problem);
      kernel->launch(problem.rows(), problem.slots(), verify::views_of(problem, layout));
      const auto deviations = oracle::compare(expectation, problem);
      INFO(operation << "\n" << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
      spec::Spec other = spec;
      other.slots.excess_output.value =
          excess == core::PaddedOutput::kZero ? core::PaddedOutput::kUntouched : core::PaddedOutput::kZero;
      oracle::Problem again = oracle::make_problem(other, operation, options);
      const oracle::Expectation wrong = oracle::expect(again);
      kernel->launch(again.rows(), again.slots(), verify::views_of(again, layout));
      CHECK_FALSE(oracle::all_good(oracle::compare(wrong, again)));
    }
  }
}

TEST_CASE("operands at addresses that are multiples of their element only") {
  if (!test::runs_here()) return;
  struct Case {
    const char* name;
    const char* target;
    std::string_view operation;
  };
  std::vector<Case> cases;
  for (const char* const name : {"fuzz_gdn", "fuzz_kda", "fuzz_interleaved_tiled_kv_fp16_fp16", "fuzz_conv_packed",
                                 "fuzz_quant_group", "fuzz_state_fp8", "fuzz_spec_slots", "fuzz_spec_replay_kv"}) {
    for (const auto& [target, operation] : test::kernels_of(named_spec(name)))
      cases.push_back({name, target, operation});
  }
  for (const char* const name : {"fuzz_gdn", "fuzz_kda", "fuzz_interleaved_tiled_kv_fp16_fp16"}) {
    for (const char* const operation : {"chunk_delta", "prefill"}) cases.push_back({name, "amx", operation});
  }
  for (const auto& [name, target, operation] : cases) {
    const spec::Spec spec = named_spec(name);
    const core::KernelPlan plan = test::plan_of(spec, operation, target);
    const cpu::Kernel kernel = cpu::generate(plan);
    oracle::Options options;
    if (plan::prefills(operation)) options.lengths = {3, 70};
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    const oracle::Expectation expectation = oracle::expect(problem);
    Args args = test::args_of(problem, plan);
    std::vector<std::vector<std::byte>> moved;
    for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
      oracle::Buffer& buffer = problem.buffers()[i];
      const std::size_t shift = core::size_of(buffer.dtype) * (2 * i + 1);
      moved.emplace_back(buffer.size_bytes() + 64 + shift);
      const auto start = reinterpret_cast<std::uintptr_t>(moved.back().data());
      std::byte* const data = moved.back().data() + (64 - start % 64) % 64 + shift;
      std::memcpy(data, buffer.data(), buffer.size_bytes());
      args.operand[i] = data;
    }
    const auto launch = [&] { test::call(kernel, args, 0, test::items_of(args, plan)); };
    if (cpu::cpu_supports(target)) {
      launch();
    } else {
      test::AmxEmulator().run(launch);
    }
    for (std::size_t i = 0; i < moved.size(); ++i) {
      oracle::Buffer& buffer = problem.buffers()[i];
      std::memcpy(buffer.data(), args.operand[i], buffer.size_bytes());
    }
    test::zero_excess(plan, test::args_of(problem, plan), problem);
    const auto deviations = oracle::compare(expectation, problem);
    INFO(name << " " << target << " " << operation << "\n" << oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

TEST_CASE("code runs from any address: it is position independent") {
  if (!test::runs_here()) return;
  const spec::Spec spec = fuzz_spec();
  const core::KernelPlan plan = test::plan_of(spec, "decode");
  const cpu::Kernel original = cpu::generate(plan);
  const cpu::Kernel copy(original.code(), "");
  REQUIRE(copy.function() != original.function());
  oracle::Problem problem = oracle::make_problem(spec, "decode", {});
  const auto deviations = test::judge(copy, plan, problem);
  INFO(oracle::describe(deviations));
  CHECK(oracle::all_good(deviations));
}

TEST_CASE("a NaN in one row's input stays in that row and shows in its output") {
  if (!test::runs_here()) return;
  const spec::Spec spec = fuzz_spec();
  const core::KernelPlan plan = test::plan_of(spec, "decode");
  const cpu::Kernel kernel = cpu::generate(plan);
  const auto nans = [](const oracle::Buffer& out, int row) {
    int count = 0;
    for (std::int64_t i = 0; i < out.inner; ++i) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, out.row(row) + 2 * i, 2);
      count += (bits & 0x7fffu) > 0x7f80u ? 1 : 0;
    }
    return count;
  };
  // Element 0 of qkvz is q, 2 * 32 is v of the first head, 2 * 32 + 3 * 48 is z; ba begins with b and then a.
  const struct {
    const char* operand;
    int element;
    int touched;  // elements of out
  } cases[] = {{"qkvz", 0, 3 * 48}, {"qkvz", 64, 48}, {"qkvz", 64 + 144, 1}, {"ba", 0, 48}, {"ba", 3, 48}};
  for (const auto& one : cases) {
    oracle::Problem problem = oracle::make_problem(spec, "decode", {});
    const std::uint16_t nan = 0x7fc0;
    std::memcpy(problem.buffer(one.operand).row(1) + 2 * one.element, &nan, 2);
    const Args args = test::args_of(problem, plan);
    test::call(kernel, args, 0, test::items_of(args, plan));
    INFO(one.operand << " " << one.element);
    CHECK(nans(problem.buffer("out"), 0) == 0);
    CHECK(nans(problem.buffer("out"), 1) == one.touched);
    CHECK(nans(problem.buffer("out"), 2) == 0);
  }
}

TEST_CASE("the caller's floating-point modes come back, and don't matter") {
  if (!test::runs_here()) return;
  const spec::Spec spec = fuzz_spec();
  const core::KernelPlan plan = test::plan_of(spec, "decode");
  const cpu::Kernel kernel = cpu::generate(plan);
  const oracle::Problem fresh = oracle::make_problem(spec, "decode", {});
  oracle::Problem usual = fresh, odd = fresh;
  Args args = test::args_of(usual, plan);
  test::call(kernel, args, 0, test::items_of(args, plan));
  args = test::args_of(odd, plan);
  const unsigned before = __builtin_ia32_stmxcsr();
  const unsigned toward_zero = 0x1f80u | 0x6000u;
  __builtin_ia32_ldmxcsr(toward_zero);
  test::call(kernel, args, 0, test::items_of(args, plan));
  const unsigned after = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before);
  CHECK(after == toward_zero);
  CHECK(bytes_of(odd) == bytes_of(usual));
}
