// The output of the layer: the gated norm, as it is or as 8-bit numbers with a scale for each group of channels; or o.
//
//   s = amax / max of the group, kept from becoming too small as output_quant.floor_at says, or rounded up to a power
//   of two; a number becomes the code nearest to y / s, or to y * (1 / s), clamped to +-max.
//
// Groups are counted along a row of `out`. Scales lie token by token, or group by group.
#pragma once

#include "gdn/norm.h"

namespace gdn {

// A group whose scale is no normal number counts as zeros and has scale 0; only without a floor can that be.
constexpr float kSmallestScale = 1.17549435e-38f;

template <class F>
GDN_DEVICE float scale_of(float amax) {
  float scale = amax / F::kQuantMax;
  if constexpr (F::kQuantFloorAt == FloorAt::kAmax) {
    scale = (amax > F::kQuantFloor ? amax : F::kQuantFloor) / F::kQuantMax;
  } else if constexpr (F::kQuantFloorAt == FloorAt::kScale) {
    scale = scale > F::kQuantFloor ? scale : F::kQuantFloor;
  } else if constexpr (F::kQuantFloorAt == FloorAt::kReplace) {
    scale = amax > F::kQuantFloor ? scale : F::kQuantFloor;
  }
  if (scale < kSmallestScale) return 0.0f;
  if constexpr (F::kScalePowerOfTwo) scale = float_of((bits_of(scale) + 0x7fffffu) & 0x7f800000u);
  return scale;
}

// Numbers to codes' values; a scale of 0 makes zeros.
template <class F>
struct Quantiser {
  float scale;
  float inverse;

  GDN_DEVICE explicit Quantiser(float s) : scale(s), inverse(s > 0.0f ? 1.0f / s : 0.0f) {}

  GDN_DEVICE float operator()(float y) const {
    float x = y * inverse;
    // y / scale: the remainder corrects the last place. It would be no number beside a scale that is none.
    if (F::kQuantDivides && inverse > 0.0f) x = fused(fused(-x, scale, y), inverse, x);
    x = x > F::kQuantMax ? F::kQuantMax : x;  // lets a NaN through
    return x < -F::kQuantMax ? -F::kQuantMax : x;
  }
};

template <class F>
GDN_DEVICE void store_scale(const Args& args, int row, int group, float scale) {
  using Scale = typename F::OutScale;
  const long long stride = args.stride[Scale::kOperand];
  const long long at = F::kScaleGroupFirst ? group * stride + row : row * stride + group;
  store_one<typename Scale::Element>(part<Scale>(args) + at, scale);
}

// The group of a row of `out` that a head's piece belongs to.
template <class F>
GDN_DEVICE int group_of(int head, int piece) {
  return (F::Out::base(head) + piece * HeadShare<F>::kPiece) / F::kQuantGroup;
}

template <class F>
GDN_DEVICE void GatedNorm<F>::write(const Args& args, int row, int head, const float (&scale)[Share::kBatches]) const {
  const auto out = part<Out>(args, row) + Out::base(head);
  for_each([&](int step, int channel, bool inside) {
    const Quantiser<F> quantise(scale[step / Share::kTurns]);
    float x[kWidth];
    GDN_UNROLL
    for (int i = 0; i < kWidth; ++i) x[i] = quantise(y_[step][i]);
    if (inside) store_run<typename Out::Element, kWidth, kWidth>(out + channel, x);
  });
}

// Scales and codes of a head whose groups lie within it.
template <class F>
GDN_DEVICE void write_groups(const Args& args, int row, int head, const GatedNorm<F>& norm) {
  using Share = HeadShare<F>;
  static_assert(F::kValueDim % F::kQuantGroup == 0, "a group that other heads have channels of: norm_quant alone");
  float scale[Share::kBatches];
  norm.largest(scale);
  GDN_UNROLL
  for (int batch = 0; batch < Share::kBatches; ++batch) {
    scale[batch] = scale_of<F>(scale[batch]);
    if (Share::speaks(batch)) store_scale<F>(args, row, group_of<F>(head, Share::piece(batch)), scale[batch]);
  }
  norm.write(args, row, head, scale);
}

// One value head by one wave from o and act(z) in shared memory; with NormWeights that were asked for before, or
// without.
template <class F, class... Weights>
GDN_DEVICE void gated_norm(const Args& args, int row, int head, const float* o, const float* gates,
                           const Weights&... weights) {
  GatedNorm<F> norm;
  const float sum = norm.read(SharedNumbers{o}, SharedNumbers{gates});
  norm.normalise(args, weights..., sum, SharedNumbers{gates});
  if constexpr (F::kQuantGroup > 0) {
    write_groups<F>(args, row, head, norm);
  } else {
    norm.write(args, row, head);
  }
}

// The same of a layer without a norm: value channels first to first + kCount - 1 of `heads` heads of a key head's
// group, from number `first_head` on, a wave a head; o lies head by head.
template <class F, int kCount>
GDN_DEVICE void write_o(const Args& args, int row, int key_head, int first_head, int heads, int first, const float* o) {
  using Out = typename F::Out;
  static_assert(F::kQuantGroup == 0, "only a norm's output is quantised");
  constexpr int kWidth =
      smaller(smaller(inner_width<Out>(), power_of_two_in(kCount)), power_of_two_above(larger(1, kCount / kWaveSize)));
  for (int g = wave_id(); g < heads; g += F::kThreads / kWaveSize) {
    const auto out = part<Out>(args, row) + Out::base(value_head<F>(key_head, first_head + g));
    for (int channel = first + lane_id() * kWidth; channel < first + kCount; channel += kWaveSize * kWidth) {
      float x[kWidth];
      GDN_UNROLL
      for (int j = 0; j < kWidth; ++j) x[j] = o[g * F::kValueDim + channel + j];
      store_run<typename Out::Element, kWidth, kWidth>(out + channel * Out::kInnerStride, x);
    }
  }
}

// One head of the output of a row that is not computed (RowFate), by all threads of the block; its scales too.
template <class F>
GDN_DEVICE void fill_output(const Args& args, int row, int head, float value) {
  fill_head<F, typename F::Out>(part<typename F::Out>(args, row), head, value);
  if constexpr (F::kQuantGroup > 0) {
    for (int piece = thread_id(); piece < HeadShare<F>::kPieces; piece += F::kThreads) {
      store_scale<F>(args, row, group_of<F>(head, piece), value);
    }
  }
}

}  // namespace gdn
