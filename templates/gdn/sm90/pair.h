// The chain of one slice on two SMs: a cluster of two blocks, for when SMs would idle otherwise. Block 0 runs the
// recurrence, block 1 makes the outputs:
//
//   block 0   D = S^T K^T,  X,  Y,  S^T          sends the words of S and X, its operands, as they lie in registers
//   block 1   O^T = S^T Q^T, X R^T               reads them back into the same threads' registers
//
// A thread's words go to its own place in the other block's shared memory (16 bytes, then 16 more 2048 bytes further,
// ...) and need neither a swizzle nor a proxy fence on either side. Two places; block 1's warps give one back as soon
// as they have read it. Formulas and numbers as in chain.h.
#pragma once

#include "gdn/sm90/chain.h"

namespace gdn::sm90 {

template <class F>
struct PairShape {
  static constexpr int kThreads = 256;
  static constexpr int kStages = pair_stages(Record<F>::kByChannel);
  static constexpr int kTiles = Record<F>::kKeyTiles;

  static constexpr int kUpdate = 0;                            // as in ChainShape, in block 0 alone
  static constexpr int kKey = Record<F>::kKey;                 // k in block 0, q in block 1
  static constexpr int kMatrix = kKey + Record<F>::kKeyBytes;  // M, R
  static constexpr int kTriangles = kMatrix, kTriangleCount = 1;
  static constexpr int kValue = kMatrix + kTileBytes;
  static constexpr int kGates = kValue + kTileBytes;
  static constexpr int kStageBytes = kGates + 2048;
  static_assert(Record<F>::kGateBytes <= 2048 - 8 * kPiecesBytes, "a stage's last bytes are no gates");
  // By bulk copies in block `rank`: its keys, and all.
  GDN_HD static constexpr int keys_loaded(int rank) { return rank == 0 ? kMatrix : Record<F>::kKeyBytes; }
  GDN_HD static constexpr int loaded(int rank) { return keys_loaded(rank) + kTriangleBytes + Record<F>::kGateBytes; }

  static constexpr int kStateBytes = 4 * kTiles * 2048;  // of S's words; X's and the exponent's follow
  static constexpr int kSent = kStateBytes + 4 * 2048 + 1024;
  static constexpr int kHandover = kStages * kStageBytes;  // 2 places
  static constexpr int kOutput = kHandover + 2 * kSent;
  static constexpr int kBarriers = kOutput + 4 * 2048;  // full, empty [kStages]; sent, free [2]
  static constexpr int kShared = kBarriers + kStages * 16 + 32;
  static_assert(kShared == pair_shared(F::kKeyDim, Record<F>::kByChannel), "as the launch will have it");

  GDN_HD static constexpr unsigned full(unsigned stage) { return kBarriers + 8 * stage; }
  GDN_HD static constexpr unsigned empty(unsigned stage) { return kBarriers + 8 * (kStages + stage); }
  GDN_HD static constexpr unsigned sent(unsigned place) { return kBarriers + 16 * kStages + 8 * place; }
  GDN_HD static constexpr unsigned free(unsigned place) { return kBarriers + 16 * kStages + 16 + 8 * place; }
};

template <class F>
class PairSlice : public Slice<F> {
  using Shape = PairShape<F>;
  using Base = Slice<F>;
  using Base::exponent_, Base::state_, Base::warp_;
  static constexpr int kTiles = Base::kTiles, kCount = Base::kCount;

 public:
  GDN_DEVICE PairSlice(const Place& place, unsigned base) : Base(place.slice), base_(base) {}

  // Block 0, all chunks, keeping states behind pieces.
  GDN_DEVICE void recur(const Args& args, const Place& place, char* own) {
    unsigned s[kCount / 2];
    Base::pack(s);
    Ring<Shape> ring{0, 0};
    int c = 0;
    each_chunk<F>(
        args, place, own, [](const Place&) {},
        [&](long long) {
          step(s, c++, ring.stage, ring.parity);
          ring.step();
        },
        [&](long long slot) {
          if (has_pool<typename F::State>(args)) Base::write(state_in_slot<F>(args, slot, place.head));
        });
  }

  // Block 1, all chunks.
  GDN_DEVICE void read_out(const Args& args, const Place& place, char* own) {
    const long long stride = Base::out_stride(args);
    if (thread_id() == 0) {
      for (unsigned i = 0; i < 2; ++i) expect(base_ + Shape::sent(i), Shape::kSent);
    }
    Ring<Shape> ring{0, 0};
    Global<char> row = nullptr;
    int c = 0;
    each_chunk<F>(
        args, place, own, [&](const Place& piece) { row = Base::out_row(args, piece); },
        [&](long long left) {
          output(row, stride, left, c++, ring.stage, ring.parity);
          row += 4 * stride;
          ring.step();
        },
        [](long long) {});
  }

 private:
  GDN_DEVICE static unsigned own(int i) { return static_cast<unsigned>(i * 2048 + thread_id() * 16); }

  GDN_DEVICE void step(unsigned (&s)[kCount / 2], int c, unsigned stage, unsigned parity) {
    const unsigned at = base_ + stage * Shape::kStageBytes, place = static_cast<unsigned>(c & 1);
    const unsigned there = in_block(base_ + Shape::kHandover + place * Shape::kSent, 1);
    const unsigned sent = in_block(base_ + Shape::sent(place), 1);
    const Descriptor k = k_major(at + Shape::kKey), m = triangle(at + Shape::kMatrix),
                     k_rows = n_major(at + Shape::kUpdate);
    const float* gates = shared_floats(at + Shape::kGates);

    wait(base_ + Shape::full(stage), parity);
    float d[32];
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) product_64(d, s, i, k + along_key(i), i > 0);
    products_commit();

    unsigned v[16];
    Base::load_values(v, at + Shape::kValue);
    float2 read[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) read[n] = Base::pair(gates + Gates::kRead, n);
    Base::settle(v, s);
    Base::scale_values(v);
    if (exponent_.change != 1.0f) {
      GDN_UNROLL
      for (int n = 0; n < 8; ++n) read[n] = Base::times(read[n], exponent_.change);
    }
    if (c >= 2) wait_cluster(base_ + Shape::free(place), static_cast<unsigned>(c / 2 - 1) & 1);
    GDN_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) send_16(there + own(i), s + 4 * i, sent);
    send_8(there + Shape::kStateBytes + 4 * 2048 + static_cast<unsigned>(thread_id()) * 8, exponent_.change,
           power_of_two(-exponent_.x), sent);
    products_wait<0>();

    // In halves of the tokens: the first half's product runs while the second half's X is made, and so on.
    unsigned x[16], y[16];
    float y0[16], y1[16];
    GDN_UNROLL
    for (int n = 0; n < 4; ++n) Base::subtract(x, v, d, read[n], n);
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 2; ++i) product_32(y0, x, i, m + triangle_step(i), i > 0);
    products_commit();
    GDN_UNROLL
    for (int n = 4; n < 8; ++n) Base::subtract(x, v, d, read[n], n);
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) product_32(y1, x, i, m + kTriangleHalf + triangle_step(i), i > 0);
    products_commit();

    float2 write[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) write[n] = Base::pair(gates + Gates::kWrite, n);
    Base::decay_state(gates);
    products_wait<1>();
    GDN_UNROLL
    for (int n = 0; n < 4; ++n) decay_values(y, y0, write[n], n);
    add(y, 0, k_rows);
    products_wait<kTiles>();  // the second half of Y's product; the first half's update runs on
    GDN_UNROLL
    for (int n = 4; n < 8; ++n) decay_values(y, y1, write[n], n);
    add(y, 2, k_rows);
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) send_16(there + Shape::kStateBytes + own(i), x + 4 * i, sent);

    // The first 64 channels are packed while the last are still added to.
    if constexpr (kTiles == 2) {
      products_wait<1>();
      Base::pack(s, 0, kCount / 4);
      products_wait<0>();
      Base::pack(s, kCount / 4, kCount / 2);
    } else {
      products_wait<0>();
      Base::pack(s);
    }
    if (lane_id() == 0) arrive(base_ + Shape::empty(stage));
  }

  // S^T += Y K for the 32 tokens of k-steps first and first + 1, a group of products per 64 channels.
  GDN_DEVICE void add(const unsigned (&y)[16], int first, Descriptor k_rows) {
    products_begin();
    if constexpr (kTiles == 2) {
      GDN_UNROLL
      for (int i = first; i < first + 2; ++i) {
        product_n_major_tile<0>(state_, y, i, k_rows + static_cast<Descriptor>(i) * kStepN);
      }
      products_commit();
      GDN_UNROLL
      for (int i = first; i < first + 2; ++i) {
        product_n_major_tile<64>(state_, y, i, k_rows + kStepTile + static_cast<Descriptor>(i) * kStepN);
      }
    } else {
      GDN_UNROLL
      for (int i = first; i < first + 2; ++i)
        product_n_major(state_, y, i, k_rows + static_cast<Descriptor>(i) * kStepN);
    }
    products_commit();
  }

  GDN_DEVICE void output(Global<char> row, long long stride, long long left, int c, unsigned stage, unsigned parity) {
    const unsigned at = base_ + stage * Shape::kStageBytes, place = static_cast<unsigned>(c & 1);
    const unsigned here = base_ + Shape::kHandover + place * Shape::kSent;
    const Descriptor q = k_major(at + Shape::kKey), r = triangle(at + Shape::kMatrix);
    const float* gates = shared_floats(at + Shape::kGates);

    wait(base_ + Shape::full(stage), parity);
    wait_cluster(base_ + Shape::sent(place), static_cast<unsigned>(c / 2) & 1);
    // For the place's next use. The sender may be ahead of it: bytes that come before they are announced only count
    // below zero until then.
    if (thread_id() == 0) expect(base_ + Shape::sent(place), Shape::kSent);
    unsigned s[kCount / 2], x[16];
    GDN_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) load_shared_16(s + 4 * i, here + own(i));
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) load_shared_16(x + 4 * i, here + Shape::kStateBytes + own(i));
    const float2 units =
        load_shared_pair(here + Shape::kStateBytes + 4 * 2048 + static_cast<unsigned>(thread_id()) * 8);
    const float change = units.x, down = units.y;
    warp_barrier();
    if (lane_id() == 0) arrive_there(in_block(base_ + Shape::free(place), 0));

    float o[32];
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4 * kTiles; ++i) product_64(o, s, i, q + along_key(i), i > 0);
    products_commit();
    float2 out[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) out[n] = Base::times(Base::pair(gates + Gates::kOut, n), change);
    products_wait<0>();
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) Base::multiply(o, out[n], n);
    products_begin();
    GDN_UNROLL
    for (int i = 0; i < 4; ++i) product_64(o, x, i, r + triangle_step(i), true);
    products_commit();
    float2 scale[8];
    GDN_UNROLL
    for (int n = 0; n < 8; ++n) scale[n] = Base::pair(gates + Gates::kOutScale, n);
    products_wait<0>();
    if (lane_id() == 0) arrive(base_ + Shape::empty(stage));
    Base::put_out(row, stride, left, o, scale, down, base_ + Shape::kOutput + static_cast<unsigned>(warp_) * 2048);
  }

  unsigned base_;
};

template <class F>
GDN_DEVICE void load_pair_records(const Place& place, int rank, Global<const char> workspace, unsigned base,
                                  Ring<PairShape<F>>& ring) {
  using Shape = PairShape<F>;
  using Layout = Record<F>;
  const int keys = Shape::keys_loaded(rank), loaded = Shape::loaded(rank);
  const int first = Layout::keys_of_value(place.head) + (rank == 0 ? 0 : Shape::kMatrix);
  const unsigned key_at = rank == 0 ? Shape::kUpdate : Shape::kKey;
  Global<const char> record = workspace + place.chunk * Layout::kBytes;
  GDN_NO_UNROLL
  for (int c = place.chunks(); c > 0; --c, record += Layout::kBytes, ring.step()) {
    const unsigned full = base + Shape::full(ring.stage), to = base + ring.stage * Shape::kStageBytes;
    wait(base + Shape::empty(ring.stage), ring.parity);
    expect(full, loaded);
    bulk_load(to + key_at, record + first, keys, full);
    load_triangle(to + Shape::kMatrix, record + Layout::matrices(place.head) + rank * kTriangleBytes, full);
    bulk_load(to + Shape::kGates, record + Layout::gates(place.head), Layout::kGateBytes, full);
  }
}

// Clusters of two blocks of PairShape::kThreads threads with kShared bytes of dynamic shared memory that start on a
// multiple of 1024; both blocks get the same `place`.
template <class F>
GDN_DEVICE void pair(const Args& args, const SlotUse& use, const Place& place, Global<const char> workspace,
                     char* shared) {
  using Shape = PairShape<F>;
  const unsigned base = shared_address(shared);
  const int rank = cluster_rank();
  if (thread_id() == 0) {
    for (unsigned i = 0; i < 2; ++i) {
      barrier_init(base + Shape::sent(i), 1);
      barrier_init(base + Shape::free(i), 4);
    }
  }
  begin_stages<Shape>(base, rank == 0 ? 1 + 32 : 1, 4);
  cluster_barrier();
  char* const own = pieces_of_warp<Shape>(shared);
  if (thread_id() >= 128) {
    give_registers<40>();
    const int warp = thread_id() % 128 / 32;
    Ring<Shape> ring{0, 1};
    if (warp == 0 && rank == 0) {
      if constexpr (F::kInPrefill) wait_for_previous_grid();  // which makes v
      each_piece<F>(args, place, own, [&](const Place& piece) { load_values<F, Shape>(args, piece, 0, base, ring); });
    } else if (warp == 1) {
      wait_for_previous_grid();
      if constexpr (F::kInPrefill) allow_next_grid();  // windows
      each_piece<F>(args, place, own, [&](const Place& piece) {
        if (lane_id() == 0) load_pair_records<F>(piece, rank, workspace, base, ring);
      });
    }
  } else {
    take_registers<248>();
    PairSlice<F> slice(place, base);
    if (rank == 1) {
      slice.read_out(args, place, own);
    } else {
      if (use.read) {
        slice.read(state_in_slot<F>(args, use.slot, place.head));
      } else {
        slice.clear();
      }
      slice.scale_up();
      slice.recur(args, place, own);
      if (use.written) slice.write(state_in_slot<F>(args, use.slot, place.head));
    }
  }
  warp_barrier();
  cluster_barrier();  // neither block leaves while the other still sends to it
}

}  // namespace gdn::sm90
