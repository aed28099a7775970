// Where a chunk whose key channels decay each at its own rate has its numbers in shared memory while its record is
// made, and in which order the sums of its rates lie there.
#pragma once

#include "gdn/sm90/triangle.h"

namespace gdn::sm90 {

template <class F>
struct ChannelShape {
  static constexpr int kThreads = kPrepThreads, kMembers = 1, kHeads = 1;
  // Of which there are sums at a time.
  static constexpr bool kByTile = prep_by_tile(F::kKeyDim);
  static constexpr int kTiles = kByTile ? 1 : Record<F>::kKeyTiles, kChannels = 64 * kTiles;
  // G, fp32 [64][kChannels] as sum_offset has it; then M and L (later R) in the same place.
  static constexpr int kSums = 2 * Record<F>::kKeyBytes, kSquares = kSums;
  static constexpr int kDiagonal = kSums + channel_sums_bytes(F::kKeyDim);  // fp32 [4] kDiagonalFloats
  static constexpr int kRead = kDiagonal + 4 * kDiagonalFloats * 4;         // fp32 [64]: exponents of k's rows, ..
  static constexpr int kQuery = kRead + kChunk * 4;                         // .. and of q's
  static constexpr int kBeta = kQuery + kChunk * 4;                         // fp32 [64]
  static constexpr int kGates = kBeta + kChunk * 4;
  static constexpr int kShared = kGates + Record<F>::kGateBytes;
  // Of k and q in shared memory: the factors' entries are then normal down to 2^-27. Vectors that need not be units get
  // less, for fp16 to hold them.
  static constexpr int kFactorShift = F::kQkNorm ? 13 : 6;
  static_assert(kShared == prep_channels_shared(F::kKeyDim), "as the launch will have it");
};

// Where four channels' sums lie among a token's: those of piece `piece` (of 8 channels), the first four or the second.
// A fragment's lane c has pieces 2 c, or 2 c + 1, of a tile: those of the four lanes lie next to each other, and those
// of tokens 1 or 2 apart in the other half of the banks.
GDN_DEVICE constexpr int sums_half_of(int token) { return (token ^ token >> 1) & 1; }
GDN_DEVICE constexpr int sum_offset(int token, int piece, int second) {
  return piece / 8 * 64 + piece % 2 * 32 + (second ^ sums_half_of(token)) * 16 + piece % 8 / 2 * 4;
}
// The channel whose sums lie at place x of tokens whose half is 0; in others' they lie at x ^ 16.
GDN_DEVICE constexpr int channel_of_place(int x) {
  return x / 64 * 64 + x % 16 / 4 * 16 + x % 64 / 32 * 8 + x % 32 / 16 * 4 + x % 4;
}

}  // namespace gdn::sm90
