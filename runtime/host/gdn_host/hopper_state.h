// What the shim keeps of Hopper's machinery beside the threads: barriers with phases, transfers under way, matrix
// products under way. Plain data; async.h and products.h work on it.
#pragma once

#include <cstddef>
#include <vector>

#pragma GCC visibility push(hidden)
namespace gdn_host {

struct Block;

// An mbarrier: 8 bytes of shared memory that nobody else may use.
struct PhaseBarrier {
  std::size_t offset = 0;  // in the block's shared memory
  int expected = 0;        // arrivals of a phase
  int pending = 0;         // of the phase under way
  long long bytes = 0;     // announced and not yet come; below 0: come before they were announced
  unsigned phase = 0;      // the number of those that are complete
  int maker = 0;           // thread
  int made_at = 0;         // barriers that the block had passed
  unsigned met_at = 0;     // meetings of the cluster
};

// 16 bytes into shared memory; from null: zeros.
struct Copy {
  std::size_t offset = 0;
  const char* from = nullptr;
};

struct Transfer {
  enum class Kind : unsigned char {
    kLoad,    // device memory to shared memory, counted on a barrier
    kStore,   // shared memory to device memory
    kArrive,  // copies of 16 bytes, then an arrival
    kSend,    // words to a block of the cluster, counted on a barrier there
  };
  Kind kind = Kind::kLoad;
  Block* block = nullptr;   // whose shared memory and barrier
  int owner = 0;            // thread of a store
  std::size_t offset = 0;   // in shared memory
  std::size_t barrier = 0;  // offset of the barrier
  char* memory = nullptr;
  std::size_t bytes = 0;
  unsigned words[4] = {};
  std::vector<Copy> copies;
};

// What all warps of a warp group and all lanes of a warp must agree about.
struct ProductShape {
  int columns = 0;  // N
  bool shared_a = false, n_major = false, more = false;
  unsigned long long a = 0, b = 0;  // descriptors

  bool operator==(const ProductShape& other) const {
    return columns == other.columns && shared_a == other.shared_a && n_major == other.n_major && more == other.more &&
           a == other.a && b == other.b;
  }
};

// One k-step of a warp-group product, as one warp issued it.
struct Product {
  ProductShape shape;
  float* to[32] = {};                // by lane: accumulators
  unsigned words[32][4] = {};        // by lane: A, where it lies in registers
  std::vector<unsigned short> a, b;  // what lay in shared memory when the first lane issued it: A [16][16], B [N][16]
};

// Accumulators whose product is under way: the registers hold poison until it is waited for.
struct Held {
  float* at = nullptr;
  std::vector<float> values;
  int products = 0;
};

// Of a thread.
struct ProductsOfThread {
  long long issued = 0;           // since the block began
  std::vector<long long> groups;  // ends of committed groups that were not waited for
  bool fenced = false;
  std::vector<Held> held;
  void clear() { *this = ProductsOfThread(); }
};

}  // namespace gdn_host
#pragma GCC visibility pop
