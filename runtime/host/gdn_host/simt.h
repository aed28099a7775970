// The host shim: runs GPU source, as emitted, on the CPU.
//
// Compile the emitted file as C++17 with -DGDN_HOST_SHIM -DGDN_HOST_WAVE=32 (or 64) and the folders of gdn/ and
// gdn_host/ on the include path, as a shared library or into a program. gdn/config.h then maps the GPU's words to this
// header. A kernel keeps its own name as an exported symbol, `extern "C" void <symbol>(gdn::Args)`; run it with
// gdn_host_launch, which the same library exports:
//
//   auto launch = (GdnHostLaunch)dlsym(library, "gdn_host_launch");
//   auto kernel = (GdnHostKernel)dlsym(library, "gdn_qwen3_next_80b_decode_sm_90a");
//   char message[512];
//   if (launch(kernel, &args, grid_x, grid_y, threads, cluster, shared_bytes, order, message, sizeof(message)) != 0)
//     throw ...
//
// Clusters of `cluster` neighbouring blocks (1: single blocks) run one after the other, in an order that the caller
// picks; inside a cluster each thread of each block is a fiber, and waves of GDN_HOST_WAVE consecutive threads meet in
// their shuffles. A fiber runs until it has to wait, so that the order decides how far a block runs ahead of the
// others. What is stricter than hardware, so that mistakes show:
//   - a barrier that a returned or diverged thread never reaches, and a shuffle that some lanes of a wave skip, end the
//     launch with a message instead of hanging or passing by luck; so do lanes that shuffle over different distances
//   - shared memory is filled with NaN before each block
//   - what one block sends to another arrives at the last moment, when the mailbox is full, and must go to an open one
//   - a memory access must be aligned to its size
//   - blocks that are no cluster run in any order too, and one after the other or, given as a cluster that they do not
//     know of, side by side
// async.h and products.h add Hopper's asynchronous copies and its matrix instructions.
// One launch at a time per library. The kernels' accesses to operands pass through read and write, and the machine
// knows how often a block has passed a barrier and a thread has arrived at a meeting: a race detector has its places.
#pragma once

#include <cstddef>
#include <cstring>

#include "gdn/args.h"
#include "gdn_host/half.h"
#include "gdn_host/machine.h"

#pragma GCC visibility push(hidden)
namespace gdn_host {

// ---- what gdn/config.h maps to --------------------------------------------------------------------------------------

inline int thread_id() { return machine.thread_id(); }
inline int block_x() { return machine.block_x(); }
inline int block_y() { return machine.block_y(); }
inline void barrier() { machine.barrier(); }
inline void cluster_arrive() { machine.cluster_arrive(); }
inline void cluster_wait() { machine.cluster_wait(); }
inline void mailbox_open(unsigned long long* state, int bytes) { machine.mailbox_open(state, bytes); }
inline void mailbox_wait(const unsigned long long* state) { machine.mailbox_wait(state); }
inline void cluster_send(float* own, unsigned long long* mailbox, int rank, float value) {
  machine.cluster_send(own, mailbox, rank, value);
}
inline unsigned count_up(unsigned* counter, int blocks) { return machine.count_up(counter, blocks); }
inline void fence_device() { machine.fence_device(); }
// A byte that nobody makes use of: faults where the address is nowhere, and is no access that could race.
__attribute__((no_sanitize("thread"), noinline)) inline void peek(const void* address) {
  static_cast<void>(*static_cast<const volatile unsigned char*>(address));
}

inline float shuffle_xor(float value, int distance) { return machine.shuffle_xor(value, distance); }
inline float shuffle_from(float value, int lanes, int source) { return machine.shuffle_from(value, lanes, source); }

template <class T>
T& shared(int tag) {
  return *static_cast<T*>(machine.shared(tag, sizeof(T), alignof(T)));
}

inline void read(const void* from, void* to, std::size_t bytes) {
  machine.check_access(from, bytes);
  gdn_host_heard(from, bytes, false);
  std::memcpy(to, from, bytes);
}

inline void write(void* to, const void* from, std::size_t bytes) {
  machine.check_access(to, bytes);
  gdn_host_heard(to, bytes, true);
  std::memcpy(to, from, bytes);
}

}  // namespace gdn_host
#pragma GCC visibility pop

#include "gdn_host/async.h"

extern "C" {

typedef void (*GdnHostKernel)(gdn::Args);
typedef int (*GdnHostLaunch)(GdnHostKernel kernel, const gdn::Args* args, int grid_x, int grid_y, int threads,
                             int cluster, int shared_bytes, unsigned order, char* message, std::size_t message_bytes);

// Runs a kernel of this library for every thread of the grid, blocks in clusters of `cluster` and each with so many
// bytes of dynamic shared memory. order: 0 forward, 1 blocks and threads from the last to the first, any other number a
// shuffle of both. Returns 0, or 1 with the reason in `message`.
__attribute__((weak, used, visibility("default"))) int gdn_host_launch(GdnHostKernel kernel, const gdn::Args* args,
                                                                       int grid_x, int grid_y, int threads, int cluster,
                                                                       int shared_bytes, unsigned order, char* message,
                                                                       std::size_t message_bytes) {
  return gdn_host::machine.launch(kernel, *args, grid_x, grid_y, threads, cluster, shared_bytes, order, message,
                                  message_bytes);
}

}  // extern "C"
