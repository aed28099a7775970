// The depthwise causal convolution of one token, and the shift of its window.
//
//   y[c] = bias[c] + sum_{m < width} w[c][m-th newest tap] * u_{t-m}[c],  then activation, then rounding.conv
//
// u_t is this token's projection, the older inputs lie in the window. A window may be longer than width - 1 rows
// (transformers keeps `width`, speculative decoding more): kFirst keeps the last width - 1 inputs in its first rows and
// leaves the others alone, kLast keeps them in its last rows and shifts the whole window.
//
// A block owns every channel that it convolves, so that no other block sees its window half shifted.
#pragma once

#include "gdn/map.h"

namespace gdn {

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

// Channels that one thread convolves at once: as many as keep every thread busy, so that its accesses are as wide as
// that allows. Dimensions are multiples of 16.
template <class F>
GDN_HD constexpr int conv_channels() {
  const int a_thread = (2 * F::kKeyDim + F::kGroup * F::kValueDim) / F::kThreads;
  return a_thread >= 4 ? 4 : a_thread >= 2 ? 2 : 1;
}

// Convolves one head of one part (q, k or v) and shifts its window: all threads of the block, each its share of the
// deal. sink(channel, y) takes conv_channels<F>() results of neighbouring channels.
template <class F, class Input, class Weight, class Bias, class Window, class Sink>
GDN_DEVICE void convolve_head(const Args& args, int row, long long slot, int head, Deal<F::kThreads>& deal, Sink sink) {
  constexpr int kChannels = conv_channels<F>();
  constexpr int kWidth = F::kConvWidth;
  using Rows = WindowRows<F>;
  using WeightTile = TapTile<Weight, kChannels, 0, kWidth>;
  using ReadTile = TapTile<Window, kChannels, Rows::kFirstRead, Rows::kRead>;
  using WriteTile = TapTile<Window, kChannels, 0, Rows::kWritten>;
  using InputElement = typename Input::Element;
  static_assert(Input::kRun % kChannels == 0, "whole groups of channels");
  constexpr int kInputAlign = Input::kInnerStride == 1 ? smaller(Input::kAlign, kChannels) : 1;

  const auto inputs = part<Input>(args, row) + Input::base(head);
  const auto weights = part<Weight>(args) + Weight::base(head);
  const auto window = part<Window>(args, slot) + Window::base(head);

  for (int item = deal.first; item < Input::kRun / kChannels; item += F::kThreads) {
    const int channel = item * kChannels;
    float older[kChannels][Rows::kRead];
    float weight[kChannels][kWidth];
    float current[kChannels];
    ReadTile::load(window + channel * Window::kInnerStride, older);
    if constexpr (Input::kInnerStride == 1) {
      load_run<InputElement, kChannels, kInputAlign>(inputs + channel, current);
    } else {
      GDN_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        current[c] = load_one<InputElement>(inputs + (channel + c) * Input::kInnerStride);
      }
    }
    WeightTile::load(weights + channel * Weight::kInnerStride, weight);

    float shifted[kChannels][Rows::kWritten];
    float y[kChannels];
    GDN_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      float sum = 0.0f;
      if constexpr (F::kConvBias) {
        sum =
            load_one<typename Bias::Element>(part<Bias>(args) + Bias::base(head) + (channel + c) * Bias::kInnerStride);
      }
      GDN_UNROLL
      for (int age = 0; age < kWidth; ++age) {
        const float input = age == 0 ? current[c] : older[c][Rows::kOldest + Rows::kHistory - age];
        sum += weight[c][F::kTapsOldestFirst ? kWidth - 1 - age : age] * input;
      }
      y[c] = rounded<typename F::RoundConv>(activate<F::kConvActivation>(sum));
      GDN_UNROLL
      for (int r = 0; r < Rows::kWritten; ++r) {
        shifted[c][r] = r + 1 < Rows::kWritten ? older[c][r + 1 - Rows::kFirstRead] : current[c];
      }
    }
    WriteTile::store(window + channel * Window::kInnerStride, shifted);
    sink(channel, y);
  }
  deal.next_part(Input::kRun / kChannels);
}

}  // namespace gdn
