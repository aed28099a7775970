// The operations of the CPU target, each as its parts in their order.
#include <fmt/format.h>

#include <stdexcept>
#include <string_view>

#include "core/maps.h"
#include "cpu/chunk.h"
#include "cpu/conv.h"
#include "cpu/conv_sequence.h"
#include "cpu/copy.h"
#include "cpu/delta.h"
#include "cpu/drafts.h"
#include "cpu/gates.h"
#include "cpu/item.h"
#include "cpu/kernel.h"
#include "cpu/needs.h"
#include "cpu/next_item.h"
#include "cpu/norm.h"
#include "cpu/parts.h"
#include "cpu/quantise.h"

namespace gdn::cpu {
namespace {

using core::DType;
using core::Facts;
using core::Map;

// A stride between heads that are only one is never stepped over: without it, plans that differ in nothing else give
// the same code.
Facts without_idle_strides(Facts facts) {
  for (const core::NamedMap& named : core::kMaps) {
    Map& map = facts.*named.map;
    if (facts.key_heads == 1) map.key_head_stride = 0;
    if (facts.group == 1) map.group_stride = 0;
  }
  return facts;
}

void emit_qk_ready(Context& c) {
  emit_qk_norm(c, c.frame.q, c.facts.q_scale);
  emit_qk_norm(c, c.frame.k, c.facts.k_scale);
  emit_key_query(c);
  emit_next_item(c);
}

void decode(Context& c) {
  emit_items(c, {&c.facts.out}, [&] {
    emit_conv(c, conv_q(c.facts), c.frame.q);
    emit_conv(c, conv_k(c.facts), c.frame.k);
    emit_qk_ready(c);
    emit_gates(c, core::Domain::kExp);
    emit_for_heads(c, [&] {
      emit_conv(c, conv_v(c.facts), c.frame.v);
      if (c.by_channel()) emit_channel_gates(c, core::Domain::kExp);
      emit_delta(c);
      emit_output(c);
    });
  });
}

void unpack(Context& c) {
  const Facts& f = c.facts;
  emit_items(c, {}, [&] {
    emit_copy_part(c, f.out_q, f.in_q);
    emit_copy_part(c, f.out_k, f.in_k);
    emit_for_heads(c, [&] {
      emit_copy_part(c, f.out_v, f.in_v);
      if (f.out_z.present()) emit_copy_part(c, f.out_z, f.in_z);
      if (c.by_channel()) emit_copy_part(c, f.out_a, f.in_a);
    });
    emit_copy_heads(c, f.out_b, f.in_b);
    if (!c.by_channel()) emit_copy_heads(c, f.out_a, f.in_a);
  });
}

void conv_update(Context& c) {
  const Facts& f = c.facts;
  std::vector<const Map*> outputs = {&f.out_q, &f.out_k, &f.out_v};
  if (f.out_z.present()) outputs.push_back(&f.out_z);
  emit_items(c, outputs, [&] {
    emit_conv(c, conv_q(f), c.frame.q);
    emit_store_part(c, f.out_q, c.frame.q);
    emit_conv(c, conv_k(f), c.frame.k);
    emit_store_part(c, f.out_k, c.frame.k);
    emit_for_heads(c, [&] {
      emit_conv(c, conv_v(f), c.frame.v);
      emit_store_part(c, f.out_v, c.frame.v);
      if (f.out_z.present()) emit_copy_part(c, f.out_z, f.in_z);
    });
  });
}

void gating(Context& c) {
  emit_items(c, {}, [&] {
    emit_gates(c, c.facts.g_handover);
    emit_scatter_heads(c, c.facts.out_beta, c.frame.beta);
    if (!c.by_channel()) {
      emit_scatter_heads(c, c.facts.out_g, c.frame.decay);
      return;
    }
    emit_for_heads(c, [&] {
      emit_channel_gates(c, c.facts.g_handover);
      emit_store_part(c, c.facts.out_g, c.frame.decays);
    });
  });
}

void delta_update(Context& c) {
  emit_items(c, {&c.facts.out_o}, [&] {
    emit_load_part(c, c.frame.q, c.facts.in_q);
    emit_load_part(c, c.frame.k, c.facts.in_k);
    emit_qk_ready(c);
    emit_gates_handed_over(c);
    emit_for_heads(c, [&] {
      emit_load_part(c, c.frame.v, c.facts.in_v);
      if (c.by_channel()) emit_channel_gates_handed_over(c);
      emit_delta(c);
      emit_store_part(c, c.facts.out_o, c.frame.o);
    });
  });
}

// Bytes of a row on its way to codes, and as many behind it as a vector has.
std::int64_t norm_quant_scratch(const Facts& f) {
  return groups_straddle(f) ? std::int64_t{4} * f.value_heads * f.value_dim + 64 : 0;
}

// Scales of groups that have channels of several heads: a row is normed as a whole before it is quantised.
void norm_quant_rows(Context& c) {
  const Facts& f = c.facts;
  Map row = f.out;  // heads' places in a row of the output
  const auto scaled = [&](std::int64_t stride) { return static_cast<int>(4 * stride); };
  emit_item_loop(
      c, 1,
      [&](const Mark&) {
        Mark& again = c.e.mark("key_head");
        c.e.bind(again);
        emit_for_heads(c, [&] {
          emit_load_part(c, c.frame.o, f.in_o);
          emit_point_at_norm(c);
          for (int i = 0; i < c.value_vectors(); ++i) c.e.vmovaps(zmm(i), c.e.at(reg::frame, c.frame.o + 64 * i));
          emit_gated_norm_vectors(c);
          c.e.mov(reg::r9, c.e.at(reg::frame, c.frame.scratch));
          c.e.imul(reg::rax, reg::key_head, scaled(row.key_head_stride));
          c.e.add(reg::r9, reg::rax);
          c.e.imul(reg::rax, reg::group, scaled(row.group_stride));
          c.e.add(reg::r9, reg::rax);
          for (int i = 0; i < c.value_vectors(); ++i) {
            c.e.vmovups(c.e.at(reg::r9, scaled(row.offset) + 64 * i), zmm(i));
          }
        });
        c.e.inc(reg::key_head);
        c.e.cmp(reg::key_head, f.key_heads);
        c.e.jb(again);
        c.e.xor_(reg::key_head, reg::key_head);
        row.heads = core::HeadKind::kNone;
        row.offset = 0;
        emit_pointer(c, reg::r9, row, Row::kToken);
        emit_scale_pointer(c, reg::rdx);
        c.e.mov(reg::rax, c.e.at(reg::frame, c.frame.scratch));
        emit_quantised(c, f.value_heads * f.value_dim);
      },
      [](const Mark&) {});
}

void norm_quant(Context& c) {
  if (groups_straddle(c.facts)) {
    norm_quant_rows(c);
    return;
  }
  emit_items(c, {}, [&] {
    emit_for_heads(c, [&] {
      emit_load_part(c, c.frame.o, c.facts.in_o);
      emit_gated_norm(c);
    });
  });
}

// Weights have no rows: the items of a launch's first row do it all.
void conv_pack(Context& c) {
  const Facts& f = c.facts;
  emit_items(c, {}, [&] {
    Mark& again = c.e.mark("packed_before");
    c.e.test(reg::row, reg::row);
    c.e.jnz(again);
    emit_copy_taps(c, f.out_q, f.weight_q);
    emit_copy_taps(c, f.out_k, f.weight_k);
    emit_for_heads(c, [&] { emit_copy_taps(c, f.out_v, f.weight_v); });
    c.e.bind(again);
  });
}

// Of what passes z on, where the layer has a norm that reads it.
std::vector<Need> z_needs(const Facts& f) { return {{"z", f.in_z, f.value_dim}, {"handover.z", f.out_z, f.value_dim}}; }

struct Operation {
  std::string_view name;
  bool slots;
  std::vector<Need> (*needs)(const Facts&);
  void (*emit)(Context&);
  std::int64_t (*scratch)(const Facts&) = nullptr;  // bytes a thread
};

const Operation kOperations[] = {
    {"decode", true, [](const Facts& f) { return conv_needs(f) + gate_needs(f) + norm_needs(f) + state_needs(f); },
     decode},
    {"decode_spec", true, [](const Facts& f) { return conv_needs(f) + gate_needs(f) + norm_needs(f) + draft_needs(f); },
     emit_decode_spec, decode_spec_scratch},
    {"state_commit", true, draft_needs, emit_state_commit, state_commit_scratch},
    {"unpack", false,
     [](const Facts& f) {
       std::vector<Need> needs = {{"q", f.in_q, f.key_dim},           {"k", f.in_k, f.key_dim},
                                  {"v", f.in_v, f.value_dim},         {"b", f.in_b, 1},
                                  {"a", f.in_a, decays(f)},           {"handover.q", f.out_q, f.key_dim},
                                  {"handover.k", f.out_k, f.key_dim}, {"handover.v", f.out_v, f.value_dim},
                                  {"handover.b", f.out_b, 1},         {"handover.a", f.out_a, decays(f)}};
       return f.out_z.present() ? needs + z_needs(f) : needs;
     },
     unpack},
    {"conv_update", true,
     [](const Facts& f) {
       std::vector<Need> needs = conv_needs(f) + std::vector<Need>{{"handover.q", f.out_q, f.key_dim},
                                                                   {"handover.k", f.out_k, f.key_dim},
                                                                   {"handover.v", f.out_v, f.value_dim}};
       return f.out_z.present() ? needs + z_needs(f) : needs;
     },
     conv_update},
    {"gating", false,
     [](const Facts& f) {
       return gate_needs(f) + std::vector<Need>{{"handover.g", f.out_g, decays(f)}, {"handover.beta", f.out_beta, 1}};
     },
     gating},
    {"delta_update", true,
     [](const Facts& f) {
       return std::vector<Need>{{"handover.q", f.in_q, f.key_dim},   {"handover.k", f.in_k, f.key_dim},
                                {"handover.v", f.in_v, f.value_dim}, {"handover.g", f.in_g, decays(f)},
                                {"handover.beta", f.in_beta, 1},     {"handover.o", f.out_o, f.value_dim}} +
              state_needs(f);
     },
     delta_update},
    {"conv_pack", false,
     [](const Facts& f) {
       return std::vector<Need>{
           {"conv_weight of q", f.weight_q, f.key_dim},     {"conv_weight of k", f.weight_k, f.key_dim},
           {"conv_weight of v", f.weight_v, f.value_dim},   {"conv_weight_packed of q", f.out_q, f.key_dim},
           {"conv_weight_packed of k", f.out_k, f.key_dim}, {"conv_weight_packed of v", f.out_v, f.value_dim}};
     },
     conv_pack},
    {"norm_quant", false,
     [](const Facts& f) {
       return norm_needs(f) +
              std::vector<Need>{{"norm_weight", f.norm_w, f.value_dim}, {"handover.o", f.in_o, f.value_dim}};
     },
     norm_quant, norm_quant_scratch},
};

int choice(const core::KernelPlan& plan, std::string_view name) {
  for (const auto& [key, value] : plan.choices) {
    if (key == name) return static_cast<int>(value);
  }
  refuse(plan, fmt::format("the plan has no choice of {}", name));
}

std::string title(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  return fmt::format("{} on {}, heads {}/{}, dims {}/{}", plan.operation, plan.target, f.key_heads, f.value_heads,
                     f.key_dim, f.value_dim);
}

Parts parts_of(const core::KernelPlan& plan) {
  Parts parts;
  parts.inverse = choice(plan, "inverse_parts");
  parts.output = choice(plan, "output_parts");
  if (plan.facts.rule == core::Rule::kKda) parts.decayed_key = choice(plan, "decayed_key_parts");
  for (const int count : {parts.inverse, parts.output, parts.decayed_key}) {
    if (count != 1 && count != 2) refuse(plan, fmt::format("an operand in {} parts: 1 and 2 are known", count));
  }
  return parts;
}

// Halves of vector registers, where the target has no whole ones.
void narrow(const core::KernelPlan& plan, Context& context) {
  if (plan.target == "avx2") context.e.narrow(reg::frame, context.frame.add(Halves::kBytes));
}

// The same in scratch memory of `bytes` bytes so far; the bytes that it has then.
std::int64_t narrow_in_scratch(const core::KernelPlan& plan, Context& context, std::int64_t bytes) {
  if (plan.target != "avx2") return bytes;
  const std::int64_t places = (bytes + 63) / 64 * 64;
  context.e.narrow(reg::work, static_cast<int>(places));
  return places + Halves::kBytes;
}

// What a whole item's work consists of, in parts of itself where it has two value heads: q, k and their products; and
// of each value head, what all of its columns need (the gates, the inverse) and what each of them needs. Measured on
// Zen 5: tests/bench/NOTES.md.
constexpr int kOfKeyHead = 104, kOfValueHead = 79, kOfColumns = 330;

int per_mille(int of_part, int group) { return 1000 * of_part / (kOfKeyHead + group * (kOfValueHead + kOfColumns)); }

// Into how many parts of whole vectors (of whole blocks of a product if there are any) a value head's columns are cut,
// so that each of `threads` has one in a launch of one sequence; at most 4, since each repeats what serves all columns.
int columns_cut(const Facts& f, int threads) {
  for (const int width : {kBlock, kLanes}) {
    int most = 1;
    for (int parts = 1; parts <= 4; ++parts) {
      if (f.value_dim % (parts * width) != 0) continue;
      if (f.value_heads * parts >= threads) return parts;
      most = parts;
    }
    if (most > 1) return most;
  }
  return 1;
}

// Whether o keeps its value where the layer's output comes.
bool output_holds_o(const Facts& f) {
  return f.quant_group == 0 && (f.out.dtype == DType::kFp32 || f.out.dtype == f.round_o);
}

// The facts of a value head that has one part of the columns.
Facts of_columns(Facts facts, int parts) {
  facts.value_dim /= parts;
  for (Map* const map : {&facts.in_v, &facts.weight_v, &facts.bias_v, &facts.window_v, &facts.out_o, &facts.out}) {
    if (map->present()) map->run = facts.value_dim;
  }
  return facts;
}

bool is_chunked(const core::KernelPlan& plan) { return plan.operation == "chunk_delta" || plan.operation == "prefill"; }

// chunk_delta and prefill: sequences in chunks, by tiles where the target has them.
// `item_parts`: 1, or as many as a key head has value heads; each of them in `columns` parts of its value channels.
Kernel generate_chunked(const core::KernelPlan& plan, int item_parts, int columns = 1) {
  check_facts(plan);
  check_sequences(plan);
  const Facts& f = plan.facts;
  const bool layer = plan.operation == "prefill";
  std::vector<Need> needs = layer ? row_conv_needs(f) + gate_needs(f) + norm_needs(f) : chunk_needs(f);
  if (f.state.present()) needs.push_back({"state", f.state, f.key_dim});
  check_maps(plan, needs);
  Facts facts = of_columns(without_idle_strides(f), columns);
  facts.round_qk = DType::kFp32;  // once, to bf16, as they become operands of products
  Emitter emitter;
  Context context{emitter, facts, Frame(facts)};
  if (columns > 1) {
    item_parts *= columns;
    context.column_parts = columns;
    context.points_at_columns = true;
    context.frame.column_part = context.frame.add(8);
    context.frame.part_head = context.frame.add(8);
  }
  const bool by_tiles = plan.target == "amx";
  Palette palette;
  if (by_tiles) palette.fill({choice(plan, "tile_rows"), choice(plan, "tile_bytes")});
  Tiles tiles(emitter, palette);
  const Buffers buffers(facts);
  const Projected projected(facts, buffers);
  ChunkContext chunks{context,   buffers, by_tiles ? &tiles : nullptr, parts_of(plan), layer ? &projected : nullptr,
                      item_parts};
  const std::int64_t scratch = narrow_in_scratch(plan, context, layer ? projected.size : buffers.size);
  emit_chunk_delta(chunks);
  const char* const cut = columns > 1 ? ", in parts of columns" : item_parts > 1 ? ", in parts" : "";
  Emitter::Program program = emitter.finish(title(plan) + cut);
  ItemParts parts;
  parts.count = item_parts;
  if (item_parts > 1) parts.per_mille = per_mille(kOfKeyHead + kOfValueHead + kOfColumns / columns, f.group);
  return Kernel(program.code, std::move(program.listing), scratch, parts);
}

// conv_prefill: the convolution alone, over sequences.
Kernel generate_conv_rows(const core::KernelPlan& plan) {
  check_facts(plan);
  check_sequences(plan);
  const Facts& f = plan.facts;
  std::vector<Need> needs = row_conv_needs(f) + std::vector<Need>{{"handover.q", f.out_q, f.key_dim},
                                                                  {"handover.k", f.out_k, f.key_dim},
                                                                  {"handover.v", f.out_v, f.value_dim}};
  if (f.out_z.present()) needs = needs + z_needs(f);
  check_maps(plan, needs);
  const Facts facts = without_idle_strides(f);
  Emitter emitter;
  Context context{emitter, facts, Frame(facts)};
  narrow(plan, context);
  const ConvPlaces places(facts);
  emit_conv_prefill(context, places);
  Emitter::Program program = emitter.finish(title(plan));
  return Kernel(program.code, std::move(program.listing), places.size());
}

}  // namespace

Kernel generate(const core::KernelPlan& plan) {
  if (plan.target != "avx2" && plan.target != "avx512bf16" && plan.target != "amx") {
    refuse(plan, fmt::format("the target is {}: the CPU targets are avx2, avx512bf16 and amx", plan.target));
  }
  if (is_chunked(plan)) return generate_chunked(plan, 1);
  if (plan.operation == "conv_prefill") return generate_conv_rows(plan);
  for (const Operation& operation : kOperations) {
    if (operation.name != plan.operation) continue;
    check_facts(plan);
    if (operation.slots) check_slots(plan);
    check_maps(plan, operation.needs(plan.facts));
    const Facts facts = without_idle_strides(plan.facts);
    Emitter emitter;
    const std::int64_t scratch = operation.scratch == nullptr ? 0 : operation.scratch(facts);
    const bool drafts = facts.rollback != core::Rollback::kNone;  // whose frames know of it
    Context context{emitter, facts, Frame(facts, false, scratch > 0 && !drafts)};
    narrow(plan, context);
    operation.emit(context);
    Emitter::Program program = emitter.finish(title(plan));
    return Kernel(program.code, std::move(program.listing), scratch);
  }
  refuse(plan,
         "the operations are decode, decode_spec, state_commit, unpack, conv_update, gating, delta_update, norm_quant, "
         "conv_prefill, chunk_delta, prefill and conv_pack");
}

Kernel generate_parts(const core::KernelPlan& plan) {
  if (is_chunked(plan)) return plan.facts.group > 1 ? generate_chunked(plan, plan.facts.group) : Kernel();
  if (plan.operation != "decode") return {};
  check_facts(plan);
  check_slots(plan);
  check_maps(plan, conv_needs(plan.facts) + gate_needs(plan.facts) + norm_needs(plan.facts) + state_needs(plan.facts));
  const Facts facts = without_idle_strides(plan.facts);
  const ItemParts parts = parts_of(facts);
  if (parts.count == 1) return {};
  Emitter emitter;
  Context context{emitter, facts, Frame(facts, true)};
  narrow(plan, context);
  emit_decode_parts(context);
  Emitter::Program program = emitter.finish(title(plan) + ", in parts");
  return Kernel(program.code, std::move(program.listing), 0, parts);
}

Kernel generate_column_parts(const core::KernelPlan& plan, int threads) {
  const Facts& f = plan.facts;
  const int columns = columns_cut(f, threads);
  if (!is_chunked(plan) || columns == 1 || (plan.operation == "prefill" && !output_holds_o(f))) return {};
  return generate_chunked(plan, f.group, columns);
}

Kernel generate_after_column_parts(const core::KernelPlan& plan, int threads) {
  const Facts& f = plan.facts;
  if (plan.operation != "prefill" || columns_cut(f, threads) == 1 || !output_holds_o(f)) return {};
  const bool norms = f.norm_w.present();
  if (!norms && (!f.final_states || !f.window_q.present())) return {};
  const int row_parts = norms ? 16 : 1;  // of an item's rows, for as many threads
  check_facts(plan);
  check_sequences(plan);
  check_maps(plan, row_conv_needs(f) + norm_needs(f));
  const Facts facts = without_idle_strides(f);
  Emitter emitter;
  Context context{emitter, facts, Frame(facts)};
  narrow(plan, context);
  emit_after_columns(context, row_parts);
  Emitter::Program program = emitter.finish(title(plan) + ", behind its parts of columns");
  ItemParts parts;
  parts.count = row_parts;
  return Kernel(program.code, std::move(program.listing), kAfterColumnsBytes, parts);
}

Kernel generate_after_parts(const core::KernelPlan& plan) {
  const Facts& f = plan.facts;
  if (plan.operation != "prefill" || f.group == 1 || !f.final_states || !f.window_q.present()) return {};
  check_facts(plan);
  check_sequences(plan);
  check_maps(plan, row_conv_needs(f));
  const Facts facts = without_idle_strides(f);
  Emitter emitter;
  Context context{emitter, facts, Frame(facts)};
  narrow(plan, context);
  emit_last_windows(context);
  Emitter::Program program = emitter.finish(title(plan) + ", behind its parts");
  return Kernel(program.code, std::move(program.listing), SequencePlaces::kBytes);
}

}  // namespace gdn::cpu
