// The serial part of the chunked delta rule: a warp group takes 64 value columns of one head through all chunks of a
// sequence, and writes their outputs. Its operands are the records that prep (prep.h) made.
//
// The state is held transposed, S^T [64 value columns][K] as fp32 accumulators, so that the result of each product is
// the next one's operand where it lies:
//
//   D   = S^T K^T                            the state's prediction of the values
//   X   = V^T - D diag(2^G)                  columns are tokens
//   Y   = (X M^T) diag(2^(G_last - G))       the values to write, decayed to the chunk's end in fp32
//   S^T = 2^G_last S^T + Y K
//   O^T = scale (S^T Q^T diag(2^G) + X R^T)  with S from before the chunk
//
// Where key channels decay each at its own rate, the decays are in K and Q, which then differ from product to product
// (prep_channels.h); of diag(2^G) and diag(2^(G_last - G)) a number a token is left, and 2^G_last is one a channel.
//
// Numbers. S, X and Y become fp16 operands under an exponent x of the warp (16 value columns): X stands for 2^x X, the
// accumulators hold 2^(x + 10) S. Each chunk, in the shadow of the first product, a warp looks at the largest v and S:
// above 2^4 and 2^10 in those units, or both 2^3 below that, it takes another x. What the accumulators hold is then
// multiplied by the difference as they decay, v and the outputs as they pass: all by powers of two, so nothing but
// fp16's own rounding is lost, whatever the scale of v and however far the state has decayed. |X| stays below
// 2^4 + sqrt(K) and Y, 2^10 times the values to write, inside fp16 for |beta| <= 2.
//
// A block is one or two such warp groups, each a slice of 64 value columns of one head, and a warp group that loads:
// one warp the records by bulk copies, one warp a slice the rows of v, 16 bytes a copy, zeros past the end.
#pragma once

#include "gdn/sm90/slice.h"

namespace gdn::sm90 {

// kOut: whether the block makes outputs; if not it only carries the state on.
template <class F, int kSlices, bool kOut = true>
struct ChainShape {
  static constexpr int kHeadSlices = ceil_div(F::kValueDim, 64);
  static constexpr int kBlocksPerHead = kHeadSlices / kSlices;
  static_assert(kHeadSlices % kSlices == 0, "a block's slices are of one head");
  static constexpr int kThreads = 128 * kSlices + 128;
  static constexpr int kStages = chain_stages(F::kKeyDim, kSlices, kOut, Record<F>::kByChannel);

  static constexpr int kUpdate = 0;  // k as the state takes it; as its prediction takes it unless they decay by channel
  static constexpr int kKey = Record<F>::kKey;
  static constexpr int kQuery = kKey + Record<F>::kKeyBytes;
  static constexpr int kM = kKey + (kOut ? 2 : 1) * Record<F>::kKeyBytes;
  static constexpr int kR = kM + kTileBytes;
  static constexpr int kTriangles = kM, kTriangleCount = kOut ? 2 : 1;
  static constexpr int kValue = kM + (kOut ? 2 : 1) * kTileBytes;  // a tile a slice: [64 tokens][64 value columns]
  static constexpr int kGates = kValue + kSlices * kTileBytes;
  static constexpr int kStageBytes = kGates + 2048;
  static_assert(Record<F>::kGateBytes <= 2048 - 8 * kPiecesBytes, "a stage's last bytes are no gates");
  static constexpr int kKeyLoaded = kM;
  static constexpr int kLoaded =
      kKeyLoaded + kTriangleCount * kTriangleBytes + Record<F>::kGateBytes;  // by bulk copies

  static constexpr int kOutput = kStages * kStageBytes;  // [warps][64 tokens][16 value columns]
  static constexpr int kBarriers = kOutput + (kOut ? kSlices * 4 * 2048 : 0);
  static constexpr int kShared = kBarriers + kStages * 16;
  static_assert(kShared == chain_shared(F::kKeyDim, kSlices, kOut, Record<F>::kByChannel),
                "as the launch will have it");

  GDN_HD static constexpr unsigned full(unsigned stage) { return kBarriers + 8 * stage; }
  GDN_HD static constexpr unsigned empty(unsigned stage) { return kBarriers + 8 * (kStages + stage); }
};

// ---- loads ----------------------------------------------------------------------------------------------------------

// Where a warp keeps its place among the pieces: behind the gates of a stage, eight warps a stage.
template <class Shape>
GDN_DEVICE char* pieces_of_warp(char* shared) {
  const int warp = thread_id() / 32;
  return shared + (warp / 8 + 1) * Shape::kStageBytes - (warp % 8 + 1) * kPiecesBytes;
}

// How far a warp is in the ring of a block's stages.
template <class Shape>
struct Ring {
  unsigned stage = 0, parity;
  GDN_DEVICE void step() {
    if (++stage == Shape::kStages) stage = 0, parity ^= 1;
  }
};

// M, or R, to the place of a tile, where zeros lie above its diagonal blocks: three runs without them (record.h), for
// k-step i has room for its i blocks above as well.
GDN_DEVICE void load_triangle(unsigned to, Global<const char> from, unsigned full) {
  constexpr unsigned kStep = 4 * kBlockBytes;
  bulk_load(to + 3 * kBlockBytes, from, kBlockBytes, full);                                     // k-step 3
  bulk_load(to + kStep + 2 * kBlockBytes, from + triangle_block(2, 2), 2 * kBlockBytes, full);  // 2
  bulk_load(to + 2 * kStep + kBlockBytes, from + triangle_block(1, 1), 7 * kBlockBytes, full);  // 1 and 0
}
// Those zeros; threads of the block share the work, a fence_async and a barrier follow.
template <class Shape>
GDN_DEVICE void clear_above(unsigned tile) {
  GDN_NO_UNROLL
  for (int piece = thread_id(); piece < kTileBytes / 16; piece += Shape::kThreads) {
    const int step = 3 - piece / 128, block = piece % 128 / 32;
    if (block < step) store_shared_16(tile + static_cast<unsigned>(piece) * 16, 0, 0, 0, 0);
  }
}

template <class F, class Shape>
GDN_DEVICE void load_records(const Place& place, Global<const char> workspace, unsigned base, Ring<Shape>& ring) {
  using Layout = Record<F>;
  Global<const char> record = workspace + place.chunk * Layout::kBytes;
  GDN_NO_UNROLL  // by four it takes more registers than this group has
      for (int c = place.chunks(); c > 0; --c, record += Layout::kBytes) {
    const unsigned full = base + Shape::full(ring.stage), to = base + ring.stage * Shape::kStageBytes;
    wait(base + Shape::empty(ring.stage), ring.parity);
    expect(full, Shape::kLoaded);
    bulk_load(to, record + Layout::keys_of_value(place.head), Shape::kKeyLoaded, full);
    GDN_UNROLL
    for (int i = 0; i < Shape::kTriangleCount; ++i) {
      load_triangle(to + static_cast<unsigned>(Shape::kTriangles + i * kTileBytes),
                    record + (Layout::matrices(place.head) + i * kTriangleBytes), full);
    }
    bulk_load(to + Shape::kGates, record + Layout::gates(place.head), Layout::kGateBytes, full);
    ring.step();
  }
}

// One warp; 4 rows of 8 pieces a step.
template <class F, class Shape>
GDN_DEVICE void load_values(const Args& args, const Place& place, int slice, unsigned base, Ring<Shape>& ring) {
  using V = typename F::InputV;
  static_assert(sizeof(typename V::Element) == 2 && V::kInnerStride == 1 && V::kAlign % 8 == 0, "16-byte pieces");
  static_assert(F::kValueDim % 8 == 0, "16-byte pieces of v");
  const int piece = lane_id() % 8, column = (place.slice + slice) * 64 + piece * 8;
  const bool inside = column < F::kValueDim;
  const long long step = 4 * 2 * args.stride[V::kOperand];  // bytes
  const auto first = part<V>(args, place.token + lane_id() / 8) + V::base(place.head) + (inside ? column : 0);
  Global<const char> from = reinterpret_cast<Global<const char>>(first);
  long long left = place.tokens - lane_id() / 8;
  for (int c = place.chunks(); c > 0; --c) {
    const unsigned to =
        base + ring.stage * Shape::kStageBytes + Shape::kValue + static_cast<unsigned>(slice) * kTileBytes;
    wait(base + Shape::empty(ring.stage), ring.parity);
    GDN_UNROLL
    for (int i = 0; i < 16; ++i, from += step) {
      copy_16(to + tile_offset(4 * i + lane_id() / 8, piece * 8), from, inside && left > 4 * i);
    }
    left -= kChunk;
    arrive_after_copies(base + Shape::full(ring.stage));
    ring.step();
  }
}

// ---- a slice --------------------------------------------------------------------------------------------------------

template <class F, int kSlices, bool kOut>
class ChainSlice : public Slice<F> {
  using Shape = ChainShape<F, kSlices, kOut>;
  using Base = Slice<F>;
  using Base::exponent_, Base::state_, Base::warp_;
  static constexpr int kTiles = Base::kTiles, kCount = Base::kCount;
  static_assert(kTiles <= 2, "K up to 128");

 public:
  // `member` of the block's slices. Without `values` v is zero and nothing is loaded for it.
  GDN_DEVICE ChainSlice(const Args& args, const Place& place, int member, bool values, unsigned base)
      : Base(place.slice + member), args_(args), base_(base), member_(member), values_(values) {}

  GDN_DEVICE void run(const Place& place, char* own) {
    Global<char> row = nullptr;
    const long long stride = kOut ? Base::out_stride(args_) : 0;
    Ring<Shape> ring{0, 0};
    each_chunk<F>(
        args_, place, own,
        [&](const Place& piece) {
          if (kOut) row = Base::out_row(args_, piece);
        },
        [&](long long left) {
          chunk(row, stride, left, ring.stage, ring.parity);
          row += 4 * stride;
          ring.step();
        },
        [&](long long slot) {
          if (kOut && has_pool<typename F::State>(args_)) Base::write(state_in_slot<F>(args_, slot, place.head));
        });
  }

 private:
  // Products that follow each other on one accumulator need no wait between them; what the threads do with registers
  // stands where the products under way do not touch them. A load stands above the wait behind which it is used: the
  // wait pins it.
  GDN_DEVICE void chunk(Global<char> row, long long stride, long long left, unsigned stage, unsigned parity) {
    const unsigned at = base_ + stage * Shape::kStageBytes;
    unsigned s[kCount / 2];
    Base::pack(s);
    const Descriptor k = k_major(at + Shape::kKey), q = k_major(at + Shape::kQuery);
    const Descriptor m = triangle(at + Shape::kM), r = triangle(at + Shape::kR);
    const Descriptor k_rows = n_major(at + Shape::kUpdate);
    const float* gates = shared_floats(at + Shape::kGates);

    wait(base_ + Shape::full(stage), parity);
    float d[32], o[32];
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) product_64(d, s, i, k + along_key(i), i > 0);
    products_commit();
    if constexpr (kOut) {
      GDN_UNROLL
      for (int i = 0; i < 4 * kTiles; ++i) product_64(o, s, i, q + along_key(i), i > 0);
      products_commit();
    }

    unsigned v[16];
    Base::load_values(v, at + Shape::kValue + static_cast<unsigned>(member_) * kTileBytes);
    if (!kOut && !values_) {
      GDN_UNROLL
      for (int i = 0; i < 16; ++i) v[i] = 0;
    }
    float2 read[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) read[n] = Base::pair(gates + Gates::kRead, n);
    Base::settle(v, s);
    Base::scale_values(v);
    if (exponent_.change != 1.0f) {
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) read[n] = Base::times(read[n], exponent_.change);
    }
    products_wait<kOut ? 1 : 0>();
    unsigned x[16];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) Base::subtract(x, v, d, read[n], n);

    // M is lower triangular: tokens 0 to 31 read nothing of tokens 32 to 63. Two arrays, for ptxas serialises products
    // of different N on one.
    float y0[16], y1[16];
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) product_32(y0, x, i, m + triangle_step(i), i > 0);
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) product_32(y1, x, i, m + kTriangleHalf + triangle_step(i), i > 0);
    products_commit();
    if constexpr (kOut) {
      float2 out[8];
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) out[n] = Base::pair(gates + Gates::kOut, n);
      products_wait<1>();  // S^T Q^T is back
      if (exponent_.change != 1.0f) {
        GDN_UNROLL
        for (int n = 0; n < 8; ++n) out[n] = Base::times(out[n], exponent_.change);
      }
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) Base::multiply(o, out[n], n);
      products_begin();
      GDN_UNROLL
      for (int i = 0; i < 4; ++i) product_64(o, x, i, r + triangle_step(i), true);
      products_commit();
    }

    float2 write[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) write[n] = Base::pair(gates + Gates::kWrite, n);
    Base::decay_state(gates);
    products_wait<kOut ? 1 : 0>();
    unsigned y[16];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) decay_values(y, n < 4 ? y0 : y1, write[n], n);
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) product_n_major(state_, y, i, k_rows + static_cast<Descriptor>(i) * kStepN);
    products_commit();

    if constexpr (kOut) {
      float2 scale[8];
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) scale[n] = Base::pair(gates + Gates::kOutScale, n);
      products_wait<1>();
      Base::put_out(row, stride, left, o, scale, power_of_two(-exponent_.x),
                    base_ + Shape::kOutput + static_cast<unsigned>((member_ * 4 + warp_) * 2048));
    }
    products_wait<0>();
    if (lane_id() == 0) arrive(base_ + Shape::empty(stage));
  }

  const Args& args_;
  unsigned base_;
  int member_;
  bool values_;
};

// ---- a block --------------------------------------------------------------------------------------------------------

// The barriers of a block's stages, and what no load writes of them, by all its threads.
template <class Shape>
GDN_DEVICE void begin_stages(unsigned base, int loads, int reads) {
  if (thread_id() == 0) {
    for (unsigned i = 0; i < Shape::kStages; ++i) {
      barrier_init(base + Shape::full(i), loads);
      barrier_init(base + Shape::empty(i), reads);
    }
    barrier_init_done();
  }
  for (unsigned i = 0; i < Shape::kStages * Shape::kTriangleCount; ++i) {
    clear_above<Shape>(base + i / Shape::kTriangleCount * Shape::kStageBytes + Shape::kTriangles +
                       i % Shape::kTriangleCount * kTileBytes);
  }
  fence_async();
  barrier();
}

// A block's slices through their chunks, keeping states behind pieces if they make outputs. `begin` and `end` are
// called by each slice's threads, before and after.
template <class F, int kSlices, bool kOut, class Begin, class End>
GDN_DEVICE void run_chain(const Args& args, const Place& place, bool values, Global<const char> workspace, char* shared,
                          Begin&& begin, End&& end) {
  using Shape = ChainShape<F, kSlices, kOut>;
  const unsigned base = shared_address(shared);
  begin_stages<Shape>(base, 1 + (values ? 32 * kSlices : 0), 4 * kSlices);
  char* const own = pieces_of_warp<Shape>(shared);
  if (thread_id() / 128 == kSlices) {
    give_registers<40>();
    const int warp = thread_id() % 128 / 32;
    Ring<Shape> ring{0, 1};
    if (warp < kSlices) {
      if constexpr (F::kInPrefill) wait_for_previous_grid();  // which makes v
      if (!values) return;
      each_piece<F>(args, place, own,
                    [&](const Place& piece) { load_values<F, Shape>(args, piece, warp, base, ring); });
    } else if (warp == kSlices) {
      wait_for_previous_grid();
      if constexpr (F::kInPrefill) allow_next_grid();  // windows
      each_piece<F>(args, place, own, [&](const Place& piece) {
        if (lane_id() == 0) load_records<F>(piece, workspace, base, ring);
      });
    }
  } else {
    // Together with the loading group's no more than the block began with: 168 a thread of three groups, 248 of two.
    take_registers<kSlices == 1 ? 248 : 232>();
    ChainSlice<F, kSlices, kOut> slice(args, place, thread_id() / 128, values, base);
    begin(slice);
    slice.scale_up();
    slice.run(place, own);
    end(slice);
  }
}

// Blocks of ChainShape::kThreads threads with kShared bytes of dynamic shared memory that start on a multiple of 1024;
// `place` names the first of the block's slices.
template <class F, int kSlices>
GDN_DEVICE void chain(const Args& args, const SlotUse& use, const Place& place, Global<const char> workspace,
                      char* shared) {
  using Mine = ChainSlice<F, kSlices, true>;
  run_chain<F, kSlices, true>(
      args, place, true, workspace, shared,
      [&](Mine& slice) {
        if (use.read) {
          slice.read(state_in_slot<F>(args, use.slot, place.head));
        } else {
          slice.clear();
        }
      },
      [&](Mine& slice) {
        if (use.written) slice.write(state_in_slot<F>(args, use.slot, place.head));
      });
}

}  // namespace gdn::sm90
