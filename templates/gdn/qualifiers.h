// The seam's qualifiers, and which of its three sides compiles: GDN_ON_CUDA, GDN_ON_AMD or GDN_ON_HOST (see config.h).
#pragma once

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
