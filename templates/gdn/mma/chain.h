// The serial part of the chunked delta rule (sm90/chain.h says what is computed and in which numbers), by a block of
// four warps: a warp takes 16 value columns of each of the block's slices through all chunks of a sequence.
//
// Two slices a block share every word of the other operand that is loaded from shared memory, which otherwise has as
// much to do as the matrix units. One slice a block takes half the time a chunk, where multiprocessors are idle.
//
// Copies run ahead by threads of the block itself: k, M, v and gates of the next chunk while this one is worked on, to
// the other of two places; q and R, which have one place, as soon as this chunk's were read. Where key channels decay
// each at its own rate, k for the state's update comes to q's place once the outputs are made, and the next q behind
// it. Where shared memory has no second place (OnePlace), copies wait for the chunk before to be done with.
#pragma once

#include "gdn/mma/products.h"
#include "gdn/sm90/slice.h"

namespace gdn::mma {

template <class F>
struct OnePlace : F {
  static constexpr bool kOnePlace = true;
};

template <class F, int kSlices>
struct ChainShape {
  static constexpr int kHeadSlices = ceil_div(F::kValueDim, 64);
  static constexpr int kBlocksPerHead = kHeadSlices / kSlices;
  static_assert(kHeadSlices % kSlices == 0, "a block's slices are of one head");
  static constexpr int kThreads = 128;

  static constexpr int kKey = 0;
  static constexpr int kM = Record<F>::kKeyBytes;
  static constexpr int kValue = kM + kTriangleBytes;  // a tile a slice: [64 tokens][64 value columns]
  static constexpr int kGates = kValue + kSlices * kTileBytes;
  static constexpr int kStageBytes = kGates + (Record<F>::kGateBytes + 127) / 128 * 128;
  static constexpr int kPlaces = F::kOnePlace ? 1 : 2;
  static constexpr int kQuery = kPlaces * kStageBytes;
  static constexpr int kR = kQuery + Record<F>::kKeyBytes;
  static constexpr int kPieces = kR + kTriangleBytes;  // of the warps, where snapshots cut sequences
  static constexpr int kShared = kPieces + (sm90::keeps_snapshots<F>() ? 4 * sm90::kPiecesBytes : 0);
  static_assert(kShared ==
                    warp_chain_shared(F::kKeyDim, kSlices, Record<F>::kByChannel, sm90::keeps_snapshots<F>(), kPlaces),
                "as the launch will have it");
};

// A slice whose products are its own.
template <class F>
class WarpSlice : public Slice<F> {
  using Base = Slice<F>;
  using Base::exponent_, Base::state_, Base::warp_;

 public:
  static constexpr int kSteps = ceil_div(F::kKeyDim, 16);  // of 16 key channels

  GDN_DEVICE explicit WarpSlice(int slice) : Base(slice) {}

  // What this chunk's exponent does to what the accumulators hold, and to the state.
  GDN_DEVICE float change() const { return exponent_.change; }
  GDN_DEVICE void rescale() {
    if (exponent_.change != 1.0f) decay(exponent_.change);
  }
  GDN_DEVICE float down() const { return sm90::power_of_two(-exponent_.x); }

  // The state as A's words of channels 16 i to 16 i + 15, once `nothing`, which is 0, is known.
  GDN_DEVICE void step(unsigned (&a)[4], int i, unsigned nothing) const {
    GDN_UNROLL
    for (int j = 0; j < 4; ++j) {
      a[j] = float_to_half_pair(float_of(bits_of(state_[8 * i + 2 * j]) | nothing), state_[8 * i + 2 * j + 1]);
    }
  }
  GDN_DEVICE void decay(float by) {
    GDN_UNROLL
    for (int i = 0; i < 8 * kSteps; ++i) state_[i] *= by;
  }
  GDN_DEVICE void decay_to_end(const float* gates) {
    if constexpr (Record<F>::kByChannel) {
      GDN_UNROLL
      for (int n = 0; n < 2 * kSteps; ++n) Base::multiply(state_, Base::pair(gates + Gates::kDecay, n), n);
    } else {
      decay(gates[Gates::kDecay]);
    }
  }
  GDN_DEVICE void add(int n, const unsigned (&a)[4], unsigned b0, unsigned b1) {
    add_product(state_, 4 * n, a, b0, b1);
  }

  // Outputs of tokens 8 n to 8 n + 7, in 16 bits, to the warp's columns of the tile that its values came in.
  GDN_DEVICE void put_out(unsigned tile, int n, const float* o, float2 by) const {
    using E = typename F::OutputO::Element;
    const unsigned own = tile_offset(lane_id() / 4, warp_ * 16 + lane_id() % 4 * 2);
    const unsigned low = transposed(Number<E>::pair(o[0] * by.x, o[1] * by.y));
    const unsigned high = transposed(Number<E>::pair(o[2] * by.x, o[3] * by.y));
    store_shared(tile + own + static_cast<unsigned>(n) * 1024, low);
    store_shared(tile + (own ^ 16u) + static_cast<unsigned>(n) * 1024, high);  // 8 columns further
  }
  // And from there to their rows: those of 16 tokens a step, 16 bytes a lane.
  GDN_DEVICE void send_out(Global<char> row, long long stride, int left, unsigned tile) const {
    using O = typename F::OutputO;
    static_assert(sizeof(typename O::Element) == 2 && O::kInnerStride == 1 && O::kAlign % 8 == 0, "16-byte pieces");
    const bool inside = F::kValueDim % 64 == 0 || Base::out_column() < F::kValueDim;
    const int rows = smaller(left, kChunk) - lane_id() / 2;
    const unsigned own = tile_offset(lane_id() / 2, warp_ * 16 + (lane_id() & 1) * 8);
    warp_barrier();
    GDN_UNROLL
    for (int i = 0; i < 4; ++i, row += stride) {
      unsigned x[4];
      load_shared_16(x, tile + own + static_cast<unsigned>(i) * 2048);
      if (inside && rows > 16 * i) store_16(row, x);
    }
  }
};

// ---- a block --------------------------------------------------------------------------------------------------------

// kMembers: 0, or 0 and 1, the slices of a block.
template <class F, int... kMembers>
class Chain {
  static constexpr int kSlices = sizeof...(kMembers);
  using Shape = ChainShape<F, kSlices>;
  using Layout = Record<F>;
  using V = typename F::InputV;
  static constexpr int kSteps = WarpSlice<F>::kSteps;
  static constexpr bool kByChannel = Layout::kByChannel;
  // Outputs are made of so many tokens at a time: as many as registers hold beside the state.
  static constexpr int kOutTokens = 32;
  // Where the state is half of a thread's registers, its words must not be packed for products that are far off, as
  // compilers like to: a step's packing waits for the loads of the step before, of which it takes zeros.
  static constexpr bool kFull = kSlices * kSteps > 8;

 public:
  GDN_DEVICE Chain(const Args& args, const Place& place, unsigned base)
      : args_(args),
        base_(base),
        zero_(static_cast<unsigned>(args.rows) >> 31),
        keys_(Layout::keys_of_value(place.head)),
        matrices_(Layout::matrices(place.head)),
        gates_(Layout::gates(place.head)),
        columns_left_(F::kValueDim - first_column(place)),
        value_place_(static_cast<unsigned>(Shape::kValue) + tile_offset(thread_id() / 8, thread_id() % 8 * 8)),
        slices_{WarpSlice<F>(place.slice + kMembers)...} {}

  // The copies of a piece's first chunk; the state may be read while they are under way.
  GDN_DEVICE void begin(const Place& piece, Global<const char> workspace) {
    chunks_ = piece.chunks();
    tokens_ = static_cast<int>(piece.tokens);
    record_ = workspace + piece.chunk * Layout::kBytes + thread_id() * 16;
    const int column = columns_left_ > 0 ? first_column(piece) : 0;
    const auto at = part<V>(args_, piece.token + thread_id() / 8) + V::base(piece.head) + column;
    values_ = reinterpret_cast<Global<const char>>(at);
    copy_first(0, record_);
    if constexpr (!kByChannel) copy_rest(0);
  }
  template <class Do>
  GDN_DEVICE void each_slice(Do&& handle) {
    GDN_UNROLL
    for (int m = 0; m < kSlices; ++m) handle(slices_[m]);
  }
  // The chunks of the piece that was begun.
  GDN_DEVICE void run(const Place& piece) {
    const long long stride = WarpSlice<F>::out_stride(args_);
    Global<char> row = slices_[0].out_row(args_, piece);
    for (int c = 0; c < chunks_; ++c, row += 4 * stride) {
      copies_wait<kByChannel ? 0 : 1>();
      barrier();  // the chunk's k, M, v and gates are there, and the other place of them was read
      if constexpr (kByChannel) copy_rest(c);
      if constexpr (!F::kOnePlace) copy_first(c + 1, record_ + (kByChannel ? Layout::kBytes : 0));
      read(c);
      copies_wait<F::kOnePlace ? 0 : 1>();
      barrier();  // q and R
      put_out(c, row, stride);
      barrier();  // were read
      if constexpr (kByChannel) {
        copy_update();
      } else if constexpr (!F::kOnePlace) {
        copy_rest(c + 1);
      }
      write(c);
      if constexpr (F::kOnePlace) {
        barrier();  // all of the chunk was read
        copy_first(c + 1, record_);
        if constexpr (!kByChannel) copy_rest(c + 1);
      }
    }
    copies_wait<0>();
  }

 private:
  // Of the head's values, of the thread's pieces.
  GDN_DEVICE static int first_column(const Place& place) { return place.slice * 64 + thread_id() % 8 * 8; }
  GDN_DEVICE unsigned stage(int chunk) const {
    return base_ + static_cast<unsigned>(chunk % Shape::kPlaces * Shape::kStageBytes);
  }
  GDN_DEVICE static unsigned value_tile(unsigned stage, int m) {
    return stage + static_cast<unsigned>(Shape::kValue + m * kTileBytes);
  }

  // ---- copies -------------------------------------------------------------------------------------------------------
  //
  // Pointers are the thread's own: at the chunk that is copied next, or by channel at the one that is worked on.

  template <int kBytes>
  GDN_DEVICE static void copy(unsigned to, Global<const char> from) {
    GDN_UNROLL
    for (int at = 0; at < kBytes; at += 16 * Shape::kThreads) {
      if (kBytes - at >= 16 * Shape::kThreads || thread_id() * 16 < kBytes - at) {
        copy_16(to + static_cast<unsigned>(at + thread_id() * 16), from + at, true);
      }
    }
  }
  // What the state meets first, and writing needs: k, M, v, gates.
  GDN_DEVICE void copy_first(int chunk, Global<const char> record) {
    if (chunk < chunks_) {
      const unsigned to = stage(chunk);
      copy<Layout::kKeyBytes>(to + Shape::kKey, record + (keys_ + Layout::kKey));
      copy<kTriangleBytes>(to + Shape::kM, record + matrices_);
      copy<Layout::kGateBytes>(to + Shape::kGates, record + gates_);
      copy_values(to + value_place_, tokens_ - chunk * kChunk - thread_id() / 8);
    }
    copies_commit();
  }
  GDN_DEVICE void copy_rest(int chunk) {
    if (chunk < chunks_) {
      copy<Layout::kKeyBytes>(base_ + Shape::kQuery, record_ + (keys_ + Layout::kKey + Layout::kKeyBytes));
      copy<kTriangleBytes>(base_ + Shape::kR, record_ + (matrices_ + kTriangleBytes));
      if constexpr (!kByChannel) record_ += Layout::kBytes;
    }
    copies_commit();
  }
  // By channel: k for the update, of the chunk that is worked on, which is then done with.
  GDN_DEVICE void copy_update() {
    copy<Layout::kKeyBytes>(base_ + Shape::kQuery, record_ + keys_);
    copies_commit();
    record_ += Layout::kBytes;
  }
  // 16 rows of 8 pieces a step; zeros past the end.
  GDN_DEVICE void copy_values(unsigned to, int left) {
    static_assert(sizeof(typename V::Element) == 2 && V::kInnerStride == 1 && V::kAlign % 8 == 0, "16-byte pieces");
    static_assert(F::kValueDim % 8 == 0, "16-byte pieces of v");
    const long long step = 16 * 2 * args_.stride[V::kOperand];  // bytes
    GDN_UNROLL
    for (int i = 0; i < 4; ++i, values_ += step) {
      GDN_UNROLL
      for (int m = 0; m < kSlices; ++m) {
        const bool inside = F::kValueDim % 64 == 0 || columns_left_ > 64 * m;
        copy_16(to + static_cast<unsigned>(m * kTileBytes + i * 2048), values_ + 128 * m, inside && left > 16 * i);
      }
    }
  }

  // ---- a chunk ------------------------------------------------------------------------------------------------------

  GDN_DEVICE const float* gates(int chunk) const { return shared_floats(stage(chunk) + Shape::kGates); }

  // X, of the values and what the state predicts of them.
  GDN_DEVICE void read(int chunk) {
    const unsigned at = stage(chunk);
    const Operand k = Operand::k_along_rows(at + Shape::kKey);
    unsigned largest[kSlices] = {};
    float d[kSlices][32] = {};
    unsigned nothing = 0;
    GDN_UNROLL
    for (int i = 0; i < kSteps; ++i) {
      unsigned s[kSlices][4];
      GDN_UNROLL
      for (int m = 0; m < kSlices; ++m) {
        slices_[m].step(s[m], i, nothing);
        largest[m] = larger_half(largest[m], larger_half(larger_half(s[m][0], s[m][1]), larger_half(s[m][2], s[m][3])));
      }
      GDN_UNROLL
      for (int n = 0; n < 4; ++n) {
        unsigned b[4];
        k.load(b, 16 * n, 16 * i);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) {
          add_product(d[m], 8 * n, s[m], b[0], b[1]);
          add_product(d[m], 8 * n + 4, s[m], b[2], b[3]);
        }
        if (kFull && n == (kSlices == 2 ? 1 : 3)) nothing = b[0] & zero_;
      }
    }
    GDN_UNROLL
    for (int m = 0; m < kSlices; ++m) {
      unsigned v[16];
      slices_[m].load_values(v, value_tile(at, m));
      slices_[m].settle(v, largest[m]);
      slices_[m].scale_values(v);
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) {
        const float2 by = WarpSlice<F>::pair(gates(chunk) + Gates::kRead, n);
        slices_[m].subtract(x_[m], v, d[m], WarpSlice<F>::times(by, slices_[m].change()), n);
      }
      slices_[m].rescale();
    }
  }

  GDN_DEVICE void put_out(int chunk, Global<char> row, long long stride) {
    const Operand q = Operand::k_along_rows(base_ + Shape::kQuery);
    const Triangle r(base_ + Shape::kR);
    GDN_UNROLL
    for (int first = 0; first < kChunk; first += kOutTokens) {
      float o[kSlices][kOutTokens / 2] = {};
      unsigned nothing = 0;
      GDN_UNROLL
      for (int i = 0; i < kSteps; ++i) {
        unsigned s[kSlices][4];
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) slices_[m].step(s[m], i, nothing);
        GDN_UNROLL
        for (int n = 0; n < kOutTokens / 16; ++n) {
          unsigned b[4];
          q.load(b, first + 16 * n, 16 * i);
          GDN_UNROLL
          for (int m = 0; m < kSlices; ++m) {
            add_product(o[m], 8 * n, s[m], b[0], b[1]);
            add_product(o[m], 8 * n + 4, s[m], b[2], b[3]);
          }
          if (kFull && n == (kSlices == 2 ? 0 : 1)) nothing = b[0] & zero_;
        }
      }
      GDN_UNROLL
      for (int n = 0; n < kOutTokens / 8; ++n) {
        const float2 by = WarpSlice<F>::pair(gates(chunk) + Gates::kOut, first / 8 + n);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) {
          o[m][4 * n] *= by.x, o[m][4 * n + 1] *= by.y, o[m][4 * n + 2] *= by.x, o[m][4 * n + 3] *= by.y;
        }
      }
      add_triangle(o, r, first);
      GDN_UNROLL
      for (int n = 0; n < kOutTokens / 8; ++n) {
        const float2 by = WarpSlice<F>::pair(gates(chunk) + Gates::kOutScale, first / 8 + n);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) {
          slices_[m].put_out(value_tile(stage(chunk), m), first / 8 + n, o[m] + 4 * n,
                             WarpSlice<F>::times(by, slices_[m].down()));
        }
      }
    }
    GDN_UNROLL
    for (int m = 0; m < kSlices; ++m) {
      slices_[m].send_out(row + 128 * m, stride, tokens_ - chunk * kChunk, value_tile(stage(chunk), m));
    }
  }

  // to += X times rows `first` and up of a lower triangular matrix: tokens read nothing of those behind them.
  template <int kCount>
  GDN_DEVICE void add_triangle(float (&to)[kSlices][kCount], const Triangle& matrix, int first) const {
    GDN_UNROLL
    for (int n = 0; n < kCount / 8; ++n) {
      const int row = first + 16 * n;
      GDN_UNROLL
      for (int i = 0; i <= row / 16; ++i) {
        unsigned b[4];
        matrix.load(b, row, 16 * i);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) {
          unsigned x[4];
          step_of(x, x_[m], i);
          add_product(to[m], 8 * n, x, b[0], b[1]);
          add_product(to[m], 8 * n + 4, x, b[2], b[3]);
        }
      }
    }
  }

  // Y = (X M^T) diag(2^(G_last - G)), and the state behind the chunk.
  GDN_DEVICE void write(int chunk) {
    const unsigned at = stage(chunk);
    const Triangle matrix(at + Shape::kM);
    const Operand k = Operand::n_along_rows(kByChannel ? base_ + Shape::kQuery : at + Shape::kKey);
    unsigned y[kSlices][16];
    GDN_UNROLL
    for (int half = 0; half < 2; ++half) {
      float sums[kSlices][16] = {};
      add_triangle(sums, matrix, 32 * half);
      GDN_UNROLL
      for (int n = 4 * half; n < 4 * half + 4; ++n) {
        const float2 by = WarpSlice<F>::pair(gates(chunk) + Gates::kWrite, n);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) decay_values(y[m], sums[m], by, n);
      }
    }
    GDN_UNROLL
    for (int m = 0; m < kSlices; ++m) slices_[m].decay_to_end(gates(chunk));
    if constexpr (kByChannel) {
      copies_wait<0>();
      barrier();  // k for the update
    }
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) {
      GDN_UNROLL
      for (int n = 0; n < kSteps; ++n) {
        unsigned b[4];
        k.load_transposed(b, 16 * i, 16 * n);
        GDN_UNROLL
        for (int m = 0; m < kSlices; ++m) {
          unsigned a[4];
          step_of(a, y[m], i);
          slices_[m].add(2 * n, a, b[0], b[1]);
          slices_[m].add(2 * n + 1, a, b[2], b[3]);
        }
      }
    }
  }

  const Args& args_;
  unsigned base_;
  unsigned zero_;                // that no compiler knows to be 0
  int chunks_ = 0, tokens_ = 0;  // of the piece
  int keys_, matrices_, gates_;  // where the heads' parts of a record begin
  Global<const char> record_ = nullptr, values_ = nullptr;
  int columns_left_;  // of the head, from the thread's piece of v on
  unsigned value_place_;
  WarpSlice<F> slices_[kSlices];
  unsigned x_[kSlices][16];  // of the chunk under way
};

// Blocks of ChainShape::kThreads threads with kShared bytes of dynamic shared memory that start on a multiple of 1024;
// `place` names the first of the block's slices.
template <class F, int... kMembers>
GDN_DEVICE void chain(const Args& args, const SlotUse& use, const Place& place, Global<const char> workspace,
                      char* shared) {
  Chain<F, kMembers...> chain(args, place, sm90::shared_address(shared));
  char* const own = shared + ChainShape<F, sizeof...(kMembers)>::kPieces + thread_id() / 32 * sm90::kPiecesBytes;
  sm90::each_piece<F>(
      args, place, own,
      [&](const Place& piece) {
        const bool first = !sm90::keeps_snapshots<F>() || piece.token == place.token;
        if (!first) barrier();  // the piece before was read
        chain.begin(piece, workspace);
        if (first) {
          chain.each_slice([&](WarpSlice<F>& slice) {
            if (use.read) {
              slice.read(state_in_slot<F>(args, use.slot, place.head));
            } else {
              slice.clear();
            }
            slice.scale_up();
          });
        }
        chain.run(piece);
      },
      [&](long long slot) {
        if (!has_pool<typename F::State>(args)) return;
        chain.each_slice([&](WarpSlice<F>& slice) { slice.write(state_in_slot<F>(args, slot, place.head)); });
      });
  if (use.written) {
    chain.each_slice([&](WarpSlice<F>& slice) { slice.write(state_in_slot<F>(args, use.slot, place.head)); });
  }
}

}  // namespace gdn::mma
