#include "verify/bench.h"

#include <fmt/format.h>

#include <memory>
#include <set>

#include "core/maps.h"
#include "processors.h"
#include "verify/bench_parts.h"
#include "verify/cuda_bench.h"

namespace gdn::verify {
namespace {

BenchRow row_of(const core::KernelPlan& plan, std::string_view place, int batch, Edge edge, double time_us,
                double copy_gb_per_s) {
  BenchRow row;
  row.edges = core::to_string(edge);
  row.spec = plan.spec;
  row.operation = plan.operation;
  row.target = plan.target;
  row.on = place;
  row.batch = batch;
  for (const core::Operand& operand : plan.operands) {
    if (operand.name == "state") row.state_dtype = core::to_string(operand.dtype);
  }
  row.time_us = time_us;
  row.bytes = floor_bytes(plan, batch);
  row.gb_per_s = static_cast<double>(row.bytes) / time_us / 1e3;
  row.floor_us = static_cast<double>(row.bytes) / copy_gb_per_s / 1e3;
  row.ratio = time_us / row.floor_us;
  return row;
}

// Of the taps of a part's window those that the step needs, in bytes of whole sectors: the elements one by one, since a
// sector may hold taps of several channels, or of none that counts.
std::int64_t window_bytes(const core::Facts& facts, const core::Map& map, std::int64_t element) {
  constexpr std::int64_t kSector = 32;
  const int heads = map.heads == core::HeadKind::kKey ? facts.key_heads : facts.value_heads;
  const int taps = facts.conv_width - 1;
  const int first = facts.anchor == core::Anchor::kFirst ? 0 : facts.window - taps;
  std::set<std::int64_t> sectors;
  for (int head = 0; head < heads; ++head) {
    const bool key = map.heads == core::HeadKind::kKey;
    const bool grouped = facts.pairing == core::Pairing::kGrouped;
    const int key_head = key ? head : grouped ? head / facts.group : head % facts.key_heads;
    const int group = key ? 0 : grouped ? head % facts.group : head / facts.key_heads;
    const std::int64_t base = map.offset + key_head * map.key_head_stride + group * map.group_stride;
    for (std::int64_t channel = 0; channel < map.run; ++channel) {
      for (int tap = first; tap < first + taps; ++tap) {
        sectors.insert((base + channel * map.inner_stride + tap * map.tap_stride) * element / kSector);
      }
    }
  }
  return static_cast<std::int64_t>(sectors.size()) * kSector;
}

}  // namespace

std::int64_t needed_elements(const core::KernelPlan& plan, std::size_t operand) {
  const core::Facts& facts = plan.facts;
  const core::Operand& row = plan.operands[operand];
  if (row.role != core::Role::kInput || row.leading != core::Leading::kToken) return row.inner;
  std::int64_t elements = 0;
  for (const core::NamedMap& named : core::kMaps) {
    const core::Map& map = facts.*named.map;
    if (map.operand != static_cast<int>(operand)) continue;
    elements += map.run * (map.heads == core::HeadKind::kKey ? facts.key_heads : facts.value_heads);
  }
  return elements;
}

std::int64_t floor_bytes(const core::KernelPlan& plan, int rows) {
  const core::Facts& facts = plan.facts;
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < plan.operands.size(); ++i) {
    const core::Operand& operand = plan.operands[i];
    const auto element = static_cast<std::int64_t>(core::size_of(operand.dtype));
    const bool window = operand.name.rfind("conv_state", 0) == 0;
    const int tokens = plan.operation == "decode_spec" ? facts.tokens : 1;
    const bool slots = tokens > 1 && facts.rollback == core::Rollback::kSlots;
    std::int64_t moved = element * needed_elements(plan, i);
    if (window && tokens > 1) {
      const std::int64_t row = moved / facts.window;  // and the inputs of tokens behind those that stay
      moved = row * (2 * (facts.conv_width - 1) + tokens - 1 + (slots ? 0 : 1));
    } else if (window) {
      moved = 0;
      for (const core::Map* map : {&facts.window_q, &facts.window_k, &facts.window_v}) {
        if (map->present() && &plan.operands[static_cast<std::size_t>(map->operand)] == &operand) {
          moved += 2 * window_bytes(facts, *map, element);
        }
      }
    } else if (operand.access == core::Access::kReadWrite) {
      moved *= 1 + (slots && operand.name == "state" ? tokens : 1);
    }
    if (operand.leading == core::Leading::kToken) moved *= tokens;
    bytes += moved * (operand.leading == core::Leading::kNone ? 1 : rows);
  }
  return bytes;
}

Bench bench_launch(const spec::Spec& spec, const layout::Layout& layout, std::string_view operation,
                   std::string_view place, const std::vector<int>& batches, const std::vector<Edge>& edges,
                   const std::function<void(const std::string&)>& tell, const plan::TuningTable& tuning) {
  Bench bench;
  if (place == "cuda") {
    CudaBench cuda;
    bench.device = cuda.name();
    // Ahead of the launches: behind those over drafts' pools a copy has up to 10% less. And ahead of the kernel's
    // loading: a loaded kernel takes 0.3 us more on plain edges once streams had copies. Neither is understood.
    tell("copy bandwidth");
    bench.copy_gb_per_s = cuda.copy_gb_per_s();
    if (operation == "decode_spec" && *spec.speculative.given) {
      bench.fan_gb_per_s = cuda.fan_gb_per_s(*spec.speculative.tokens);
    }
    const plan::Planned planned = plan::make(layout, operation, cuda.target(), tuning);
    tell(fmt::format("compiling {}", planned.kernel.symbol));
    const auto kernel = cuda.load(planned, cuda.compile(planned));
    for (const int batch : batches) {
      tell(fmt::format("{} batch {}", layout.spec, batch));
      const CudaBench::Stage stage = cuda.stage(spec, layout, operation, planned.kernel, batch);
      for (const Edge edge : edges) {
        const double us = cuda.launch_us(*kernel, stage, edge);
        bench.rows.push_back(row_of(planned.kernel, place, batch, edge, us, bench.copy_gb_per_s));
      }
    }
    return bench;
  }
  const auto threads = static_cast<unsigned>(runtime::allowed_processors());
  bench.device = fmt::format("CPU, {} threads", threads);
  tell("copy bandwidth");
  bench.copy_gb_per_s = cpu_copy_gb_per_s(threads);
  core::KernelPlan plan;
  for (const int batch : batches) {
    tell(fmt::format("{} batch {}", layout.spec, batch));
    const CpuTimes times = cpu_launch_times(spec, layout, operation, batch, tuning, plan);
    bench.rows.push_back(row_of(plan, place, batch, Edge::kPlain, times.launch_us, bench.copy_gb_per_s));
    bench.rows.back().scaling_us = times.scaling_us;
  }
  return bench;
}

}  // namespace gdn::verify
