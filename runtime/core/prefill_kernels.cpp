// What a plan's prefill is made of: its kernels, and the workspace that they pass things on in.
#include <algorithm>
#include <limits>

#include "core/arrivals.h"
#include "core/prefill.h"
#include "gdn/sm90/record.h"

namespace gdn::core {

int workspace_operand(const KernelPlan& plan) {
  const bool last = !plan.operands.empty() && plan.operands.back().role == Role::kWorkspace;
  return last ? static_cast<int>(plan.operands.size()) - 1 : -1;
}

PrefillSet prefill_set(std::string_view target, std::string_view operation, const Facts& facts) {
  const bool layer = operation == "prefill";
  if (!layer && operation != "chunk_delta") return PrefillSet::kNone;
  if (target == "sm_90a" && (layer ? holds_hopper_layer(facts) : holds_hopper_prefill(facts))) {
    return PrefillSet::kWarpGroups;
  }
  const PrefillMachine* const machine = find_prefill_machine(target);
  if (machine == nullptr) return PrefillSet::kNone;
  const bool holds = layer ? holds_warp_layer(*machine, facts) : holds_warp_prefill(*machine, facts);
  return holds ? PrefillSet::kWarps : PrefillSet::kNone;
}

PrefillSet prefill_set(const KernelPlan& plan) {
  if (workspace_operand(plan) < 0) return PrefillSet::kNone;
  const PrefillSet set = prefill_set(plan.target, plan.operation, plan.facts);
  return set != PrefillSet::kNone && choice_of(plan.choices, "warps", 0) != 0 ? PrefillSet::kWarps : set;
}

bool holds_o(const KernelPlan& plan) {
  const DType out = plan.facts.out.dtype;
  return plan.operation == "prefill" && workspace_operand(plan) >= 0 && out != DType::kFp32 &&
         out != plan.facts.round_o;
}

std::int64_t held_bytes(const KernelPlan& plan, int rows) {
  if (plan.operation != "prefill" || workspace_operand(plan) < 0 || rows_in_out(plan)) return 0;
  return (rows * held_row_bytes(plan.facts) + 127) / 128 * 128;
}

std::int64_t held_row_bytes(const Facts& facts) {
  return std::int64_t{facts.value_heads} * facts.value_dim * static_cast<std::int64_t>(size_of(facts.round_o));
}

static bool in_pieces(const Map& map) {
  return map.present() && size_of(map.dtype) == 2 && map.inner_stride == 1 && map.align % 8 == 0;
}

bool rows_in_out(const KernelPlan& plan) {
  return plan.operation == "prefill" && prefill_set(plan) != PrefillSet::kNone && !holds_o(plan) &&
         in_pieces(plan.facts.out);
}

static bool in_chunks(const Facts& facts) {
  return facts.chunk == sm90::kChunk && facts.key_dim % 8 == 0 && facts.value_dim % 8 == 0 && in_pieces(facts.in_q) &&
         in_pieces(facts.in_k) && in_pieces(facts.in_v);
}

static bool layer_in_chunks(const Facts& facts) {
  // Without a norm nothing moves o from rows of the workspace to `out`.
  const bool leaves_o = facts.norm_w.present() || in_pieces(facts.out);
  return in_chunks(facts) && leaves_o && size_of(facts.round_conv) == 2 && size_of(facts.round_o) == 2;
}

static bool rule_in_chunks(const Facts& facts) {
  const auto per_head = [](const Map& map) { return map.present() && map.run == 1; };
  return in_chunks(facts) && in_pieces(facts.out_o) && facts.in_q.dtype == facts.in_k.dtype &&
         (facts.rule == Rule::kKda || per_head(facts.in_g)) && per_head(facts.in_beta);
}

bool holds_hopper_layer(const Facts& facts) { return layer_in_chunks(facts) && facts.key_dim <= 128; }

bool holds_hopper_prefill(const Facts& facts) { return rule_in_chunks(facts) && facts.key_dim <= 128; }

static int prep_shared(const Facts& facts) {
  if (facts.rule == Rule::kKda) return sm90::prep_channels_shared(facts.key_dim);
  return sm90::prep_shared(facts.key_dim, facts.group, std::min(2, facts.group));
}

static int warp_chain_shared(const Facts& facts, int slices, int places = 2) {
  return sm90::warp_chain_shared(facts.key_dim, slices, facts.rule == Rule::kKda, facts.snapshots, places);
}

// Chunks that a block has room for; one will do. 0: not even that.
static int warp_places(const PrefillMachine& machine, const Facts& facts) {
  if (warp_chain_shared(facts, 1) <= machine.shared_bytes) return 2;
  return warp_chain_shared(facts, 1, 1) <= machine.shared_bytes ? 1 : 0;
}

static bool fits_warps(const PrefillMachine& machine, const Facts& facts) {
  return facts.key_dim <= 256 && prep_shared(facts) <= machine.shared_bytes && warp_places(machine, facts) > 0;
}

bool holds_warp_prefill(const PrefillMachine& machine, const Facts& facts) {
  return rule_in_chunks(facts) && fits_warps(machine, facts);
}

bool holds_warp_layer(const PrefillMachine& machine, const Facts& facts) {
  return layer_in_chunks(facts) && fits_warps(machine, facts);
}

// Two slices a block: 128 key channels are as many as registers hold of both, and shared memory must do.
static bool fits_two_slices(int shared_bytes, const Facts& facts) {
  return facts.key_dim <= 128 && (facts.value_dim + 63) / 64 % 2 == 0 && warp_chain_shared(facts, 2) <= shared_bytes;
}

bool prefill_fits(const KernelPlan& plan, int shared_bytes) {
  for (const PrefillKernel& kernel : prefill_kernels(plan)) {
    if ((kernel.name == "prep" || kernel.name == "one") && kernel.shared_bytes > shared_bytes) return false;
  }
  return prefill_set(plan) != PrefillSet::kNone;
}

PrefillWork prefill_work(const KernelPlan& plan, int rows, int sequences, int snapshots) {
  const Facts& f = plan.facts;
  return {f.key_heads, f.value_heads, f.key_dim, f.value_dim, rows, sequences, 0, f.rule == Rule::kKda, snapshots};
}

int snapshots_of(const KernelPlan& plan, const Args& args) {
  const int rows = plan.facts.snapshot_rows_operand, slots = plan.facts.snapshot_slots_operand;
  if (rows < 0 || args.operand[rows] == nullptr || args.operand[slots] == nullptr) return 0;
  return static_cast<int>(args.stride[rows]);
}

PrefillChoice prefill_choice(const KernelPlan& plan, int rows, int sequences) {
  return prefill_choice(plan, rows, sequences, std::numeric_limits<int>::max());
}

PrefillChoice prefill_choice(const KernelPlan& plan, int rows, int sequences, int shared_bytes) {
  const PrefillWork work = prefill_work(plan, rows, sequences);
  PrefillCosts costs = prefill_costs_h200(work.by_channel);
  std::int64_t form = choice_of(plan.choices, "form", 0);
  if (prefill_set(plan) == PrefillSet::kWarps) {
    const PrefillMachine& machine = *find_prefill_machine(plan.target);
    costs = machine.costs;
    const double by = plan.facts.key_dim / 128.0;
    for (double* cost : {&costs.one, &costs.one_crowded, &costs.two, &costs.two_crowded}) *cost *= by;
    if (warp_places(machine, plan.facts) == 1) costs.one *= 1.4, costs.one_crowded *= 1.4;  // copies are waited for
    if (!fits_two_slices(std::min(shared_bytes, machine.shared_bytes), plan.facts)) {
      costs.two = costs.two_crowded = std::numeric_limits<double>::infinity();
      if (shared_bytes < machine.shared_bytes && form == 2) form = 1;
    }
  }
  if (form == 0) return choose_prefill(work, costs);
  PrefillChoice choice;
  choice.form = form == 1   ? PrefillForm::kOne
                : form == 2 ? PrefillForm::kTwo
                : form == 3 ? PrefillForm::kPair
                            : PrefillForm::kSegments;
  if (form >= 4) choice.segments = static_cast<int>(form) - 1;
  choice.chain_us = prefill_chain_us(work, costs, choice.form, choice.segments);
  choice.prepare_us = prefill_prepare_us(work, costs);
  return choice;
}

std::int64_t workspace_bytes(const KernelPlan& plan, int rows, int sequences, int snapshots) {
  if (plan.operation == "decode") return arrivals_bytes(plan, rows);
  const std::int64_t held = held_bytes(plan, rows);
  if (prefill_set(plan) == PrefillSet::kNone) return held;
  return held + prefill_workspace_bytes(prefill_work(plan, rows, sequences, snapshots),
                                        prefill_choice(plan, rows, sequences).segments);
}

std::int64_t most_workspace_bytes(const KernelPlan& plan, int rows, int most_sequences) {
  if (plan.operation == "decode") return most_arrivals_bytes(plan, rows);
  // Records grow with the sequences; segments take room as well, and there are at least three of a sequence.
  std::int64_t most = workspace_bytes(plan, rows, most_sequences);
  const int cut = std::min(most_sequences, prefill_costs_h200().multiprocessors / 3);
  for (int sequences = 1; sequences <= cut; ++sequences) {
    const int snapshots = plan.facts.snapshots ? most_sequences - sequences : 0;
    most = std::max(most, workspace_bytes(plan, rows, sequences, snapshots));
  }
  return most;
}

// Blocks of Hopper's prep on a multiprocessor. Four leave a thread 128 registers: too few where a second turn of heads,
// or tiles of uneven width, need addresses of their own. By channel shared memory holds three.
static int prep_blocks(const Facts& facts) {
  return facts.rule == Rule::kGdn && facts.group <= 2 && facts.key_dim % 64 == 0 ? 4 : 3;
}

// Blocks of their prep on a multiprocessor: as many as shared memory has room for, or as leave a thread the registers
// that a second turn of heads, pieces of 256 channels or a convolution ask for.
static int warp_prep_blocks(const PrefillMachine& machine, const Facts& facts, bool whole_layer) {
  constexpr int kReserved = 1024;  // shared memory that a block takes for the system
  const bool wide = whole_layer || facts.group > 2 || facts.key_dim > 128 || facts.key_dim % 64 != 0;
  return std::clamp((machine.shared_bytes + kReserved) / (prep_shared(facts) + kReserved), 1, wide ? 2 : 3);
}

static std::vector<PrefillKernel> warp_kernels(const PrefillMachine& machine, const Facts& facts, bool whole_layer) {
  const auto body = [&](std::string_view of_rule, std::string_view of_layer) {
    return whole_layer ? of_layer : of_rule;
  };
  std::vector<PrefillKernel> kernels = {
      {"prep", body("mma::chunk_prep<{}>", "mma::prefill_prep<{}>"), sm90::kPrepThreads,
       warp_prep_blocks(machine, facts, whole_layer), 1, prep_shared(facts)},
      warp_places(machine, facts) == 2
          ? PrefillKernel{"one", body("mma::chunk_chain<{}, 0>", "mma::prefill_chain<{}, 0>"), 128, 1, 1,
                          warp_chain_shared(facts, 1)}
          : PrefillKernel{
                "one",
                body("mma::chunk_chain<gdn::mma::OnePlace<{}>, 0>", "mma::prefill_chain<gdn::mma::OnePlace<{}>, 0>"),
                128, 1, 1, warp_chain_shared(facts, 1, 1)}};
  if (fits_two_slices(machine.shared_bytes, facts)) {
    kernels.push_back({"two", body("mma::chunk_chain<{}, 0, 1>", "mma::prefill_chain<{}, 0, 1>"), 128, 1, 1,
                       warp_chain_shared(facts, 2)});
  }
  return kernels;
}

static std::vector<PrefillKernel> hopper_kernels(const Facts& facts, bool whole_layer) {
  const int k = facts.key_dim;
  const bool by_channel = facts.rule == Rule::kKda;
  const auto chain = [&](int slices, bool out) { return sm90::chain_shared(k, slices, out, by_channel); };
  const auto body = [&](std::string_view of_rule, std::string_view of_layer) {
    return whole_layer ? of_layer : of_rule;
  };
  std::vector<PrefillKernel> kernels = {
      {"prep", body("sm90::chunk_prep<{}>", "sm90::prefill_prep<{}>"), sm90::kPrepThreads, prep_blocks(facts), 1,
       prep_shared(facts)},
      {"one", body("sm90::chunk_chain<{}, 1>", "sm90::chunk_chain<gdn::sm90::InPrefill<{}>, 1>"), 256, 1, 1,
       chain(1, true)},
      {"pair", body("sm90::chunk_pair<{}>", "sm90::chunk_pair<gdn::sm90::InPrefill<{}>>"), 256, 1, 2,
       sm90::pair_shared(k, by_channel)}};
  if ((facts.value_dim + 63) / 64 % 2 == 0) {
    kernels.push_back({"two", body("sm90::chunk_chain<{}, 2>", "sm90::chunk_chain<gdn::sm90::InPrefill<{}>, 2>"), 384,
                       1, 1, chain(2, true)});
  }
  if (facts.value_dim % 128 == 0 && k % 128 == 0) {
    kernels.push_back({"carry", body("sm90::chunk_carry<{}>", "sm90::chunk_carry<gdn::sm90::InPrefill<{}>>"), 384, 1, 1,
                       chain(2, false)});
    kernels.push_back({"combine", body("sm90::chunk_combine<{}>", "sm90::chunk_combine<gdn::sm90::InPrefill<{}>>"),
                       sm90::kCombineThreads, 1, 1, sm90::combine_shared(k, sm90::kCombineRows)});
    kernels.push_back({"segment", body("sm90::chunk_segment<{}>", "sm90::chunk_segment<gdn::sm90::InPrefill<{}>>"), 256,
                       1, 1, chain(1, true)});
  }
  return kernels;
}

std::vector<PrefillKernel> prefill_kernels(const KernelPlan& plan) {
  const bool whole_layer = plan.operation == "prefill";
  switch (prefill_set(plan)) {
    case PrefillSet::kNone:
      return {};
    case PrefillSet::kWarpGroups:
      return hopper_kernels(plan.facts, whole_layer);
    case PrefillSet::kWarps:
      return warp_kernels(*find_prefill_machine(plan.target), plan.facts, whole_layer);
  }
  return {};
}

bool prefill_overlaps(const KernelPlan& plan, const PrefillChoice& choice) {
  // Between the kernels of segments every block reads what all of the one before wrote.
  return prefill_set(plan) == PrefillSet::kWarpGroups && choice.form != PrefillForm::kSegments;
}

}  // namespace gdn::core
