// The one seam between CUDA (nvcc, NVRTC), HIP (hiprtc, clang with or without the ROCm headers) and the host shim.
//
// Every other header of templates/gdn is plain C++17 over what stands here. Nothing is included but the two headers of
// this folder: the include list is the compile time of a kernel, and NVRTC has no standard headers.
//
//   qualifiers   GDN_HD, GDN_DEVICE, GDN_KERNEL(threads), GDN_RESIDENT_KERNEL(threads, resident),
//                GDN_CLUSTER_KERNEL(threads, resident, blocks), GDN_SHARED(type, name), GDN_UNROLL
//   thread       thread_id, block_number, block_row, block_head, kWaveSize, lane_id, wave_id, barrier, shuffle_xor,
//                shuffle_from
//   cluster      kHasClusters, cluster_arrive, cluster_wait, Mailbox, mailbox_open, cluster_send, mailbox_wait
//   device       count_up, fence_device
//   launch       launch_dependents, wait_for_previous
//   memory       Global<T>, to_global, Raw<bytes>, load, load_stream, store, store_stream, bring_near
//   arithmetic   bits_of, float_of, exp2, log2, square_root, inverse_root, quotient, fused, half and bf16 conversions
//
// Blocks are one-dimensional: thread_id() runs from 0 to threads - 1 and a wave is kWaveSize consecutive threads (a
// warp of 32 on CUDA; 32 or 64 on AMD and in the shim).
#pragma once

#include "gdn/args.h"
#include "gdn/enums.h"

#if defined(GDN_HOST_SHIM)
#define GDN_ON_HOST 1
#include "gdn_host/simt.h"
#elif defined(__HIP__) || defined(__HIPCC_RTC__)
#define GDN_ON_AMD 1
#elif defined(__CUDACC__)
#define GDN_ON_CUDA 1
#else
#error "gdn/config.h: compile with nvcc, NVRTC, hiprtc, clang -x hip, or for the host with -DGDN_HOST_SHIM"
#endif

// ---- qualifiers -----------------------------------------------------------------------------------------------------

#if defined(GDN_ON_CUDA)

#define GDN_HD __host__ __device__
#define GDN_DEVICE __device__ __forceinline__
#define GDN_GLOBAL
#define GDN_UNROLL _Pragma("unroll")
#define GDN_NO_UNROLL _Pragma("unroll 1")
#define GDN_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// With registers so few that `resident` blocks fit on a multiprocessor.
#define GDN_RESIDENT_KERNEL(threads, resident) extern "C" __global__ void __launch_bounds__(threads, resident)
// And so many neighbouring blocks of the grid's first dimension run at the same time and reach each other's shared
// memory.
#define GDN_CLUSTER_KERNEL(threads, resident, blocks) \
  extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(threads, resident)
#define GDN_SHARED(type, name) __shared__ type name

#elif defined(GDN_ON_AMD)

// The attributes themselves and not the macros of the ROCm headers: clang needs no header for them, and hiprtc's own
// __launch_bounds__ says less. An exact work group size lets the compiler give each wave all the registers there are.
#define GDN_HD __attribute__((host)) __attribute__((device))
#define GDN_DEVICE inline __attribute__((device)) __attribute__((always_inline))
// Pointers into device memory carry their address space: without it the compiler falls back to `flat_` accesses, which
// go through the local-memory unit as well and wait on both counters.
#define GDN_GLOBAL __attribute__((address_space(1)))
#define GDN_UNROLL _Pragma("unroll")
#define GDN_NO_UNROLL _Pragma("unroll 1")
#define GDN_KERNEL(threads) \
  extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(threads, threads))) void
#define GDN_RESIDENT_KERNEL(threads, resident) GDN_KERNEL(threads)
#define GDN_SHARED(type, name) __attribute__((shared)) type name

#else

#define GDN_HD
// Hidden: libraries of two wave sizes, or of two targets of one spec, hold functions of the same names.
#define GDN_DEVICE inline __attribute__((visibility("hidden")))
#define GDN_GLOBAL
#define GDN_UNROLL
#define GDN_NO_UNROLL
// The entry point keeps its name and its one argument; gdn_host_launch (gdn_host/simt.h) runs it for every thread.
#define GDN_KERNEL(threads) extern "C" __attribute__((visibility("default"))) void
#define GDN_RESIDENT_KERNEL(threads, resident) GDN_KERNEL(threads)
#define GDN_CLUSTER_KERNEL(threads, resident, blocks) GDN_KERNEL(threads)
#define GDN_SHARED(type, name) type& name = gdn_host::shared<type>(__COUNTER__)

#endif

#include "gdn/element.h"  // behind the qualifiers: it uses GDN_HD

namespace gdn {

// ---- threads --------------------------------------------------------------------------------------------------------

#if defined(GDN_ON_CUDA)

constexpr int kWaveSize = 32;
GDN_DEVICE int thread_id() { return static_cast<int>(threadIdx.x); }
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

// ---- memory ---------------------------------------------------------------------------------------------------------

// A pointer into device memory.
template <class T>
using Global = GDN_GLOBAL T*;

template <class T>
GDN_DEVICE Global<T> to_global(void* address) {
  return (Global<T>)address;  // NOLINT: only a C-style cast may change the address space
}

// Blocks that are no cluster meet at counters in memory. count_up() adds 1 to a counter, which goes from blocks - 1
// back to 0, and returns what it was: one block of each round gets blocks - 1, and the counter is then as it was before
// the round. It orders nothing but that a load whose value was used before it is through. What a thread stored before
// its fence_device() can be seen by loads behind a fence_device() of a thread that has learned of an event between the
// two: every thread that stores or loads takes part itself.

#if defined(GDN_ON_CUDA)

GDN_DEVICE unsigned count_up(Global<unsigned> counter, int blocks) {
  unsigned was;
  asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(was) : "l"(counter), "r"(blocks - 1) : "memory");
  return was;
}
GDN_DEVICE void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

#elif defined(GDN_ON_AMD)

// An increment that wraps has no builtin that all of the compilers know; the last block puts the counter back itself:
// nobody else touches it before the next launch.
GDN_DEVICE unsigned count_up(Global<unsigned> counter, int blocks) {
  const unsigned was = __hip_atomic_fetch_add(counter, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  if (was + 1 == static_cast<unsigned>(blocks)) {
    __hip_atomic_store(counter, 0u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  }
  return was;
}
GDN_DEVICE void fence_device() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "agent"); }

#else

GDN_DEVICE unsigned count_up(Global<unsigned> counter, int blocks) { return gdn_host::count_up(counter, blocks); }
GDN_DEVICE void fence_device() { gdn_host::fence_device(); }

#endif

// 1, 2, 4, 8 or 16 bytes on their way between memory and registers; 1 or 2 bytes are the lowest of the word.
template <int kBytes>
struct Raw {
  static_assert(kBytes == 1 || kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16, "one memory access");
  static constexpr int kWords = kBytes < 4 ? 1 : kBytes / 4;
  unsigned word[kWords];
};

#if defined(GDN_ON_CUDA)

// load and store may be moved and merged by the compiler; load_stream and store_stream, for the recurrent state, are
// volatile so that they stay where they stand: ahead of the arithmetic that hides their latency. They carry no cache
// hint: evict-first (.cs) cost 5 to 6% at batch 256 on an H200 (tests/bench/NOTES.md).
template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load(Global<T> from) {
  Raw<kBytes> raw;
  if constexpr (kBytes == 1) {
    raw.word[0] = *reinterpret_cast<const unsigned char*>(from);
  } else if constexpr (kBytes == 2) {
    raw.word[0] = *reinterpret_cast<const unsigned short*>(from);
  } else if constexpr (kBytes == 4) {
    raw.word[0] = *reinterpret_cast<const unsigned*>(from);
  } else if constexpr (kBytes == 8) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    raw.word[0] = words.x, raw.word[1] = words.y;
  } else {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    raw.word[0] = words.x, raw.word[1] = words.y, raw.word[2] = words.z, raw.word[3] = words.w;
  }
  return raw;
}

template <int kBytes, class T>
GDN_DEVICE void store(Global<T> to, const Raw<kBytes>& raw) {
  if constexpr (kBytes == 1) {
    *reinterpret_cast<unsigned char*>(to) = static_cast<unsigned char>(raw.word[0]);
  } else if constexpr (kBytes == 2) {
    *reinterpret_cast<unsigned short*>(to) = static_cast<unsigned short>(raw.word[0]);
  } else if constexpr (kBytes == 4) {
    *reinterpret_cast<unsigned*>(to) = raw.word[0];
  } else if constexpr (kBytes == 8) {
    *reinterpret_cast<uint2*>(to) = make_uint2(raw.word[0], raw.word[1]);
  } else {
    *reinterpret_cast<uint4*>(to) = make_uint4(raw.word[0], raw.word[1], raw.word[2], raw.word[3]);
  }
}

template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load_stream(Global<T> from) {
  Raw<kBytes> raw;
  if constexpr (kBytes == 16) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(raw.word[0]), "=r"(raw.word[1]), "=r"(raw.word[2]), "=r"(raw.word[3])
                 : "l"(from));
  } else if constexpr (kBytes == 8) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(raw.word[0]), "=r"(raw.word[1]) : "l"(from));
  } else {
    raw = load<kBytes>(from);
  }
  return raw;
}

template <int kBytes, class T>
GDN_DEVICE void store_stream(Global<T> to, const Raw<kBytes>& raw) {
  if constexpr (kBytes == 16) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(raw.word[0]), "r"(raw.word[1]), "r"(raw.word[2]), "r"(raw.word[3])
                 : "memory");
  } else if constexpr (kBytes == 8) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" : : "l"(to), "r"(raw.word[0]), "r"(raw.word[1]) : "memory");
  } else {
    store<kBytes>(to, raw);
  }
}

// Asks the L2 for the line of an address; no register waits for it.
template <class T>
GDN_DEVICE void bring_near(Global<T> line) {
  asm volatile("prefetch.global.L2 [%0];" : : "l"(line));
}

// And for a run of bytes, a multiple of 16 at such an address, where the target can.
#if __CUDA_ARCH__ >= 900
[[maybe_unused]] constexpr bool kBringsRuns = true;
template <class T>
GDN_DEVICE void bring_run_near(Global<T> run, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" : : "l"(run), "r"(bytes) : "memory");
}
#else
[[maybe_unused]] constexpr bool kBringsRuns = false;
template <class T>
GDN_DEVICE void bring_run_near(Global<T>, int) {}
#endif

#elif defined(GDN_ON_AMD)

template <class T>
GDN_DEVICE void bring_near(Global<T>) {}
[[maybe_unused]] constexpr bool kBringsRuns = false;
template <class T>
GDN_DEVICE void bring_run_near(Global<T>, int) {}

namespace amd {
typedef unsigned Word2 __attribute__((ext_vector_type(2)));
typedef unsigned Word4 __attribute__((ext_vector_type(4)));
template <int kBytes>
struct Access;
template <>
struct Access<1> {
  using Type __attribute__((may_alias)) = unsigned char;
};
template <>
struct Access<2> {
  using Type __attribute__((may_alias)) = unsigned short;
};
template <>
struct Access<4> {
  using Type __attribute__((may_alias)) = unsigned;
};
template <>
struct Access<8> {
  using Type __attribute__((may_alias)) = Word2;
};
template <>
struct Access<16> {
  using Type __attribute__((may_alias)) = Word4;
};

template <int kBytes, class Words>
GDN_DEVICE Raw<kBytes> to_raw(Words words) {
  Raw<kBytes> raw;
  if constexpr (kBytes <= 4) {
    raw.word[0] = words;
  } else {
    for (int i = 0; i < kBytes / 4; ++i) raw.word[i] = words[i];
  }
  return raw;
}

template <int kBytes>
GDN_DEVICE typename Access<kBytes>::Type from_raw(const Raw<kBytes>& raw) {
  if constexpr (kBytes <= 4) {
    return static_cast<typename Access<kBytes>::Type>(raw.word[0]);
  } else {
    typename Access<kBytes>::Type words;
    for (int i = 0; i < kBytes / 4; ++i) words[i] = raw.word[i];
    return words;
  }
}
}  // namespace amd

template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load(Global<T> from) {
  return amd::to_raw<kBytes>(*(Global<typename amd::Access<kBytes>::Type>)from);
}

template <int kBytes, class T>
GDN_DEVICE void store(Global<T> to, const Raw<kBytes>& raw) {
  *(Global<typename amd::Access<kBytes>::Type>)to = amd::from_raw(raw);
}

template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load_stream(Global<T> from) {
  return amd::to_raw<kBytes>(__builtin_nontemporal_load((Global<typename amd::Access<kBytes>::Type>)from));
}

template <int kBytes, class T>
GDN_DEVICE void store_stream(Global<T> to, const Raw<kBytes>& raw) {
  __builtin_nontemporal_store(amd::from_raw(raw), (Global<typename amd::Access<kBytes>::Type>)to);
}

#else

// Where the address is nowhere, the shim faults.
template <class T>
GDN_DEVICE void bring_near(Global<T> line) {
  gdn_host::peek(line);
}
[[maybe_unused]] constexpr bool kBringsRuns = false;
template <class T>
GDN_DEVICE void bring_run_near(Global<T>, int) {}

// The shim checks what the hardware would fault on: the address of an access is a multiple of its size.
template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load(Global<T> from) {
  Raw<kBytes> raw{};
  gdn_host::read(from, &raw, kBytes);
  return raw;
}

template <int kBytes, class T>
GDN_DEVICE void store(Global<T> to, const Raw<kBytes>& raw) {
  gdn_host::write(to, &raw, kBytes);
}

template <int kBytes, class T>
GDN_DEVICE Raw<kBytes> load_stream(Global<T> from) {
  return load<kBytes>(from);
}

template <int kBytes, class T>
GDN_DEVICE void store_stream(Global<T> to, const Raw<kBytes>& raw) {
  store<kBytes>(to, raw);
}

#endif

// ---- arithmetic -----------------------------------------------------------------------------------------------------
//
// exp2, log2, square_root, inverse_root and quotient are good to about 2 ulp of fp32 on every target; `fused` rounds
// once. exp2_fast and reciprocal_fast are as good, but may give 0 for what lies below 2^-126; log2_fast errs by 2^-22,
// which is much of a logarithm near 0; tanh_fast errs by 2^-11 of its value, where it is one instruction.

#if defined(GDN_ON_CUDA)

GDN_DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
GDN_DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }
GDN_DEVICE float exp2(float x) { return exp2f(x); }
GDN_DEVICE float log2(float x) { return log2f(x); }
GDN_DEVICE float square_root(float x) { return sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return rsqrtf(x); }
GDN_DEVICE float quotient(float x, float y) { return __fdividef(x, y); }
GDN_DEVICE float fused(float x, float y, float z) { return fmaf(x, y, z); }
GDN_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GDN_DEVICE float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
[[maybe_unused]] constexpr bool kHasFastTanh = true;
GDN_DEVICE float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GDN_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

GDN_DEVICE float half_to_float(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
GDN_DEVICE unsigned short float_to_half(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
GDN_DEVICE unsigned short float_to_bf16(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
// Two numbers in one word, `low` in the low half.
GDN_DEVICE unsigned float_to_bf16_pair(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
GDN_DEVICE unsigned float_to_half_pair(float low, float high) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

#else

// bf16 is the upper half of fp32: round to nearest, ties to even, by adding just under half of the last place kept. A
// NaN must not be rounded: the carry could turn it into infinity.
GDN_DEVICE unsigned short bf16_by_bits(unsigned bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>((bits >> 16) | 0x40u);
  return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(GDN_ON_AMD)

GDN_DEVICE unsigned bits_of(float x) { return __builtin_bit_cast(unsigned, x); }
GDN_DEVICE float float_of(unsigned bits) { return __builtin_bit_cast(float, bits); }
GDN_DEVICE float exp2(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2(float x) { return __builtin_log2f(x); }
GDN_DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return __builtin_amdgcn_rsqf(x); }
GDN_DEVICE float quotient(float x, float y) { return x * __builtin_amdgcn_rcpf(y); }
GDN_DEVICE float fused(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
#if __has_builtin(__builtin_amdgcn_exp2f)
GDN_DEVICE float exp2_fast(float x) { return __builtin_amdgcn_exp2f(x); }
GDN_DEVICE float log2_fast(float x) { return __builtin_amdgcn_logf(x); }
#else  // before clang 18
GDN_DEVICE float exp2_fast(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2_fast(float x) { return __builtin_log2f(x); }
#endif
GDN_DEVICE float reciprocal_fast(float x) { return __builtin_amdgcn_rcpf(x); }
[[maybe_unused]] constexpr bool kHasFastTanh = false;
GDN_DEVICE float tanh_fast(float x) { return 1.0f - 2.0f * reciprocal_fast(1.0f + exp2_fast(x * 2.885390082f)); }

GDN_DEVICE float half_to_float(unsigned short bits) { return static_cast<float>(__builtin_bit_cast(_Float16, bits)); }
GDN_DEVICE unsigned short float_to_half(float x) {
  return __builtin_bit_cast(unsigned short, static_cast<_Float16>(x));
}
GDN_DEVICE unsigned short float_to_bf16(float x) {
#if defined(__gfx950__)
  return __builtin_bit_cast(unsigned short, static_cast<__bf16>(x));  // one v_cvt_pk_bf16_f32
#else
  return bf16_by_bits(bits_of(x));
#endif
}

#else

GDN_DEVICE unsigned bits_of(float x) { return gdn_host::bit_cast<unsigned>(x); }
GDN_DEVICE float float_of(unsigned bits) { return gdn_host::bit_cast<float>(bits); }
GDN_DEVICE float exp2(float x) { return __builtin_exp2f(x); }
GDN_DEVICE float log2(float x) { return __builtin_log2f(x); }
GDN_DEVICE float square_root(float x) { return __builtin_sqrtf(x); }
GDN_DEVICE float inverse_root(float x) { return 1.0f / __builtin_sqrtf(x); }
GDN_DEVICE float quotient(float x, float y) { return x / y; }
GDN_DEVICE float fused(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
GDN_DEVICE float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2(x); }
GDN_DEVICE float log2_fast(float x) { return log2(x); }
GDN_DEVICE float reciprocal_fast(float x) { return 1.0f / x; }
[[maybe_unused]] constexpr bool kHasFastTanh = true;
GDN_DEVICE float tanh_fast(float x) {  // as far off as the instruction may be, away from 0
  return float_of((bits_of(__builtin_tanhf(x)) + 0xfffu) & ~0x1fffu);
}

GDN_DEVICE float half_to_float(unsigned short bits) { return gdn_host::half_to_float(bits); }
GDN_DEVICE unsigned short float_to_half(float x) { return gdn_host::float_to_half(x); }
GDN_DEVICE unsigned short float_to_bf16(float x) { return bf16_by_bits(bits_of(x)); }

#endif

// Two numbers in one word, `low` in the low half.
GDN_DEVICE unsigned float_to_bf16_pair(float low, float high) {
  return float_to_bf16(low) | static_cast<unsigned>(float_to_bf16(high)) << 16;
}
GDN_DEVICE unsigned float_to_half_pair(float low, float high) {
  return float_to_half(low) | static_cast<unsigned>(float_to_half(high)) << 16;
}

#endif

}  // namespace gdn
