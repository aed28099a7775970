// The depthwise causal convolution over whole sequences, and the windows that it leaves (conv.h is that of one token).
//
// The inputs before a sequence's first token lie in its slot's window, or are zeros where the sequence starts from
// nothing. Inputs of the launch itself are read where they are, rounded as a window would keep them: a sequence comes
// out the same however it is cut into launches.
#pragma once

#include "gdn/conv.h"
#include "gdn/prefill/sequence.h"

namespace gdn {

// One channel of one head of a part.
template <class F, class Input, class Weight, class Bias, class Window>
struct ConvChannel {
  static constexpr int kWidth = F::kConvWidth, kHistory = F::kConvWidth - 1;
  // Where the input before a sequence's first token lies in a window.
  static constexpr int kNewest = F::kAnchor == Anchor::kLast ? F::kWindow - 1 : kHistory - 1;

  const Args& args;
  int head;
  int channel;

  GDN_DEVICE float input(int row) const {
    return load_one<typename Input::Element>(part<Input>(args, row) + Input::base(head) +
                                             channel * Input::kInnerStride);
  }

  // The input `age` tokens before `row`, which is a row of `sequence`; age from 1 to kHistory.
  GDN_DEVICE float before(const Sequence& sequence, int row, int age) const {
    const int missing = sequence.rows.first - (row - age);  // how far it lies before the sequence's first token
    if (missing <= 0) return rounded<typename Window::Element>(input(row - age));
    return sequence.initial ? window(sequence, kNewest + 1 - missing) : 0.0f;
  }

  GDN_DEVICE MapElements<Window> window_at(long long slot, int window_row) const {
    return part<Window>(args, slot) + Window::base(head) + channel * Window::kInnerStride +
           window_row * Window::kTapStride;
  }
  GDN_DEVICE float window(const Sequence& sequence, int window_row) const {
    return load_one<typename Window::Element>(window_at(sequence.slot, window_row));
  }

  // Of kCount neighbouring channels from this one on, which is a multiple of kCount.
  template <int kCount>
  GDN_DEVICE void window_run(const Sequence& sequence, int window_row, float (&x)[kCount]) const {
    const auto from = window_at(sequence.slot, window_row);
    if constexpr (Window::kInnerStride == 1) {
      constexpr int kAlign = smaller(Window::kAlign, smaller(power_of_two_in(Window::kTapStride), kCount));
      load_run<typename Window::Element, kCount, kAlign>(from, x);
    } else {
      GDN_UNROLL
      for (int i = 0; i < kCount; ++i) {
        x[i] = load_one<typename Window::Element>(from + i * Window::kInnerStride);
      }
    }
  }

  GDN_DEVICE void load_weights(float (&weight)[kWidth], float& bias) const {
    const auto weights = part<Weight>(args) + Weight::base(head) + channel * Weight::kInnerStride;
    GDN_UNROLL
    for (int age = 0; age < kWidth; ++age) {
      weight[age] = load_one<typename Weight::Element>(weights + (F::kTapsOldestFirst ? kWidth - 1 - age : age) *
                                                                     Weight::kTapStride);
    }
    bias = 0.0f;
    if constexpr (F::kConvBias) {
      bias = load_one<typename Bias::Element>(part<Bias>(args) + Bias::base(head) + channel * Bias::kInnerStride);
    }
  }

  GDN_DEVICE static float summed(float current, const float (&older)[kHistory], const float (&weight)[kWidth],
                                 float bias) {
    float sum = bias + weight[0] * current;
    GDN_UNROLL
    for (int age = 1; age < kWidth; ++age) sum += weight[age] * older[age - 1];
    return sum;
  }
  GDN_DEVICE static float convolved(float current, const float (&older)[kHistory], const float (&weight)[kWidth],
                                    float bias) {
    return after_taps<F>(summed(current, older, weight, bias));
  }

  // One token by itself.
  GDN_DEVICE float at(const Sequence& sequence, int row) const {
    float weight[kWidth];
    float older[kHistory];
    float bias;
    load_weights(weight, bias);
    GDN_UNROLL
    for (int age = 1; age < kWidth; ++age) older[age - 1] = before(sequence, row, age);
    return convolved(input(row), older, weight, bias);
  }

  // The window after the sequence's first `tokens` tokens, to a slot, which may be the sequence's own.
  GDN_DEVICE void leave_window(const Sequence& sequence, int tokens, long long slot) const {
    constexpr int kRows = kNewest + 1;
    float x[kRows];
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) {           // all at once, before anything is written
      const int position = tokens - kRows + r;  // of the input that belongs there, in the sequence
      x[r] = 0.0f;
      if (position >= 0) {
        x[r] = input(sequence.rows.first + position);
      } else if (sequence.initial) {
        x[r] = window(sequence, r + tokens);
      }
    }
    GDN_UNROLL
    for (int r = 0; r < kRows; ++r) store_one<typename Window::Element>(window_at(slot, r), x[r]);
  }
};

// Rows of a launch that a block takes at a time.
struct RowTile {
  int first, end;
};

// Convolves one head of one part over a tile of rows, a thread a channel: what a token needs of the tokens before it
// stays in registers. sink(row, channel, y) takes a result, or the filler of a row that is not computed.
template <class F, class Maps, class Sink>
GDN_DEVICE void convolve_tile(const Args& args, const RowTile& tile, int head, Sink sink) {
  using Window = typename Maps::Window;
  using Channel = ConvChannel<F, typename Maps::Input, typename Maps::Weight, typename Maps::Bias, Window>;
  constexpr int kHistory = Channel::kHistory;
  const bool pooled = has_pool<Window>(args);
  for (int c = thread_id(); c < Maps::Input::kRun; c += F::kThreads) {
    const Channel channel{args, head, c};
    float weight[Channel::kWidth];
    float older[kHistory];
    float bias;
    channel.load_weights(weight, bias);
    Sequence sequence;
    for (int row = tile.first; row < tile.end; ++row) {
      if (row == tile.first || row >= sequence.rows.end) {
        const int number = sequence_at<F>(args, row);
        if (number >= args.sequences) break;
        sequence = sequence_of_launch<F>(args, number, pooled);
        if (sequence.fate.computed) {
          GDN_UNROLL
          for (int age = 1; age <= kHistory; ++age) older[age - 1] = channel.before(sequence, row, age);
        }
      }
      if (!sequence.fate.computed) {
        if (sequence.fate.filled) sink(row, c, sequence.fate.filler);
        continue;
      }
      const float current = channel.input(row);
      sink(row, c, Channel::convolved(current, older, weight, bias));
      GDN_UNROLL
      for (int age = kHistory - 1; age > 0; --age) older[age] = older[age - 1];
      older[0] = rounded<typename Window::Element>(current);
    }
  }
}

// The windows after a sequence's first `tokens` tokens, of one head of one part, by all threads of the block.
template <class F, class Maps>
GDN_DEVICE void leave_windows(const Args& args, const Sequence& sequence, int tokens, long long slot, int head) {
  using One = ConvChannel<F, typename Maps::Input, typename Maps::Weight, typename Maps::Bias, typename Maps::Window>;
  if (!has_pool<typename Maps::Window>(args)) return;
  for (int c = thread_id(); c < Maps::Input::kRun; c += F::kThreads) {
    One{args, head, c}.leave_window(sequence, tokens, slot);
  }
}

// Those of the block's part of its key head: q, k, or v of one value head.
template <class F>
GDN_DEVICE void leave_windows_of_block(const Args& args, const Sequence& sequence, int tokens, long long slot) {
  constexpr int kParts = 2 + F::kGroup;
  const int key_head = block_head() / kParts, part = block_head() % kParts;
  if (part == 0) {
    leave_windows<F, ConvOfQ<F>>(args, sequence, tokens, slot, key_head);
  } else if (part == 1) {
    leave_windows<F, ConvOfK<F>>(args, sequence, tokens, slot, key_head);
  } else {
    leave_windows<F, ConvOfV<F>>(args, sequence, tokens, slot, value_head<F>(key_head, part - 2));
  }
}

// A grid is not done before the one that it follows: its first block sees to that.
GDN_DEVICE void end_behind_previous() {
  if (block_row() == 0 && block_head() == 0) wait_for_previous();
}

// Stages behind the one that reads the first windows: those of snapshots, which may begin in them, then the last ones.
// Grid: x = sequences, y = parts of key heads: what a part reads is few and far, so that blocks wait side by side.
//
// They may begin beside a chain, which needs no windows: the kernel before it has read the first ones.
template <class F>
GDN_DEVICE void prefill_snapshots(const Args& args) {
  if (block_row() < args.sequences) {
    const Sequence sequence = sequence_of_launch<F>(args, block_row(), true);
    Snapshots<F> snapshots(args, sequence.rows.first);
    for (; sequence.fate.computed && snapshots.row() < sequence.rows.end; snapshots.step()) {
      const int tokens = snapshots.row() - sequence.rows.first + 1;
      if (const long long slot = snapshots.slot(); slot >= 0 && tokens > 0) {
        leave_windows_of_block<F>(args, sequence, tokens, slot);
      }
    }
  }
  end_behind_previous();
}
template <class F>
GDN_DEVICE void prefill_windows(const Args& args) {
  if constexpr (F::kWorkspaceOperand >= 0) launch_dependents();  // the norm, which waits for all before it
  if (block_row() < args.sequences) {
    const Sequence sequence = sequence_of_launch<F>(args, block_row(), true);
    if (sequence.rows.first < sequence.rows.end && sequence.fate.computed) {
      leave_windows_of_block<F>(args, sequence, sequence.rows.end - sequence.rows.first, sequence.slot);
    }
  }
  end_behind_previous();
}

}  // namespace gdn
