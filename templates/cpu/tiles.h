// The tile registers of AMX: the only class that emits their instructions.
//
// Xbyak writes several forms without a word that a processor refuses, or that mean something else: an address without
// index (all rows on one another), a product of a tile with itself, shapes that don't fit. Here each instruction is
// held against the palette as it is emitted, and a wrong one throws std::logic_error that says what is wrong.
#pragma once

#include <array>

#include "cpu/emitter.h"

namespace gdn::cpu {

struct TileShape {
  int rows = 0;   // 1 to 16; 0 for a tile that isn't used
  int bytes = 0;  // of a row: 4 to 64, whole dwords; 0 for a tile that isn't used
};

// Shapes of tmm0 to tmm7 from configure() to release(). Plan data: a kernel's plan says rows and bytes.
using Palette = std::array<TileShape, 8>;

class Tiles {
 public:
  // Throws for a shape that no tile can have.
  Tiles(Emitter& e, const Palette& palette);

  // Loads the palette; clears all tiles. Once in a call of the kernel, before any other instruction of this class.
  void configure();

  // Gives the tiles back. A thread that keeps them makes each of its context switches dearer.
  void release();

  void zero(int tile);

  // Row i of the tile lies at base + displacement + i * stride; `stride` holds bytes.
  void load(int tile, const Reg64& base, const Reg64& stride, std::int64_t displacement = 0);
  void store(const Reg64& base, const Reg64& stride, std::int64_t displacement, int tile);

  // c += a * b: fp32 sums of products of bf16 pairs; a has the pairs of a row next to each other, b has pairs of rows.
  void multiply(int c, int a, int b);

 private:
  void check_tile(int tile, const char* what) const;
  Address rows_at(const Reg64& base, const Reg64& stride, std::int64_t displacement, const char* what) const;

  Emitter& e_;
  Palette palette_;
  bool configured_ = false;
};

}  // namespace gdn::cpu
