// A chunk's rows of k and q where key channels decay each at its own rate, eight lanes a row: their norm, and the tiles
// in which the state meets them (prep_channels.h says which), to the chunk's record.
//
// A lane has the same piece of every tile of its row, 8 channels. G lies in shared memory as levels.h has it, of all
// channels or, by tile, of one tile at a time: then a row's exponents are found first, tile by tile.
#pragma once

#include "gdn/norm.h"
#include "gdn/sm90/levels.h"

namespace gdn::sm90 {

template <class F>
class ChannelRows {
  using Shape = ChannelShape<F>;
  using Layout = Record<F>;
  static constexpr int kTileShift = 13;  // of the largest entry of a row of k and q for the state
  static constexpr int kTiles = Layout::kKeyTiles, kUnit = 1 << Shape::kFactorShift;
  using Pieces = float[kTiles][8];

 public:
  GDN_DEVICE ChannelRows(char* shared, Global<char> keys)
      : shared_(shared), base_(shared_address(shared)), keys_(keys) {}

  static constexpr int kRowsAtOnce = Shape::kThreads / 8, kPasses = kChunk / kRowsAtOnce;
  GDN_DEVICE static int piece() { return thread_id() % 8; }
  GDN_DEVICE static int first_row() { return thread_id() / 8; }
  // Rows that are kRowsAtOnce apart lie in the same place of the swizzle.
  GDN_DEVICE static int first_offset() { return static_cast<int>(tile_offset(first_row(), piece() * 8)); }
  static_assert(kRowsAtOnce % 8 == 0, "the swizzle goes by row");

  // The rows, which come as E, under their norm, rounded as the rule says, times a factor in fp16; in place.
  template <class E>
  GDN_DEVICE void normalise() const {
    Pieces k, q;
    unsigned at = base_ + static_cast<unsigned>(first_offset());
    GDN_NO_UNROLL
    for (int pass = 0; pass < kPasses; ++pass, at += kRowsAtOnce * 128) normalise_rows<E>(k, q, at);
  }
  // The same, and k and q under their decays, and k for the update, to the record. The first two relative to the
  // slowest channel of the row, in fp32, then to what is largest.
  template <class E>
  GDN_DEVICE void decay_rows() const {
    Pieces last;
    load_sums(last, kChunk - 1);
    unsigned from = base_ + static_cast<unsigned>(first_offset());
    Global<char> to = keys_ + first_offset();
    GDN_NO_UNROLL
    for (int pass = 0; pass < kPasses; ++pass, from += kRowsAtOnce * 128, to += kRowsAtOnce * 128) {
      const int row = first_row() + pass * kRowsAtOnce;
      Pieces sum, k, q;
      load_sums(sum, row);
      normalise_rows<E>(k, q, from);
      float slowest = sum[0][0];
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        float rest[8];
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) {
          slowest = larger_of(slowest, sum[t][i]);
          rest[i] = k[t][i] * exp2_fast(last[t][i] - sum[t][i]);
        }
        store_eight(to + t * kTileBytes, rest, 1.0f);
      }
      slowest = largest_of_row(slowest);
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) {
          sum[t][i] = exp2_fast(sum[t][i] - slowest);
          k[t][i] *= sum[t][i], q[t][i] *= sum[t][i];
        }
      }
      const Exponents by = store_rows(to + Layout::kKey, k, q);
      if (piece() == 0) put_exponents(row, {slowest, by.k, by.q});
    }
  }
  // By tile: the rows' exponents; `sum_tile(t)` brings the sums of tile t.
  template <class Sum>
  GDN_DEVICE void measure(Sum sum_tile) {
    unsigned from = base_ + static_cast<unsigned>(first_offset());
    GDN_NO_UNROLL
    for (int tile = 0; tile < kTiles; ++tile, from += kTileBytes) {
      sum_tile(tile);
      GDN_UNROLL
      for (int pass = 0; pass < kPasses; ++pass) {
        const unsigned at = from + static_cast<unsigned>(pass * kRowsAtOnce * 128);
        const Part part = part_of(first_row() + pass * kRowsAtOnce, at);
        float q[8];
        load_eight(q, at + Layout::kKeyBytes);
        Measure& row = measures_[pass];
        float slowest = row.slowest;
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) slowest = larger_of(slowest, part.sum[i]);
        const float by = exp2_fast(row.slowest - slowest);
        row = {slowest, row.of_k * by, row.of_q * by};
        GDN_UNROLL
        for (int i = 0; i < 8; ++i) {
          const float decay = exp2_fast(part.sum[i] - slowest);
          row.of_k = larger_of(row.of_k, magnitude_of(part.x[i] * decay));
          row.of_q = larger_of(row.of_q, magnitude_of(q[i] * decay));
        }
      }
    }
    GDN_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      Measure& row = measures_[pass];
      const float slowest = largest_of_row(row.slowest), by = exp2_fast(row.slowest - slowest);
      // From here on the exponents that the entries are given.
      row = {slowest, shift_of(row.of_k * by), shift_of(row.of_q * by)};
      if (piece() == 0) put_exponents(first_row() + pass * kRowsAtOnce, row);
    }
  }

  // And, with the sums of a tile there, the tile's part of decay_rows.
  GDN_DEVICE void decay_tile(int tile) const {
    const int offset = first_offset() + tile * kTileBytes;
    GDN_UNROLL
    for (int pass = 0; pass < kPasses; ++pass) {
      const int place = offset + pass * kRowsAtOnce * 128;
      const unsigned from = base_ + static_cast<unsigned>(place);
      const Global<char> to = keys_ + place;
      const Measure& row = measures_[pass];
      Part part = part_of(first_row() + pass * kRowsAtOnce, from);
      float q[8];
      load_eight(q, from + Layout::kKeyBytes);
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) {
        part.rest[i] = part.x[i] * exp2_fast(part.rest[i]);
        const float decay = exp2_fast(part.sum[i] - row.slowest);
        part.x[i] *= decay, q[i] *= decay;
      }
      store_eight(to, part.rest, 1.0f);
      store_eight(to + Layout::kKey, part.x, power_of_two(static_cast<int>(row.of_k)));
      store_eight(to + Layout::kKey + Layout::kKeyBytes, q, power_of_two(static_cast<int>(row.of_q)));
    }
  }

 private:
  // Of a row: the exponent of its slowest channel, and the largest of its entries relative to that.
  struct Measure {
    float slowest = -1e30f, of_k = 0.0f, of_q = 0.0f;
  };
  // A lane's part of a row of a tile: its decays from the chunk's beginning and to its end, log2, and k.
  struct Part {
    float sum[8], rest[8], x[8];
  };

  GDN_DEVICE Part part_of(int row, unsigned from) const {
    Part part;
    float last[8];
    load_sums_of(part.sum, 0, row);
    load_sums_of(last, 0, kChunk - 1);
    load_eight(part.x, from);
    GDN_UNROLL
    for (int i = 0; i < 8; ++i) part.rest[i] = last[i] - part.sum[i];
    return part;
  }

  GDN_DEVICE float* floats(int offset) const { return reinterpret_cast<float*>(shared_ + offset); }

  // A lane's part of a token's rows of k, at `at`, and of q, read and written in place.
  template <class E>
  GDN_DEVICE static void normalise_rows(Pieces& k, Pieces& q, unsigned at) {
    const unsigned at_q = at + Layout::kKeyBytes;
    const float of_k = load_row<E>(k, at), of_q = load_row<E>(q, at_q);
    float factor_k = 1.0f, factor_q = 1.0f;
    if constexpr (F::kQkNorm) {
      // Four of the lanes sum k's squares, the others q's.
      const bool upper = (lane_id() & 4) != 0;
      float sum = (upper ? of_q : of_k) + from_across(upper ? of_k : of_q, 4);
      GDN_UNROLL
      for (int distance = 1; distance < 4; distance *= 2) sum += from_across(sum, distance);
      const float mine = inverse_norm<F>(sum), other = from_across(mine, 4);
      factor_k = upper ? other : mine, factor_q = upper ? mine : other;
    }
    put_row(k, at, factor_k, F::kKScale * kUnit);
    put_row(q, at_q, factor_q, kUnit);
  }
  // Returns the sum of its squares.
  template <class E>
  GDN_DEVICE static float load_row(Pieces& x, unsigned at) {
    float sum = 0.0f;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      Raw<16> raw;
      load_shared_16(raw.word, at + static_cast<unsigned>(t * kTileBytes));
      const Pack<E, 8> pack{raw};
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) {
        x[t][i] = pack.get(i);
        sum = fused(x[t][i], x[t][i], sum);
      }
    }
    return sum;
  }
  GDN_DEVICE static void put_row(Pieces& x, unsigned at, float factor, float scale) {
    // A power of two changes nothing about how a number is rounded, but where there are few exponents.
    const bool exact = (bits_of(scale) & 0x007fffffu) == 0 && !same_type<typename F::RoundPrefillQk, Fp16>();
    const float before = exact ? factor * scale : factor, after = exact ? 1.0f : scale;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      unsigned words[4];
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) {
        float pair[2] = {x[t][2 * i] * before, x[t][2 * i + 1] * before};
        round_run<typename F::RoundPrefillQk>(pair);
        x[t][2 * i] = pair[0] * after, x[t][2 * i + 1] = pair[1] * after;
        words[i] = float_to_half_pair(x[t][2 * i], x[t][2 * i + 1]);
      }
      store_shared_16(at + static_cast<unsigned>(t * kTileBytes), words[0], words[1], words[2], words[3]);
    }
  }

  // The largest of a row's numbers, to all eight of its lanes.
  GDN_DEVICE static float largest_of_row(float x) {
    GDN_UNROLL
    for (int distance = 1; distance < 8; distance *= 2) x = larger_of(x, from_across(x, distance));
    return x;
  }
  // A row as fp16 pairs, and the larger magnitudes of its lows and highs.
  struct Packed {
    unsigned words[kTiles][4], largest = 0;

    GDN_DEVICE explicit Packed(const Pieces& x) {
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 4; ++i) {
          words[t][i] = float_to_half_pair(x[t][2 * i], x[t][2 * i + 1]);
          largest = larger_half(largest, words[t][i]);
        }
      }
    }
    // To where its largest entry, of this biased exponent, comes to [2^13, 2^14).
    GDN_DEVICE float store(Global<char> to, int exponent) {
      const float by = power_of_two(kTileShift + 15 - exponent);
      const unsigned scale = float_to_half_pair(by, by);
      GDN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        GDN_UNROLL
        for (int i = 0; i < 4; ++i) words[t][i] = product_half(words[t][i], scale);
        store_16(to + t * kTileBytes, words[t]);
      }
      return static_cast<float>(kTileShift + 15 - exponent);
    }
  };
  struct Exponents {
    float k, q;
  };
  // A token's rows of k and of q, each times the power of two that brings its largest entry to 2^13. Packed first and
  // multiplied in pairs, which takes nothing from what is 2^-18 of the largest entry while that is at least 2^4, as it
  // is by far unless the slowest channel's own entry is next to nothing.
  GDN_DEVICE static Exponents store_rows(Global<char> to, const Pieces& k, const Pieces& q) {
    constexpr int kLeast = 15 + 4;
    Packed of_k(k), of_q(q);
    unsigned both =
        larger_half((of_k.largest & 0xffffu) | of_q.largest << 16, of_k.largest >> 16 | (of_q.largest & 0xffff0000u));
    GDN_UNROLL
    for (int distance = 1; distance < 8; distance *= 2) {
      both = larger_half(both, bits_of(from_across(float_of(both), distance)));
    }
    const int exponent_k = static_cast<int>(both >> 10 & 31), exponent_q = static_cast<int>(both >> 26 & 31);
    if (votes(smaller(exponent_k, exponent_q) < kLeast) != 0) {
      return {store_row(to, k), store_row(to + Layout::kKeyBytes, q)};
    }
    return {of_k.store(to, exponent_k), of_q.store(to + Layout::kKeyBytes, exponent_q)};
  }
  // A row times 2^p, as fp16, to the record, with p such that the row's largest entry comes to [2^13, 2^14). Returns p.
  GDN_DEVICE static float store_row(Global<char> to, const Pieces& x) {
    float largest = 0.0f;
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      GDN_UNROLL
      for (int i = 0; i < 8; ++i) largest = larger_of(largest, magnitude_of(x[t][i]));
    }
    const float by = shift_of(largest), scale = power_of_two(static_cast<int>(by));
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) store_eight(to + t * kTileBytes, x[t], scale);
    return by;
  }
  // p such that the largest of a row's lanes' times 2^p lies in [2^13, 2^14), but for what is all but 0.
  GDN_DEVICE static float shift_of(float largest) {
    const int exponent = static_cast<int>(bits_of(largest_of_row(largest)) >> 23) - 127;
    return static_cast<float>(smaller(kTileShift - exponent, 100));
  }
  GDN_DEVICE static void store_eight(Global<char> to, const float (&x)[8], float scale) {
    unsigned words[4];
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) words[i] = float_to_half_pair(x[2 * i] * scale, x[2 * i + 1] * scale);
    store_16(to, words);
  }

  GDN_DEVICE void put_exponents(int row, const Measure& of) const {
    floats(Shape::kRead)[row] = of.slowest - of.of_k - Shape::kFactorShift;
    floats(Shape::kQuery)[row] = of.slowest - of.of_q - Shape::kFactorShift;
  }
  GDN_DEVICE static void load_eight(float (&to)[8], unsigned from) {
    unsigned words[4];
    load_shared_16(words, from);
    GDN_UNROLL
    for (int i = 0; i < 8; ++i) to[i] = half_to_float(static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16)));
  }
  GDN_DEVICE void load_sums(Pieces& to, int token) const {
    GDN_UNROLL
    for (int t = 0; t < kTiles; ++t) load_sums_of(to[t], t, token);
  }
  GDN_DEVICE void load_sums_of(float (&to)[8], int tile, int token) const {
    const float* const row = floats(Shape::kSums) + token * Shape::kChannels;
    GDN_UNROLL
    for (int i = 0; i < 8; i += 4) {
      const float4 x = *reinterpret_cast<const float4*>(row + sum_offset(token, 8 * tile + piece(), i / 4));
      to[i] = x.x, to[i + 1] = x.y, to[i + 2] = x.z, to[i + 3] = x.w;
    }
  }

  char* shared_;
  unsigned base_;
  Global<char> keys_;  // the record's
  Measure measures_[Shape::kByTile ? kPasses : 1];
};

}  // namespace gdn::sm90
