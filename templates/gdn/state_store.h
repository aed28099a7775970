// The recurrent state as it is stored in fewer than 32 bits.
//
//   8 bits   an element is its code times the scale of its value channel (state_scale): the largest magnitude over the
//            key channels / the largest code, and 0 where that is no normal number. A step makes new scales.
//   16 bits  rounded to nearest, or by chance: up with the probability of the distance from below, so that the mean of
//            what is stored is the number itself. The chance is Philox4x32-10 (Salmon et al., SC11) of the launch's
//            seed, the slot and the element's place in it: a launch repeated with the same seed gives the same bits.
#pragma once

#include "gdn/map.h"

namespace gdn {

struct Words4 {
  unsigned x[4];
};

GDN_DEVICE unsigned high_product(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

GDN_DEVICE Words4 philox(Words4 counter, unsigned key_low, unsigned key_high) {
  constexpr unsigned kMultiply0 = 0xD2511F53u, kMultiply1 = 0xCD9E8D57u;
  constexpr unsigned kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  GDN_UNROLL
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = high_product(kMultiply0, counter.x[0]), low0 = kMultiply0 * counter.x[0];
    const unsigned high1 = high_product(kMultiply1, counter.x[2]), low1 = kMultiply1 * counter.x[2];
    counter = {{high1 ^ counter.x[1] ^ key_low, low1, high0 ^ counter.x[3] ^ key_high, low0}};
    key_low += kWeyl0;
    key_high += kWeyl1;
  }
  return counter;
}

// Where the format's numbers end and how fine they are: what rounding by chance needs to know.
template <class E>
struct Fineness;
template <>
struct Fineness<Bf16> {
  static constexpr int kDropped = 16;        // bits of fp32's mantissa
  static constexpr unsigned kSmallest = 0u;  // fp32 bits of the smallest normal number; bf16 has fp32's own denormals
  static constexpr float kDenormalStep = 0.0f;
  static constexpr unsigned kLargest = 0x7f7f0000u;
};
template <>
struct Fineness<Fp16> {
  static constexpr int kDropped = 13;
  static constexpr unsigned kSmallest = 0x38800000u;         // 2^-14
  static constexpr float kDenormalStep = 5.9604644775e-08f;  // 2^-24
  static constexpr unsigned kLargest = 0x477fe000u;          // 65504
};

// x rounded to a number of the format by 16 random bits. Beyond the largest number, and for what is no number, the
// conversion to nearest decides.
template <class E>
GDN_DEVICE float rounded_by_chance(float x, unsigned random) {
  using T = Fineness<E>;
  const unsigned sign = bits_of(x) & 0x80000000u, bits = bits_of(x) & 0x7fffffffu;
  if (bits >= T::kLargest) return x;
  if (bits < T::kSmallest) {
    const float steps = float_of(bits) * (1.0f / (T::kDenormalStep > 0.0f ? T::kDenormalStep : 1.0f));  // below 1024
    const float whole = static_cast<float>(static_cast<int>(steps + static_cast<float>(random) * (1.0f / 65536.0f)));
    return float_of(bits_of(whole * T::kDenormalStep) | sign);
  }
  const unsigned fraction = (random & 0xffffu) >> (16 - T::kDropped);
  return float_of(sign | ((bits + fraction) & ~((1u << T::kDropped) - 1u)));
}

// What a launch rounds by in one slot.
template <class F, bool kStochastic = F::kStochasticState>
class StateChance {
 public:
  GDN_DEVICE StateChance(const Args&, long long) {}
  template <int kCount>
  GDN_DEVICE void round(int, float (&)[kCount]) const {}
};

template <class F>
class StateChance<F, true> {
  using Element = typename F::State::Element;

 public:
  GDN_DEVICE StateChance(const Args& args, long long slot) : slot_(slot) {
    const auto seed = to_global<long long>(args.operand[F::kSeedOperand])[0];
    low_ = static_cast<unsigned>(seed), high_ = static_cast<unsigned>(seed >> 32);
  }

  // kCount neighbours, the first of them `place` elements behind the slot's start, a multiple of kCount: eight elements
  // share a block of random bits.
  template <int kCount>
  GDN_DEVICE void round(int place, float (&x)[kCount]) const {
    static_assert(kCount <= 8 && (kCount & (kCount - 1)) == 0, "within one block of random bits");
    const Words4 words = philox(
        {{static_cast<unsigned>(place / 8), static_cast<unsigned>(slot_), static_cast<unsigned>(slot_ >> 32), 0u}},
        low_, high_);
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int at = kCount == 8 ? i : (place + i) % 8;
      unsigned word = words.x[0];
      GDN_UNROLL
      for (int w = 1; w < 4; ++w) word = at / 2 == w ? words.x[w] : word;
      x[i] = rounded_by_chance<Element>(x[i], (word >> 16 * (at % 2)) & 0xffffu);
    }
  }

 private:
  long long slot_;
  unsigned low_, high_;
};

// ---- scales
// -----------------------------------------------------------------------------------------------------------

template <class F>
GDN_HD constexpr bool scaled_state() {
  return F::StateScale::kPresent;
}

// A new scale, and what numbers are multiplied by to become codes.
struct RowScale {
  float scale, inverse;
};

template <class E>
GDN_DEVICE RowScale row_scale(float amax) {
  const float scale = amax / EightBit<E>::kLargest;
  if (scale < 1.17549435e-38f) return {0.0f, 0.0f};
  return {scale, 1.0f / scale};
}

}  // namespace gdn
