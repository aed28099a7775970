// Copies that run beside the threads: bulk copies between device and shared memory, 16-byte asynchronous copies, the
// barriers on which they complete, and the launch of a dependent grid.
//
// A barrier is 8 bytes of shared memory, given by its shared address. Its phases alternate between parities 0 and 1;
// wait(barrier, p) returns once the phase of parity p is complete. A phase completes when the arrivals that init named
// have come and, where expect announced bytes, those bytes as well.
#pragma once

#include "gdn/sm90/wgmma.h"

namespace gdn::sm90 {

#if defined(GDN_ON_CUDA)

GDN_DEVICE void barrier_init(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// After the inits, by the thread that made them; a block (or cluster) barrier then publishes them.
GDN_DEVICE void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// One arrival, and `bytes` more to come in this phase.
GDN_DEVICE void expect(unsigned barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
GDN_DEVICE void arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
GDN_DEVICE void wait(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "W: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%0], %1;\n"
      "@p bra D;\nbra W;\nD:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// `bytes`, a multiple of 16, between addresses that are multiples of 16.
GDN_DEVICE void bulk_load(unsigned to, Global<const char> from, int bytes, unsigned barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
GDN_DEVICE void bulk_store(Global<char> to, unsigned from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes)
               : "memory");
}
GDN_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all bulk stores of this thread have read their shared memory.
GDN_DEVICE void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// 16 bytes; zeros, and nothing is read, unless `inside`.
GDN_DEVICE void copy_16(unsigned to, Global<const char> from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
// One arrival when this thread's copies of 16 bytes so far have landed.
GDN_DEVICE void arrive_after_copies(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
// This thread's copies of 16 bytes since the last call are a group; until at most kPending groups are under way. Other
// threads see what was copied behind a barrier that follows the wait.
GDN_DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
GDN_DEVICE void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- a cluster of two blocks ----------------------------------------------------------------------------------------

GDN_DEVICE int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// All threads of both blocks; what one wrote before is seen by the other behind it.
GDN_DEVICE void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The address, for the functions below, of the same place in the shared memory of block `rank`.
GDN_DEVICE unsigned in_block(unsigned address, int rank) {
  unsigned mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
// 16 or 8 bytes to another block, counted on a barrier there; seen behind wait_cluster on it.
GDN_DEVICE void send_16(unsigned to, const unsigned* x, unsigned barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::"r"(to),
               "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(barrier)
               : "memory");
}
GDN_DEVICE void send_8(unsigned to, float x, float y, unsigned barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1,%2}, [%3];" ::"r"(to),
               "r"(bits_of(x)), "r"(bits_of(y)), "r"(barrier)
               : "memory");
}
GDN_DEVICE void wait_cluster(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred p;\n"
      "W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
      "@p bra D;\nbra W;\nD:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
// One arrival on another block's barrier. Relaxed: it gives back a place that was read and publishes nothing; with
// release semantics it took 650 cycles.
GDN_DEVICE void arrive_there(unsigned barrier) {
  asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// ---- grids and registers --------------------------------------------------------------------------------------------

// In a grid launched with programmatic stream serialisation: until the grid before has finished and its writes are
// seen. Otherwise, and before sm_90, nothing.
GDN_DEVICE void wait_for_previous_grid() { wait_for_previous(); }
// The next grid may start its blocks as far as wait_for_previous_grid.
GDN_DEVICE void allow_next_grid() { launch_dependents(); }

// Registers of each thread of the calling warp group, out of or back to the block's pool.
template <int kRegisters>
GDN_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
GDN_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#else

GDN_DEVICE void barrier_init(unsigned barrier, int arrivals) { gdn_host::machine.phase_init(barrier, arrivals); }
GDN_DEVICE void barrier_init_done() {}
GDN_DEVICE void expect(unsigned barrier, int bytes) { gdn_host::machine.phase_expect(barrier, bytes); }
GDN_DEVICE void arrive(unsigned barrier) { gdn_host::machine.phase_arrive(barrier); }
GDN_DEVICE void wait(unsigned barrier, unsigned parity) { gdn_host::machine.phase_wait(barrier, parity); }
GDN_DEVICE void bulk_load(unsigned to, Global<const char> from, int bytes, unsigned barrier) {
  gdn_host::machine.bulk_load(to, from, bytes, barrier);
}
GDN_DEVICE void bulk_store(Global<char> to, unsigned from, int bytes) { gdn_host::machine.bulk_store(to, from, bytes); }
GDN_DEVICE void bulk_commit() {}
GDN_DEVICE void bulk_wait_read() { gdn_host::machine.bulk_wait_read(); }
GDN_DEVICE void copy_16(unsigned to, Global<const char> from, bool inside) {
  gdn_host::machine.copy_16(to, from, inside);
}
GDN_DEVICE void arrive_after_copies(unsigned barrier) { gdn_host::machine.arrive_after_copies(barrier); }
GDN_DEVICE void copies_commit() { gdn_host::machine.copies_commit(); }
template <int kPending>
GDN_DEVICE void copies_wait() {
  gdn_host::machine.copies_wait(kPending);
}
GDN_DEVICE int cluster_rank() { return gdn_host::machine.cluster_rank(); }
GDN_DEVICE void cluster_barrier() {
  gdn_host::machine.cluster_arrive();
  gdn_host::machine.cluster_wait();
}
GDN_DEVICE unsigned in_block(unsigned address, int rank) { return gdn_host::machine.address_in(address, rank); }
GDN_DEVICE void send_16(unsigned to, const unsigned* x, unsigned barrier) {
  gdn_host::machine.send_words(to, x, 4, barrier);
}
GDN_DEVICE void send_8(unsigned to, float x, float y, unsigned barrier) {
  const unsigned words[2] = {bits_of(x), bits_of(y)};
  gdn_host::machine.send_words(to, words, 2, barrier);
}
GDN_DEVICE void wait_cluster(unsigned barrier, unsigned parity) { gdn_host::machine.phase_wait(barrier, parity); }
GDN_DEVICE void arrive_there(unsigned barrier) { gdn_host::machine.phase_arrive(barrier); }
GDN_DEVICE void wait_for_previous_grid() {}
GDN_DEVICE void allow_next_grid() {}
template <int kRegisters>
GDN_DEVICE void take_registers() {}
template <int kRegisters>
GDN_DEVICE void give_registers() {}

#endif

}  // namespace gdn::sm90
