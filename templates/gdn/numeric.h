// Element types, their conversions to fp32 and back, packs of elements, and the scalar functions of the layer.
//
// All arithmetic of the bodies is fp32; these are the only places where a number changes its type.
#pragma once

#include "gdn/eight_bit.h"

namespace gdn {

// How an element is held in memory (Bits), and its conversions. Both conversions round to nearest, ties to even.
template <class E>
struct Number;

template <>
struct Number<float> {
  using Bits = float;
  GDN_DEVICE static float to_float(unsigned word) { return float_of(word); }
  GDN_DEVICE static unsigned from_float(float x) { return bits_of(x); }
};

template <>
struct Number<Bf16> {
  using Bits = unsigned short;
  GDN_DEVICE static float to_float(unsigned half_word) { return float_of(half_word << 16); }
  GDN_DEVICE static unsigned from_float(float x) { return float_to_bf16(x); }
  GDN_DEVICE static unsigned pair(float low, float high) { return float_to_bf16_pair(low, high); }
};

template <>
struct Number<Fp16> {
  using Bits = unsigned short;
  GDN_DEVICE static float to_float(unsigned half_word) { return half_to_float(static_cast<unsigned short>(half_word)); }
  GDN_DEVICE static unsigned from_float(float x) { return float_to_half(x); }
  GDN_DEVICE static unsigned pair(float low, float high) { return float_to_half_pair(low, high); }
};

// Codes only: a number is a code times its scale, which is somebody else's business.
template <class E>
struct EightBitNumber {
  using Bits = unsigned char;
  GDN_DEVICE static float to_float(unsigned code) { return float_of_code<E>(code); }
  GDN_DEVICE static unsigned from_float(float x) { return code_pair<E>(x, 0.0f) & 0xffu; }
  GDN_DEVICE static unsigned pair(float low, float high) { return code_pair<E>(low, high); }
};
template <>
struct Number<E4m3fn> : EightBitNumber<E4m3fn> {};
template <>
struct Number<E4m3fnuz> : EightBitNumber<E4m3fnuz> {};

// A slot index is loaded as the integer that it is.
template <>
struct Number<int> {
  using Bits = int;
};
template <>
struct Number<long long> {
  using Bits = long long;
};

template <class E>
using Bits = typename Number<E>::Bits;

// A pointer to elements in device memory; it steps by elements.
template <class E>
using Elements = Global<Bits<E>>;

// x as it comes back after being stored as R; float leaves it alone.
template <class R>
GDN_DEVICE float rounded(float x) {
  return Number<R>::to_float(Number<R>::from_float(x));
}
template <>
GDN_DEVICE float rounded<float>(float x) {
  return x;
}

// kCount neighbouring elements, as they lie in memory. The index of get must be a constant after unrolling, as for
// every array that is to stay in registers.
template <class E, int kCount>
struct Pack {
  static constexpr int kBytes = kCount * static_cast<int>(sizeof(E));
  Raw<kBytes> raw;

  GDN_DEVICE float get(int i) const {
    if constexpr (sizeof(E) == 4) {
      return Number<E>::to_float(raw.word[i]);
    } else if constexpr (sizeof(E) == 1) {
      return Number<E>::to_float(raw.word[i / 4] >> 8 * (i % 4) & 0xffu);
    } else {
      return Number<E>::to_float(i % 2 == 0 ? raw.word[i / 2] & 0xffffu : raw.word[i / 2] >> 16);
    }
  }

  GDN_DEVICE void set(const float (&x)[kCount]) {
    if constexpr (sizeof(E) == 4) {
      GDN_UNROLL
      for (int i = 0; i < kCount; ++i) raw.word[i] = Number<E>::from_float(x[i]);
    } else if constexpr (kCount == 1) {
      raw.word[0] = Number<E>::from_float(x[0]);
    } else if constexpr (sizeof(E) == 1 && kCount == 2) {
      raw.word[0] = Number<E>::pair(x[0], x[1]);
    } else if constexpr (sizeof(E) == 1) {
      GDN_UNROLL
      for (int i = 0; i < kCount / 4; ++i) {
        raw.word[i] = Number<E>::pair(x[4 * i], x[4 * i + 1]) | Number<E>::pair(x[4 * i + 2], x[4 * i + 3]) << 16;
      }
    } else {
      GDN_UNROLL
      for (int i = 0; i < kCount / 2; ++i) raw.word[i] = Number<E>::pair(x[2 * i], x[2 * i + 1]);
    }
  }

  GDN_DEVICE void clear() {
    GDN_UNROLL
    for (int i = 0; i < Raw<kBytes>::kWords; ++i) raw.word[i] = 0;
  }
};

// rounded() of several numbers: a target converts two at once faster than one after the other.
template <class R, int kCount>
GDN_DEVICE void round_run(float (&x)[kCount]) {
  if constexpr (sizeof(R) < sizeof(float)) {
    Pack<R, kCount> pack;
    pack.set(x);
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] = pack.get(i);
  }
}

template <class E, int kCount>
GDN_DEVICE Pack<E, kCount> load_pack(Elements<E> from) {
  return {load<Pack<E, kCount>::kBytes>(from)};
}
template <class E, int kCount>
GDN_DEVICE void store_pack(Elements<E> to, const Pack<E, kCount>& pack) {
  store<Pack<E, kCount>::kBytes>(to, pack.raw);
}

template <class E>
GDN_DEVICE float load_one(Elements<E> from) {
  return load_pack<E, 1>(from).get(0);
}
template <class E>
GDN_DEVICE void store_one(Elements<E> to, float x) {
  Pack<E, 1> pack;
  pack.set({x});
  store_pack<E, 1>(to, pack);
}

// ---- types ----------------------------------------------------------------------------------------------------------

template <class A, class B>
struct SameType {
  static constexpr bool kValue = false;
};
template <class A>
struct SameType<A, A> {
  static constexpr bool kValue = true;
};
template <class A, class B>
GDN_HD constexpr bool same_type() {
  return SameType<A, B>::kValue;
}

// ---- integers -------------------------------------------------------------------------------------------------------

GDN_HD constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
GDN_HD constexpr int smaller(int a, int b) { return a < b ? a : b; }
GDN_HD constexpr int larger(int a, int b) { return a < b ? b : a; }

// The largest power of two that divides n; 0 is divided by all, here by 2^30.
GDN_HD constexpr int power_of_two_in(int n) { return n == 0 ? 1 << 30 : n & -n; }

// The smallest power of two that is at least n.
GDN_HD constexpr int power_of_two_above(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

GDN_HD constexpr int common_divisor(int a, int b) { return b == 0 ? a : common_divisor(b, a % b); }

// ---- sums over lanes ------------------------------------------------------------------------------------------------

// Each value summed over the kLanes lanes kStride apart (a power of two, all inside one aligned group of
// kLanes * kStride lanes); every lane gets the sums. All lanes of the wave take part. The values go through each stage
// together so that their latencies overlap.
template <int kLanes, int kStride = 1, int kCount>
GDN_DEVICE void sum_over_lanes(float (&x)[kCount]) {
  static_assert(kLanes * kStride <= kWaveSize, "a group of lanes lies in one wave");
  if constexpr (kLanes > 1) {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] += shuffle_xor<kLanes / 2 * kStride>(x[i]);
    sum_over_lanes<kLanes / 2, kStride>(x);
  }
}

// The largest of each value over lanes, as sum_over_lanes. Numbers only: a NaN may be passed over.
template <int kLanes, int kStride = 1, int kCount>
GDN_DEVICE void largest_over_lanes(float (&x)[kCount]) {
  static_assert(kLanes * kStride <= kWaveSize, "a group of lanes lies in one wave");
  if constexpr (kLanes > 1) {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const float other = shuffle_xor<kLanes / 2 * kStride>(x[i]);
      x[i] = x[i] < other ? other : x[i];
    }
    largest_over_lanes<kLanes / 2, kStride>(x);
  }
}

// ---- sums that are dealt out ----------------------------------------------------------------------------------------
//
// Where each of kCount sums over kLanes lanes is wanted in one lane only: as long as their number is even, the lanes of
// either half keep half of the sums and send the others, so that fewer are left at each stage. They have the bits that
// sum_over_lanes gives. `lane` is the number among the kLanes.

// Sums that a lane is left with.
template <int kLanes, int kCount>
GDN_HD constexpr int dealt_count() {
  if constexpr (kLanes == 1) {
    return kCount;
  } else {
    return dealt_count<kLanes / 2, kCount % 2 == 0 ? kCount / 2 : kCount>();
  }
}

// The number of the first of them; the others follow.
template <int kLanes, int kCount>
GDN_HD constexpr int first_dealt(int lane) {
  if constexpr (kLanes == 1) {
    return 0;
  } else if constexpr (kCount % 2 == 0) {
    return ((lane & (kLanes / 2)) != 0 ? kCount / 2 : 0) + first_dealt<kLanes / 2, kCount / 2>(lane);
  } else {
    return first_dealt<kLanes / 2, kCount>(lane);
  }
}

// Whether a lane is the first of those that are left with the same sums.
template <int kLanes, int kCount>
GDN_HD constexpr bool first_with_dealt(int lane) {
  if constexpr (kLanes == 1) {
    return true;
  } else if constexpr (kCount % 2 == 0) {
    return first_with_dealt<kLanes / 2, kCount / 2>(lane);
  } else {
    return (lane & (kLanes / 2)) == 0 && first_with_dealt<kLanes / 2, kCount>(lane);
  }
}

// The first lane of those that are left with the sum of this number.
template <int kLanes, int kCount>
GDN_HD constexpr int lane_of_dealt(int number) {
  if constexpr (kLanes == 1) {
    return 0;
  } else if constexpr (kCount % 2 == 0) {
    return number < kCount / 2 ? lane_of_dealt<kLanes / 2, kCount / 2>(number)
                               : kLanes / 2 + lane_of_dealt<kLanes / 2, kCount / 2>(number - kCount / 2);
  } else {
    return lane_of_dealt<kLanes / 2, kCount>(number);
  }
}

// And back: a number made of each of the sums, in all lanes.
template <int kLanes, int kCount, int kNumber = 0>
GDN_DEVICE void gather_dealt(const float (&mine)[dealt_count<kLanes, kCount>()], float (&x)[kCount]) {
  constexpr int kMine = dealt_count<kLanes, kCount>();
  if constexpr (kNumber < kCount) {
    if constexpr (kMine == kCount) {
      x[kNumber] = mine[kNumber];
    } else {
      x[kNumber] = shuffle_from<kLanes, lane_of_dealt<kLanes, kCount>(kNumber)>(mine[kNumber % kMine]);
    }
    gather_dealt<kLanes, kCount, kNumber + 1>(mine, x);
  }
}

// Of numbers that all lanes have, those that this lane is left with.
template <int kLanes, int kCount>
GDN_DEVICE void deal(int lane, const float (&x)[kCount], float (&mine)[dealt_count<kLanes, kCount>()]) {
  if constexpr (kLanes == 1) {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) mine[i] = x[i];
  } else if constexpr (kCount % 2 == 0) {
    float kept[kCount / 2];
    GDN_UNROLL
    for (int i = 0; i < kCount / 2; ++i) {
      const float low = x[i], high = x[kCount / 2 + i];  // of elements a compiler may choose the address
      kept[i] = (lane & (kLanes / 2)) != 0 ? high : low;
    }
    deal<kLanes / 2>(lane, kept, mine);
  } else {
    deal<kLanes / 2>(lane, x, mine);
  }
}

// The sums over lanes kStride apart. All lanes of the wave take part.
template <int kLanes, int kStride, int kCount>
GDN_DEVICE void deal_sums(int lane, const float (&x)[kCount], float (&mine)[dealt_count<kLanes, kCount>()]) {
  if constexpr (kLanes == 1) {
    deal<kLanes>(lane, x, mine);
  } else if constexpr (kCount % 2 == 0) {
    const bool upper = (lane & (kLanes / 2)) != 0;
    float kept[kCount / 2];
    GDN_UNROLL
    for (int i = 0; i < kCount / 2; ++i) {
      const float low = x[i], high = x[kCount / 2 + i];
      kept[i] = (upper ? high : low) + shuffle_xor<kLanes / 2 * kStride>(upper ? low : high);
    }
    deal_sums<kLanes / 2, kStride>(lane, kept, mine);
  } else {
    float sums[kCount];
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) sums[i] = x[i] + shuffle_xor<kLanes / 2 * kStride>(x[i]);
    deal_sums<kLanes / 2, kStride>(lane, sums, mine);
  }
}

// ---- sums of products -----------------------------------------------------------------------------------------------

// rest + x * y, rounded once. Of a sum of two products a compiler fuses either one: where two kernels must agree to the
// bit, this says which.
GDN_DEVICE float plus_product(float rest, float x, float y) { return fused(x, y, rest); }

// ---- scalar functions -----------------------------------------------------------------------------------------------

constexpr float kLog2E = 1.442695041f;        // log2(e) rounded to fp32
constexpr float kLog2ELow = 1.925963033e-8f;  // and the rest of it
constexpr float kLn2 = 0.6931471806f;

GDN_DEVICE float magnitude(float x) { return float_of(bits_of(x) & 0x7fffffffu); }

// e^x to a few ulp for every x. x * log2(e) alone would lose as many bits as the product has before its binary point:
// its rounding error is found with a fused multiply-add and put back to first order.
GDN_DEVICE float exponential(float x) {
  x = x < -256.0f ? -256.0f : x;  // beyond, the result is 0 or infinity anyway; keeps the correction finite, and NaN
  x = x > 256.0f ? 256.0f : x;
  const float high = x * kLog2E;
  const float low = fused(x, kLog2E, -high) + x * kLog2ELow;
  return exp2(high) * (1.0f + low * kLn2);
}

GDN_DEVICE float sigmoid(float x) { return quotient(1.0f, 1.0f + exponential(-x)); }

// log(1 + e) for e in [0, 1], relative error below 1e-6 down to e -> 0: with s = e / (2 + e) it is 2 atanh(s), whose
// series in s^2 <= 1/9 has converged to fp32 after nine terms. Needs no logarithm, which not every target has exactly
// near 1.
GDN_DEVICE float log_one_plus(float e) {
  const float s = quotient(e, 2.0f + e);
  const float t = s * s;
  float sum = 1.0f / 17.0f;
  sum = fused(sum, t, 1.0f / 15.0f);
  sum = fused(sum, t, 1.0f / 13.0f);
  sum = fused(sum, t, 1.0f / 11.0f);
  sum = fused(sum, t, 1.0f / 9.0f);
  sum = fused(sum, t, 1.0f / 7.0f);
  sum = fused(sum, t, 1.0f / 5.0f);
  sum = fused(sum, t, 1.0f / 3.0f);
  sum = fused(sum, t, 1.0f);
  return 2.0f * s * sum;
}

// log(1 + e^x); x itself above the threshold (0: no threshold, the exact form everywhere).
GDN_DEVICE float softplus(float x, float threshold) {
  if (threshold > 0.0f && x > threshold) return x;
  const float tail = log_one_plus(exponential(x > 0.0f ? -x : x));
  return x > 0.0f ? x + tail : tail;
}

template <Activation kActivation>
GDN_DEVICE float activate(float x) {
  if constexpr (kActivation == Activation::kSilu) {
    return quotient(x, 1.0f + exponential(-x));
  } else if constexpr (kActivation == Activation::kSigmoid) {
    return sigmoid(x);
  } else {
    return x;
  }
}

// The same where the result is rounded to Round next. 16 bits and fewer don't see the last places of an exponential
// that is taken of a product rounded to fp32: |x| 2^-24 of its value.
template <Activation kActivation, class Round>
GDN_DEVICE float activate_for(float x) {
  if constexpr (sizeof(Round) == sizeof(float) || kActivation == Activation::kNone) {
    return activate<kActivation>(x);
  } else {
    const float share = reciprocal_fast(1.0f + exp2_fast(x * -kLog2E));
    return kActivation == Activation::kSilu ? x * share : share;
  }
}

// Whether an activation that is rounded to Round next is made of half its argument: silu(x) = h + h tanh(h) with
// h = x / 2, three instructions less. It errs by |h| 2^-11, which is less than bf16 makes of silu(x) above 0 and little
// beside the neighbours' rounding below; fp16 would see it.
template <Activation kActivation, class Round>
GDN_HD constexpr bool activates_half() {
  return kHasFastTanh && kActivation == Activation::kSilu && same_type<Round, Bf16>();
}
GDN_DEVICE float silu_of_half(float h) { return fused(h, tanh_fast(h), h); }

}  // namespace gdn
