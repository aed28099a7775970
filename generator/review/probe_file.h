// A spec's layout as vectors that an engine can try on itself, outside this project: tensors filled with values that
// say where they lie, and what each part of them must look like once the engine has unpacked it.
#pragma once

#include <string>

#include "review/shape.h"

namespace gdn::review {

// A safetensors file. For every input, parameter and pool, with `rows` tokens and slots, dense:
//
//   <section>.<tensor>/<pass>           [rows, elements] as it lies in memory, in the tensor's dtype
//   <section>.<tensor>/<part>/<pass>    [rows, heads, channels..., taps]: the same values by their coordinates; key
//                                       heads for q and k, value heads for the rest, taps oldest first as they lie
//
// The n-th element of a tensor holds 1 + digit <pass> of n to the base 128: numbers that every dtype holds exactly.
// Where the engine's view of every pass equals the expected one, its layout is the spec's. The metadata says spec,
// pairing, and every tensor's list and identity.
std::string probe_file(const Side& side, int rows);

}  // namespace gdn::review
