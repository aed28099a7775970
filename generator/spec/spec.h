// A parsed spec: what specs/*.yaml says, with the place of every leaf. Nothing is resolved here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/facts.h"

namespace gdn::spec {

// A place in a spec or in an overlay. Lines and columns count from 1; length is in bytes, at least 1.
struct Place {
  int line = 0;
  int column = 0;
  int length = 1;
  int source = 0;  // 0: the spec itself; n: its n-th overlay
};

// A file that was read, as it was named, and its whole text.
struct Source {
  std::string file, text;
};

// A value and where it was written.
template <class T>
struct Located {
  T value{};
  Place place;

  const T& operator*() const { return value; }
  const T* operator->() const { return &value; }
};

struct Part;

// One entry of a dimension list: a named dimension, or a packed dimension whose parts lie one after the other.
struct Dim {
  Located<std::string> name;  // "token", "key_head", ...; empty for a packed dimension
  bool at_launch = false;     // written `token@launch`: the stride of this dimension is given at launch
  std::vector<Part> parts;    // of a packed dimension

  bool packed() const { return !parts.empty(); }
};

// One part of a packed dimension: a name (q, k, v, z, b, a) and its own dimensions, slowest first.
struct Part {
  Located<std::string> name;
  std::vector<Dim> dims;
};

// A tensor: a dtype and its dimensions, slowest first. Shorthands (interleaved, flat, SD, DS, channel) are already
// expanded by the parser; an expanded entry keeps the shorthand's place.
struct Tensor {
  Located<std::string> name;
  Located<core::DType> dtype;
  std::vector<Dim> dims;
  Place dims_place;
  // `replicated: true`: under tensor parallelism every rank has the whole tensor, and a rank's heads are a run of each
  // of its rows, whose stride stays that of all heads. Not written: each rank has its heads alone.
  Located<bool> replicated;
};

// Which of the model's layers are of this kind.
struct Layers {
  Located<std::optional<int>> count;  // of the whole model, of all kinds; nothing: unread
  Located<int> base;                  // what the list calls the first layer: 0 or 1
  Located<std::vector<int>> list;     // ascending; empty: unread
};

enum class Projection : std::uint8_t {
  kLowRank,  // two matrices, [rank, hidden] and [rows, rank]
  kSingle,   // one, [rows, hidden]
};

struct Projections {
  Located<std::vector<std::string>> unquantised;  // parts whose projections keep 16 bits or more
  // Of kda layers: how the checkpoint makes a and z from the hidden state, and the rank of low_rank.
  Located<Projection> a, z;
  Located<int> a_rank, z_rank;
};

struct Heads {
  Located<int> key, value;
  Located<core::Pairing> pairing;
};

struct Dims {
  Located<int> key, value;
};

struct Conv {
  Located<int> width;
  Located<core::Activation> activation;
  Located<bool> bias;
  Located<bool> taps_oldest_first;  // taps: oldest_first | newest_first
  Located<int> window;              // rows kept in the pool, at least width - 1
  Located<core::Anchor> anchor;     // first | last
};

struct QkNorm {
  Located<bool> enabled;  // kind: l2 | none
  Located<double> eps;
  Located<core::EpsAt> eps_at;  // sum | mean | max
};

struct QkScale {
  Located<double> q, k;  // a number, or key_dim^-0.5, key_dim^-0.25: already evaluated
  Located<std::string> q_text, k_text;
};

// Which key of config.json says the bound of a decay.
enum class BoundKey : std::uint8_t { kLowerBound, kGateLowerBound, kKdaLowerBound };

struct Decay {
  Located<core::Domain> input;  // what `a` holds: logit
  Located<core::DecayForm> form;
  Located<double> threshold;    // a number, or none (0)
  Located<double> bound;        // of the bounded form; 0 when absent
  Located<BoundKey> bound_key;  // the config key that holds the bound
  Located<core::AStored> a_log;
  Located<bool> a_log_padded;      // a_log: log_padded
  Located<int> a_log_entries;      // stored entries of a padded a_log; those behind the heads' are zero
  Located<core::Domain> handover;  // what `g` holds between the parts: ln | log2 | exp
};

struct Beta {
  Located<core::Domain> input;  // what `b` holds: logit
  Located<double> factor;       // 1 or 2
};

// Only `enabled` means something where the spec says none: o is the layer's output then, and nothing reads z.
struct OutNorm {
  Located<bool> enabled;  // kind: rms | none
  Located<double> eps;
  Located<core::NormWeight> weight;  // w | 1+w | 2*(1+w)
  Located<core::Activation> gate;    // silu | sigmoid | none
  Located<bool> norm_before_gate;    // order: norm_then_gate | gate_then_norm
};

// The output as 8-bit numbers with scales; only `given` means something where the spec says none.
struct OutputQuant {
  static constexpr int kHead = -1, kToken = -2;  // words for a group: a value head's channels, a row's

  Located<bool> given;  // kind: dynamic | none
  Located<double> max;  // the largest magnitude that a quantised number takes
  Located<int> group;   // channels of the row that share a scale, or kHead, kToken
  Located<core::FloorAt> floor_at;
  Located<double> floor;
  Located<bool> power_of_two;  // scale: fp32 | ue8m0
  Located<core::DType> from;   // what the number is rounded to before it is quantised; fp32: nothing
  Located<bool> divides;       // arithmetic: reciprocal | divide
};

struct Slots {
  Located<core::DType> dtype;      // int32 | int64
  Located<core::Padding> padding;  // none | negative | zero_or_negative
  Located<core::PaddedOutput> padded_output;
  Located<core::PaddedOutput> excess_output;  // of rows that the output's buffer has and the launch has not
};

struct Prefill {
  Located<bool> enabled;  // kind: chunked | none; `prefill: none` is short for the latter
  Located<int> chunk;
  Located<core::DType> offsets;                 // int32 | int64
  Located<core::InitialStates> initial_states;  // none | all | flagged
  Located<core::DType> flags;                   // uint8 | int32
  Located<bool> final_states;                   // in_place | none
  Located<core::DType> qk;
  Located<bool> snapshots;  // slots | none
};

// Several tokens of a sequence in one launch; only `given` means something where the spec says none.
struct Speculative {
  Located<bool> given;  // written as keys rather than as none
  Located<int> tokens;  // of a sequence in one launch, at most: the guaranteed one and the drafts
  Located<core::Rollback> scheme;
  Located<core::Counts> counts;            // what `accepted` counts
  Located<core::DType> accepted, offsets;  // int32 | int64
};

struct Rounding {
  Located<core::DType> conv, qk, beta, o, norm;  // fp32: no rounding
  Located<bool> state_stochastic;                // state: nearest | stochastic; of 16-bit states
};

// Where the keys of the five tensor sections stand; line 0: the section is missing.
struct SectionPlaces {
  Place inputs, parameters, pools, handover, outputs;
};

// A leaf whose place has line 0 was not written (a key that does not apply) or, while errors are being collected, could
// not be read. A Spec that parse() or check() returned is complete.
struct Spec {
  std::string file;              // as given on the command line
  std::string text;              // the whole file, for carets
  std::vector<Source> overlays;  // in the order in which they were laid over it

  Located<int> version;
  Located<std::string> name;   // identifier: part of symbols and file names; equals the file's stem
  Located<std::string> model;  // for people
  Located<core::Rule> rule;
  Heads heads;
  Dims dims;
  Conv conv;
  QkNorm qk_norm;
  QkScale qk_scale;
  Decay decay;
  Beta beta;
  OutNorm out_norm;
  OutputQuant output_quant;
  Slots slots;
  Prefill prefill;
  Speculative speculative;
  Rounding rounding;
  Layers layers;
  Projections projections;

  std::vector<Tensor> inputs;      // rows of the projections: the parts q k v z b a, each exactly once (see out_norm)
  std::vector<Tensor> parameters;  // conv_weight (or conv_weight_q/_k/_v), conv_bias..., a_log, dt_bias, norm_weight,
                                   // norm_bias where the norm adds one
  std::vector<Tensor> pools;       // conv_state (or conv_state_q/_k/_v), state, and what speculative.scheme needs
  std::vector<Tensor> handover;    // between the parts: q k v z b a g beta o
  std::vector<Tensor> outputs;     // out; out_scale where it is quantised
  SectionPlaces sections;

  // Paths of keys and tensors ("heads.key", "pools.state") whose values nobody has read in a primary source.
  std::vector<Located<std::string>> unverified;
};

// The layers of this kind counted from 0, as a checkpoint's tensors are named; empty where nobody has read them.
inline std::vector<int> layers_from_zero(const Spec& spec) {
  std::vector<int> list = *spec.layers.list;
  for (int& layer : list) layer -= *spec.layers.base;
  return list;
}

// The tensor of that name, or null.
inline const Tensor* find_tensor(const std::vector<Tensor>& tensors, std::string_view name) {
  for (const Tensor& tensor : tensors) {
    if (*tensor.name == name) return &tensor;
  }
  return nullptr;
}

}  // namespace gdn::spec
