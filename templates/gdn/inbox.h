// Runs of device memory that come to a block's shared memory beside its threads, one request a run.
//
//   dynamic_shared()  the block's dynamic shared memory (LaunchRule::shared_bytes), at a multiple of 128
//   bulk_fetch()      by one thread: a multiple of 16 bytes between such addresses, announced to the mailbox when that
//                     thread opened it (threads.h); the others may wait for the mailbox behind a barrier
//   kBulkFetches      whether the target can
#pragma once

#include "gdn/config.h"

namespace gdn {

// What of a block's states comes there (the plan's choice inbox).
struct Inbox {
  static constexpr int kNone = 0;
  static constexpr int kAll = 1;
  static constexpr int kRest = 2;  // all but the first half of the first value head, which comes to registers meanwhile
};

#if defined(GDN_ON_CUDA) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900)

[[maybe_unused]] constexpr bool kBulkFetches = true;
GDN_DEVICE char* dynamic_shared() {
  extern __shared__ __align__(128) char inbox[];
  return inbox;
}
template <class T>
GDN_DEVICE void bulk_fetch(void* to, Global<T> from, int bytes, Mailbox& mail) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :
               : "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(&mail))
               : "memory");
}

#elif defined(GDN_ON_HOST)

[[maybe_unused]] constexpr bool kBulkFetches = true;
GDN_DEVICE char* dynamic_shared() { return static_cast<char*>(gdn_host::machine.dynamic_shared()); }
template <class T>
GDN_DEVICE void bulk_fetch(void* to, Global<T> from, int bytes, Mailbox& mail) {
  gdn_host::machine.bulk_fetch(to, from, bytes, &mail.state);
}

#else

[[maybe_unused]] constexpr bool kBulkFetches = false;
GDN_DEVICE char* dynamic_shared() { return nullptr; }
template <class T>
GDN_DEVICE void bulk_fetch(void*, Global<T>, int, Mailbox&) {}

#endif

}  // namespace gdn
