// What went wrong elsewhere, by name: each must be right, or refused, and noticed where it is made on purpose.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "harness.h"
#include "kernel.h"
#include "oracle/convert.h"
#include "oracle/parts.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "support/pace.h"
#include "support/thrown.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

spec::Spec fuzz(const std::string& name) {
  return spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
}

void launch(const core::KernelPlan& plan, const cpu::Kernel& kernel, oracle::Problem& problem) {
  const Args args = test::args_of(problem, plan);
  test::call(kernel, args, 0, test::items_of(args, plan));
  test::zero_excess(plan, args, problem);
}

bool noticed(const std::vector<oracle::Deviation>& deviations, const std::string& name) {
  for (const oracle::Deviation& deviation : deviations) {
    if (deviation.name == name) return deviation.error > 10 * deviation.tolerance;
  }
  return false;
}

}  // namespace

// A peer's CPU kernel read row 0's beta for every row of a batch.
TEST_CASE("each row of a batch has its own beta, and row 0's for all is noticed") {
  if (!test::runs_here()) return;
  const spec::Spec spec = fuzz("fuzz_gdn");
  for (const char* operation : {"decode", "delta_update", "gating"}) {
    const core::KernelPlan plan = test::plan_of(spec, operation);
    const cpu::Kernel kernel = cpu::generate(plan);
    oracle::Options options;
    options.rows = 5;
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    // b, or the beta that is handed over: from nearly closed to nearly open, row by row.
    const bool handed_over = std::string(operation) == "delta_update";
    const oracle::BoundPart b = problem.operands().at(handed_over ? "in.beta" : "in.b");
    oracle::Buffer& buffer = problem.buffers()[static_cast<std::size_t>(b.operand)];
    for (int row = 0; row < options.rows; ++row) {
      std::vector<double> values = oracle::load_part(buffer.dtype, buffer.row(row), *b.map);
      const double logit = -4.0 + 2 * row;
      for (double& value : values) value = handed_over ? 1 / (1 + std::exp(-logit)) : logit;
      oracle::store_part(buffer.dtype, buffer.row(row), *b.map, values);
    }
    const oracle::Expectation expectation = oracle::expect(problem);
    oracle::Problem mistaken = problem;
    launch(plan, kernel, problem);
    const auto deviations = oracle::compare(expectation, problem);
    INFO(operation << "\n" << oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));

    oracle::Buffer& wrong = mistaken.buffers()[static_cast<std::size_t>(b.operand)];
    const std::vector<double> first = oracle::load_part(wrong.dtype, wrong.row(0), *b.map);
    for (int row = 1; row < options.rows; ++row) oracle::store_part(wrong.dtype, wrong.row(row), *b.map, first);
    launch(plan, kernel, mistaken);
    const char* output = std::string(operation) == "decode"   ? "out"
                         : std::string(operation) == "gating" ? "handover.beta"
                                                              : "handover.o";
    CHECK(noticed(oracle::compare(expectation, mistaken), output));
  }
}

// A .view() stood where a transpose was meant: accuracy fell from 0.90 to 0.17.
TEST_CASE("a (V, K) pool that is taken for a (K, V) one is refused at K != V, and noticed where nobody looks") {
  if (!test::runs_here()) return;
  const auto executor = verify::open_executor("cpu");
  const spec::Spec rows = fuzz("fuzz_gdn");
  REQUIRE(*rows.dims.key != *rows.dims.value);
  spec::Spec columns = rows;
  for (spec::Tensor& pool : columns.pools) {
    if (*pool.name == "state") std::swap(pool.dims[2], pool.dims[3]);
  }
  const layout::Layout of_rows = layout::resolve(rows), of_columns = layout::resolve(columns);
  for (const char* operation : {"decode", "delta_update", "chunk_delta", "prefill"}) {
    const auto kernel = executor->load(plan::make(of_columns, operation, executor->target()));
    oracle::Options options;
    if (plan::prefills(operation)) options.lengths = {3, 20};
    oracle::Problem problem = oracle::make_problem(rows, operation, options);
    const oracle::Expectation expectation = oracle::expect(problem);
    const auto views = verify::views_of(problem, of_rows);
    const auto thrown = test::thrown_by([&] { kernel->run(problem, views); });
    REQUIRE(thrown.code == runtime::Code::kLayoutMismatch);
    CHECK(thrown.has("state"));
    CHECK(thrown.has("value_dim:48, key_dim:32"));
    CHECK(thrown.has("key_dim:32, value_dim:48"));
    kernel->run_unchecked(problem, views);
    CHECK(noticed(oracle::compare(expectation, problem), "state"));
  }
}

TEST_CASE("a decode step without its conv state is refused by name") {
  if (!test::runs_here()) return;
  const auto executor = verify::open_executor("cpu");
  const spec::Spec spec = fuzz("fuzz_gdn");
  const layout::Layout layout = layout::resolve(spec);
  for (const char* operation : {"decode", "conv_update"}) {
    const auto kernel = executor->load(plan::make(layout, operation, executor->target()));
    oracle::Problem problem = oracle::make_problem(spec, operation, {});
    auto views = verify::views_of(problem, layout);
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (problem.buffers()[i].name == "conv_state") views[i].data = nullptr;
    }
    const auto thrown = test::thrown_by([&] { kernel->run(problem, views); });
    REQUIRE(thrown.code == runtime::Code::kBadArgument);
    CHECK(thrown.has("conv_state"));
  }
}

// A channel that nothing is written to decays into subnormal numbers, which a processor is slow with.
TEST_CASE("subnormal numbers in a state count as zeros and cost no time") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_separate_grouped_kv_fp32_fp32", "fuzz_kda"}) {
    const spec::Spec spec = fuzz(name);
    const core::KernelPlan plan = test::plan_of(spec, "decode");
    const cpu::Kernel kernel = cpu::generate(plan);
    const oracle::Problem fresh = oracle::make_problem(spec, "decode", {});
    if (fresh.buffer("state").dtype != core::DType::kFp32) continue;
    const auto run = [&](float filler) {
      oracle::Problem problem = fresh;
      oracle::Buffer& state = problem.buffer("state");
      for (std::int64_t slot = 0; slot < state.rows; ++slot) {
        for (std::int64_t i = 0; i < state.inner; ++i) std::memcpy(state.row(slot) + 4 * i, &filler, 4);
      }
      launch(plan, kernel, problem);
      const oracle::Buffer& out = problem.buffer("out");
      return std::vector<std::byte>(out.data(), out.data() + out.size_bytes());
    };
    INFO(name);
    const std::vector<std::byte> of_zeros = run(0);
    CHECK(run(1e-39f) == of_zeros);
    CHECK(run(-std::numeric_limits<float>::denorm_min()) == of_zeros);
    CHECK(run(1e-30f) != run(1.0f));
  }
}

TEST_CASE("an infinity in a state stays in its head and its row, and shows") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda"}) {
    const spec::Spec spec = fuzz(name);
    const core::KernelPlan plan = test::plan_of(spec, "decode");
    const cpu::Kernel kernel = cpu::generate(plan);
    oracle::Problem usual = oracle::make_problem(spec, "decode", {});
    oracle::Problem problem = usual;
    oracle::Buffer& state = problem.buffer("state");
    // The first number of value head 1 in the slot of row 1.
    const std::size_t size = core::size_of(state.dtype);
    const auto head = static_cast<std::size_t>(*spec.dims.key * *spec.dims.value);
    oracle::store(state.dtype, state.row(problem.row_slot(1)) + head * size, std::numeric_limits<double>::infinity());
    launch(plan, kernel, usual);
    launch(plan, kernel, problem);
    // [token, value_head, value_dim]
    const auto rows_of = [&](const oracle::Problem& of, int row) {
      const oracle::Buffer& out = of.buffer("out");
      std::vector<double> values;
      for (std::int64_t i = 0; i < out.inner; ++i) {
        values.push_back(
            oracle::load(out.dtype, out.row(row) + static_cast<std::size_t>(i) * core::size_of(out.dtype)));
      }
      return values;
    };
    INFO(name);
    for (int row = 0; row < problem.rows(); ++row) {
      const std::vector<double> expected = rows_of(usual, row), got = rows_of(problem, row);
      const auto width = static_cast<std::size_t>(*spec.dims.value);
      int unusual = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        const bool touched = row == 1 && i / width == 1;
        if (touched) {
          unusual += std::isfinite(got[i]) ? 0 : 1;
        } else {
          CHECK(got[i] == expected[i]);
        }
      }
      CHECK((unusual > 0) == (row == 1));
    }
  }
}

namespace {

// chunk_delta and prefill by each target, on two sequences that start from their states.
struct OverSequences {
  OverSequences(const std::string& name, const char* op, const char* on)
      : spec(fuzz(name)), operation(op), target(on), plan(test::plan_of(spec, op, on)), kernel(cpu::generate(plan)) {}

  oracle::Problem problem() const {
    oracle::Options options;
    options.lengths = {70, 5};
    oracle::Problem problem = oracle::make_problem(spec, operation, options);
    oracle::Buffer& flags = problem.buffer("has_initial_state");
    for (std::int64_t i = 0; i < flags.rows; ++i) oracle::store(flags.dtype, flags.row(i), 1);
    return problem;
  }
  void run(oracle::Problem& problem) const {
    const auto call = [&] { launch(plan, kernel, problem); };
    if (cpu::cpu_supports(target)) {
      call();
    } else {
      test::AmxEmulator().run(call);
    }
  }
  // o or out of a token and value head.
  std::vector<double> output(const oracle::Problem& of, std::int64_t row, std::int64_t head) const {
    const oracle::Buffer& out = of.buffer(operation == "prefill" ? "out" : "handover.o");
    const std::int64_t width = *spec.dims.value;
    std::vector<double> values;
    for (std::int64_t i = head * width; i < (head + 1) * width; ++i) {
      values.push_back(oracle::load(out.dtype, out.row(row) + static_cast<std::size_t>(i) * core::size_of(out.dtype)));
    }
    return values;
  }

  spec::Spec spec;
  std::string operation;
  const char* target;
  core::KernelPlan plan;
  cpu::Kernel kernel;
};

const char* const kSequenceTargets[] = {"avx512bf16", "avx2", "amx"};

}  // namespace

TEST_CASE("an infinity in a state that a sequence starts from stays in its head and its sequence, and shows") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda", "fuzz_separate_grouped_kv_fp32_fp32"}) {
    for (const char* operation : {"chunk_delta", "prefill"}) {
      for (const char* target : kSequenceTargets) {
        const OverSequences over(name, operation, target);
        oracle::Problem usual = over.problem(), problem = usual;
        oracle::Buffer& state = problem.buffer("state");
        const std::size_t size = core::size_of(state.dtype);
        const auto head = static_cast<std::size_t>(*over.spec.dims.key * *over.spec.dims.value);
        const std::int64_t slot = problem.sequences()[0].slot;
        oracle::store(state.dtype, state.row(slot) + head * size, std::numeric_limits<double>::infinity());
        over.run(usual);
        over.run(problem);
        INFO(name << " " << operation << " " << target);
        int unusual = 0, changed = 0;
        for (std::int64_t row = 0; row < 75; ++row) {
          for (std::int64_t value_head = 0; value_head < *over.spec.heads.value; ++value_head) {
            const std::vector<double> got = over.output(problem, row, value_head);
            if (row < 70 && value_head == 1) {
              for (const double number : got) unusual += std::isfinite(number) ? 0 : 1;
            } else {
              changed += got == over.output(usual, row, value_head) ? 0 : 1;
            }
          }
        }
        CHECK(unusual > 0);
        CHECK(changed == 0);
        // Of the states left behind too.
        const auto elements = static_cast<std::size_t>(state.inner);
        const oracle::Buffer& expected = usual.buffer("state");
        unusual = 0;
        for (std::int64_t other = 0; other < state.rows; ++other) {
          for (std::size_t i = 0; i < elements; ++i) {
            if (other == slot && i / head == 1) {
              unusual += std::isfinite(oracle::load(state.dtype, state.row(other) + i * size)) ? 0 : 1;
            } else {
              changed += std::memcmp(state.row(other) + i * size, expected.row(other) + i * size, size) == 0 ? 0 : 1;
            }
          }
        }
        CHECK(unusual > 0);
        CHECK(changed == 0);
      }
    }
  }
}

TEST_CASE("subnormal numbers in a state that a sequence starts from count as zeros") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda", "fuzz_separate_grouped_kv_fp32_fp32"}) {
    for (const char* operation : {"chunk_delta", "prefill"}) {
      for (const char* target : kSequenceTargets) {
        const OverSequences over(name, operation, target);
        const oracle::Problem fresh = over.problem();
        if (fresh.buffer("state").dtype != core::DType::kFp32) continue;
        const auto outputs = [&](float filler) {
          oracle::Problem problem = fresh;
          oracle::Buffer& state = problem.buffer("state");
          for (std::int64_t slot = 0; slot < state.rows; ++slot) {
            for (std::int64_t i = 0; i < state.inner; ++i) std::memcpy(state.row(slot) + 4 * i, &filler, 4);
          }
          over.run(problem);
          std::vector<double> all;
          for (std::int64_t row = 0; row < 75; ++row) {
            for (std::int64_t head = 0; head < *over.spec.heads.value; ++head) {
              const std::vector<double> one = over.output(problem, row, head);
              all.insert(all.end(), one.begin(), one.end());
            }
          }
          return all;
        };
        INFO(name << " " << operation << " " << target);
        const std::vector<double> of_zeros = outputs(0);
        CHECK(outputs(1e-39f) == of_zeros);
        CHECK(outputs(-std::numeric_limits<float>::denorm_min()) == of_zeros);
        CHECK(outputs(1.0f) != of_zeros);
      }
    }
  }
}

// Generated when a kernel is opened: a model's kernels must not keep a server waiting.
TEST_CASE("all kernels of one model are generated in 20 ms") {
  for (const char* target : {"avx512bf16", "amx"}) {
    const spec::Spec spec = spec::load_or_throw(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml");
    std::vector<core::KernelPlan> plans;
    for (const std::string_view operation : plan::operations_on(layout::resolve(spec), *plan::find_target(target))) {
      plans.push_back(test::plan_of(spec, operation, target));
    }
    REQUIRE(plans.size() >= 9);
    // Time of this thread, and the best of several: what else runs on the machine says nothing about the generators.
    const test::Pace pace;
    double best_ms = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 10; ++i) {
      const double begin = test::thread_ms();
      for (const core::KernelPlan& plan : plans) {
        cpu::generate(plan);
        cpu::generate_parts(plan);
        cpu::generate_after_parts(plan);
        cpu::generate_column_parts(plan, 64);
        cpu::generate_after_column_parts(plan, 64);
      }
      best_ms = std::min(best_ms, test::thread_ms() - begin);
    }
    std::printf("%s: %zu kernels generated in %.2f ms\n", target, plans.size(), best_ms);
    CHECK(best_ms < pace.allow(20));
  }
}
