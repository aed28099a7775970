// The seam's part that touches device memory (see config.h).
#pragma once

#include "gdn/qualifiers.h"

namespace gdn {

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
// hint: evict-first (.cs) cost 5 to 6% at batch 256 on an H200 (tests/bench/NOTES.md), but for stores where the plan
// wants them to be the first to leave the caches (kEvictFirst).
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

template <int kBytes, bool kEvictFirst = false, class T>
GDN_DEVICE void store_stream(Global<T> to, const Raw<kBytes>& raw) {
  if constexpr (kBytes == 16 && kEvictFirst) {
    asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(raw.word[0]), "r"(raw.word[1]), "r"(raw.word[2]), "r"(raw.word[3])
                 : "memory");
  } else if constexpr (kBytes == 8 && kEvictFirst) {
    asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" : : "l"(to), "r"(raw.word[0]), "r"(raw.word[1]) : "memory");
  } else if constexpr (kBytes == 16) {
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

template <int kBytes, bool kEvictFirst = false, class T>
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

template <int kBytes, bool kEvictFirst = false, class T>
GDN_DEVICE void store_stream(Global<T> to, const Raw<kBytes>& raw) {
  store<kBytes>(to, raw);
}

#endif

}  // namespace gdn
