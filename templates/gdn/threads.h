// The seam's threads, waves, blocks, clusters and launches (see config.h).
#pragma once

#include "gdn/qualifiers.h"

namespace gdn {

#if defined(GDN_ON_CUDA)

constexpr int kWaveSize = 32;
// Said to be at least 0, which the compiler does not take for granted: halves and remainders of it are then one
// instruction, and what prep by channel keeps of them no longer costs it forty registers.
GDN_DEVICE int thread_id() {
  const int id = static_cast<int>(threadIdx.x);
  __builtin_assume(id >= 0 && id < 1024);
  return id;
}
GDN_DEVICE int block_number() { return static_cast<int>(blockIdx.x); }
GDN_DEVICE int block_row() { return static_cast<int>(blockIdx.x); }
GDN_DEVICE int block_head() { return static_cast<int>(blockIdx.y); }
GDN_DEVICE void barrier() { __syncthreads(); }
// All lanes of a wave, whose accesses of shared memory ahead of it are then ahead of those behind it.
GDN_DEVICE void wave_barrier() { __syncwarp(); }

// The value of the lane whose number differs in the bit kDistance. Every lane of the wave takes part.
template <int kDistance>
GDN_DEVICE float shuffle_xor(float value) {
  return __shfl_xor_sync(0xffffffffu, value, kDistance);
}

// The value of lane kSource of the kLanes lanes side by side that this one is of. Every lane of the wave takes part.
template <int kLanes, int kSource>
GDN_DEVICE float shuffle_from(float value) {
  return __shfl_sync(0xffffffffu, value, kSource, kLanes);
}

#elif defined(GDN_ON_AMD)

// clang 21 dropped the predefined wavefront size; the GCN families run 64 lanes, RDNA 32.
#if defined(__AMDGCN_WAVEFRONT_SIZE)
constexpr int kWaveSize = __AMDGCN_WAVEFRONT_SIZE;
#elif !defined(__HIP_DEVICE_COMPILE__) || defined(__GFX9__)
constexpr int kWaveSize = 64;
#else
constexpr int kWaveSize = 32;
#endif
GDN_DEVICE int thread_id() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
GDN_DEVICE int block_number() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
GDN_DEVICE int block_row() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
GDN_DEVICE int block_head() { return static_cast<int>(__builtin_amdgcn_workgroup_id_y()); }
GDN_DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
GDN_DEVICE void wave_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

template <int kDistance>
GDN_DEVICE float shuffle_xor(float value) {
  static_assert(kDistance > 0 && kDistance < kWaveSize && (kDistance & (kDistance - 1)) == 0, "one bit of a lane");
  const int bits = __builtin_bit_cast(int, value);
  int other;
  if constexpr (kDistance <= 2) {
    // Inside four lanes a data-parallel-primitive move does it, without the trip through local memory's crossbar.
    other = __builtin_amdgcn_update_dpp(0, bits, kDistance == 1 ? 0xB1 : 0x4E, 0xF, 0xF, true);
  } else if constexpr (kDistance < 32) {
    other = __builtin_amdgcn_ds_swizzle(bits, (kDistance << 10) | 0x1F);  // xor mask, or 0, and 31; inside 32 lanes
  } else {
    const int lane = thread_id() & (kWaveSize - 1);
    other = __builtin_amdgcn_ds_bpermute((lane ^ kDistance) << 2, bits);
  }
  return __builtin_bit_cast(float, other);
}

template <int kLanes, int kSource>
GDN_DEVICE float shuffle_from(float value) {
  static_assert(kLanes <= 32 && kSource < kLanes && (kLanes & (kLanes - 1)) == 0, "lanes of a half of the wave");
  // Of a lane's number the bits of the group, and in place of the others kSource.
  const int other = __builtin_amdgcn_ds_swizzle(__builtin_bit_cast(int, value), kSource << 5 | (32 - kLanes));
  return __builtin_bit_cast(float, other);
}

#else

constexpr int kWaveSize = GDN_HOST_WAVE;
GDN_DEVICE int thread_id() { return gdn_host::thread_id(); }
GDN_DEVICE int block_number() { return gdn_host::block_x(); }
GDN_DEVICE int block_row() { return gdn_host::block_x(); }
GDN_DEVICE int block_head() { return gdn_host::block_y(); }
GDN_DEVICE void barrier() { gdn_host::barrier(); }
GDN_DEVICE void wave_barrier() { gdn_host::shuffle_xor(0.0f, 1); }  // lanes that exchange numbers have met

template <int kDistance>
GDN_DEVICE float shuffle_xor(float value) {
  return gdn_host::shuffle_xor(value, kDistance);
}
template <int kLanes, int kSource>
GDN_DEVICE float shuffle_from(float value) {
  return gdn_host::shuffle_from(value, kLanes, kSource);
}

#endif

GDN_DEVICE int lane_id() { return thread_id() % kWaveSize; }
GDN_DEVICE int wave_id() { return thread_id() / kWaveSize; }

// ---- clusters and launches ------------------------------------------------------------------------------------------
//
// The blocks of a cluster meet in a barrier of two halves: cluster_wait() returns when all threads of all its blocks
// have called cluster_arrive() once more than before. Each thread calls the two in turn. The meeting says that a place
// in the code was reached, no more: loads whose values were used before it are through, stores need not be seen. (An
// arrival that orders stores waits for all of the state's to be acknowledged, 0.5 us on an H200.)
//
// Numbers cross the cluster by post: one thread opens its block's mailbox for so many bytes, the blocks meet,
// cluster_send() writes a number into a shared variable of block `block` (`own` and `mail` are the sender's copies of
// the variable and the mailbox), and mailbox_wait() returns when the bytes are all there.
//
// A launch on a programmatic edge may begin before the launch ahead of it is through: wait_for_previous() returns when
// it is, and what it wrote can be seen; launch_dependents() lets the next launch begin as soon as all blocks have
// called it. Both do nothing where the target or the edge has no such thing.

struct Mailbox {
  alignas(8) unsigned long long state;
};

#if defined(GDN_ON_CUDA) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)

[[maybe_unused]] constexpr bool kHasClusters = true;
GDN_DEVICE unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}
GDN_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
GDN_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
GDN_DEVICE void mailbox_open(Mailbox& mail, int bytes) {
  const unsigned at = shared_address(&mail);
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" : : "r"(at) : "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(at), "r"(bytes) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
GDN_DEVICE void cluster_send(float& own, Mailbox& mail, int block, float value) {
  unsigned to, box;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(&own)), "r"(block));
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(box) : "r"(shared_address(&mail)), "r"(block));
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];"
               :
               : "r"(to), "r"(__float_as_uint(value)), "r"(box)
               : "memory");
}
GDN_DEVICE void mailbox_wait(Mailbox& mail) {
  asm volatile(
      "{\n\t.reg .pred full;\n"
      "again:\n\tmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 full, [%0], 0;\n\t"
      "@!full bra again;\n\t}"
      :
      : "r"(shared_address(&mail))
      : "memory");
}
GDN_DEVICE void launch_dependents() { asm volatile("griddepcontrol.launch_dependents;"); }
GDN_DEVICE void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

#elif defined(GDN_ON_HOST)

[[maybe_unused]] constexpr bool kHasClusters = true;
GDN_DEVICE void cluster_arrive() { gdn_host::cluster_arrive(); }
GDN_DEVICE void cluster_wait() { gdn_host::cluster_wait(); }
GDN_DEVICE void mailbox_open(Mailbox& mail, int bytes) { gdn_host::mailbox_open(&mail.state, bytes); }
GDN_DEVICE void cluster_send(float& own, Mailbox& mail, int block, float value) {
  gdn_host::cluster_send(&own, &mail.state, block, value);
}
GDN_DEVICE void mailbox_wait(Mailbox& mail) { gdn_host::mailbox_wait(&mail.state); }
GDN_DEVICE void launch_dependents() {}
GDN_DEVICE void wait_for_previous() {}

#else

[[maybe_unused]] constexpr bool kHasClusters = false;
GDN_DEVICE void cluster_arrive() {}
GDN_DEVICE void cluster_wait() {}
GDN_DEVICE void mailbox_open(Mailbox&, int) {}
GDN_DEVICE void cluster_send(float&, Mailbox&, int, float) {}
GDN_DEVICE void mailbox_wait(Mailbox&) {}
GDN_DEVICE void launch_dependents() {}
GDN_DEVICE void wait_for_previous() {}

#endif

}  // namespace gdn
