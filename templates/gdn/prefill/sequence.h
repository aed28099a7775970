// Which tokens a block of prefill works on: the sequences of a launch.
//
// Sequence i has the rows cu_seqlens[i] to before cu_seqlens[i + 1]. Rows behind the last sequence belong to nobody and
// are left alone, so that a launch recorded for a bound of tokens stays valid for fewer. has_initial_state, where the
// spec has it, says of each sequence whether it starts from what its slot holds (not 0) or from zeros; a null one says
// no for all. Null slots: sequence i has slot i.
//
// Snapshots, where the spec has them: what the token of row snapshot_rows[i] leaves, state and windows, goes to slot
// snapshot_slots[i] as well. Rows ascend. A row of no sequence, or of one that is not computed, keeps nothing; neither
// does a slot that is padding or outside the pools. Slots differ from each other and from those of the launch's
// sequences, which blocks may read or write at the same time.
#pragma once

#include "gdn/map.h"

namespace gdn {

struct SequenceRows {
  int first;  // row
  int end;    // behind the last row
};

// Offsets that no caller should give (falling, negative, beyond the rows) are cut to what can be read and written.
template <class F>
GDN_DEVICE SequenceRows sequence_rows(const Args& args, int sequence) {
  static_assert(F::kOffsetsOperand >= 0 && F::kOffsetsOperand < kMaxOperands, "an operand of the argument block");
  const auto offsets = to_global<typename F::Offset>(args.operand[F::kOffsetsOperand]);
  const auto cut = [&](typename F::Offset row) {
    return row < 0 ? 0 : row > args.rows ? args.rows : static_cast<int>(row);
  };
  return {cut(offsets[sequence]), cut(offsets[sequence + 1])};
}

template <class F>
GDN_DEVICE long long sequence_slot(const Args& args, int sequence) {
  return args.operand[F::kSlotsOperand] == nullptr ? sequence : slot_of<F>(args, sequence);
}

// What becomes of a sequence's rows. Without slot indices no sequence is padding; without pools no slot is outside
// them.
template <class F>
GDN_DEVICE RowFate sequence_fate(const Args& args, long long slot, bool pooled) {
  const bool indexed = args.operand[F::kSlotsOperand] != nullptr;
  if (indexed && is_padding<F>(slot)) return row_fate<F>(args, slot);
  if (!pooled) return {true, false, 0.0f};
  if (indexed) return row_fate<F>(args, slot);
  return slot < args.slots ? RowFate{true, false, 0.0f} : RowFate{false, true, float_of(0x7fc00000u)};
}

// Whether a sequence starts from what its slot holds.
template <class F>
GDN_DEVICE bool has_initial_state(const Args& args, int sequence) {
  if constexpr (F::kInitialStates == InitialStates::kFlagged) {
    static_assert(F::kFlagsOperand >= 0 && F::kFlagsOperand < kMaxOperands, "an operand of the argument block");
    const auto flags = to_global<typename F::Flag>(args.operand[F::kFlagsOperand]);
    return args.operand[F::kFlagsOperand] != nullptr && flags[sequence] != 0;
  } else {
    return F::kInitialStates == InitialStates::kAll;
  }
}

// Whether the launch has a pool: the spec's prefill uses it, and the caller gave it.
template <class M>
GDN_DEVICE bool has_pool(const Args& args) {
  return M::kPresent && args.operand[M::kOperand] != nullptr;
}

// A sequence of the launch and what becomes of its rows.
struct Sequence {
  int number = 0;
  SequenceRows rows = {0, 0};
  long long slot = 0;
  RowFate fate = {false, false, 0.0f};
  bool initial = false;  // starts from what its slot holds; false without pools
};

// `pooled`: the launch has the pools that the caller is after.
template <class F>
GDN_DEVICE Sequence sequence_of_launch(const Args& args, int number, bool pooled) {
  Sequence sequence;
  sequence.number = number;
  sequence.rows = sequence_rows<F>(args, number);
  sequence.slot = sequence_slot<F>(args, number);
  sequence.fate = sequence_fate<F>(args, sequence.slot, pooled);
  sequence.initial = pooled && sequence.fate.computed && has_initial_state<F>(args, number);
  return sequence;
}

// The snapshots of a launch from some row on, in their order.
template <class F>
class Snapshots {
 public:
  GDN_DEVICE Snapshots(const Args& args, int first_row) : args_(args) {
    if constexpr (F::kSnapshotRowsOperand >= 0) {
      const bool given =
          args.operand[F::kSnapshotRowsOperand] != nullptr && args.operand[F::kSnapshotSlotsOperand] != nullptr;
      count_ = given ? static_cast<int>(args.stride[F::kSnapshotRowsOperand]) : 0;
      int low = 0;
      int high = count_;
      while (low < high) {
        const int middle = (low + high) / 2;
        if (row_of(middle) < first_row) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      next_ = low;
    }
  }

  // From number `next` on, of `count` that the launch has.
  GDN_DEVICE Snapshots(const Args& args, int next, int count) : args_(args), count_(count), next_(next) {}

  // The row of the next one; behind every row when there is none.
  GDN_DEVICE int row() const {
    if constexpr (F::kSnapshotRowsOperand >= 0) {
      if (next_ < count_) return row_of(next_);
    }
    return 0x7ffffffe;
  }
  // Its slot; negative: nothing is kept.
  GDN_DEVICE long long slot() const {
    if constexpr (F::kSnapshotRowsOperand >= 0) {
      const auto slots = to_global<typename F::Slot>(args_.operand[F::kSnapshotSlotsOperand]);
      const long long slot = slots[next_];
      return is_padding<F>(slot) || slot < 0 || slot >= args_.slots ? -1 : slot;
    }
    return -1;
  }
  GDN_DEVICE void step() { ++next_; }

  GDN_DEVICE int number() const { return next_; }  // of the next one: snapshots before it
  GDN_DEVICE int count() const { return count_; }  // of the launch
  GDN_DEVICE int row_of(int i) const {
    const typename F::Offset row = to_global<typename F::Offset>(args_.operand[F::kSnapshotRowsOperand])[i];
    return row < 0 ? -1 : row > args_.rows ? args_.rows : static_cast<int>(row);
  }

 private:
  const Args& args_;
  int count_ = 0, next_ = 0;
};

// The number of the sequence that a row belongs to; args.sequences for a row behind the last one.
template <class F>
GDN_DEVICE int sequence_at(const Args& args, int row) {
  const auto offsets = to_global<typename F::Offset>(args.operand[F::kOffsetsOperand]);
  int low = 0;
  int high = args.sequences;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (offsets[middle + 1] > row) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace gdn
