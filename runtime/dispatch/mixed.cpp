#include "dispatch/mixed.h"

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <string>

#include "check.h"
#include "core/plan.h"
#include "error.h"
#include "sequences.h"

namespace gdn::runtime {
namespace {

using core::KernelPlan;
using core::Leading;
using core::Operand;

const View* find(const std::vector<NamedView>& views, std::string_view name) {
  for (const NamedView& named : views) {
    if (named.name == name) return named.view;
  }
  return nullptr;
}

// Rows [first, first + rows) of a tensor that has a row for each of the batch's tokens; the last run's of an output
// that goes on.
View rows_of(const Operand& operand, const View& all, int first, int rows, bool last) {
  if (all.data == nullptr) return all;
  View part = all;
  const bool by_group = operand.leading == Leading::kScaleGroup;
  const std::size_t tokens = by_group ? 1 : 0;
  if (all.sizes.size() <= tokens || all.strides.size() != all.sizes.size()) return all;  // the comparison says so
  const std::int64_t size = all.sizes[tokens], step = by_group ? 1 : size == 1 ? operand.inner : all.strides[tokens];
  if (size < first + std::int64_t{rows}) {
    throw Error(Code::kSizeMismatch, fmt::format("operand {}: the batch has at least {} rows and the view only {}",
                                                 operand.name, first + std::int64_t{rows}, size));
  }
  part.data = static_cast<char*>(all.data) + first * step * static_cast<std::int64_t>(core::size_of(operand.dtype));
  part.sizes[tokens] = last && operand.access == core::Access::kWrite ? size - first : rows;
  return part;
}

// The operands of one step of a run: what the run gives itself, else its rows of what all runs share.
std::vector<View> views_of(const KernelPlan& plan, const MixedRun& run, std::size_t number,
                           const std::vector<NamedView>& shared, int first, bool last) {
  std::vector<View> views;
  for (const Operand& operand : plan.operands) {
    const bool workspace = operand.role == core::Role::kWorkspace;
    const View* own = workspace ? find(run.own, plan.operation + "." + operand.name) : nullptr;
    if (own == nullptr) own = find(run.own, operand.name);
    if (own != nullptr) {
      views.push_back(*own);
    } else if (const View* all = find(shared, operand.name); all != nullptr) {
      const bool by_row = operand.leading == Leading::kToken || operand.leading == Leading::kScaleGroup;
      views.push_back(by_row ? rows_of(operand, *all, first, run.rows.rows, last) : *all);
    } else if (operand.optional) {
      views.emplace_back();
    } else {
      throw Error(Code::kBadArgument,
                  fmt::format("{}: operand {}: no tensor of that name was given for run {} of the batch, nor for all",
                              plan.symbol, operand.name, number));
    }
  }
  return views;
}

struct Launch {
  const Kernel* kernel;
  Args args;
};

// Indices of sequences in the pools, for the host to look at: of the run's own slots operand.
class SlotOwners {
 public:
  void add(const KernelPlan& plan, const Args& args, std::size_t run) {
    const int operand = plan.facts.slots_operand;
    if (operand < 0 || args.operand[operand] == nullptr) return;
    const Operand& slots = plan.operands[static_cast<std::size_t>(operand)];
    const std::int64_t count = slot_rows(plan, args);
    for (std::int64_t i = 0; i < count * slots.inner; ++i) {
      const std::int64_t at = i / slots.inner * args.stride[operand] + i % slots.inner;
      const std::int64_t slot = core::index_at(slots.dtype, args.operand[operand], at);
      if (is_padding(plan.facts.padding, slot)) continue;
      const auto [known, first] = owner_.emplace(slot, run);
      if (first || known->second == run) continue;
      throw Error(Code::kSlotRepeated,
                  fmt::format("{}: slot {} stands in run {} of the batch and in run {}: a sequence has one run",
                              plan.symbol, slot, known->second, run));
    }
  }

 private:
  std::map<std::int64_t, std::size_t> owner_;
};

}  // namespace

void launch_mixed(const std::vector<MixedRun>& runs, int slots, const std::vector<NamedView>& shared,
                  const KernelOf& kernel_of, Stream stream) {
  std::vector<Launch> launches;
  SlotOwners owners;
  int first = 0;
  for (std::size_t number = 0; number < runs.size(); ++number) {
    const MixedRun& run = runs[number];
    const Decision decision = dispatch({run.rows}, [&](std::string_view operation) {
      return kernel_of(operation) != nullptr ? std::string() : std::string("no kernel was given for it");
    });
    if (!decision.supported()) throw Error(Code::kUnsupported, decision.unsupported);
    const bool last = number + 1 == runs.size();
    for (const Step& step : decision.steps) {
      const Kernel& kernel = *kernel_of(step.operation);
      const KernelPlan& plan = kernel.plan();
      const std::vector<View> views = views_of(plan, run, number, shared, first, last);
      kernel.check_views(run.rows.rows, slots, views);
      kernel.check_memory(views);
      launches.push_back({&kernel, make_args(plan, run.rows.rows, slots, views)});
      if (!kernel.on_host()) continue;
      check_indices(plan, launches.back().args, HostReader());
      owners.add(plan, launches.back().args, number);
    }
    first += run.rows.rows;
  }
  if (launches.empty()) throw Error(Code::kBadArgument, "a batch without rows");
  for (const Launch& launch : launches) launch.kernel->launch_prepared(launch.args, stream);
}

}  // namespace gdn::runtime
