// The depthwise causal convolution of one token, and the shift of its window.
//
//   y[c] = bias[c] + sum_{m < width} w[c][m-th newest tap] * u_{t-m}[c],  then activation, then rounding.conv
//
// u_t is this token's projection, the older inputs lie in the window. A window may be longer than width - 1 rows
// (transformers keeps `width`, speculative decoding more): kFirst keeps the last width - 1 inputs in its first rows and
// leaves the others alone, kLast keeps them in its last rows and shifts the whole window.
//
// No block may see a window that another has shifted: a block either owns the channels that it convolves (v everywhere,
// q and k where one block serves a key head), or keeps their shifted windows until all readers have read them.
#pragma once

#include "gdn/map.h"

namespace gdn {

// y of the sum over the taps.
template <class F>
GDN_DEVICE float after_taps(float sum) {
  using Round = typename F::RoundConv;
  return rounded<Round>(activate_for<F::kConvActivation, Round>(sum));
}

// kTaps taps from kFirstTap on, of kChannels neighbouring channels; `at` is tap 0 of the first channel, whose number
// is a multiple of kChannels. Channels adjacent (SD windows), taps adjacent (DS windows, weights) or neither.
template <class M, int kChannels, int kFirstTap, int kTaps>
struct TapTile {
  using Element = typename M::Element;
  static constexpr bool kChannelsAdjacent = M::kInnerStride == 1;
  static constexpr bool kDense = M::kTapStride == 1 && M::kInnerStride == kTaps && kFirstTap == 0;

  GDN_DEVICE static void load(Elements<Element> at, float (&x)[kChannels][kTaps]) {
    if constexpr (kChannelsAdjacent) {
      constexpr int kAlign = smaller(M::kAlign, smaller(power_of_two_in(M::kTapStride), kChannels));
      GDN_UNROLL
      for (int t = 0; t < kTaps; ++t) {
        float row[kChannels];
        load_run<Element, kChannels, kAlign>(at + (kFirstTap + t) * M::kTapStride, row);
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) x[c][t] = row[c];
      }
    } else if constexpr (kDense) {
      constexpr int kAlign = smaller(M::kAlign, power_of_two_in(kChannels * kTaps));
      float all[kChannels * kTaps];
      load_run<Element, kChannels * kTaps, kAlign>(at, all);
      GDN_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        GDN_UNROLL
        for (int t = 0; t < kTaps; ++t) x[c][t] = all[c * kTaps + t];
      }
    } else {
      GDN_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        GDN_UNROLL
        for (int t = 0; t < kTaps; ++t) {
          x[c][t] = load_one<Element>(at + c * M::kInnerStride + (kFirstTap + t) * M::kTapStride);
        }
      }
    }
  }

  GDN_DEVICE static void store(Elements<Element> at, const float (&x)[kChannels][kTaps]) {
    if constexpr (kChannelsAdjacent) {
      constexpr int kAlign = smaller(M::kAlign, smaller(power_of_two_in(M::kTapStride), kChannels));
      GDN_UNROLL
      for (int t = 0; t < kTaps; ++t) {
        float row[kChannels];
        GDN_UNROLL
        for (int c = 0; c < kChannels; ++c) row[c] = x[c][t];
        store_run<Element, kChannels, kAlign>(at + (kFirstTap + t) * M::kTapStride, row);
      }
    } else if constexpr (kDense) {
      constexpr int kAlign = smaller(M::kAlign, power_of_two_in(kChannels * kTaps));
      float all[kChannels * kTaps];
      GDN_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        GDN_UNROLL
        for (int t = 0; t < kTaps; ++t) all[c * kTaps + t] = x[c][t];
      }
      store_run<Element, kChannels * kTaps, kAlign>(at, all);
    } else {
      GDN_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        GDN_UNROLL
        for (int t = 0; t < kTaps; ++t) {
          store_one<Element>(at + c * M::kInnerStride + (kFirstTap + t) * M::kTapStride, x[c][t]);
        }
      }
    }
  }
};

// The numbers of a window that follow from its length and anchor.
template <class F>
struct WindowRows {
  static constexpr int kHistory = F::kConvWidth - 1;
  static constexpr bool kLast = F::kAnchor == Anchor::kLast;
  static_assert(F::kWindow >= kHistory && kHistory >= 1,
                "a window holds the inputs that the convolution looks back at");
  // Of a longer window anchored last, row 0 falls out unread.
  static constexpr int kFirstRead = kLast && F::kWindow > kHistory ? 1 : 0;
  static constexpr int kRead = (kLast ? F::kWindow : kHistory) - kFirstRead;
  static constexpr int kOldest = kRead - kHistory;  // where the convolution's oldest input stands among the rows read
  static constexpr int kWritten = kLast ? F::kWindow : kHistory;
};

// Channels that one thread convolves at once, of `channels` that a block has: so many that no thread takes a second
// turn, within the width of an access. Dimensions are multiples of 16.
template <class F>
GDN_HD constexpr int conv_channels(int channels) {
  return smaller(4, power_of_two_above(ceil_div(channels, F::kThreads)));
}

// The operands of one part (q, k or v) of a convolution.
template <class I, class W, class B, class S>
struct ConvMaps {
  using Input = I;
  using Weight = W;
  using Bias = B;
  using Window = S;
};
template <class F>
using ConvOfQ = ConvMaps<typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>;
template <class F>
using ConvOfK = ConvMaps<typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>;
template <class F>
using ConvOfV = ConvMaps<typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>;

// Where one head of a part lies in them.
template <class Maps>
struct ConvHead {
  MapElements<typename Maps::Input> input;
  MapElements<typename Maps::Weight> weight;
  MapElements<typename Maps::Bias> bias;
  MapElements<typename Maps::Window> window;

  template <class Part = Maps>
  GDN_DEVICE static ConvHead of(const Args& args, int row, long long slot, int head) {
    return {part<typename Part::Input>(args, row) + Part::Input::base(head),
            part<typename Part::Weight>(args) + Part::Weight::base(head),
            part<typename Part::Bias>(args) + Part::Bias::base(head),
            part<typename Part::Window>(args, slot) + Part::Window::base(head)};
  }
};

// Nothing to wait for.
struct NoWait {
  GDN_DEVICE void operator()() const {}
};

// kChannels neighbouring channels of a head, from `channel` on: y after activation and rounding, and the rows of their
// window as they are to stand after this token. wait() returns when window and input may be read; weights, which are
// parameters, are asked for before it.
template <class F, class Maps, int kChannels, class Wait = NoWait>
GDN_DEVICE void convolve(const ConvHead<Maps>& head, int channel, float (&y)[kChannels],
                         float (&shifted)[kChannels][WindowRows<F>::kWritten], Wait wait = {}) {
  constexpr int kWidth = F::kConvWidth;
  using Input = typename Maps::Input;
  using Rows = WindowRows<F>;
  using WeightTile = TapTile<typename Maps::Weight, kChannels, 0, kWidth>;
  using ReadTile = TapTile<typename Maps::Window, kChannels, Rows::kFirstRead, Rows::kRead>;
  using InputElement = typename Input::Element;
  constexpr int kInputAlign = Input::kInnerStride == 1 ? smaller(Input::kAlign, kChannels) : 1;

  float older[kChannels][Rows::kRead];
  float weight[kChannels][kWidth];
  float current[kChannels];
  constexpr bool kWaits = !same_type<Wait, NoWait>();
  const auto load_weights = [&] { WeightTile::load(head.weight + channel * Maps::Weight::kInnerStride, weight); };
  if constexpr (kWaits) {
    load_weights();
    wait();
  }
  ReadTile::load(head.window + channel * Maps::Window::kInnerStride, older);
  if constexpr (Input::kInnerStride == 1) {
    load_run<InputElement, kChannels, kInputAlign>(head.input + channel, current);
  } else {
    GDN_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      current[c] = load_one<InputElement>(head.input + (channel + c) * Input::kInnerStride);
    }
  }
  if constexpr (!kWaits) load_weights();

  GDN_UNROLL
  for (int c = 0; c < kChannels; ++c) {
    float sum = 0.0f;
    if constexpr (F::kConvBias) {
      sum = load_one<typename Maps::Bias::Element>(head.bias + (channel + c) * Maps::Bias::kInnerStride);
    }
    GDN_UNROLL
    for (int age = 0; age < kWidth; ++age) {
      const float input = age == 0 ? current[c] : older[c][Rows::kOldest + Rows::kHistory - age];
      sum += weight[c][F::kTapsOldestFirst ? kWidth - 1 - age : age] * input;
    }
    y[c] = after_taps<F>(sum);
    GDN_UNROLL
    for (int r = 0; r < Rows::kWritten; ++r) {
      shifted[c][r] = r + 1 < Rows::kWritten ? older[c][r + 1 - Rows::kFirstRead] : current[c];
    }
  }
}

template <class Maps, int kChannels, int kRows>
GDN_DEVICE void store_window(const ConvHead<Maps>& head, int channel, const float (&shifted)[kChannels][kRows]) {
  using Window = typename Maps::Window;
  TapTile<Window, kChannels, 0, kRows>::store(head.window + channel * Window::kInnerStride, shifted);
}

// One head of one part whose window this block alone touches: all threads of the block, each its share of the deal.
// sink(channel, y) takes the results of neighbouring channels.
template <class F, class Maps, class Sink>
GDN_DEVICE void convolve_head(const Args& args, int row, long long slot, int head, Deal<F::kThreads>& deal, Sink sink) {
  constexpr int kRun = Maps::Input::kRun;
  constexpr int kChannels = conv_channels<F>(2 * F::kKeyDim + F::kGroup * F::kValueDim);
  static_assert(kRun % kChannels == 0, "whole groups of channels");
  const ConvHead<Maps> here = ConvHead<Maps>::of(args, row, slot, head);
  for (int item = deal.first; item < kRun / kChannels; item += F::kThreads) {
    float y[kChannels];
    float shifted[kChannels][WindowRows<F>::kWritten];
    convolve<F, Maps, kChannels>(here, item * kChannels, y, shifted);
    store_window<Maps, kChannels>(here, item * kChannels, shifted);
    sink(item * kChannels, y);
  }
  deal.next_part(kRun / kChannels);
}

}  // namespace gdn
