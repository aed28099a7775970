// The delta rule of one token and value head: the state is read once and written once.
//
//   S <- d S;  u = beta (v - S^T k);  S <- S + k u^T;  o = S^T q        S: [key channel][value channel], fp32
//
// is computed as p = S^T k and r = S^T q of the stored state in one sweep, u = beta (v - d p), o = d r + (k.q) u and
// S <- d S + k u^T: the same numbers up to fp32 rounding. With a decay d_c of each key channel c (kda) the sums are
// p = S^T (d k) and r = S^T (d q), and no d stands before them. o reads the state before it is rounded to its stored
// type.
#pragma once

#include "cpu/context.h"

namespace gdn::cpu {

// frame.key_query <- k.q of the vectors in the frame. Once an item, before the rule of its value heads.
void emit_key_query(Context& c);

// The rule for value head reg::group: v, q, k, decay (kda: decays) and beta from the frame, o (rounded as the facts
// say) into it. While the state streams through, what follows it is prefetched into L2, the next head's state behind
// its end.
void emit_delta(Context& c);

// The same for the value channels that are frame.column_part's.
void emit_delta_columns(Context& c);

// The same on a state at the address in r8, which is laid out as `state` says; nothing is prefetched. Leaves u in place
// of v.
void emit_delta_in_place(Context& c, const core::Map& state);

// Whether neighbours of a state are value channels: its rows then run along these, else along the key channels. The
// order of the sums follows.
bool state_runs_along_values(const core::Map& state);

}  // namespace gdn::cpu
