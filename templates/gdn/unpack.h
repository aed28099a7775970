// unpack: the parts q, k, v, z, b, a out of the projections' rows, copied as they are; z where the layer has a norm.
// Needs no slots: every row of the batch is copied. Grid: x = rows, y = key heads.
#pragma once

#include "gdn/map.h"

namespace gdn {

template <class F, class From, class To>
GDN_DEVICE void unpack_head(const Args& args, int head) {
  copy_head<F, From, To>(part<From>(args, block_row()), part<To>(args, block_row()), head);
}

template <class F>
GDN_DEVICE void unpack(const Args& args) {
  const int key_head = block_head();
  unpack_head<F, typename F::InputQ, typename F::OutputQ>(args, key_head);
  unpack_head<F, typename F::InputK, typename F::OutputK>(args, key_head);
  for (int g = 0; g < F::kGroup; ++g) {
    const int head = value_head<F>(key_head, g);
    unpack_head<F, typename F::InputV, typename F::OutputV>(args, head);
    if constexpr (F::OutputZ::kPresent) unpack_head<F, typename F::InputZ, typename F::OutputZ>(args, head);
  }
  constexpr bool kChannels = F::kRule == Rule::kKda;  // of a: one number for each key channel
  if constexpr (kChannels) {
    for (int g = 0; g < F::kGroup; ++g) {
      unpack_head<F, typename F::InputA, typename F::OutputA>(args, value_head<F>(key_head, g));
    }
  }
  // One number a head: a thread each, instead of a head at a time.
  for (int g = thread_id(); g < F::kGroup; g += F::kThreads) {
    const int head = value_head<F>(key_head, g);
    const auto b = part<typename F::InputB>(args, block_row()) + F::InputB::base(head);
    store_one<typename F::OutputB::Element>(part<typename F::OutputB>(args, block_row()) + F::OutputB::base(head),
                                            load_one<typename F::InputB::Element>(b));
    if constexpr (!kChannels) {
      const auto a = part<typename F::InputA>(args, block_row()) + F::InputA::base(head);
      store_one<typename F::OutputA::Element>(part<typename F::OutputA>(args, block_row()) + F::OutputA::base(head),
                                              load_one<typename F::InputA::Element>(a));
    }
  }
}

}  // namespace gdn
