// Conv taps that lie innermost: a block of 16 channels with all their taps, 16-bit elements, neighbours in memory.
//
// This is how checkpoints keep conv weights ([channel, tap]) and how a DS window lies ([slot, channel, tap]). A block
// of 2, 3 or 4 taps is 32 to 64 words: two registers, out of which word permutes take a tap of all channels at once,
// and into which a shifted window is put together again. Other strides take the general way of memory.h.
#pragma once

#include <cstdint>

#include "cpu/context.h"

namespace gdn::cpu {

class TapBlock {
 public:
  // `taps` of the map are in use; whether the block holds them all and nothing else, and the target permutes words.
  static bool fits(const Context& c, const core::Map& map, int taps);

  // The block lives in registers `low` and `low` + 1.
  TapBlock(Context& c, const core::Map& map, int low);

  // Sets k2, which tap() needs. Once a loop.
  void prepare() const;
  // Sets k3 and k4, which shift() needs, to where the newest row of a window goes. Once a loop.
  void prepare_shift(int newest) const;

  void load(const Reg64& base) const;

  // target <- tap `index` of the 16 channels, as fp32.
  void tap(int target, int index) const;

  // Rows 0 to newest - 1 take their successors, row `newest` takes the raw vector `input`; later rows stay. Stores the
  // block. Changes zmm30 and zmm31.
  void shift(const Reg64& base, int newest, int input) const;

 private:
  int words() const { return kLanes * taps_; }

  Context& c_;
  core::DType dtype_;
  int taps_;
  int low_;
};

}  // namespace gdn::cpu
