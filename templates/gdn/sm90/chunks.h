// How sequences are cut into chunks of 64 tokens, and where a chunk's record lies in the workspace (record.h).
//
// Sequence s covers tokens starts[s] to starts[s + 1] - 1 and owns the chunk numbers from starts[s] / 64 + s up: at
// least as many as it has chunks (a length is less than 64 (floor(end / 64) - floor(start / 64) + 1)), so a chunk's
// number needs no sum over the sequences before. All chunk numbers are below tokens / 64 + sequences; some belong to no
// chunk. Where snapshots cut sequences, their pieces are what is numbered (pieces.h).
#pragma once

#include "gdn/gates.h"
#include "gdn/sm90/bulk.h"
#include "gdn/sm90/record.h"

namespace gdn::sm90 {

// The state is held at 2^kStateShift times X's scale, M and R at 2^kMatrixShift times theirs: fp16 is then used where
// it has most bits. A value written at the beginning of a chunk and decayed by e^-20 to its end still keeps half of
// them.
constexpr int kStateShift = 10, kMatrixShift = 12;

template <class F>
struct Record {
  static constexpr bool kByChannel = decays_by_channel<F>();
  static constexpr RecordSizes kSizes = {F::kKeyHeads, F::kValueHeads, F::kKeyDim, kByChannel};
  static constexpr int kKeyTiles = key_tiles(F::kKeyDim);
  static constexpr int kKeyBytes = kKeyTiles * kTileBytes;  // of k or of q
  static constexpr int kOwned = kSizes.owned_bytes();
  static constexpr int kMatrices = kSizes.matrices();
  static constexpr int kGates = kSizes.gates();
  static constexpr int kGateBytes = kSizes.gate_bytes();
  static constexpr int kBytes = kSizes.bytes();
  // Where k begins in a head's key tiles; q is behind it. Before it, by channel, k for the update.
  static constexpr int kKey = kByChannel ? kKeyBytes : 0;
  // P is at most 1 of unit vectors: times 2^14, as q by head then is too, a pair's decay is exact to fp16 down to
  // 2^-28.
  static constexpr int kPairShift = F::kQkNorm ? 14 : 0;

  // Of a key head, or by channel of a value head.
  GDN_HD static constexpr int keys(int owner) { return owner * kOwned; }
  GDN_DEVICE static int keys_of_value(int value_head) {
    return keys(kByChannel ? value_head : key_head_of<F>(value_head));
  }
  GDN_HD static constexpr int matrices(int value_head) { return kMatrices + value_head * 2 * kTriangleBytes; }
  GDN_HD static constexpr int gates(int value_head) { return kGates + value_head * kGateBytes; }
};

// Where a warp group works.
struct Place {
  int sequence, head, slice;
  long long token, tokens;  // of the sequence, or of the part of it that is worked through
  long long chunk;          // number of its first chunk

  GDN_DEVICE int chunks() const { return static_cast<int>((tokens + kChunk - 1) / kChunk); }
};

// What a launch says about its sequences. Offsets that no caller should give (falling, negative, beyond the rows) are
// cut to what can be read and written; no chunk number then lies beyond chunk_numbers(rows, count).
template <class Offset>
struct Sequences {
  Global<const Offset> starts;  // count + 1, from 0, not decreasing
  int count;
  int rows;  // of the launch

  GDN_DEVICE long long start(int sequence) const {
    const long long row = starts[sequence];
    return row < 0 ? 0 : row > rows ? rows : row;
  }
  GDN_DEVICE long long first_chunk(int sequence) const { return start(sequence) / kChunk + sequence; }
  // A head's slice over the whole sequence.
  GDN_DEVICE Place place(int sequence, int head, int slice) const {
    const long long first = start(sequence), end = start(sequence + 1);
    return {sequence, head, slice, first, end > first ? end - first : 0, first / kChunk + sequence};
  }
};

struct Chunk {
  int sequence;
  long long token;  // first
  int tokens;       // 1 to 64; 0 or less: this number belongs to no chunk
};

}  // namespace gdn::sm90
