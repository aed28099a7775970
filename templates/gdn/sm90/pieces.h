// Snapshots cut a sequence into pieces: a chunk ends behind every row whose state is kept, so that states are kept at
// the ends of chunks alone, in the numbers and the order that a final state has. A sequence without snapshots, or of a
// spec without them, is one piece.
//
// All pieces of a launch stand in one order: those that begin at sequences' first rows and those that begin behind
// snapshots' rows, by row, and of equal ones the snapshot's first. Piece p from row t on owns the chunk numbers from
// t / 64 + p up, for the reason that chunks.h gives; all are below chunk_numbers(rows, sequences + snapshots).
#pragma once

#include "gdn/prefill/sequence.h"
#include "gdn/sm90/chunks.h"

namespace gdn::sm90 {

template <class F>
GDN_HD constexpr bool keeps_snapshots() {
  return F::kSnapshotRowsOperand >= 0;
}

// Snapshots of the launch, wherever their rows are.
template <class F>
GDN_DEVICE int snapshot_count(const Args& args) {
  return keeps_snapshots<F>() ? Snapshots<F>(args, 0).count() : 0;
}

// Snapshots of rows before `row`: what numbers of pieces exceed those of sequences by.
template <class F>
GDN_DEVICE int snapshots_before(const Args& args, long long row) {
  return keeps_snapshots<F>() ? Snapshots<F>(args, static_cast<int>(row)).number() : 0;
}

// A head's slice over a whole sequence, under the number of its first chunk.
template <class F, class Offset>
GDN_DEVICE Place sequence_place(const Args& args, const Sequences<Offset>& sequences, int sequence, int head,
                                int slice) {
  Place place = sequences.place(sequence, head, slice);
  place.chunk += snapshots_before<F>(args, place.token);
  return place;
}

// The pieces of a sequence, or of a part of it that begins with a chunk, in order.
template <class F>
class Pieces {
 public:
  GDN_DEVICE Pieces(const Args& args, const Place& whole) : place_(whole), end_(whole.token + whole.tokens) {
    if constexpr (keeps_snapshots<F>()) {
      const Snapshots<F> snapshots(args, static_cast<int>(whole.token));
      number_ = snapshots.number(), count_ = snapshots.count();
      cut(args);
    }
  }
  GDN_DEVICE bool more() const { return place_.tokens > 0; }
  GDN_DEVICE const Place& place() const { return place_; }
  // Where the state behind the piece is kept; negative: nowhere.
  GDN_DEVICE long long slot(const Args& args) const {
    const Snapshots<F> snapshots(args, number_, count_);
    return snapshots.row() == place_.token + place_.tokens - 1 ? snapshots.slot() : -1;
  }
  GDN_DEVICE void next(const Args& args) {
    place_.token += place_.tokens;
    place_.tokens = end_ - place_.token;
    if constexpr (keeps_snapshots<F>()) {
      place_.chunk = place_.token / kChunk + place_.sequence + number_ + 1;
      cut(args);
    } else {
      place_.tokens = 0;
    }
  }

 private:
  GDN_DEVICE void cut(const Args& args) {
    Snapshots<F> snapshots(args, number_, count_);
    while (snapshots.row() < place_.token) snapshots.step();
    number_ = snapshots.number();
    const long long kept = snapshots.row() - place_.token + 1;
    if (kept < place_.tokens) place_.tokens = kept;
  }

  Place place_;
  long long end_;
  int number_ = 0, count_ = 0;  // of the next snapshot, of all
};

// A warp through the chunks of `whole`: begin(piece) before the first chunk of each piece, chunk(left) with the tokens
// from a chunk's first to its piece's end, and keep(slot) behind pieces whose state is kept. One loop, for ptxas
// serialises products in nested ones. The warp has other things in its registers: where it is lies in shared memory,
// kPiecesBytes of its own at `own`.
constexpr int kPiecesBytes = 64;

template <class F, class Begin, class Do, class Keep>
GDN_DEVICE void each_chunk(const Args& args, const Place& whole, char* own, Begin&& begin, Do&& chunk, Keep&& keep) {
  if constexpr (!keeps_snapshots<F>()) {
    static_cast<void>(args), static_cast<void>(own), static_cast<void>(keep);
    begin(whole);
    for (long long left = whole.tokens; left > 0; left -= kChunk) chunk(left);
  } else {
    static_assert(sizeof(Pieces<F>) <= kPiecesBytes, "a warp's place");
    auto* const pieces = reinterpret_cast<Pieces<F>*>(own);
    if (lane_id() == 0) *pieces = Pieces<F>(args, whole);
    warp_barrier();
    long long left = pieces->place().tokens;
    if (left > 0) begin(pieces->place());
    while (left > 0) {
      chunk(left);
      left -= kChunk;
      if (left > 0) continue;
      if (const long long slot = pieces->slot(args); slot >= 0) keep(slot);
      warp_barrier();
      if (lane_id() == 0) pieces->next(args);
      warp_barrier();
      left = pieces->place().tokens;
      if (left > 0) begin(pieces->place());
    }
  }
}

// The same by pieces.
template <class F, class Run, class Keep>
GDN_DEVICE void each_piece(const Args& args, const Place& whole, char* own, Run&& run, Keep&& keep) {
  if constexpr (!keeps_snapshots<F>()) {
    static_cast<void>(args), static_cast<void>(own), static_cast<void>(keep);
    if (whole.tokens > 0) run(whole);
  } else {
    static_assert(sizeof(Pieces<F>) <= kPiecesBytes, "a warp's place");
    auto* const pieces = reinterpret_cast<Pieces<F>*>(own);
    if (lane_id() == 0) *pieces = Pieces<F>(args, whole);
    warp_barrier();
    while (pieces->more()) {
      run(Place(pieces->place()));
      if (const long long slot = pieces->slot(args); slot >= 0) keep(slot);
      warp_barrier();
      if (lane_id() == 0) pieces->next(args);
      warp_barrier();
    }
  }
}

template <class F, class Run>
GDN_DEVICE void each_piece(const Args& args, const Place& whole, char* own, Run&& run) {
  each_piece<F>(args, whole, own, run, [](long long) {});
}

// Where a chunk number stands in its sequence.
struct Spot {
  long long token;  // the chunk's first; of a number that belongs to no chunk, the next chunk's
  long long left;   // tokens of the piece from there on; 0 or less: the number belongs to no chunk
  long long chunk;  // number of the chunk at `token`
};

template <class F>
GDN_DEVICE Spot spot_of(const Args& args, const Place& sequence, long long number) {
  const long long end = sequence.token + sequence.tokens;
  if constexpr (keeps_snapshots<F>()) {
    const Snapshots<F> snapshots(args, static_cast<int>(sequence.token));
    const int first = snapshots.number(), last = larger(first, snapshots_before<F>(args, end - 1));
    const auto behind = [&](int snapshot) {
      const long long token = snapshots.row_of(snapshot) + 1;
      return token < sequence.token ? sequence.token : token > end ? end : token;
    };
    const auto begin = [&](int piece) { return piece == first ? sequence.token : behind(piece - 1); };
    const auto chunk = [&](int piece) { return begin(piece) / kChunk + sequence.sequence + piece; };
    int piece = first, above = last + 1;  // the last one whose first chunk has at most this number
    while (above - piece > 1) {
      const int middle = (piece + above) / 2;
      if (chunk(middle) <= number) {
        piece = middle;
      } else {
        above = middle;
      }
    }
    const long long piece_end = piece < last ? behind(piece) : end, skipped = (number - chunk(piece)) * kChunk;
    if (skipped < 0) return {sequence.token, 0, chunk(first)};
    const long long token = begin(piece) + skipped;
    if (token < piece_end) return {token, piece_end - token, number};
    return {piece_end, 0, piece < last ? chunk(piece + 1) : number};
  } else {
    const long long skipped = (number - sequence.chunk) * kChunk, token = sequence.token + skipped;
    return {token < end ? token : end, skipped < 0 ? 0 : end - token, number};
  }
}

// Chunk numbers from a sequence's first chunk to its last.
template <class F>
GDN_DEVICE int chunk_numbers_of(const Args& args, const Place& sequence) {
  if constexpr (keeps_snapshots<F>()) {
    const long long end = sequence.token + sequence.tokens;
    const Snapshots<F> snapshots(args, static_cast<int>(end - 1));  // the last one inside begins the last piece
    const long long kept = snapshots.number() > 0 ? snapshots.row_of(snapshots.number() - 1) + 1 : 0;
    if (kept > sequence.token && kept < end) {
      const long long chunk = kept / kChunk + sequence.sequence + snapshots.number();
      return static_cast<int>(chunk - sequence.chunk + (end - kept + kChunk - 1) / kChunk);
    }
  }
  return sequence.chunks();
}

// All lanes of a warp ask together.
template <class F, class Offset>
GDN_DEVICE Chunk find_chunk(const Args& args, const Sequences<Offset>& sequences, long long number) {
  int first = 0, end = sequences.count;
  while (end - first > 1) {  // a 32nd of the range a round
    const int step = ceil_div(end - first, 32);
    const int mine = first + lane_id() * step;
    const bool before = mine < end && sequence_place<F>(args, sequences, mine, 0, 0).chunk <= number;
    const int last = 31 - leading_zeros(votes(before) | 1u);
    first += last * step;
    end = smaller(first + step, end);
  }
  const Spot spot = spot_of<F>(args, sequence_place<F>(args, sequences, first, 0, 0), number);
  return {first, spot.token, static_cast<int>(spot.left < 0 ? 0 : spot.left < kChunk ? spot.left : kChunk)};
}

}  // namespace gdn::sm90
