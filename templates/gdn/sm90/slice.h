// One slice of the state, 64 value columns of one head, as a warp group holds it through the chunks of a sequence: its
// exponent, its values, and its outputs. chain.h says what is computed from them; here is how they come and go.
#pragma once

#include "gdn/map.h"
#include "gdn/sm90/pieces.h"

namespace gdn::sm90 {

// A state as it lies in memory: in a slot of the pool, or on its way from one segment of a sequence to the next.
template <class M>
struct StatePlace {
  using Map = M;
  MapElements<M> head;  // at the value head's first element
};

// What becomes of a sequence's state: read from and written to its slot, or neither.
struct SlotUse {
  long long slot;
  bool read, written;
};

template <class F>
GDN_DEVICE StatePlace<typename F::State> state_in_slot(const Args& args, long long slot, int head) {
  return {part<typename F::State>(args, slot) + F::State::base(head)};
}

// ---- the exponent of a warp -----------------------------------------------------------------------------------------

constexpr int kLargestValue = 4, kLargestState = 10;  // log2, in the units of X and of the accumulators

// What a chunk does to a warp's exponent.
struct Exponent {
  int x = 0;
  float change = 1.0f;  // 2^(new x - old x), for what the accumulators hold

  GDN_DEVICE void settle(int limit) {
    change = 1.0f;
    if (limit < x || (limit > x + 3 && limit < 500)) {
      int next = limit - 1;
      next = next < -100 ? -100 : next > 100 ? 100 : next;
      int by = next - x;
      by = by < -126 ? -126 : by > 126 ? 126 : by;
      change = power_of_two(by);
      x += by;
    }
  }
};

// The largest x under which 2^x times magnitudes of this biased exponent stay below 2^most; far away for zeros.
GDN_DEVICE int exponent_limit(int biased, int bias, int most) {
  return biased == 0 ? 1000 : most - (biased - bias) - 1;
}

template <class E>
struct Values;
template <>
struct Values<Bf16> {
  static constexpr int kMantissaBits = 7, kBias = 127;
  GDN_DEVICE static unsigned larger(unsigned a, unsigned b) { return larger_bf16(a, b); }
  // The pair times 2^x: in two steps, here and as low and high are multiplied by the rest.
  GDN_DEVICE static unsigned scaled(unsigned pair, float up) {
    return product_bf16(pair, bits_of(up) | bits_of(up) >> 16);
  }
  GDN_DEVICE static float rest(float) { return 1.0f; }
  GDN_DEVICE static float low(unsigned pair) { return float_of(pair << 16); }
  GDN_DEVICE static float high(unsigned pair) { return float_of(pair & 0xffff0000u); }
};
template <>
struct Values<Fp16> {
  static constexpr int kMantissaBits = 10, kBias = 15;
  GDN_DEVICE static unsigned larger(unsigned a, unsigned b) { return larger_half(a, b); }
  GDN_DEVICE static unsigned scaled(unsigned pair, float) { return pair; }  // 2^x may lie beyond fp16
  GDN_DEVICE static float rest(float up) { return up; }
  GDN_DEVICE static float low(unsigned pair) { return half_to_float(static_cast<unsigned short>(pair)); }
  GDN_DEVICE static float high(unsigned pair) { return half_to_float(static_cast<unsigned short>(pair >> 16)); }
};

// Words of Y for tokens 8 n to 8 n + 7, of the accumulators of the half of the tokens that they are in.
GDN_DEVICE void decay_values(unsigned (&y)[16], const float (&half)[16], float2 by, int n) {
  const int i = 4 * (n % 4);
  y[2 * n] = float_to_half_pair(half[i] * by.x, half[i + 1] * by.y);
  y[2 * n + 1] = float_to_half_pair(half[i + 2] * by.x, half[i + 3] * by.y);
}

// ---- the slice ------------------------------------------------------------------------------------------------------

template <class F>
class Slice {
  using V = Values<typename F::InputV::Element>;
  using O = typename F::OutputO;

 public:
  static constexpr int kTiles = Record<F>::kKeyTiles;
  static constexpr int kCount = 32 * kTiles;  // accumulators of a thread's share of the state

  GDN_DEVICE explicit Slice(int slice) : warp_(thread_id() % 128 / 32), column_(slice * 64 + warp_ * 16) {}

  // ---- the state ----------------------------------------------------------------------------------------------------

  template <class M>
  GDN_DEVICE void read(const StatePlace<M>& from) {
    each_of_state<M>(
        from, [&](MapElements<M> at, float(&x)[width<M>()]) { load_run<Element<M>, width<M>(), width<M>()>(at, x); });
  }
  GDN_DEVICE void clear() {
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) state_[i] = 0.0f;
  }
  // S^T = I in the columns of the slice: what the chunks make of it is what they do to any state.
  GDN_DEVICE void set_identity() {
    GDN_UNROLL
    for (int n = 0; n < kCount / 4; ++n) {
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) state_[4 * n + i] = row_of(i) == channel_of(n, i) ? 1.0f : 0.0f;
    }
  }
  // As it was read, before scale_up.
  template <class M>
  GDN_DEVICE void keep(const StatePlace<M>& in) {
    each_of_state<M>(
        in, [&](MapElements<M> at, float(&x)[width<M>()]) { store_run<Element<M>, width<M>(), width<M>()>(at, x); });
  }
  // Takes the exponent that the state asks for: after read, clear or set_identity, before the first chunk.
  GDN_DEVICE void scale_up() {
    unsigned largest = 0;
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const unsigned magnitude = bits_of(state_[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    largest = largest_of_warp(largest) >> 23;
    exponent_.settle(exponent_limit(static_cast<int>(largest), 127, kLargestState - kStateShift));
    GDN_UNROLL
    for (int i = 0; i < kCount; ++i) state_[i] *= exponent_.change * (1 << kStateShift);
  }
  template <class M>
  GDN_DEVICE void write(const StatePlace<M>& to) {
    const int half = exponent_.x / 2;  // 2^(x + kStateShift) may lie beyond what one factor can undo
    const float first = power_of_two(-half), rest = power_of_two(half - exponent_.x - kStateShift);
    each_of_state<M>(to, [&](MapElements<M> at, float(&x)[width<M>()]) {
      float scaled[width<M>()];
      GDN_UNROLL
      for (int i = 0; i < width<M>(); ++i) scaled[i] = x[i] * first * rest;
      store_run<Element<M>, width<M>(), width<M>()>(at, scaled);
    });
  }

  // ---- a chunk ------------------------------------------------------------------------------------------------------

  // The state as words of A.
  GDN_DEVICE void pack(unsigned (&s)[kCount / 2], int first = 0, int end = kCount / 2) const {
    GDN_UNROLL
    for (int i = first; i < end; ++i) s[i] = float_to_half_pair(state_[2 * i], state_[2 * i + 1]);
  }

  // V^T of the slice: v[2 n + i] holds column of row_of(2 i), tokens 8 n + 2 (lane % 4) and the next.
  GDN_DEVICE void load_values(unsigned (&v)[16], unsigned tile) const {
    const int row = lane_id() / 16 * 8 + lane_id() % 8, piece = warp_ * 2 + lane_id() / 8 % 2;
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) {
      unsigned four[4];
      load_matrices_transposed(four, tile + tile_offset(row, piece * 8) + static_cast<unsigned>(i) * 2048);
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) v[4 * i + j] = four[j];
    }
  }

  // This chunk's exponent, from its values and the state; exponent_.change says what became of the old one.
  GDN_DEVICE void settle(const unsigned (&v)[16], const unsigned (&s)[kCount / 2]) {
    settle(v, largest_of(s, [](unsigned a, unsigned b) { return larger_half(a, b); }));
  }
  GDN_DEVICE void settle(const unsigned (&v)[16], unsigned largest_s) {
    const unsigned largest_v = largest_of(v, [](unsigned a, unsigned b) { return V::larger(a, b); });
    const int by_v = exponent_limit(exponent_of_pair<V::kMantissaBits>(largest_v), V::kBias, kLargestValue);
    const int by_s = exponent_.x + exponent_limit(exponent_of_pair<10>(largest_s), 15, kLargestState);
    exponent_.settle(least_of_warp(smaller(by_v, by_s)));
  }
  GDN_DEVICE void scale_values(unsigned (&v)[16]) const {
    const float up = power_of_two(exponent_.x);
    GDN_UNROLL
    for (int i = 0; i < 16; ++i) v[i] = V::scaled(v[i], up);
  }
  // Words of X for tokens 8 n to 8 n + 7, of scaled values and the state's prediction d.
  GDN_DEVICE void subtract(unsigned (&x)[16], const unsigned (&v)[16], const float (&d)[32], float2 by, int n) const {
    const float rest = V::rest(power_of_two(exponent_.x));
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) {
      x[2 * n + i] = float_to_half_pair(V::low(v[2 * n + i]) * rest - by.x * d[4 * n + 2 * i],
                                        V::high(v[2 * n + i]) * rest - by.y * d[4 * n + 2 * i + 1]);
    }
  }

  // The state to the chunk's end, under the chunk's exponent.
  GDN_DEVICE void decay_state(const float* gates) {
    if constexpr (Record<F>::kByChannel) {
      GDN_UNROLL
      for (int n = 0; n < kCount / 4; ++n) multiply(state_, times(pair(gates + Gates::kDecay, n), exponent_.change), n);
    } else {
      const float decay = gates[Gates::kDecay] * exponent_.change;
      GDN_UNROLL
      for (int i = 0; i < kCount; ++i) state_[i] *= decay;
    }
  }

  // Two tokens' gates of one kind, or two channels', for accumulators [4 n] to [4 n + 3].
  GDN_DEVICE static float2 pair(const float* gates, int n) {
    return *reinterpret_cast<const float2*>(gates + 8 * n + lane_id() % 4 * 2);
  }
  GDN_DEVICE static float2 times(float2 a, float b) { return make_float2(a.x * b, a.y * b); }
  // The accumulators of tokens, or channels, 8 n to 8 n + 7.
  template <int kNumbers>
  GDN_DEVICE static void multiply(float (&o)[kNumbers], float2 by, int n) {
    o[4 * n] *= by.x, o[4 * n + 1] *= by.y, o[4 * n + 2] *= by.x, o[4 * n + 3] *= by.y;
  }

  // Where the first chunk's outputs of this lane go; they stand 16 rows apart. The next chunk's: + 64 rows.
  GDN_DEVICE Global<char> out_row(const Args& args, const Place& place) const {
    const auto row = part<O>(args, place.token + lane_id() / 2) + O::base(place.head) + out_column();
    return reinterpret_cast<Global<char>>(row);
  }
  GDN_DEVICE static long long out_stride(const Args& args) {  // bytes of 16 rows
    return 32 * args.stride[O::kOperand];
  }

  // O^T times `scale` and `down`, through 2 KB of shared memory that is the warp's own, so that the 16 columns of a row
  // leave in 16-byte pieces. `left`: tokens from this chunk's first to the end.
  GDN_DEVICE void put_out(Global<char> row, long long stride, long long left, const float (&o)[32],
                          const float2 (&scale)[8], float down, unsigned own) const {
    static_assert(sizeof(typename O::Element) == 2 && O::kInnerStride == 1 && O::kAlign % 8 == 0, "16-byte pieces");
    const int lane = lane_id();
    const unsigned to =
        own + static_cast<unsigned>((lane / 16 * 8 + lane % 8) * 32 + ((lane / 8 & 1) ^ (lane >> 2 & 1)) * 16);
    const unsigned from = own + static_cast<unsigned>(lane / 2 * 32 + ((lane & 1) ^ (lane >> 3 & 1)) * 16);
    warp_barrier();
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) {
      unsigned word[4];
      GDN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float2 by = times(scale[2 * i + j / 2], down);
        word[j] = Number<typename O::Element>::pair(o[8 * i + 2 * j] * by.x, o[8 * i + 2 * j + 1] * by.y);
      }
      store_matrices_transposed(to + static_cast<unsigned>(i) * 512, word[0], word[1], word[2], word[3]);
    }
    warp_barrier();
    const bool inside = F::kValueDim % 64 == 0 || out_column() < F::kValueDim;
    const int rows = static_cast<int>(left < kChunk ? left : kChunk) - lane / 2;
    GDN_UNROLL
    for (int i = 0; i < 4; ++i, row += stride) {
      unsigned x[4];
      load_shared_16(x, from + static_cast<unsigned>(i) * 512);
      if (inside && rows > 16 * i) store_16(row, x);
    }
  }

 protected:
  // In a tree: in a row it would be as long as a product, and the compiler issues it ahead of one.
  template <int kWords, class Larger>
  GDN_DEVICE static unsigned largest_of(const unsigned (&words)[kWords], Larger larger) {
    unsigned x[kWords / 2];
    GDN_UNROLL
    for (int i = 0; i < kWords / 2; ++i) x[i] = larger(words[i], words[i + kWords / 2]);
    GDN_UNROLL
    for (int half = kWords / 4; half > 0; half /= 2) {
      GDN_UNROLL
      for (int i = 0; i < kWords / 4; ++i) {
        if (i < half) x[i] = larger(x[i], x[i + half]);
      }
    }
    return x[0];
  }

  GDN_DEVICE int out_column() const { return column_ + (lane_id() & 1) * 8; }
  // Of accumulators [4 n + i] of the state.
  GDN_DEVICE int row_of(int i) const { return column_ + lane_id() / 4 + i / 2 * 8; }  // value column
  GDN_DEVICE static int channel_of(int n, int i) { return 8 * n + lane_id() % 4 * 2 + i % 2; }

  template <class M>
  using Element = typename M::Element;
  // Numbers of a lane that lie next to each other where it reads and writes them. By twos, four lanes have whole
  // sectors of 32 bytes.
  template <class M>
  GDN_HD static constexpr int width() {
    return smaller(2, inner_width<M>());
  }
  template <class M, class Do>
  GDN_DEVICE void each_of_state(const StatePlace<M>& place, Do&& handle) {
    constexpr int kWidth = width<M>();
    GDN_UNROLL
    for (int n = 0; n < kCount / 4; ++n) {
      GDN_UNROLL
      for (int i = 0; i < 4; i += kWidth) {
        const int v = row_of(i), k = channel_of(n, i);
        const bool inside = (F::kValueDim % 64 == 0 || v < F::kValueDim) && (F::kKeyDim % 64 == 0 || k < F::kKeyDim);
        float x[kWidth] = {};
        if (inside) {
          GDN_UNROLL
          for (int j = 0; j < kWidth; ++j) x[j] = state_[4 * n + i + j];
          handle(place.head + (v * M::kOuterStride + k * M::kInnerStride), x);
        }
        GDN_UNROLL
        for (int j = 0; j < kWidth; ++j) state_[4 * n + i + j] = x[j];
      }
    }
  }

  int warp_, column_;
  Exponent exponent_;
  float state_[kCount];
};

}  // namespace gdn::sm90
