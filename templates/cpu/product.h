// Products of bf16 matrices into one block of 32 x 32 fp32 sums in memory: by tiles, by AVX512-BF16, or in fp32.
#pragma once

#include <vector>

#include "cpu/chunk.h"

namespace gdn::cpu {

// A second part of an operand: bytes from it to another one of the same form, 0 for none. With both parts of both, the
// product of the two second ones is left out, as it is smaller than a rounding of the sums.
struct SecondParts {
  int left = 0, right = 0;
};

// Registers of a product. `left` and `right` point at the operands' first step and are changed, as are rcx (the number
// of steps, at least 1), rax, r10 and r11; `result` is kept. Changes all vector registers without tiles.
namespace reg {
inline const Reg64 left{6};    // rsi
inline const Reg64 right{2};   // rdx
inline const Reg64 result{8};  // r8
}  // namespace reg

// Bytes between rows. A step is 32 deep: 64 bytes of each of the 32 left rows, and 16 right rows of pairs.
struct ProductStrides {
  int left = 0, right = 0, result = 0;
};

// The block at reg::result <- sum over steps of left x right, of both parts where they have two.
void emit_product(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second = {});

// The same in two halves: with tiles the sums stay in them until they are stored, and other work can go between, while
// the matrix unit is at it; without tiles the first half does it all.
void emit_product_sums(ChunkContext& cc, const ProductStrides& strides, const SecondParts& second = {});
void emit_product_store(ChunkContext& cc, const ProductStrides& strides);

}  // namespace gdn::cpu
