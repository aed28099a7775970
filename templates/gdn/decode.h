// decode: one token of every row of the batch through the whole layer between the projections, in one launch.
//
//   operands  the projections' rows, conv weights, gate parameters, norm weight, conv windows and recurrent states
//             (both updated in place, by slot), slot index per row, out
//   rows      padding rows, rows whose slot is not in the pools, and rows of the output that no token has: see map.h
//   grid      rows x key heads x parts, one dimension (split.h); the parts of a key head are one cluster, or meet in
//             the operand of arrivals.h
//
// A part convolves q and k whole and of v what it needs itself. The window of v is its own; those of q and k are read
// by every part, so they are kept and written after all parts have met: by the first part of a cluster, in memory by
// the last part to come. Where the value channels of a head are split, its o is gathered in the part of the cluster
// that has the head's first channels, or in memory for the last part to come, and that part alone takes the norm: no
// sum crosses, and o has the bits that it would have in one block. Without a norm (out_norm: none) each part writes its
// own channels of `out`: nothing is gathered, and no part reads z.
#pragma once

#include "gdn/conv.h"
#include "gdn/delta.h"
#include "gdn/gates.h"
#include "gdn/quantise.h"

namespace gdn {

// Shifted windows of q and k between the convolution and the meeting of the parts; nothing where one block serves a
// key head.
template <class F>
struct KeptWindows {
  static constexpr int kRows = WindowRows<F>::kWritten;
  static constexpr int kOfHead = parts_of_key_head<F>() > 1 ? F::kKeyDim* kRows : 0;
  float rows[larger(1, 2 * kOfHead)];

  template <int kChannels>
  GDN_DEVICE void put(int part, int channel, const float (&shifted)[kChannels][kRows]) {
    GDN_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) rows[part * kOfHead + (channel + c) * kRows + r] = shifted[c][r];
    }
  }
  template <int kChannels>
  GDN_DEVICE void get(int part, int channel, float (&shifted)[kChannels][kRows]) const {
    GDN_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      GDN_UNROLL
      for (int r = 0; r < kRows; ++r) shifted[c][r] = rows[part * kOfHead + (channel + c) * kRows + r];
    }
  }
};

template <class F>
struct DecodeShared : DeltaShared<F> {
  KeptWindows<F> kept;
  bool last_reader, last_writer;  // where parts meet in memory: whether this is the last of its key head, of its heads
};

// Channels that a thread convolves at once: no more than half of the threads are needed, so that gates have others.
template <class F>
GDN_HD constexpr int decode_channels() {
  constexpr int kMost = smaller(4, power_of_two_in(values_of_part<F>()));
  return smaller(kMost, conv_channels<F>(2 * (2 * F::kKeyDim + heads_of_part<F>() * values_of_part<F>())));
}

// Which channels of a turn a thread convolves: `item` counts kChannels at a time through q, k and the block's value
// channels of one value head after the other.
template <class F>
struct ConvItem {
  static constexpr int kChannels = decode_channels<F>();
  static constexpr int kOfKey = F::kKeyDim / kChannels, kOfValue = values_of_part<F>() / kChannels;

  int part;     // 0 q, 1 k, 2 v
  int head;     // of v, in the turn
  int channel;  // the first, in its head

  // Of the first turn; later ones have only v.
  GDN_DEVICE ConvItem(int item, const DeltaTurn& turn) {
    const int of_value = item - 2 * kOfKey;
    part = of_value >= 0 ? 2 : item >= kOfKey ? 1 : 0;
    head = part == 2 ? of_value / kOfValue : 0;
    channel = (part == 2 ? of_value % kOfValue : item % kOfKey) * kChannels + (part == 2 ? turn.first_value : 0);
  }

  GDN_DEVICE float* result(DeltaShared<F>& shared) const {
    return (part == 0 ? shared.q : part == 1 ? shared.k : shared.v + head * F::kValueDim) + channel;
  }
};

// The maps of q, k and v, where they differ in nothing but their bases, as one: one piece of code then does all three.
template <class A, class B, class C>
struct OneMap : A {
  static constexpr int kAlign = smaller(A::kAlign, smaller(B::kAlign, C::kAlign));
  static constexpr bool kEqual = A::kInnerStride == B::kInnerStride && B::kInnerStride == C::kInnerStride &&
                                 A::kTapStride == B::kTapStride && B::kTapStride == C::kTapStride &&
                                 same_type<typename A::Element, typename B::Element>() &&
                                 same_type<typename B::Element, typename C::Element>();
};
template <class F>
using OneConv = ConvMaps<OneMap<typename F::InputQ, typename F::InputK, typename F::InputV>,
                         OneMap<typename F::WeightQ, typename F::WeightK, typename F::WeightV>,
                         OneMap<typename F::BiasQ, typename F::BiasK, typename F::BiasV>,
                         OneMap<typename F::WindowQ, typename F::WindowK, typename F::WindowV>>;

struct WaitForPrevious {
  GDN_DEVICE void operator()() const { wait_for_previous(); }
};

template <class F, class Maps, class Shared>
GDN_DEVICE void convolve_item(const ConvHead<Maps>& here, const ConvItem<F>& item, Shared& shared) {
  constexpr int kChannels = decode_channels<F>();
  float y[kChannels];
  float shifted[kChannels][WindowRows<F>::kWritten];
  if constexpr (F::kWeightsAhead != 0) {
    convolve<F, Maps, kChannels>(here, item.channel, y, shifted, WaitForPrevious{});
  } else {
    convolve<F, Maps, kChannels>(here, item.channel, y, shifted);
  }
  if (parts_of_key_head<F>() > 1 && item.part != 2) {
    shared.kept.put(item.part, item.channel, shifted);
  } else {
    store_window<Maps, kChannels>(here, item.channel, shifted);
  }
  float* const to = item.result(shared);
  GDN_UNROLL
  for (int c = 0; c < kChannels; ++c) to[c] = y[c];
}

// q, k and v of a turn to shared memory, and their windows in place or kept.
template <class F, class Shared>
GDN_DEVICE void convolve_turn(const Args& args, int row, long long slot, const DeltaTurn& turn, bool first_turn,
                              Shared& shared) {
  using Item = ConvItem<F>;
  using One = OneConv<F>;
  constexpr int kKeys = 2 * Item::kOfKey;
  const int items = kKeys + heads_of_turn<F>(turn) * Item::kOfValue;
  for (int i = thread_id() + (first_turn ? 0 : kKeys); i < items; i += F::kThreads) {
    const Item item(i, turn);
    const int head = value_head<F>(turn.key_head, turn.first_head + item.head);
    if constexpr (One::Input::kEqual && One::Weight::kEqual && One::Bias::kEqual && One::Window::kEqual) {
      const ConvHead<One> here = item.part == 0 ? ConvHead<One>::template of<ConvOfQ<F>>(args, row, slot, turn.key_head)
                                 : item.part == 1
                                     ? ConvHead<One>::template of<ConvOfK<F>>(args, row, slot, turn.key_head)
                                     : ConvHead<One>::template of<ConvOfV<F>>(args, row, slot, head);
      convolve_item<F>(here, item, shared);
    } else if (item.part == 0) {
      convolve_item<F>(ConvHead<ConvOfQ<F>>::of(args, row, slot, turn.key_head), item, shared);
    } else if (item.part == 1) {
      convolve_item<F>(ConvHead<ConvOfK<F>>::of(args, row, slot, turn.key_head), item, shared);
    } else {
      convolve_item<F>(ConvHead<ConvOfV<F>>::of(args, row, slot, head), item, shared);
    }
  }
}

// The kept windows back to their places, by all threads from the last one on: the first have the norm.
template <class F, class Shared>
GDN_DEVICE void restore_windows(const Args& args, int row, long long slot, const DeltaTurn& turn, Shared& shared) {
  constexpr int kChannels = decode_channels<F>();
  const auto q = ConvHead<ConvOfQ<F>>::of(args, row, slot, turn.key_head);
  const auto k = ConvHead<ConvOfK<F>>::of(args, row, slot, turn.key_head);
  for (int i = F::kThreads - 1 - thread_id(); i < 2 * ConvItem<F>::kOfKey; i += F::kThreads) {
    const ConvItem<F> item(i, turn);
    float shifted[kChannels][WindowRows<F>::kWritten];
    shared.kept.get(item.part, item.channel, shifted);
    if (item.part == 0) {
      store_window<ConvOfQ<F>, kChannels>(q, item.channel, shifted);
    } else {
      store_window<ConvOfK<F>, kChannels>(k, item.channel, shifted);
    }
  }
}

// o of a part's value heads from memory, where it was put, to shared memory, if this is the last part to put its own;
// whether it is. All threads; the writes can be read.
template <class F, class Shared>
GDN_DEVICE bool gathers_from_memory(const Arrivals<F>& arrivals, const DeltaTurn& turn, Shared& shared) {
  fence_device();
  barrier();
  if (thread_id() == 0) shared.last_writer = count_up(arrivals.outputs, F::kRowParts) + 1 == F::kRowParts;
  barrier();
  const bool gathers = shared.last_writer;
  if (gathers) {
    fence_device();
    for (int i = thread_id(); i < turn.heads * F::kValueDim; i += F::kThreads) {
      shared.o[i] = load_one<float>(arrivals.o + i);
    }
    barrier();
  }
  return gathers;
}

template <class F>
GDN_DEVICE void decode(const Args& args) {
  constexpr int kParts = parts_of_key_head<F>();
  constexpr bool kInMemory = meets_in_memory<F>();
  constexpr bool kCluster = kParts > 1 && !kInMemory;
  constexpr bool kGathered = gathers_o<F>();
  using Shared = DecodeShared<F>;
  static_assert(!kCluster || kHasClusters, "the target has no clusters: the parts of a key head meet in memory");
  static_assert(kParts == 1 || Shared::kHeads >= heads_of_part<F>(), "the parts of a key head take one turn");

  launch_dependents();
  const bool reads_early = (args.promises & kPoolsAreReady) != 0;
  if (!reads_early) wait_for_previous();
  const Share<F> share = Share<F>::of(block_number(), rows_of_grid<F>(args));
  const int row = share.row;
  const int key_head = share.key_head;
  const bool excess = is_excess<F>(args, row);
  const long long slot = excess ? 0 : slot_of<F>(args, row);
  const RowFate fate = excess ? RowFate{false, true, 0.0f} : row_fate<F>(args, slot);
  if (!fate.computed) {
    if (reads_early) wait_for_previous();
    for (int g = share.first_head(); fate.filled && share.first_value() == 0 && g < share.end_head(); ++g) {
      fill_output<F>(args, row, value_head<F>(key_head, g), fate.filler);
    }
    return;
  }

  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");
  // In memory every part may be the last one: all make ready for the norm.
  bool takes_norm = normalises<F>() && (!kGathered || kInMemory || share.first_value() == 0);
  if constexpr (kGathered && kCluster) {
    if (takes_norm && thread_id() == 0) {
      const int heads = share.end_head() - share.first_head();
      mailbox_open(shared.gathered, heads * F::kValueDim * static_cast<int>(sizeof(float)));
    }
    cluster_arrive();
  }
  for (int first_head = share.first_head(); first_head < share.end_head(); first_head += Shared::kHeads) {
    DeltaTurn turn{key_head, first_head, smaller(Shared::kHeads, share.end_head() - first_head), share.first_value(),
                   share.gatherer()};
    if constexpr (kInMemory) turn.gathered = Arrivals<F>(args, share).o;
    Delta<F> delta(args, slot, turn);

    // States are asked for ahead of what is convolved, but not of the launch ahead: they would be in its way
    // (tests/bench/NOTES.md).
    if constexpr (F::kInbox != 0) {
      if (!reads_early) delta.ask_inbox(shared);
    }
    const bool first_turn = first_head == share.first_head();
    if (F::kWeightsAhead == 0 && first_turn && reads_early) wait_for_previous();
    convolve_turn<F>(args, row, slot, turn, first_turn, shared);
    if (F::kWeightsAhead != 0) wait_for_previous();  // threads that had no channels, too
    if constexpr (F::kInbox != 0) {
      if (reads_early) delta.ask_inbox(shared);
    }
    // Gates go to the last threads: the deal of channels favours the first.
    Deal<F::kThreads> others{F::kThreads - 1 - thread_id()};
    for (int g = 0; takes_norm && g < heads_of_turn<F>(turn); ++g) {
      fetch_gates<F>(args, row, value_head<F>(key_head, first_head + g), others, shared.gates + g * F::kValueDim);
    }
    if constexpr (decays_by_channel<F>()) {
      for (int g = 0; g < heads_of_turn<F>(turn); ++g) {
        log_decays<F>(args, row, value_head<F>(key_head, first_head + g), others,
                      DecaysToShared{shared.decay + g * F::kKeyDim});
      }
    }
    for (int g = others.first; g < heads_of_turn<F>(turn); g += F::kThreads) {
      const int head = value_head<F>(key_head, first_head + g);
      shared.beta[g] = beta_of<F>(args, row, head);
      if constexpr (!decays_by_channel<F>()) shared.decay[g] = exponential(log_decay_of<F>(args, row, head));
    }
    if constexpr (kGathered && kCluster) cluster_wait();  // the mailboxes are open
    if constexpr (kCluster) cluster_arrive();             // this part has read the windows of q and k
    barrier();
    if constexpr (kInMemory) {  // and so has this one; the answer is looked at behind the state
      if (thread_id() == F::kThreads - 1) {
        shared.last_reader = count_up(Arrivals<F>(args, share).windows, kParts) + 1 == kParts;
      }
    }
    // Of few rows the norm's weights are on their way while waves wait for each other, or while the state is updated.
    constexpr bool kAheadOfState = F::kNormAhead != 0, kAheadOfNorm = kAheadOfState || one_pass<F>();
    NormWeights<F> weights;
    if constexpr (kAheadOfState && normalises<F>()) {
      if (takes_norm && wave_id() < heads_of_turn<F>(turn)) weights.fetch(args);
    }
    delta.run(shared);
    if constexpr (kAheadOfNorm && !kAheadOfState && normalises<F>()) {
      if (takes_norm && wave_id() < heads_of_turn<F>(turn)) weights.fetch(args);
    }
    if constexpr (!kGathered) {
      barrier();
    } else if constexpr (kInMemory) {
      takes_norm = gathers_from_memory(Arrivals<F>(args, share), turn, shared);
    } else if (takes_norm) {
      mailbox_wait(shared.gathered);
    }
    if constexpr (normalises<F>()) {
      for (int g = wave_id(); takes_norm && g < heads_of_turn<F>(turn); g += F::kThreads / kWaveSize) {
        const int head = value_head<F>(key_head, first_head + g);
        const float* const o = shared.o + g * F::kValueDim;
        const float* const gates = shared.gates + g * F::kValueDim;
        if constexpr (kAheadOfNorm) {
          gated_norm<F>(args, row, head, o, gates, weights);
        } else {
          gated_norm<F>(args, row, head, o, gates);
        }
      }
    } else {
      write_o<F, values_of_part<F>()>(args, row, key_head, first_head, turn.heads, turn.first_value, shared.o);
    }
    if constexpr (kParts > 1) {
      if constexpr (kCluster) cluster_wait();  // every part has
      if (kCluster ? share.number == 0 : shared.last_reader) restore_windows<F>(args, row, slot, turn, shared);
    }
    if (first_head + Shared::kHeads < share.end_head()) barrier();  // the next turn overwrites them all
  }
}

}  // namespace gdn
