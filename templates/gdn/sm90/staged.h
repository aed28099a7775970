// A chunk's rows of one head of a part, on their way from the projections to a convolution: asynchronous copies bring
// them to a place in shared memory while another head's are convolved, so that no thread waits for memory with its
// registers full. A place holds, row by row, those before the chunk that the convolution needs and the chunk's 64.
#pragma once

#include "gdn/prefill/conv_piece.h"
#include "gdn/sm90/chunks.h"

namespace gdn::sm90 {

// `kChannels`: of a head.
template <class F, int kChannels>
struct StagedRows {
  static constexpr int kBefore = F::kConvWidth - 1, kPieces = kChannels / 8, kRowBytes = 16 * kPieces;
  static constexpr int kBytes = (kBefore + kChunk) * kRowBytes;
  static_assert(kPrepThreads % kPieces == 0, "a thread has pieces of the same channels");

  // Rows of 16-bit numbers, `stride` bytes apart, `first` the chunk's first one, by all threads of the block;
  // copies_commit follows. Rows of no token of the sequence come out as zeros.
  GDN_DEVICE static void bring(Global<const char> first, long long stride, const Sequence& sequence, const Chunk& chunk,
                               unsigned place) {
    constexpr int kRowsAtOnce = kPrepThreads / kPieces;
    const int piece = thread_id() % kPieces, row = thread_id() / kPieces;
    const unsigned to = place + static_cast<unsigned>(row * kRowBytes + piece * 16);
    const int before = static_cast<int>(chunk.token) - sequence.rows.first;
    first += piece * 16;
    Global<const char> from = first + (row - kBefore) * stride;
    GDN_UNROLL
    for (int at = 0; at < kBefore + kChunk; at += kRowsAtOnce, from += kRowsAtOnce * stride) {
      const int token = row + at - kBefore;
      if (at + kRowsAtOnce > kBefore + kChunk && token >= kChunk) break;
      const bool inside = token < chunk.tokens && (at >= kBefore || token + before >= 0);
      copy_16(to + static_cast<unsigned>(at * kRowBytes), inside ? from : first, inside);
    }
  }
};

// Rows `row` to row + kRows - 1 of the chunk through the convolution, of channels 8 piece and up; from its last token
// on they come out as zeros if asked for. By all threads of the block; `read` is called when all have read the place.
template <class F, class Maps, bool kZeros, int kRows, class Read>
GDN_DEVICE void convolve_staged(Raw<16> (&rows)[kRows], const Args& args, const Sequence& sequence, const Chunk& chunk,
                                int head, unsigned place, int piece, int row, Read&& read) {
  using Of = ConvPiece<F, Maps>;
  using Staged = StagedRows<F, Maps::Input::kRun>;
  constexpr int kBefore = Staged::kBefore;
  const unsigned from = place + static_cast<unsigned>((row + kBefore) * Staged::kRowBytes + piece * 16);
  float weight[8][F::kConvWidth], bias[8], older[8][kBefore];
  Of::load_weights(args, head, piece * 8, weight, bias);
  GDN_UNROLL
  for (int i = 0; i < kRows; ++i) load_shared_16(rows[i].word, from + static_cast<unsigned>(i * Staged::kRowBytes));
  GDN_UNROLL
  for (int age = 1; age <= kBefore; ++age) {
    Raw<16> raw;
    load_shared_16(raw.word, from - static_cast<unsigned>(age * Staged::kRowBytes));
    float x[8];
    Of::keep(raw, x);
    const int in_launch = static_cast<int>(chunk.token) + row - age;
    if (in_launch < sequence.rows.first) Of::before(x, args, sequence, head, piece * 8, in_launch);
    GDN_UNROLL
    for (int c = 0; c < 8; ++c) older[c][age - 1] = x[c];
  }
  barrier();
  read();
  Of::template sum<kZeros>(rows, older, weight, bias, chunk.tokens - row);
}

}  // namespace gdn::sm90
