// A chunk's numbers as they are handed over, for the kernels that prepare its record (prep_block.h says what they ask).
#pragma once

#include "gdn/gates.h"
#include "gdn/sm90/chunks.h"

namespace gdn::sm90 {

template <class F>
class HandedOver {
 public:
  using Element = typename F::InputK::Element;  // of q and k before the norm

  GDN_DEVICE HandedOver(const Args& args, const Chunk& chunk, int key_head)
      : args_(args), chunk_(chunk), key_head_(key_head) {}

  // 16 bytes of a row of the chunk, from channel `first` on.
  GDN_DEVICE Raw<16> key(int row, int first) const { return piece<typename F::InputK>(row, first); }
  GDN_DEVICE Raw<16> query(int row, int first) const { return piece<typename F::InputQ>(row, first); }

  // log2 of the decays of a value head, or of one of its key channels, by token of the chunk.
  class Rates {
    using G = typename F::InputG;

   public:
    GDN_DEVICE Rates(const Args& args, long long row, int offset)
        : first_(part<G>(args, row) + offset), stride_(args.stride[G::kOperand]) {}
    GDN_DEVICE float of(int token) const {
      const float read = load_one<typename G::Element>(first_ + token * stride_);
      return log2_decay_of_handover<F>(read);
    }

   private:
    MapElements<G> first_;
    long long stride_;
  };
  GDN_DEVICE Rates rates(int head, int channel = 0) const {
    return {args_, chunk_.token, F::InputG::base(head) + channel * F::InputG::kInnerStride};
  }
  GDN_DEVICE float beta(long long row, int head) const {
    using B = typename F::InputBeta;
    return head_number<B>(part<B>(args_, row), head);
  }
  // What is left to do for the chunk: v of `heads` value heads of the group from number `first` on is where it is.
  GDN_DEVICE void finish(int first, int heads) const { static_cast<void>(first), static_cast<void>(heads); }

 private:
  template <class M>
  GDN_DEVICE Raw<16> piece(int row, int first) const {
    static_assert(sizeof(typename M::Element) == 2 && M::kInnerStride == 1 && M::kAlign % 8 == 0, "16-byte pieces");
    return load<16>(part<M>(args_, chunk_.token) + M::base(key_head_) + first + row * args_.stride[M::kOperand]);
  }

  const Args& args_;
  Chunk chunk_;
  int key_head_;
};

}  // namespace gdn::sm90
