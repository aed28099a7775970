// The facts of one kernel: everything a kernel body is specialised for, as plain integers, enums and reals.
//
// The plan stage fills this in; the emit stage prints it as a C++ type with `static constexpr` members (GPU and host
// shim); the CPU generators take it as it is. A value here has no default meaning: the spec said it.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "gdn/enums.h"

namespace gdn::core {

using gdn::Activation;
using gdn::Anchor;
using gdn::AStored;
using gdn::Counts;
using gdn::DecayForm;
using gdn::Domain;
using gdn::EpsAt;
using gdn::FloorAt;
using gdn::InitialStates;
using gdn::NormWeight;
using gdn::PaddedOutput;
using gdn::Padding;
using gdn::Pairing;
using gdn::Rollback;
using gdn::Rule;

// Which head index an address map takes.
enum class HeadKind : std::uint8_t { kNone, kKey, kValue };

// The address map of one part inside one operand, in elements. An element of the part lies at
//
//   row * Args::stride[operand]                      (row = token or slot; only when the operand has such a dimension)
//     + offset + key_head * key_head_stride + group * group_stride
//     + inner * inner_stride + outer * outer_stride + tap * tap_stride
//
// key_head and group are those of the value head (grouped: h / r and h % r; tiled: h % Hk and h / Hk); a key head has
// group 0. `inner` runs along key_dim (q, k, a of kda and the like) or value_dim (v, z, o); in the recurrent state
// `inner` is the key channel and `outer` the value channel.
struct Map {
  int operand = -1;  // index into Args::operand; -1: the kernel has no such part
  DType dtype = DType::kFp32;
  HeadKind heads = HeadKind::kNone;
  std::int64_t offset = 0;
  std::int64_t key_head_stride = 0;
  std::int64_t group_stride = 0;
  std::int64_t inner_stride = 0;
  std::int64_t outer_stride = 0;
  std::int64_t tap_stride = 0;
  std::int64_t run = 1;    // elements along inner
  std::int64_t align = 1;  // the largest power of two that divides every base (offset and head strides), in elements;
                           // the row stride is checked against it before a launch

  bool present() const { return operand >= 0; }
};

struct Facts {
  Rule rule = Rule::kGdn;
  int key_heads = 0;
  int value_heads = 0;
  int group = 0;
  Pairing pairing = Pairing::kGrouped;
  int key_dim = 0;
  int value_dim = 0;

  // conv
  int conv_width = 0;
  Activation conv_activation = Activation::kNone;
  bool conv_bias = false;
  bool taps_oldest_first = true;  // weight[width-1] multiplies the current token
  int window = 0;                 // rows of a conv window in the pool
  Anchor anchor = Anchor::kFirst;

  // q and k
  bool qk_norm = true;
  double qk_eps = 0;
  EpsAt qk_eps_at = EpsAt::kSum;
  double q_scale = 1;
  double k_scale = 1;

  // gates
  DecayForm decay_form = DecayForm::kSoftplus;
  double softplus_threshold = 0;  // softplus(x) = x for x above; 0: none, the exact form everywhere
  double decay_bound = 0;         // the bounded form's bound; 0 otherwise
  AStored a_stored = AStored::kLog;
  Domain g_handover = Domain::kLn;  // what g holds between the parts
  double beta_factor = 1;

  // output norm
  double norm_eps = 0;
  NormWeight norm_weight = NormWeight::kW;
  Activation norm_gate = Activation::kNone;
  bool norm_before_gate = true;

  // quantised output; a group of 0 channels: none
  int quant_group = 0;  // neighbouring channels of an output's row that share a scale
  double quant_max = 0;
  FloorAt quant_floor_at = FloorAt::kNone;
  double quant_floor = 0;
  bool quant_power_of_two = false;  // scales are rounded up to one
  DType quant_from = DType::kFp32;  // what the output is rounded to before it is quantised
  bool quant_divides = false;       // y / s rather than y * (1 / s)
  bool scale_group_first = false;   // out_scale lies group by group: stride[operand] is from group to group

  // the state as it is stored
  bool stochastic_state = false;  // 16 bits, rounded up or down by chance
  int seed_operand = -1;          // where the seed of that stands

  // rounding points: kFp32 means none
  DType round_conv = DType::kFp32;
  DType round_qk = DType::kFp32;
  DType round_beta = DType::kFp32;
  DType round_o = DType::kFp32;
  DType round_norm = DType::kFp32;

  // slots
  DType slot_dtype = DType::kInt32;
  Padding padding = Padding::kNone;
  PaddedOutput padded_output = PaddedOutput::kZero;
  PaddedOutput excess_output = PaddedOutput::kUntouched;  // of rows that out has and the launch has not
  int slots_operand = -1;

  // sequences of several tokens: the operand that says where each begins
  DType offset_dtype = DType::kInt32;
  int offsets_operand = -1;

  // prefill: tokens of a chunk; 0 in operations that are none of it
  int chunk = 0;
  InitialStates initial_states = InitialStates::kNone;
  bool final_states = false;
  DType round_prefill_qk = DType::kFp32;  // q and k, normalised and not yet scaled; stands for round_qk
  DType flag_dtype = DType::kUint8;
  int flags_operand = -1;           // has_initial_state, a number a sequence
  bool snapshots = false;           // a launch may name rows whose states are kept
  int snapshot_rows_operand = -1;   // which; numbers of the offsets' dtype
  int snapshot_slots_operand = -1;  // and in which slots

  // speculative decoding
  int tokens = 1;  // of a sequence in one launch, at most
  Rollback rollback = Rollback::kNone;
  Counts counts = Counts::kTokens;
  DType accepted_dtype = DType::kInt32;
  int accepted_operand = -1;  // how many tokens of the launch before were accepted

  // Where things lie. An absent part has operand -1. in_* are the operation's per-token inputs, out_* its per-token
  // outputs.
  Map in_q, in_k, in_v, in_z, in_b, in_a;        // rows of the projections, or the parts handed over
  Map in_g, in_beta, in_o;                       // inputs of delta_update and norm_quant
  Map out_q, out_k, out_v, out_z, out_b, out_a;  // unpack, conv_update
  Map out_g, out_beta, out_o;                    // gating, delta_update
  Map out;                                       // decode, norm_quant
  Map weight_q, weight_k, weight_v;              // conv weights: tap_stride set
  Map bias_q, bias_k, bias_v;                    // conv bias
  Map window_q, window_k, window_v;              // conv state: tap_stride set
  Map state_scale;                               // of an 8-bit state: inner = value channel
  Map state;                                     // recurrent state: inner = key channel, outer = value channel
  Map intermediate;                              // states after each token: as `state`, and tap_stride between tokens
  Map record_k, record_u, record_decay;          // replay records: tap_stride between tokens
  Map a_log, dt_bias;                            // per value head; dt_bias of kda: inner = key channel
  Map norm_w, norm_b;                            // per value channel
  Map out_scale;                                 // per group: run = groups of a row
};

}  // namespace gdn::core
