// Copies from global to shared memory that no register waits for: a thread issues them all, says so, does something
// else, and waits once. AMD's targets and the shim copy at once.
//
//   copy_late<bytes>(to, from)  4, 8 or 16 bytes; both addresses are multiples of that
//   late_copies_sent()          that was the last of them. Loads that follow are not waited for with the copies: said
//                               no earlier than when they are waited for, it would stand behind those
//   late_copies_arrived()       this thread's copies are there; the others' behind the next barrier
//   kCopiesLate                 whether there is a time between the two
#pragma once

#include "gdn/config.h"

namespace gdn {

#if defined(GDN_ON_CUDA)

constexpr bool kCopiesLate = true;

template <int kBytes>
GDN_DEVICE void copy_late(float* to, Global<const float> from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" : : "r"(address), "l"(from), "n"(kBytes) : "memory");
  }
}
GDN_DEVICE void late_copies_sent() { asm volatile("cp.async.commit_group;" : : : "memory"); }
GDN_DEVICE void late_copies_arrived() { asm volatile("cp.async.wait_group 0;" : : : "memory"); }

#else

#if defined(GDN_ON_HOST)
constexpr bool kCopiesLate = kWaveSize == 32;  // as NVIDIA's targets, whose bodies the shim runs so
#else
constexpr bool kCopiesLate = false;
#endif

template <int kBytes>
GDN_DEVICE void copy_late(float* to, Global<const float> from) {
  const Raw<kBytes> raw = load<kBytes>(from);
  GDN_UNROLL
  for (int i = 0; i < kBytes / 4; ++i) to[i] = float_of(raw.word[i]);
}
GDN_DEVICE void late_copies_sent() {}
GDN_DEVICE void late_copies_arrived() {}

#endif

}  // namespace gdn
