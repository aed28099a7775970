// The depthwise causal convolution of the tokens of one sequence (see conv.h), and what their window keeps.
//
// A window of speculative decoding is anchored first. It keeps the width - 1 inputs that the state belongs to and,
// behind them, the inputs of the tokens: of rejected ones nothing is read again. Where each token has a slot of its own
// the first token cannot be rejected, and the oldest input in front of it is dropped.
#pragma once

#include "gdn/conv.h"
#include "gdn/draft.h"

namespace gdn {

// Channels that one thread convolves at once: so many that half of a block's threads are enough, for the others have
// gates to compute; with many tokens no more than two, whose inputs then fit in its registers.
template <class F>
GDN_HD constexpr int token_channels() {
  const int a_thread = 2 * (2 * F::kKeyDim + ceil_div(F::kGroup, F::kHeadParts) * F::kValueDim) / F::kThreads;
  return a_thread >= 4 && F::kTokens <= 4 ? 4 : a_thread >= 2 ? 2 : 1;
}

// What is done with a head: where several blocks read a window, one of them stores it later than it convolves.
enum class WindowUse : unsigned char { kConvolveAndStore, kConvolve, kStore };

// Convolves one head of one part for all tokens: all threads of the block, each its share of the deal.
// sink(token, channel, y) takes the results of neighbouring channels. may_store(), asked behind all of an item's loads:
// whether the window may be written.
template <class F, class Input, class Weight, class Bias, class Window, WindowUse kUse = WindowUse::kConvolveAndStore,
          class Sink, class MayStore>
GDN_DEVICE void convolve_tokens(const Args& args, const Draft<F>& draft, int head, Deal<F::kThreads>& deal, Sink sink,
                                MayStore may_store) {
  constexpr int kChannels = token_channels<F>();
  constexpr int kWidth = F::kConvWidth, kHistory = kWidth - 1;
  constexpr int kDropped = F::kRollback == Rollback::kSlots ? 1 : 0;
  using InputElement = typename Input::Element;
  constexpr bool kAsGiven = same_type<InputElement, typename Window::Element>();  // the window keeps what it gets
  using WindowElement = typename Window::Element;
  using WeightTile = TapTile<Weight, kChannels, 0, kWidth>;
  using HistoryTile = TapTile<Window, kChannels, 0, kHistory>;
  using RowTile = TapTile<Window, kChannels, 0, 1>;
  static_assert(F::kAnchor == Anchor::kFirst && F::kWindow >= kHistory - kDropped + F::kTokens,
                "a window has room for the tokens of a launch");
  static_assert(Input::kRun % kChannels == 0, "whole groups of channels");
  constexpr int kInputAlign = Input::kInnerStride == 1 ? smaller(Input::kAlign, kChannels) : 1;

  const auto weights = part<Weight>(args) + Weight::base(head);
  const auto window = part<Window>(args, draft.slot) + Window::base(head);
  const int offset = draft.window_offset();

  constexpr int kItems = Input::kRun / kChannels;
  // A loop of one turn for other schemes and for taps that follow each other, whose forms of few sequences spill
  // without it.
  constexpr bool kOneTurn = F::kRollback == Rollback::kReplay && Window::kInnerStride == 1;
  constexpr int kMost = kOneTurn ? kItems : F::kThreads + 1;
  for_items<kMost, F::kThreads>(deal.first, kItems, [&](int item) {
    const int channel = item * kChannels;
    const auto rows = window + channel * Window::kInnerStride;
    float weight[kChannels][kWidth];
    float history[kChannels][kHistory];
    float input[kChannels][kHistory + F::kTokens];  // the older ones as the window keeps them
    float current[F::kTokens][kChannels];           // as the projection gives them
    HistoryTile::load(rows + offset * Window::kTapStride, history);
    if constexpr (kUse != WindowUse::kStore) WeightTile::load(weights + channel * Weight::kInnerStride, weight);
    GDN_UNROLL
    for (int t = 0; t < F::kTokens; ++t) {
      // Behind the last token its row once more: nobody asks for what is made of it, and loads without a condition go
      // out together, where those with one wait for each other.
      const auto from = part<Input>(args, draft.first + smaller(t, draft.tokens - 1)) + Input::base(head);
      if constexpr (Input::kInnerStride == 1) {
        load_run<InputElement, kChannels, kInputAlign>(from + channel, current[t]);
      } else {
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) {
          current[t][c] = load_one<InputElement>(from + (channel + c) * Input::kInnerStride);
        }
      }
    }
    const bool stores = kUse != WindowUse::kConvolve && may_store();
    GDN_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      GDN_UNROLL
      for (int r = 0; r < kHistory; ++r) input[c][r] = history[c][r];
      GDN_UNROLL
      for (int t = 0; t < F::kTokens; ++t)
        input[c][kHistory + t] = kAsGiven ? current[t][c] : rounded<WindowElement>(current[t][c]);
    }

    GDN_UNROLL
    for (int t = 0; t < F::kTokens; ++t) {
      // There is a first token: asked for one, the oldest input, which it alone looks at where the window drops it,
      // would be loaded behind that. Not in front of products: 16-bit replay lost 2 to 5% with it.
      if (kUse != WindowUse::kStore && ((F::kProducts == 0 && t == 0) || t < draft.tokens)) {
        float y[kChannels];
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) {
          float sum = 0.0f;
          if constexpr (F::kConvBias) {
            sum = load_one<typename Bias::Element>(part<Bias>(args) + Bias::base(head) +
                                                   (channel + c) * Bias::kInnerStride);
          }
          GDN_UNROLL
          for (int age = 0; age < kWidth; ++age) {
            const float x = age == 0 ? current[t][c] : input[c][kHistory + t - age];
            sum += weight[c][F::kTapsOldestFirst ? kWidth - 1 - age : age] * x;
          }
          y[c] = activate_for<F::kConvActivation, typename F::RoundConv>(sum);
        }
        round_run<typename F::RoundConv>(y);
        sink(t, channel, y);
      }
    }

    // Row r of the window is input r + kDropped of the list above. Rows in front of the tokens stay where nothing
    // moved.
    GDN_UNROLL
    for (int r = 0; r < kHistory - kDropped + F::kTokens; ++r) {
      const bool older = r < kHistory - kDropped;
      if (stores && (older ? kDropped > 0 || offset > 0 : r - (kHistory - kDropped) < draft.tokens)) {
        float row[kChannels][1];
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) row[c][0] = input[c][r + kDropped];
        RowTile::store(rows + r * Window::kTapStride, row);
      }
    }
  });
  deal.next_part(kItems);
}

}  // namespace gdn
