// The convolution over whole sequences where 8 neighbouring channels are 16 bytes: weights and the inputs of earlier
// tokens stay in registers while a thread walks rows that follow each other. The earlier inputs come from the launch's
// own rows, from the sequence's window, or are zeros (conv.h).
#pragma once

#include "gdn/prefill/conv.h"

namespace gdn {

// Rows whose heads are 16-byte pieces of 8 channels.
template <class M>
GDN_HD constexpr bool comes_in_pieces() {
  return sizeof(typename M::Element) == 2 && M::kInnerStride == 1 && M::kAlign % 8 == 0 && M::kRun % 8 == 0;
}

// 8 neighbouring channels of one head of a part through the convolution, of rows that follow each other.
template <class F, class Maps>
class ConvPiece {
  using Input = typename Maps::Input;
  using Weight = typename Maps::Weight;
  using Bias = typename Maps::Bias;
  using Window = typename Maps::Window;
  using One = ConvChannel<F, Input, Weight, Bias, Window>;
  using E = typename Input::Element;
  static constexpr int kWidth = One::kWidth, kHistory = One::kHistory;
  // Sums come out as halves: of weights that are halves, which is exact.
  static constexpr bool kHalved = activates_half<F::kConvActivation, typename F::RoundConv>();
  static_assert(comes_in_pieces<Input>(), "16-byte pieces");
  static_assert(sizeof(typename F::RoundConv) == 2, "results of 16 bits");

 public:
  // kRows rows of the launch from `row` on; those from row + count on come out as zeros where they are asked for.
  template <bool kZeros, int kRows>
  GDN_DEVICE static void convolve(Raw<16> (&rows)[kRows], const Args& args, const Sequence& sequence, int head,
                                  int channel, int row, int count) {
    if (count <= 0) {
      GDN_UNROLL
      for (int i = 0; i < kRows; ++i) rows[i] = Raw<16>{};
      return;
    }
    const long long stride = args.stride[Input::kOperand];
    const auto from = part<Input>(args, row) + Input::base(head) + channel;
    GDN_UNROLL
    for (int i = 0; i < kRows; ++i) rows[i] = load<16>(from + smaller(i, count - 1) * stride);  // without a mask a row
    float older[8][kHistory];
    GDN_UNROLL
    for (int age = 1; age <= kHistory; ++age) {
      float x[8] = {};
      if (sequence.rows.first <= row - age) {
        keep(load<16>(from - age * stride), x);
      } else {
        before(x, args, sequence, head, channel, row - age);
      }
      GDN_UNROLL
      for (int c = 0; c < 8; ++c) older[c][age - 1] = x[c];
    }
    float weight[8][kWidth], bias[8];
    load_weights(args, head, channel, weight, bias);
    sum<kZeros>(rows, older, weight, bias, count);
  }

  // The same of rows that are at hand, with what comes before the first of them.
  template <bool kZeros, int kRows>
  GDN_DEVICE static void sum(Raw<16> (&rows)[kRows], float (&older)[8][kHistory], const float (&weight)[8][kWidth],
                             const float (&bias)[8], int count) {
    GDN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Pack<E, 8> x{rows[i]};
      float y[8];
      GDN_UNROLL
      for (int c = 0; c < 8; ++c) {
        const float current = x.get(c);
        y[c] = One::summed(current, older[c], weight[c], bias[c]);
        if constexpr (kHalved) {
          y[c] = silu_of_half(y[c]);
        } else {
          y[c] = activate_for<F::kConvActivation, typename F::RoundConv>(y[c]);
        }
        GDN_UNROLL
        for (int age = kHistory - 1; age > 0; --age) older[c][age] = older[c][age - 1];
        older[c][0] = as_kept(current);
      }
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const unsigned pair = Number<typename F::RoundConv>::pair(y[2 * j], y[2 * j + 1]);
        rows[i].word[j] = !kZeros || i < count ? pair : 0;
      }
    }
  }

  // The numbers of an input as a window keeps them.
  GDN_DEVICE static void keep(const Raw<16>& raw, float (&x)[8]) {
    const Pack<E, 8> pack{raw};
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) x[c] = as_kept(pack.get(c));
  }
  // Those of a row before the sequence's first one.
  GDN_DEVICE static void before(float (&x)[8], const Args& args, const Sequence& sequence, int head, int channel,
                                int row) {
    if (sequence.initial) {
      One{args, head, channel}.window_run(sequence, One::kNewest + 1 - (sequence.rows.first - row), x);
    }
  }
  GDN_DEVICE static void load_weights(const Args& args, int head, int channel, float (&weight)[8][kWidth],
                                      float (&bias)[8]) {
    float taps[8][kWidth];
    TapTile<Weight, 8, 0, kWidth>::load(part<Weight>(args) + Weight::base(head) + channel * Weight::kInnerStride, taps);
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) {
      GDN_UNROLL
      for (int age = 0; age < kWidth; ++age) weight[c][age] = taps[c][F::kTapsOldestFirst ? kWidth - 1 - age : age];
      bias[c] = 0.0f;
      if constexpr (F::kConvBias) {
        bias[c] =
            load_one<typename Bias::Element>(part<Bias>(args) + Bias::base(head) + (channel + c) * Bias::kInnerStride);
      }
      if constexpr (kHalved) {
        GDN_UNROLL
        for (int age = 0; age < kWidth; ++age) weight[c][age] *= 0.5f;
        bias[c] *= 0.5f;
      }
    }
  }

 private:
  // An input as a window keeps it.
  GDN_DEVICE static float as_kept(float x) {
    if constexpr (same_type<E, typename Window::Element>()) return x;
    return rounded<typename Window::Element>(x);
  }
};

}  // namespace gdn
