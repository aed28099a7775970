// Matrix instructions of a warp and of a warp group, and what goes on between the lanes of a warp: the part of the host
// shim that templates/gdn/sm90/wgmma.h maps to.
//
// A warp-group product (wgmma) is a collective of four warps that runs beside the threads. Each warp computes the 16
// rows of its own:
//
//   accumulator [4 n + 2 i + j] of lane 4 g + c     row g + 8 i, column 8 n + 2 c + j
//   A in registers, word [i], elements 2 w and + 1  row g + 8 (i % 2), column 8 (i / 2) + 2 c + w
//   A or B in shared memory, k along the rows       element (r, k) at start + (r / 8) stride + (r % 8) 128 + 2 k
//   B the other way round, element (n, k)           at start + (n / 64) leading + (k / 8) stride + (k % 8) 128 + 2 (n %
//   64)
//
// under the 128-byte swizzle: bits 4 to 6 of an address are those bits xor bits 7 to 9. Without a swizzle, k along the
// rows alone,
//
//   element (r, k)                                  at start + (r / 8) stride + (k / 8) leading + (r % 8) 16 + 2 (k %
//   8)
//
// (PTX ISA, "Asynchronous warpgroup level matrix instructions".) tests/simt/hopper.cpp holds all of it against
// CUTLASS's description.
//
// Stricter than hardware:
//   - the registers of a product under way hold NaN until it is waited for, and must hold it still then
//   - what a product reads in shared memory is the same when it is issued and when it is waited for
//   - products_begin stands between a wait and the next product
//   - all lanes of a warp and all warps of a warp group issue the same products
// Sums are exact within a k-step, then rounded to fp32; hardware keeps fewer bits.
#pragma once

#include "gdn_host/async.h"

#pragma GCC visibility push(hidden)
namespace gdn_host {

constexpr unsigned kPoison = 0x7fbadbadu;

// ---- addresses ------------------------------------------------------------------------------------------------------

// Byte address of an element of a matrix in shared memory; `row` is m or n.
inline unsigned matrix_address(unsigned long long descriptor, bool n_major, int row, int k) {
  const auto field = [&](int shift) { return static_cast<unsigned>(descriptor >> shift & 0x3fffu) << 4; };
  const unsigned start = field(0), leading = field(16), stride = field(32);
  const auto r = static_cast<unsigned>(row), step = static_cast<unsigned>(k);
  if (descriptor >> 62 == 0) return start + r / 8 * stride + step / 8 * leading + r % 8 * 16 + step % 8 * 2;
  const unsigned at = n_major ? start + r / 64 * leading + step / 8 * stride + step % 8 * 128 + r % 64 * 2
                              : start + r / 8 * stride + r % 8 * 128 + step * 2;
  return at ^ (at >> 3 & 0x70u);
}

inline unsigned short half_at(unsigned address) {
  unsigned short bits = 0;
  std::memcpy(&bits, machine.shared_pointer(address, 2, 2), 2);
  return bits;
}

inline std::vector<unsigned short> matrix_bits(unsigned long long descriptor, bool n_major, int rows) {
  std::vector<unsigned short> bits(static_cast<std::size_t>(rows) * 16);
  for (int r = 0; r < rows; ++r) {
    for (int k = 0; k < 16; ++k)
      bits[static_cast<std::size_t>(r * 16 + k)] = half_at(matrix_address(descriptor, n_major, r, k));
  }
  return bits;
}

inline void expect_fenced(unsigned long long descriptor, bool n_major, int rows) {
  Block& block = *machine.current().block;
  for (int r = 0; r < rows; ++r) {
    for (int k = 0; k < 16; k += n_major ? 1 : 8) {
      machine.expect_fenced(block, matrix_address(descriptor, n_major, r, k), 2);
    }
  }
}

// ---- warp-group products --------------------------------------------------------------------------------------------

inline void products_begin() { machine.current().products.fenced = true; }
inline void products_commit() {
  ProductsOfThread& mine = machine.current().products;
  mine.groups.push_back(mine.issued);
}

inline Held& hold(float* at, int count) {
  ProductsOfThread& mine = machine.current().products;
  for (Held& held : mine.held) {
    const auto size = static_cast<std::ptrdiff_t>(held.values.size());
    if (held.at == at && size == count) return held;
    if (held.at < at + count && at < held.at + size)
      machine.fail("two products under way share some of their accumulators");
  }
  Held held;
  held.at = at;
  held.values.assign(at, at + count);
  mine.held.push_back(std::move(held));
  return mine.held.back();
}

inline void issue(const ProductShape& shape, float* d, const unsigned* a) {
  Thread& thread = machine.current();
  ProductsOfThread& mine = thread.products;
  Block& block = *thread.block;
  Wave& wave = block.waves[static_cast<std::size_t>(thread.id / 32)];
  if (!mine.fenced) machine.fail("a product without products_begin since the last wait");
  if (shape.a >> 62 > 1 || shape.b >> 62 > 1) machine.fail("a descriptor of another swizzle than that of 128 bytes");
  if (shape.n_major && shape.b >> 62 == 0) machine.fail("without a swizzle the k-dimension is along the rows");
  const long long number = mine.issued++;
  const auto index = static_cast<std::size_t>(number - wave.first_product);
  if (index == wave.products.size()) {
    Product product;
    product.shape = shape;
    if (shape.shared_a) {
      const unsigned long long own =
          shape.a + static_cast<unsigned long long>(thread.id / 32 % 4 * 16 / 8) * (shape.a >> 32 & 0x3fffu);
      expect_fenced(own, false, 16);
      product.a = matrix_bits(own, false, 16);
    }
    expect_fenced(shape.b, shape.n_major, shape.columns);
    product.b = matrix_bits(shape.b, shape.n_major, shape.columns);
    wave.products.push_back(std::move(product));
    const auto group = static_cast<std::size_t>(thread.id / 128);
    if (block.product_logs.size() <= group) block.product_logs.resize(group + 1);
    std::vector<ProductShape>& log = block.product_logs[group];
    if (number == static_cast<long long>(log.size())) {
      log.push_back(shape);
    } else if (!(log[static_cast<std::size_t>(number)] == shape)) {
      machine.fail("the warps of a warp group issue different products");
    }
  }
  Product& product = wave.products[index];
  if (!(product.shape == shape)) machine.fail("the lanes of a warp issue different products");
  const int lane = thread.id % 32;
  product.to[lane] = d;
  if (a != nullptr) std::memcpy(product.words[lane], a, 16);
  Held& held = hold(d, shape.columns / 2);
  ++held.products;
  for (std::size_t i = 0; i < held.values.size(); ++i) d[i] = bit_cast<float>(kPoison);
}

// A warp's share of a product, for all its lanes.
inline void compute(const Product& product, Block& block, int first_thread) {
  const ProductShape& shape = product.shape;
  const unsigned long long own =
      shape.a + static_cast<unsigned long long>(first_thread / 32 % 4 * 2) * (shape.a >> 32 & 0x3fffu);
  if ((shape.shared_a && product.a != matrix_bits(own, false, 16)) ||
      product.b != matrix_bits(shape.b, shape.n_major, shape.columns)) {
    machine.fail("shared memory changed while a product read it");
  }
  float a[16][16], b[256][16];
  for (int r = 0; r < 16; ++r) {
    for (int k = 0; k < 16; ++k) {
      unsigned short bits = 0;
      if (shape.shared_a) {
        bits = product.a[static_cast<std::size_t>(r * 16 + k)];
      } else {
        const unsigned word = product.words[r % 8 * 4 + k % 8 / 2][r / 8 + k / 8 * 2];
        bits = static_cast<unsigned short>(k % 2 == 0 ? word : word >> 16);
      }
      a[r][k] = half_to_float(bits);
    }
  }
  for (int n = 0; n < shape.columns; ++n) {
    for (int k = 0; k < 16; ++k) b[n][k] = half_to_float(product.b[static_cast<std::size_t>(n * 16 + k)]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    Thread& thread = block.threads[static_cast<std::size_t>(first_thread + lane)];
    for (Held& held : thread.products.held) {
      if (held.at != product.to[lane]) continue;
      for (std::size_t i = 0; i < held.values.size(); ++i) {
        const int at = static_cast<int>(i), row = lane / 4 + at / 2 % 2 * 8,
                  column = at / 4 * 8 + lane % 4 * 2 + at % 2;
        double sum = shape.more ? static_cast<double>(held.values[i]) : 0.0;
        for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * static_cast<double>(b[column][k]);
        held.values[i] = static_cast<float>(sum);
      }
      --held.products;
    }
  }
}

// Results of products that are done come to their registers.
inline void release(Thread& thread) {
  std::vector<Held>& all = thread.products.held;
  for (std::size_t h = 0; h < all.size();) {
    if (all[h].products > 0) {
      ++h;
      continue;
    }
    for (std::size_t i = 0; i < all[h].values.size(); ++i) {
      if (bit_cast<unsigned>(all[h].at[i]) != kPoison) {
        machine.fail("accumulator %zu of thread %d was touched between a product and its wait", i, thread.id);
      }
      all[h].at[i] = all[h].values[i];
    }
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(h));
  }
}

inline void products_wait(int pending) {
  Thread& thread = machine.current();
  ProductsOfThread& mine = thread.products;
  Block& block = *thread.block;
  mine.fenced = false;
  const auto left = static_cast<std::size_t>(pending);
  const long long until = mine.groups.size() > left ? mine.groups[mine.groups.size() - left - 1] : 0;
  if (mine.groups.size() > left)
    mine.groups.erase(mine.groups.begin(), mine.groups.end() - static_cast<std::ptrdiff_t>(left));
  const unsigned low = static_cast<unsigned>(until);
  machine.meet(Machine::kMeetProducts, &low, 1, [&](Exchange& lanes) {
    const int first = thread.id / 32 * 32;
    for (int lane = 1; lane < 32; ++lane) {
      if (lanes.in[lane][0] != lanes.in[0][0]) machine.fail("the lanes of a warp wait for different products");
    }
    Wave& wave = block.waves[static_cast<std::size_t>(first / 32)];
    for (; wave.first_product < until; ++wave.first_product) {
      compute(wave.products.front(), block, first);
      wave.products.pop_front();
    }
    for (int lane = 0; lane < 32; ++lane) release(block.threads[static_cast<std::size_t>(first + lane)]);
  });
}

// ---- one warp -------------------------------------------------------------------------------------------------------

// d += a b, 16x16 by 16x8. Element (r, k) of A as above; of B (k, n) in word k / 8 of lane 4 n + k % 8 / 2; of D as
// above.
template <float (*to_float)(unsigned short)>
inline void product_16x8_of(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  unsigned in[10] = {a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(in + 6, d, 16);
  unsigned out[4];
  machine.meet(
      Machine::kMeetProduct, in, 10,
      [](Exchange& lanes) {
        float x[16][16], y[16][8];
        for (int r = 0; r < 16; ++r) {
          for (int k = 0; k < 16; ++k) {
            const unsigned word = lanes.in[r % 8 * 4 + k % 8 / 2][r / 8 + k / 8 * 2];
            x[r][k] = to_float(static_cast<unsigned short>(k % 2 == 0 ? word : word >> 16));
          }
        }
        for (int k = 0; k < 16; ++k) {
          for (int n = 0; n < 8; ++n) {
            const unsigned word = lanes.in[n * 4 + k % 8 / 2][4 + k / 8];
            y[k][n] = to_float(static_cast<unsigned short>(k % 2 == 0 ? word : word >> 16));
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            auto sum = static_cast<double>(bit_cast<float>(lanes.in[lane][6 + i]));
            for (int k = 0; k < 16; ++k) sum += static_cast<double>(x[row][k]) * static_cast<double>(y[k][column]);
            lanes.out[lane][i] = bit_cast<unsigned>(static_cast<float>(sum));
          }
        }
      },
      out, 4);
  std::memcpy(d, out, 16);
}
inline void product_16x8(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  product_16x8_of<half_to_float>(d, a, b0, b1);
}
inline float bf16_to_float(unsigned short bits) { return bit_cast<float>(static_cast<unsigned>(bits) << 16); }
inline void product_16x8_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  product_16x8_of<bf16_to_float>(d, a, b0, b1);
}

// ldmatrix: lane l gives the address of row l % 8 of matrix l / 8. Lane 4 g + c gets elements 2 c and + 1 of row g of
// each matrix, or, transposed, of column g.
inline void load_matrices(unsigned* to, int count, bool transposed, unsigned address) {
  machine.meet(
      count == 4 ? Machine::kMeetLoad4 : Machine::kMeetLoad2, &address, 1,
      [&](Exchange& lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int m = 0; m < count; ++m) {
            unsigned word = 0;
            for (int i = 0; i < 2; ++i) {
              const int row = transposed ? lane % 4 * 2 + i : lane / 4,
                        column = transposed ? lane / 4 : lane % 4 * 2 + i;
              const unsigned from = lanes.in[m * 8 + row][0];
              if (from % 16 != 0)
                machine.fail("a row of a matrix at %u of shared memory: a multiple of 16 it is not", from);
              word |= static_cast<unsigned>(half_at(from + static_cast<unsigned>(column) * 2)) << (16 * i);
            }
            lanes.out[lane][m] = word;
          }
        }
      },
      to, count);
}

// stmatrix, transposed: the inverse of a transposed load_matrices of four.
inline void store_matrices_transposed(unsigned address, unsigned x0, unsigned x1, unsigned x2, unsigned x3) {
  const unsigned in[5] = {address, x0, x1, x2, x3};
  machine.meet(Machine::kMeetStore, in, 5, [](Exchange& lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < 4; ++m) {
        for (int i = 0; i < 2; ++i) {
          const unsigned to = lanes.in[m * 8 + lane % 4 * 2 + i][0] + static_cast<unsigned>(lane / 4) * 2;
          const auto bits = static_cast<unsigned short>(lanes.in[lane][1 + m] >> (16 * i));
          std::memcpy(machine.shared_pointer(to, 2, 2), &bits, 2);
        }
      }
    }
  });
}

// movmatrix: a matrix as load_matrices leaves it, transposed.
inline unsigned transposed(unsigned x) {
  unsigned out = 0;
  machine.meet(
      Machine::kMeetTranspose, &x, 1,
      [](Exchange& lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          unsigned word = 0;
          for (int i = 0; i < 2; ++i) {
            const int row = lane % 4 * 2 + i, column = lane / 4;  // of the matrix that comes in
            const unsigned from = lanes.in[row * 4 + column / 2][0];
            word |= (column % 2 == 0 ? from & 0xffffu : from >> 16) << (16 * i);
          }
          lanes.out[lane][0] = word;
        }
      },
      &out, 1);
  return out;
}

// What choose(lanes, lane) picks for a lane of the words that all of them bring.
template <class Choose>
unsigned among_lanes(int code, unsigned x, Choose choose) {
  unsigned out = 0;
  machine.meet(
      code, &x, 1,
      [&](Exchange& lanes) {
        for (int lane = 0; lane < 32; ++lane) lanes.out[lane][0] = choose(lanes, lane);
      },
      &out, 1);
  return out;
}
inline float from_across(float x, int distance) {
  return bit_cast<float>(among_lanes(1000 + distance, bit_cast<unsigned>(x),
                                     [&](const Exchange& lanes, int lane) { return lanes.in[lane ^ distance][0]; }));
}
inline float from_below(float x, int distance) {
  return bit_cast<float>(among_lanes(2000 + distance, bit_cast<unsigned>(x), [&](const Exchange& lanes, int lane) {
    return lanes.in[lane < distance ? lane : lane - distance][0];
  }));
}
inline float from_lane(float x, int source, int width) {
  const unsigned in[2] = {bit_cast<unsigned>(x), static_cast<unsigned>(source)};
  unsigned out = 0;
  machine.meet(
      3000 + width, in, 2,
      [&](Exchange& lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          const int from = static_cast<int>(lanes.in[lane][1]) % width;
          lanes.out[lane][0] = lanes.in[lane / width * width + from][0];
        }
      },
      &out, 1);
  return bit_cast<float>(out);
}
inline unsigned votes(bool yes) {
  return among_lanes(Machine::kMeetVote, yes ? 1u : 0u, [](const Exchange& lanes, int) {
    unsigned all = 0;
    for (int lane = 0; lane < 32; ++lane) all |= lanes.in[lane][0] << lane;
    return all;
  });
}
inline unsigned largest_of_warp(unsigned x) {
  return among_lanes(Machine::kMeetLargest, x, [](const Exchange& lanes, int) {
    unsigned most = 0;
    for (int lane = 0; lane < 32; ++lane) most = lanes.in[lane][0] > most ? lanes.in[lane][0] : most;
    return most;
  });
}
inline int least_of_warp(int x) {
  return static_cast<int>(among_lanes(Machine::kMeetLeast, static_cast<unsigned>(x), [](const Exchange& lanes, int) {
    int least = static_cast<int>(lanes.in[0][0]);
    for (int lane = 1; lane < 32; ++lane) {
      const int other = static_cast<int>(lanes.in[lane][0]);
      least = other < least ? other : least;
    }
    return static_cast<unsigned>(least);
  }));
}
inline void warp_barrier() {
  machine.meet(Machine::kMeetBarrier, nullptr, 0, [](Exchange&) {});
}

}  // namespace gdn_host
#pragma GCC visibility pop
