// Hopper's warp-group products, as the chunked delta rule uses them: fp16 operands, fp32 accumulators, M = 64.
//
// Operands in shared memory, but for triangles (triangle below), are tiles of 64 columns (128 bytes a row) under the
// 128-byte swizzle: the 16-byte piece p of row r stands in place p ^ (r % 8). A tile starts on a multiple of 1024
// bytes; a matrix of more columns is several tiles one after the other.
//
// Fragments (PTX ISA, "Asynchronous warpgroup level matrix instructions"): thread 32 w + 4 g + c of the warp group
// holds
//   accumulator [4 n + 2 i + j]   row 16 w + g + 8 i,  column 8 n + 2 c + j
//   A, word [i] of k-step s       rows 16 w + g + 8 (i % 2),  columns 16 s + 8 (i / 2) + 2 c and + 1
// so that packing the accumulators of columns 16 s to 16 s + 15 in pairs gives A's words of k-step s: no data moves
// between one product and the next.
//
// Shared memory that ordinary stores wrote needs fence_async and a barrier before a product or a bulk copy reads it.
//
// What one warp does alone (products of 16x8, loads and stores of matrices, what its lanes tell each other) is there on
// every target from sm_80 on, and gdn/mma makes do with it; stmatrix alone needs sm_90.
#pragma once

#include "gdn/numeric.h"
#include "gdn/sm90/record.h"

#if defined(GDN_ON_HOST)
#include "gdn_host/products.h"
#elif !defined(GDN_ON_CUDA)
#error "gdn/sm90: for NVIDIA and the host shim"
#endif

namespace gdn::sm90 {

using Descriptor = unsigned long long;

// Byte offset of element (row, column) in a swizzled tile of fp16.
GDN_HD constexpr unsigned tile_offset(int row, int column) {
  return static_cast<unsigned>(row * 128 + (((column >> 3) ^ (row & 7)) << 4) + (column & 7) * 2);
}

// ---- descriptors ----------------------------------------------------------------------------------------------------
//
// Offsets inside a descriptor count 16 bytes, so a descriptor moves by plain addition.

// k-dimension along the rows of the tile: 8-row groups are 1024 bytes apart. 16 columns further: + 2.
GDN_DEVICE Descriptor k_major(unsigned address) {
  return static_cast<Descriptor>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}
constexpr Descriptor kStepK = 2, kStepTile = kTileBytes / 16;

// The tile read the other way round: its rows are the k-dimension, its columns n. The next 64 columns are a tile
// further. 16 rows further: + 128.
GDN_DEVICE Descriptor n_major(unsigned address) {
  return static_cast<Descriptor>((address & 0x3ffff) >> 4) | static_cast<Descriptor>(kTileBytes / 16) << 16 |
         64ull << 32 | 1ull << 62;
}
constexpr Descriptor kStepN = 128;

// A lower triangular [64][64], k-dimension along the rows, without a swizzle: as a record's blocks (record.h), but with
// room for all four of each k-step. 8 columns further: 128 bytes, 8 rows: 256. 32 rows further: + kTriangleHalf.
GDN_DEVICE Descriptor triangle(unsigned address) {
  return static_cast<Descriptor>((address & 0x3ffff) >> 4) | 8ull << 16 | 16ull << 32;
}
constexpr Descriptor kTriangleHalf = 1024 / 16;
GDN_DEVICE constexpr Descriptor triangle_step(int i) { return static_cast<Descriptor>(3 - i) * (2048 / 16); }

// k-step i of a matrix of several tiles.
GDN_DEVICE constexpr Descriptor along_key(int i) {
  return static_cast<Descriptor>(i / 4) * kStepTile + static_cast<Descriptor>(i % 4) * kStepK;
}

#if defined(GDN_ON_CUDA)

// ---- addresses and single accesses ----------------------------------------------------------------------------------

GDN_DEVICE unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }
GDN_DEVICE const float* shared_floats(unsigned address) {
  return static_cast<const float*>(__cvta_shared_to_generic(address));
}
// The block's dynamic shared memory.
GDN_DEVICE char* dynamic_shared() {
  extern __shared__ __align__(1024) char shared[];
  return shared;
}
GDN_DEVICE void store_shared(unsigned to, unsigned word) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}
GDN_DEVICE void store_shared_half(unsigned to, unsigned short bits) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(bits) : "memory");
}
GDN_DEVICE void store_shared_16(unsigned to, unsigned x0, unsigned x1, unsigned x2, unsigned x3) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(x0), "r"(x1), "r"(x2), "r"(x3) : "memory");
}
GDN_DEVICE void load_shared_16(unsigned* to, unsigned from) {
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}
GDN_DEVICE float2 load_shared_pair(unsigned from) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(from) : "memory");
  return pair;
}
// To device memory. By hand: a plain store of 16 bytes was split into four.
GDN_DEVICE void store_16(Global<char> to, const unsigned* x) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
               : "memory");
}

// ---- order ----------------------------------------------------------------------------------------------------------

GDN_DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
GDN_DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending committed groups are under way.
template <int kPending>
GDN_DEVICE void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
GDN_DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- products -------------------------------------------------------------------------------------------------------

// NOLINTBEGIN: an instruction names each of its registers
#define GDN_D8(d, o)                                                                                          \
  "+f"(d[o]), "+f"(d[o + 1]), "+f"(d[o + 2]), "+f"(d[o + 3]), "+f"(d[o + 4]), "+f"(d[o + 5]), "+f"(d[o + 6]), \
      "+f"(d[o + 7])
#define GDN_D16(d, o) GDN_D8(d, o), GDN_D8(d, o + 8)
#define GDN_D32(d, o) GDN_D16(d, o), GDN_D16(d, o + 16)
#define GDN_L16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define GDN_L32 GDN_L16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define GDN_L64                                                                                            \
  GDN_L32                                                                                                  \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%" \
  "57,%58,%59,%60,%61,%62,%63"
#define GDN_A(a, s) "r"(a[4 * (s)]), "r"(a[4 * (s) + 1]), "r"(a[4 * (s) + 2]), "r"(a[4 * (s) + 3])

// One k-step of 16: d (+)= a b. `a` is A's words of all k-steps, `step` which one; `more` false overwrites d.
// N = 64, b with its k-dimension along the rows.
template <int kWords>
GDN_DEVICE void product_64(float (&d)[32], const unsigned (&a)[kWords], int step, Descriptor b, bool more) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" GDN_L32 "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"
      : GDN_D32(d, 0)
      : GDN_A(a, step), "l"(b), "r"(static_cast<int>(more)));
}
template <int kWords>
GDN_DEVICE void product_32(float (&d)[16], const unsigned (&a)[kWords], int step, Descriptor b, bool more) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {" GDN_L16 "}, {%16,%17,%18,%19}, %20, p, 1, 1, 0;\n}"
      : GDN_D16(d, 0)
      : GDN_A(a, step), "l"(b), "r"(static_cast<int>(more)));
}
// N = 64 or 128 columns of the accumulators' 64 k_tiles, b the other way round; always adds.
template <int kWords>
GDN_DEVICE void product_n_major(float (&d)[64], const unsigned (&a)[kWords], int step, Descriptor b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" GDN_L64 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : GDN_D32(d, 0), GDN_D32(d, 32)
               : GDN_A(a, step), "l"(b));
}
template <int kWords>
GDN_DEVICE void product_n_major(float (&d)[32], const unsigned (&a)[kWords], int step, Descriptor b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" GDN_L32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
               : GDN_D32(d, 0)
               : GDN_A(a, step), "l"(b));
}
// Columns kFirst to kFirst + 63 alone.
template <int kFirst, int kWords>
GDN_DEVICE void product_n_major_tile(float (&d)[64], const unsigned (&a)[kWords], int step, Descriptor b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" GDN_L32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
               : GDN_D32(d, kFirst / 2)
               : GDN_A(a, step), "l"(b));
}
// Both operands in shared memory, k-dimensions along the rows.
GDN_DEVICE void product_shared(float (&d)[32], Descriptor a, Descriptor b, bool more) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" GDN_L32 "}, %32, %33, p, 1, 1, 0, 0;\n}"
      : GDN_D32(d, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(more)));
}

#undef GDN_A
#undef GDN_L64
#undef GDN_L32
#undef GDN_L16
#undef GDN_D32
#undef GDN_D16
#undef GDN_D8
// NOLINTEND

// ---- one warp -------------------------------------------------------------------------------------------------------

// d += a b, 16x16 by 16x8, fp16 in and fp32 out.
GDN_DEVICE void product_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four, or two, 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
GDN_DEVICE void load_matrices(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
GDN_DEVICE void load_matrices_transposed(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
GDN_DEVICE void load_two_matrices_transposed(unsigned (&to)[2], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(address)
               : "memory");
}
GDN_DEVICE void store_matrices_transposed(unsigned address, unsigned x0, unsigned x1, unsigned x2, unsigned x3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%4], {%0,%1,%2,%3};" ::"r"(x0), "r"(x1), "r"(x2),
               "r"(x3), "r"(address)
               : "memory");
}
// The 8x8 matrix whose rows the lanes hold, transposed.
GDN_DEVICE unsigned transposed(unsigned x) {
  unsigned y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// Among the lanes of a warp, all of which take part: the value of the lane whose number differs by the bits of
// `distance`; of the lane so far below (a lane with none gets its own); of lane `source` of each `width` lanes; a bit
// for each lane; the largest and the least.
GDN_DEVICE float from_across(float x, int distance) { return __shfl_xor_sync(0xffffffffu, x, distance); }
GDN_DEVICE float from_below(float x, int distance) {
  return __shfl_up_sync(0xffffffffu, x, static_cast<unsigned>(distance));
}
GDN_DEVICE float from_lane(float x, int source, int width) { return __shfl_sync(0xffffffffu, x, source, width); }
// By all lanes.
GDN_DEVICE int from_first_lane(int x) { return __shfl_sync(0xffffffffu, x, 0); }
GDN_DEVICE unsigned votes(bool yes) { return __ballot_sync(0xffffffffu, yes); }
GDN_DEVICE unsigned largest_of_warp(unsigned x) { return __reduce_max_sync(0xffffffffu, x); }
GDN_DEVICE int least_of_warp(int x) { return __reduce_min_sync(0xffffffffu, x); }
GDN_DEVICE void warp_barrier() { __syncwarp(); }

// ---- numbers --------------------------------------------------------------------------------------------------------

GDN_DEVICE int leading_zeros(unsigned x) { return __clz(static_cast<int>(x)); }
GDN_DEVICE float larger_of(float x, float y) { return fmaxf(x, y); }
GDN_DEVICE float magnitude_of(float x) { return fabsf(x); }
// The larger magnitudes of two pairs; the signs mean nothing. And products of pairs, each rounded once.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
GDN_DEVICE unsigned larger_bf16(unsigned a, unsigned b) {
  unsigned y;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(a & 0x7fff7fffu), "r"(b & 0x7fff7fffu));
  return y;
}
GDN_DEVICE unsigned larger_half(unsigned a, unsigned b) {
  unsigned y;
  asm("max.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a & 0x7fff7fffu), "r"(b & 0x7fff7fffu));
  return y;
}
GDN_DEVICE unsigned product_bf16(unsigned a, unsigned b) {
  unsigned y;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(0x80008000u));  // minus zero changes no sign
  return y;
}
#else
GDN_DEVICE unsigned larger_bf16(unsigned a, unsigned b) {
  unsigned y;
  asm("max.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
GDN_DEVICE unsigned larger_half(unsigned a, unsigned b) {
  unsigned y;
  asm("max.xorsign.abs.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
GDN_DEVICE unsigned product_bf16(unsigned a, unsigned b) {
  unsigned y;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}
#endif
// a b + c, rounded once.
GDN_DEVICE unsigned fused_bf16(unsigned a, unsigned b, unsigned c) {
  unsigned y;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
GDN_DEVICE unsigned product_half(unsigned a, unsigned b) {
  unsigned y;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(y) : "r"(a), "r"(b));
  return y;
}

#else

// ---- the host shim --------------------------------------------------------------------------------------------------

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
GDN_DEVICE float2 make_float2(float x, float y) { return {x, y}; }

GDN_DEVICE unsigned shared_address(const void* p) { return gdn_host::machine.shared_address(p); }
GDN_DEVICE const float* shared_floats(unsigned address) {
  return reinterpret_cast<const float*>(gdn_host::machine.shared_pointer(address, 4, 4));
}
GDN_DEVICE char* dynamic_shared() { return static_cast<char*>(gdn_host::machine.dynamic_shared()); }
GDN_DEVICE void store_shared(unsigned to, unsigned word) { gdn_host::machine.store_shared(to, &word, 4); }
GDN_DEVICE void store_shared_half(unsigned to, unsigned short bits) { gdn_host::machine.store_shared(to, &bits, 2); }
GDN_DEVICE void store_shared_16(unsigned to, unsigned x0, unsigned x1, unsigned x2, unsigned x3) {
  const unsigned x[4] = {x0, x1, x2, x3};
  gdn_host::machine.store_shared(to, x, 16);
}
GDN_DEVICE void load_shared_16(unsigned* to, unsigned from) { gdn_host::machine.load_shared(from, to, 16); }
GDN_DEVICE float2 load_shared_pair(unsigned from) {
  float2 pair;
  gdn_host::machine.load_shared(from, &pair, 8);
  return pair;
}
GDN_DEVICE void store_16(Global<char> to, const unsigned* x) { gdn_host::write(to, x, 16); }

GDN_DEVICE void products_begin() { gdn_host::products_begin(); }
GDN_DEVICE void products_commit() { gdn_host::products_commit(); }
template <int kPending>
GDN_DEVICE void products_wait() {
  gdn_host::products_wait(kPending);
}
GDN_DEVICE void fence_async() { gdn_host::machine.fence_async(); }

template <int kWords>
GDN_DEVICE void product_64(float (&d)[32], const unsigned (&a)[kWords], int step, Descriptor b, bool more) {
  gdn_host::issue({64, false, false, more, 0, b}, d, a + 4 * step);
}
template <int kWords>
GDN_DEVICE void product_32(float (&d)[16], const unsigned (&a)[kWords], int step, Descriptor b, bool more) {
  gdn_host::issue({32, false, false, more, 0, b}, d, a + 4 * step);
}
template <int kWords>
GDN_DEVICE void product_n_major(float (&d)[64], const unsigned (&a)[kWords], int step, Descriptor b) {
  gdn_host::issue({128, false, true, true, 0, b}, d, a + 4 * step);
}
template <int kWords>
GDN_DEVICE void product_n_major(float (&d)[32], const unsigned (&a)[kWords], int step, Descriptor b) {
  gdn_host::issue({64, false, true, true, 0, b}, d, a + 4 * step);
}
template <int kFirst, int kWords>
GDN_DEVICE void product_n_major_tile(float (&d)[64], const unsigned (&a)[kWords], int step, Descriptor b) {
  gdn_host::issue({64, false, true, true, 0, b}, d + kFirst / 2, a + 4 * step);
}
GDN_DEVICE void product_shared(float (&d)[32], Descriptor a, Descriptor b, bool more) {
  gdn_host::issue({64, true, false, more, a, b}, d, nullptr);
}

GDN_DEVICE void product_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  gdn_host::product_16x8(d, a, b0, b1);
}
GDN_DEVICE void load_matrices(unsigned (&to)[4], unsigned address) { gdn_host::load_matrices(to, 4, false, address); }
GDN_DEVICE void load_matrices_transposed(unsigned (&to)[4], unsigned address) {
  gdn_host::load_matrices(to, 4, true, address);
}
GDN_DEVICE void load_two_matrices_transposed(unsigned (&to)[2], unsigned address) {
  gdn_host::load_matrices(to, 2, true, address);
}
GDN_DEVICE void store_matrices_transposed(unsigned address, unsigned x0, unsigned x1, unsigned x2, unsigned x3) {
  gdn_host::store_matrices_transposed(address, x0, x1, x2, x3);
}
GDN_DEVICE unsigned transposed(unsigned x) { return gdn_host::transposed(x); }
GDN_DEVICE float from_across(float x, int distance) { return gdn_host::from_across(x, distance); }
GDN_DEVICE float from_below(float x, int distance) { return gdn_host::from_below(x, distance); }
GDN_DEVICE float from_lane(float x, int source, int width) { return gdn_host::from_lane(x, source, width); }
// Every lane has the same already wherever it is asked for.
GDN_DEVICE int from_first_lane(int x) { return x; }
GDN_DEVICE unsigned votes(bool yes) { return gdn_host::votes(yes); }
GDN_DEVICE unsigned largest_of_warp(unsigned x) { return gdn_host::largest_of_warp(x); }
GDN_DEVICE int least_of_warp(int x) { return gdn_host::least_of_warp(x); }
GDN_DEVICE void warp_barrier() { gdn_host::warp_barrier(); }

GDN_DEVICE int leading_zeros(unsigned x) { return x == 0 ? 32 : __builtin_clz(x); }
GDN_DEVICE float larger_of(float x, float y) { return __builtin_fmaxf(x, y); }
GDN_DEVICE float magnitude_of(float x) { return __builtin_fabsf(x); }
// By halves: the larger magnitude, whose sign is theirs xored.
GDN_DEVICE unsigned larger_pair(unsigned a, unsigned b) {
  unsigned y = 0;
  for (int i = 0; i < 32; i += 16) {
    const unsigned x0 = a >> i & 0x7fffu, x1 = b >> i & 0x7fffu;
    y |= ((x0 > x1 ? x0 : x1) | ((a ^ b) >> i & 0x8000u)) << i;
  }
  return y;
}
GDN_DEVICE unsigned larger_bf16(unsigned a, unsigned b) { return larger_pair(a, b); }
GDN_DEVICE unsigned larger_half(unsigned a, unsigned b) { return larger_pair(a, b); }
GDN_DEVICE unsigned product_bf16(unsigned a, unsigned b) {
  return float_to_bf16_pair(float_of(a << 16) * float_of(b << 16),
                            float_of(a & 0xffff0000u) * float_of(b & 0xffff0000u));
}
GDN_DEVICE unsigned fused_bf16(unsigned a, unsigned b, unsigned c) {
  const auto sum = [](unsigned x, unsigned y, unsigned z) {  // a double holds it, or its rounding is the last bit's
    return static_cast<float>(static_cast<double>(float_of(x)) * static_cast<double>(float_of(y)) +
                              static_cast<double>(float_of(z)));
  };
  return float_to_bf16_pair(sum(a << 16, b << 16, c << 16), sum(a & 0xffff0000u, b & 0xffff0000u, c & 0xffff0000u));
}
GDN_DEVICE unsigned product_half(unsigned a, unsigned b) {
  const auto half = [](unsigned pair, int i) { return half_to_float(static_cast<unsigned short>(pair >> (16 * i))); };
  return float_to_half_pair(half(a, 0) * half(b, 0), half(a, 1) * half(b, 1));
}

#endif

// 2^n, for -126 <= n <= 127.
GDN_DEVICE float power_of_two(int n) { return float_of(static_cast<unsigned>(n + 127) << 23); }
// The biased exponent of the larger magnitude of a pair.
template <int kMantissaBits>
GDN_DEVICE int exponent_of_pair(unsigned x) {
  const unsigned low = x & 0x7fffu, high = x >> 16 & 0x7fffu;
  return static_cast<int>((low > high ? low : high) >> kMantissaBits);
}

}  // namespace gdn::sm90
