#include "verify/bench_prefill.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>

#include "core/prefill.h"
#include "oracle/convert.h"
#include "processors.h"
#include "verify/bench.h"
#include "verify/bench_parts.h"
#include "verify/cuda_bench.h"

namespace gdn::verify {
namespace {

constexpr int kHostReplays = 11;

int rows_of(const Lengths& lengths) { return lengths.tokens * lengths.sequences; }

// Slot 0 may be padding; the last is a snapshot's.
int slots_of(const Lengths& lengths) { return lengths.sequences + 2; }

std::int64_t bytes_of(const core::KernelPlan& plan, const Lengths& lengths) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const core::Operand& operand = plan.operands[i];
    const std::int64_t row = needed_elements(plan, i) * static_cast<std::int64_t>(core::size_of(operand.dtype));
    const int times = operand.access == core::Access::kReadWrite ? 2 : 1;
    switch (operand.leading) {
      case core::Leading::kNone:
      case core::Leading::kSnapshot:  // one
        bytes += row;
        break;
      case core::Leading::kToken:
      case core::Leading::kScaleGroup:  // never in prefill
        bytes += row * rows_of(lengths);
        break;
      case core::Leading::kSlot:
      case core::Leading::kSequence:
        bytes += row * lengths.sequences * times;
        break;
    }
  }
  return bytes;
}

// A small problem whose rows and slots are repeated: realistic numbers at the price of a few rows.
class Sequences {
 public:
  Sequences(const spec::Spec& spec, const std::string& operation) : problem_(make(spec, operation)) {}
  oracle::Problem& problem() { return problem_; }

  // Bytes of an operand of a launch.
  static std::int64_t count(const oracle::Problem& problem, std::size_t operand, const Lengths& lengths) {
    const oracle::Buffer& small = problem.buffers()[operand];
    switch (small.leading) {
      case oracle::Leading::kToken:
        return rows_of(lengths);
      case oracle::Leading::kSlot:
        return slots_of(lengths);
      case oracle::Leading::kSequence:
        return lengths.sequences + (static_cast<int>(operand) == problem.operands().offsets() ? 1 : 0);
      default:
        return 1;
    }
  }

  // The operand's bytes for a launch: rows of the small problem over and over, and true indices.
  std::vector<std::byte> bytes(std::size_t operand, const Lengths& lengths) const {
    const oracle::Buffer& small = problem_.buffers()[operand];
    const std::int64_t rows = count(problem_, operand, lengths);
    const std::size_t row = static_cast<std::size_t>(small.stride) * core::size_of(small.dtype);
    std::vector<std::byte> all(row * static_cast<std::size_t>(rows));
    const oracle::Operands& operands = problem_.operands();
    for (std::int64_t i = 0; i < rows; ++i) {
      std::byte* to = all.data() + static_cast<std::size_t>(i) * row;
      if (static_cast<int>(operand) == operands.slots()) {
        oracle::store(small.dtype, to, static_cast<double>(i + 1));
      } else if (static_cast<int>(operand) == operands.offsets()) {
        oracle::store(small.dtype, to, static_cast<double>(i * lengths.tokens));
      } else if (static_cast<int>(operand) == operands.snapshot_rows()) {
        oracle::store(small.dtype, to, lengths.tokens - 1);
      } else if (static_cast<int>(operand) == operands.snapshot_slots()) {
        oracle::store(small.dtype, to, lengths.sequences + 1);
      } else if (static_cast<int>(operand) == operands.flags()) {
        oracle::store(small.dtype, to, 1);
      } else {
        const std::int64_t usable =
            small.leading == oracle::Leading::kToken ? small.rows - oracle::Problem::kExcessRows : small.rows;
        std::memcpy(to, small.row(i % usable), row);
      }
    }
    return all;
  }

 private:
  static oracle::Problem make(const spec::Spec& spec, const std::string& operation) {
    oracle::Options options;
    options.lengths = {128, 0};
    return oracle::make_problem(spec, operation, options);
  }
  oracle::Problem problem_;
};

PrefillRow row_of(const core::KernelPlan& plan, std::string_view place, const Lengths& lengths, double time_us,
                  double copy_gb_per_s) {
  PrefillRow row;
  row.spec = plan.spec;
  row.operation = plan.operation;
  row.target = plan.target;
  row.on = place;
  row.lengths = lengths;
  row.time_us = time_us;
  row.bytes = bytes_of(plan, lengths);
  row.gb_per_s = static_cast<double>(row.bytes) / time_us / 1e3;
  row.floor_us = static_cast<double>(row.bytes) / copy_gb_per_s / 1e3;
  row.ratio = time_us / row.floor_us;
  if (core::prefill_set(plan) != core::PrefillSet::kNone) {
    const core::PrefillChoice choice = core::prefill_choice(plan, rows_of(lengths), lengths.sequences);
    row.form = core::describe(choice);
    row.chain_us = choice.chain_us;
    row.prepare_us = choice.prepare_us;
  }
  return row;
}

// One launch recorded in a graph as often as it takes for its operands not to stay in the L2 cache.
double cuda_launch_us(CudaBench& cuda, const plan::Planned& planned, const layout::Layout& layout, Sequences& tile,
                      const Lengths& lengths) {
  const auto kernel = cuda.load(planned, cuda.compile(planned));
  const std::vector<runtime::View> small = views_of(tile.problem(), layout);
  const auto bytes = static_cast<std::size_t>(bytes_of(planned.kernel, lengths));
  const std::size_t copies = std::clamp<std::size_t>(kColdBytes / bytes + 1, 1, 16);
  CudaBench::Stage stage;
  for (std::size_t copy = 0; copy < copies; ++copy) {
    std::vector<runtime::View> views;
    for (std::size_t i = 0; i < small.size(); ++i) {
      const std::vector<std::byte> content = tile.bytes(i, lengths);
      stage.memory.push_back(cuda.device().alloc(content.size()));
      cuda.device().copy_in(stage.memory.back().data(), content.data(), content.size());
      const bool leading = tile.problem().buffers()[i].leading != oracle::Leading::kNone;
      views.push_back(leading
                          ? resized(small[i], stage.memory.back().data(), Sequences::count(tile.problem(), i, lengths))
                          : placed(small[i], stage.memory.back().data()));
    }
    stage.memory.push_back(add_workspace(cuda.device(), planned.kernel, rows_of(lengths), views));
    runtime::check(planned.kernel, rows_of(lengths), slots_of(lengths), views);
    stage.launches.push_back(runtime::make_args(planned.kernel, rows_of(lengths), slots_of(lengths), views));
  }
  return cuda.launch_us(*kernel, stage, Edge::kPlain);
}

template <class Work>
double host_us(Work work) {
  work();
  std::vector<double> times;
  for (int i = 0; i < kHostReplays; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  return median(times);
}

double cpu_launch_us(const plan::Planned& planned, const layout::Layout& layout, Sequences& tile,
                     const Lengths& lengths) {
  const auto kernel = runtime::load_cpu(planned.kernel);
  const std::vector<runtime::View> small = views_of(tile.problem(), layout);
  std::vector<oracle::AlignedBytes> memory;
  std::vector<runtime::View> views;
  for (std::size_t i = 0; i < small.size(); ++i) {
    const std::vector<std::byte> content = tile.bytes(i, lengths);
    memory.emplace_back(content.size());
    std::memcpy(memory.back().data(), content.data(), content.size());
    const bool leading = tile.problem().buffers()[i].leading != oracle::Leading::kNone;
    views.push_back(leading ? resized(small[i], memory.back().data(), Sequences::count(tile.problem(), i, lengths))
                            : placed(small[i], memory.back().data()));
  }
  return host_us([&] { kernel->launch(rows_of(lengths), slots_of(lengths), views); });
}

}  // namespace

Lengths parse_lengths(std::string_view text) {
  const auto refuse = [&] {
    throw std::invalid_argument(
        fmt::format("{}: lengths are TOKENS or TOKENSxSEQUENCES, such as 32768 or 8192x4", text));
  };
  Lengths lengths;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto tokens = std::from_chars(begin, end, lengths.tokens);
  auto rest = tokens;
  if (tokens.ec == std::errc() && tokens.ptr != end) {
    if (*tokens.ptr != 'x') refuse();
    rest = std::from_chars(tokens.ptr + 1, end, lengths.sequences);
  }
  if (rest.ec != std::errc() || rest.ptr != end || lengths.tokens < 1 || lengths.sequences < 1) refuse();
  if (lengths.tokens > std::numeric_limits<int>::max() / lengths.sequences) refuse();
  return lengths;
}

std::string to_string(const Lengths& lengths) {
  return lengths.sequences == 1 ? fmt::format("{}", lengths.tokens)
                                : fmt::format("{}x{}", lengths.tokens, lengths.sequences);
}

PrefillBench bench_prefill(const spec::Spec& spec, const layout::Layout& layout, const std::string& operation,
                           std::string_view place, const std::vector<Lengths>& lengths,
                           const std::function<void(const std::string&)>& tell, const plan::TuningTable& tuning) {
  PrefillBench bench;
  Sequences tile(spec, operation);
  const auto measure = [&](const plan::Target& target, auto launch) {
    const plan::Planned planned = plan::make(layout, operation, target, tuning);
    for (const Lengths& of : lengths) {
      tell(fmt::format("{} {} {}", planned.kernel.spec, operation, to_string(of)));
      bench.rows.push_back(row_of(planned.kernel, place, of, launch(planned, of), bench.copy_gb_per_s));
    }
  };
  if (place == "cuda") {
    CudaBench cuda;
    bench.device = cuda.name();
    bench.copy_gb_per_s = cuda.copy_gb_per_s();
    measure(cuda.target(), [&](const plan::Planned& planned, const Lengths& of) {
      return cuda_launch_us(cuda, planned, layout, tile, of);
    });
  } else {
    const auto executor = open_executor("cpu");
    bench.device = executor->where();
    bench.copy_gb_per_s = cpu_copy_gb_per_s(static_cast<unsigned>(runtime::allowed_processors()));
    measure(executor->target(),
            [&](const plan::Planned& planned, const Lengths& of) { return cpu_launch_us(planned, layout, tile, of); });
  }
  return bench;
}

}  // namespace gdn::verify
