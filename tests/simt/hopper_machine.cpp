// The host shim's models of Hopper's machinery: lane maps and addresses of matrix instructions against a second source,
// and what the machine refuses.
//
// The second source is CUTLASS's description of the same instructions (mma_traits_sm90_gmma.hpp, mma_traits_sm80.hpp,
// copy_traits_sm75.hpp, mma_sm90_desc.hpp): layouts as nested shapes and strides, from (thread, value) to an element of
// the matrix, and the canonical layouts of operands in shared memory. Here they are evaluated as that notation says,
// with nothing taken from the model.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gdn/sm90/bulk.h"
#include "support/catch.h"

using namespace gdn;

namespace {

// A mode of a layout: shapes and strides, fastest first. at(i) is the offset of the i-th index.
struct Mode {
  std::vector<int> shape, stride;
  int at(int index) const {
    int offset = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const bool last = i + 1 == shape.size();
      offset += (last ? index : index % shape[i]) * stride[i];
      index /= shape[i];
    }
    return offset;
  }
};
struct TwoModes {
  Mode thread, value;
  int at(int t, int v) const { return thread.at(t) + value.at(v); }
};

// SM90_64xNx16_F32F16F16_*: C and A in registers, of (m, n) or (m, k) as m + 64 n.
TwoModes gmma_c(int n) { return {{{4, 8, 4}, {128, 1, 16}}, {{2, 2, n / 8}, {64, 8, 512}}}; }
const TwoModes kGmmaA = {{{4, 8, 4}, {128, 1, 16}}, {{2, 2, 2}, {64, 8, 512}}};
// SM80_16x8x16_F32F16F16F32_TN: m + 16 k, n + 8 k, m + 16 n.
const TwoModes kMmaA = {{{4, 8}, {32, 1}}, {{2, 2, 2}, {16, 8, 128}}};
const TwoModes kMmaB = {{{4, 8}, {16, 1}}, {{2, 2}, {8, 64}}};
const TwoModes kMmaC = {{{4, 8}, {32, 1}}, {{2, 2}, {16, 8}}};
// SM75_U32x4_LDSM_N and SM75_U16x8_LDSM_T, in bits; a matrix is 1024 bits, 128 a row.
const TwoModes kLdsmN = {{{32}, {32}}, {{32, 4}, {1, 1024}}};
const TwoModes kLdsmT = {{{4, 8}, {256, 16}}, {{16, 2, 4}, {1, 128, 1024}}};

// Byte address under Swizzle<3, 4, 3>.
unsigned swizzled(unsigned address) { return address ^ ((address & (7u << 7)) >> 3); }
// Canonical layouts of fp16 under the 128-byte swizzle, T = 8 elements a 128-bit word, in elements:
//   K-major   ((8, m), (T, 2 k)) : ((8 T, SBO), (1, T))
//   MN-major  ((T, 8, m), (8, k)) : ((1, T, LBO), (8 T, SBO))
// and without a swizzle (INTERLEAVE)
//   K-major   ((8, m), (T, 2 k)) : ((1 T, SBO), (1, LBO))
constexpr int kT = 8;
unsigned k_major_address(unsigned start, int row, int k, int sbo_bytes) {
  const Mode rows{{8, 1}, {8 * kT, sbo_bytes / 2}}, columns{{kT, 1}, {1, kT}};
  return swizzled(start + static_cast<unsigned>(2 * (rows.at(row) + columns.at(k))));
}
unsigned interleaved_address(unsigned start, int row, int k, int lbo_bytes, int sbo_bytes) {
  const Mode rows{{8, 1}, {kT, sbo_bytes / 2}}, columns{{kT, 2}, {1, lbo_bytes / 2}};
  return start + static_cast<unsigned>(2 * (rows.at(row) + columns.at(k)));
}
unsigned mn_major_address(unsigned start, int n, int k, int lbo_bytes, int sbo_bytes) {
  const Mode columns{{kT, 8, 1}, {1, kT, lbo_bytes / 2}}, steps{{8, 1}, {8 * kT, sbo_bytes / 2}};
  return swizzled(start + static_cast<unsigned>(2 * (columns.at(n) + steps.at(k))));
}

// Small integers: sums of 16 products are exact.
int number(int row, int column, int salt) { return (row * 7 + column * 13 + salt * 5) % 17 - 8; }
unsigned half(int x) { return float_to_half(static_cast<float>(x)); }
unsigned pair(int low, int high) { return half(low) | half(high) << 16; }

// Operand 0 of every kernel here: what it hands out.
float* out(const Args& args) { return static_cast<float*>(args.operand[0]); }

void put(unsigned address, int x) { sm90::store_shared_half(address, static_cast<unsigned short>(half(x))); }

// ---- kernels --------------------------------------------------------------------------------------------------------

// args.slots: 0 N = 64, 1 N = 32, both k along the rows; 2 N = 64, 3 N = 128, n along the rows; 4 A in shared memory;
// of a triangle without a swizzle 5 N = 64, 6 N = 32, the lower half.
void product_kernel(Args args) {
  const int mode = args.slots, t = thread_id();
  char* const shared = sm90::dynamic_shared();
  const unsigned base = sm90::shared_address(shared), a_tile = base + 32768;
  const int columns = mode == 1 || mode == 6 ? 32 : mode == 3 ? 128 : 64;
  // The second k-step of its tile, so that the descriptor's start counts.
  const unsigned start = mode == 2 || mode == 3 ? base + 2048 : base + 32;
  for (int i = t; i < columns * 16; i += 128) {
    const int n = i / 16, k = i % 16;
    const unsigned at = mode == 2 || mode == 3 ? mn_major_address(start, n, k, 8192, 1024)
                        : mode == 5            ? interleaved_address(base + 2 * 2048, n, k, 128, 256)
                        : mode == 6            ? interleaved_address(base + 2048, 32 + n, k, 128, 256)
                                               : k_major_address(start, n, k, 1024);
    put(at, number(n, k, 2));
  }
  for (int i = t; mode == 4 && i < 64 * 16; i += 128) {
    put(k_major_address(a_tile + 64, i / 16, i % 16, 1024), number(i / 16, i % 16, 1));
  }
  sm90::fence_async();
  barrier();
  unsigned a[4];
  for (int v = 0; v < 8; v += 2) {
    const int low = kGmmaA.at(t, v), high = kGmmaA.at(t, v + 1);
    a[v / 2] = pair(number(low % 64, low / 64, 1), number(high % 64, high / 64, 1));
  }
  float d32[16], d64[32], d128[64];
  for (float& x : d32) x = 3;
  for (float& x : d64) x = 3;
  for (float& x : d128) x = 3;
  sm90::products_begin();
  if (mode == 0) sm90::product_64(d64, a, 0, sm90::k_major(base) + sm90::kStepK, true);
  if (mode == 1) sm90::product_32(d32, a, 0, sm90::k_major(base) + sm90::kStepK, true);
  if (mode == 2) sm90::product_n_major(d64, a, 0, sm90::n_major(base) + sm90::kStepN);
  if (mode == 3) sm90::product_n_major(d128, a, 0, sm90::n_major(base) + sm90::kStepN);
  if (mode == 4) {
    sm90::product_shared(d64, sm90::k_major(a_tile) + 2 * sm90::kStepK, sm90::k_major(base) + sm90::kStepK, true);
  }
  if (mode == 5) sm90::product_64(d64, a, 0, sm90::triangle(base) + sm90::triangle_step(1), true);
  if (mode == 6) {
    sm90::product_32(d32, a, 0, sm90::triangle(base) + sm90::kTriangleHalf + sm90::triangle_step(2), true);
  }
  sm90::products_commit();
  sm90::products_wait<0>();
  for (int v = 0; v < columns / 2; ++v) {
    out(args)[t * 64 + v] = mode == 1 || mode == 6 ? d32[v] : mode == 3 ? d128[v] : d64[v];
  }
}

// mma.sync, ldmatrix in both ways, stmatrix and movmatrix, one warp.
void warp_kernel(Args args) {
  const int t = thread_id();
  char* const shared = sm90::dynamic_shared();
  const unsigned base = sm90::shared_address(shared);
  unsigned a[4], b[2];
  float d[4];
  for (int v = 0; v < 8; v += 2) {
    const int low = kMmaA.at(t, v), high = kMmaA.at(t, v + 1);
    a[v / 2] = pair(number(low % 16, low / 16, 1), number(high % 16, high / 16, 1));
  }
  for (int v = 0; v < 4; v += 2) {
    const int low = kMmaB.at(t, v), high = kMmaB.at(t, v + 1);
    b[v / 2] = pair(number(low % 8, low / 8, 2), number(high % 8, high / 8, 2));
  }
  for (float& x : d) x = 1;
  sm90::product_16x8(d, a, b[0], b[1]);
  for (int v = 0; v < 4; ++v) out(args)[t * 64 + v] = d[v];
  // Four matrices whose rows lie apart, in odd places; element (row, column) of matrix m is row, column and m.
  const auto row_at = [&](int m, int row) {
    return base + static_cast<unsigned>(((row * 5 + m * 3) % 32) * 48 + m * 1536);
  };
  for (int i = t; i < 4 * 64; i += 32) {
    const int m = i / 64, row = i / 8 % 8, column = i % 8;
    const auto bits = static_cast<unsigned short>(m * 64 + row * 8 + column);
    std::memcpy(shared + (row_at(m, row) - base) + static_cast<unsigned>(column) * 2, &bits, 2);
  }
  sm90::warp_barrier();
  unsigned plain[4], turned[4];
  sm90::load_matrices(plain, row_at(t / 8, t % 8));
  sm90::load_matrices_transposed(turned, row_at(t / 8, t % 8));
  const unsigned moved = sm90::transposed(plain[1]);
  unsigned two[2];
  sm90::load_two_matrices_transposed(two, row_at(t / 8 % 2, t % 8));
  for (int m = 0; m < 4; ++m) out(args)[t * 64 + 8 + m] = float_of(plain[m]);
  for (int m = 0; m < 4; ++m) out(args)[t * 64 + 16 + m] = float_of(turned[m]);
  out(args)[t * 64 + 24] = float_of(moved);
  out(args)[t * 64 + 26] = float_of(two[0]);
  out(args)[t * 64 + 27] = float_of(two[1]);
  // Back again, to another place.
  sm90::store_matrices_transposed(base + 8192 + static_cast<unsigned>(t) * 16, turned[0], turned[1], turned[2],
                                  turned[3]);
  sm90::warp_barrier();
  for (int i = 0; i < 2; ++i) {
    unsigned word = 0;
    std::memcpy(&word, shared + 8192 + t * 16 + i * 4, 4);
    out(args)[t * 64 + 32 + i] = float_of(word);
  }
}

// What goes wrong is args.slots.
void faulty_kernel(Args args) {
  const int fault = args.slots, t = thread_id();
  char* const shared = sm90::dynamic_shared();
  const unsigned base = sm90::shared_address(shared), phase = base + 16384;
  float d[32] = {};
  unsigned a[4] = {};
  if (fault <= 6) {
    for (int i = t; i < 512; i += 128) sm90::store_shared_16(base + static_cast<unsigned>(i) * 16, 0, 0, 0, 0);
    if (fault != 1) sm90::fence_async();
    barrier();
    if (fault != 2) sm90::products_begin();
    if (fault == 3 && t / 32 == 2) {
      sm90::product_64(d, a, 0, sm90::k_major(base) + sm90::kStepK, true);
    } else {
      sm90::product_64(d, a, 0, sm90::k_major(base), true);
    }
    sm90::products_commit();
    if (fault == 4) {
      for (float& x : d) x *= 2.0f;
    }
    if (fault == 5 && t == 0) shared[6] = 1;
    if (fault == 5) barrier();
    if (fault != 6) sm90::products_wait<0>();
    return;
  }
  if (t == 0) sm90::barrier_init(phase, 1);
  if (fault == 7 && t == 1) sm90::arrive(phase);
  barrier();
  if (t != 0) return;
  const char* const from = reinterpret_cast<const char*>(out(args));
  switch (fault) {
    case 8:  // more arrivals than were named
      sm90::arrive(phase);
      sm90::expect(phase, 32);
      sm90::arrive(phase);
      break;
    case 9:  // nobody waits for it
      sm90::expect(phase, 32);
      sm90::bulk_load(base, from, 32, phase);
      break;
    case 10:  // fewer bytes than were announced
      sm90::expect(phase, 64);
      sm90::bulk_load(base, from, 32, phase);
      sm90::wait(phase, 0);
      break;
    case 11:  // returns while its store still reads
      sm90::bulk_store(reinterpret_cast<char*>(out(args)), base, 32);
      sm90::bulk_commit();
      break;
    case 12:  // not of 16 bytes
      sm90::expect(phase, 24);
      sm90::bulk_load(base, from, 24, phase);
      break;
    case 13:  // beyond shared memory
      sm90::store_shared(base + 60000 + 48 * 1024, 0);
      break;
    case 15:  // returns while a copy may still be under way
      sm90::copy_16(base, from, true);
      sm90::copies_commit();
      break;
    case 14:  // never initialised
      sm90::wait(phase + 8, 0);
      break;
    default:
      break;
  }
}

std::string run(GdnHostKernel kernel, int threads, int slots, unsigned order, std::vector<float>& result) {
  Args args = {};
  result.assign(128 * 64, -1.0f);
  args.operand[0] = result.data();
  args.slots = slots;
  char message[512] = {};
  const int status = gdn_host_launch(kernel, &args, 1, 1, threads, 1, 49152, order, message, sizeof(message));
  return status == 0 ? "" : message;
}

}  // namespace

TEST_CASE("warp-group products have CUTLASS's lane maps, swizzle and canonical layouts") {
  for (const unsigned order : {0u, 1u, 9u}) {
    for (int mode = 0; mode < 7; ++mode) {
      std::vector<float> got;
      REQUIRE(run(product_kernel, 128, mode, order, got) == "");
      const int columns = mode == 1 || mode == 6 ? 32 : mode == 3 ? 128 : 64;
      const TwoModes c = gmma_c(columns);
      int wrong = 0;
      for (int t = 0; t < 128; ++t) {
        for (int v = 0; v < columns / 2; ++v) {
          const int at = c.at(t, v), m = at % 64, n = at / 64;
          int want = 3;
          for (int k = 0; k < 16; ++k) want += number(m, k, 1) * number(n, k, 2);
          if (got[static_cast<std::size_t>(t * 64 + v)] != static_cast<float>(want)) ++wrong;
        }
      }
      INFO("mode " << mode << ", order " << order);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a warp's matrix instructions have CUTLASS's lane maps") {
  std::vector<float> got;
  REQUIRE(run(warp_kernel, 32, 0, 0, got) == "");
  const auto word = [&](int t, int i) { return bits_of(got[static_cast<std::size_t>(t * 64 + i)]); };
  for (int t = 0; t < 32; ++t) {
    for (int v = 0; v < 4; ++v) {
      const int at = kMmaC.at(t, v), m = at % 16, n = at / 16;
      int want = 1;
      for (int k = 0; k < 16; ++k) want += number(m, k, 1) * number(n, k, 2);
      CHECK(got[static_cast<std::size_t>(t * 64 + v)] == static_cast<float>(want));
    }
    for (int m = 0; m < 4; ++m) {
      for (int i = 0; i < 2; ++i) {
        // The bit of a value's first place, of the matrices' bits one after the other.
        const int plain = kLdsmN.at(t, i * 16 + m * 32) / 16, turned = kLdsmT.at(t, i * 16 + m * 32) / 16;
        CHECK((word(t, 8 + m) >> (16 * i) & 0xffffu) == static_cast<unsigned>(plain));
        CHECK((word(t, 16 + m) >> (16 * i) & 0xffffu) == static_cast<unsigned>(turned));
        if (m < 2) CHECK((word(t, 26 + m) >> (16 * i) & 0xffffu) == static_cast<unsigned>(turned));
        if (m == 1) CHECK((word(t, 24) >> (16 * i) & 0xffffu) == static_cast<unsigned>(turned));
      }
    }
    // Row t % 8 of matrix t / 8, its first four elements.
    for (int i = 0; i < 4; ++i) {
      CHECK((word(t, 32 + i / 2) >> (16 * (i % 2)) & 0xffffu) == static_cast<unsigned>(t / 8 * 64 + t % 8 * 8 + i));
    }
  }
}

TEST_CASE("the shim refuses what hardware would let pass by luck") {
  struct Row {
    int fault;
    const char* text;
  };
  const Row rows[] = {{1, "wrote it without a fence"},
                      {2, "without products_begin"},
                      {3, "the warps of a warp group issue different products"},
                      {4, "was touched between a product and its wait"},
                      {5, "shared memory changed while a product read it"},
                      {6, "returns while products are under way"},
                      {7, "before its initialisation is published"},
                      {8, "one arrival more than"},
                      {9, "transfers are under way"},
                      {10, "deadlocked"},
                      {11, "returns before its bulk stores have read"},
                      {12, "not of 16-byte pieces"},
                      {13, "of shared memory, which ends at"},
                      {14, "never initialised"},
                      {15, "returns before its copies of 16 bytes were waited for"}};
  for (const Row& row : rows) {
    std::vector<float> result;
    const std::string message = run(faulty_kernel, 128, row.fault, 0, result);
    INFO("fault " << row.fault);
    CHECK_THAT(message, Catch::Contains(row.text));
  }
  std::vector<float> result;
  CHECK(run(faulty_kernel, 128, 0, 0, result) == "");
}
