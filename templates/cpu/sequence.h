// The frame around an operation over whole sequences: entry, the loop over items (a key head of a sequence each), the
// rows and the slot of a sequence, padding, and what a sequence starts from.
//
//   rows       cu_seqlens[i] to before cu_seqlens[i + 1], cut to the rows of the launch; a sequence without rows
//              touches nothing
//   slot       its number in `slots`; null slots: sequence i has slot i
//   padding    a slot that marks padding or, in a launch with pools, lies outside of them
//   start      from what the slot holds: always, never, or where has_initial_state is not 0 (null: never)
//   snapshots  behind the tokens of rows that the launch names, in slots that it names: a chunk ends there. Rows
//   ascend;
//              what a row of no sequence or a slot of padding or outside of the pools would keep is dropped
#pragma once

#include <functional>
#include <vector>

#include "cpu/context.h"

namespace gdn::cpu {

namespace reg {
inline const Reg64 work{5};     // rbp: scratch memory of the thread, 64-byte aligned
inline const Reg64 tokens{12};  // r12: of the chunk at hand; reg::row is the chunk's first token
}  // namespace reg

// Rows of a chunk's tokens: an operand's, of the head at hand; or `width` neighbours each, at reg::work + buffer.
struct RowPlace {
  RowPlace(const core::Map& operand) : map(&operand), dtype(operand.dtype) {}
  RowPlace(int scratch, int elements, core::DType type) : buffer(scratch), width(elements), dtype(type) {}

  const core::Map* map = nullptr;
  int buffer = 0;
  int width = 0;
  core::DType dtype;

  std::int64_t stride() const { return map == nullptr ? 1 : map->inner_stride; }  // between elements
};

// `first` <- address of the chunk's first row, `step` <- bytes between rows. Changes rax.
void emit_point_at_rows(Context& c, const Reg64& first, const Reg64& step, const RowPlace& rows);

// Variables of 8 bytes, as offsets from reg::work.
struct SequencePlaces {
  int item = 0, last_item = 0;
  int sequence = 0;
  int left = 0;   // tokens of the sequence from reg::row on
  int first = 0;  // row of the sequence's first token
  // Of the next snapshot: its number and its row; and the sequence's own slot while another one stands in reg::slot.
  int snapshot = 0, due = 0, own_slot = 0;

  // Side by side from `offset` on, in one line of memory.
  static SequencePlaces from(int offset) {
    return {offset, offset + 8, offset + 16, offset + 24, offset + 32, offset + 40, offset + 48, offset + 56};
  }
  static constexpr int kBytes = 64;
};

class SequenceWalk {
 public:
  // `pools`: one map of each pool that the operation may use; absent ones are skipped. `parts` of an item, each one
  // value head's (with context.points_at_columns: some columns of one), or 1 for all of them: the part at hand is a
  // variable at reg::work + `part`.
  SequenceWalk(Context& c, const SequencePlaces& places, const std::vector<const core::Map*>& pools, int parts = 1,
               int part = 0);

  // `body` once for each value head of the item, or of its part, with reg::group.
  void for_heads(const std::function<void()>& body) const;
  bool in_parts() const { return parts_ > 1; }
  // Leaves for `others` but in an item's first part. Changes rax.
  void unless_first_part(const Mark& others) const;

  // The whole function. `begin` once a call that has items, before the first; `body` once an item with reg::row,
  // reg::slot, reg::key_head and the places set; `end` once behind the last item. Rows of padding get zeros in
  // `outputs`, where the facts want them.
  void emit(const std::vector<const core::Map*>& outputs, const std::function<void()>& begin,
            const std::function<void()>& body, const std::function<void()>& end) const;

  // `body` once for each chunk of at most `most` tokens, reg::row and reg::tokens set; afterwards no token is left and
  // reg::row is behind the last. `keep` where a snapshot is due, with its slot in reg::slot and reg::row behind its
  // row.
  void for_chunks(int most, const std::function<void()>& body, const std::function<void()>& keep) const;

  // Leaves for `without` where the operation has no such pool, or the launch is given none.
  void unless_pooled(const core::Map& pool, const Mark& without) const;

  // The same, and where the sequence does not start from what the pool holds for it. Changes rax and rcx.
  void unless_initial(const core::Map& pool, const Mark& without) const;

  // target <- the sequence's own slot, whatever stands in reg::slot
  void own_slot(const Reg64& target) const;

  const SequencePlaces& places() const { return places_; }
  Address variable(int offset) const { return e_.at(reg::work, offset); }

 private:
  void enter() const;
  void leave() const;
  void begin_sequence(const Mark& next, const Mark& padded) const;
  void load_offset(const Reg64& target, const Reg64& sequence, int index) const;
  void find_slot(const Reg64& sequence, const Mark& padded) const;
  void padding_index(const Reg64& sequence, const Mark& padded) const;
  void if_any_pool(const Mark& some) const;
  bool keeps_snapshots() const { return c_.facts.snapshot_rows_operand >= 0; }
  void first_snapshot() const;
  void load_due() const;
  void keep_snapshots(const std::function<void()>& keep) const;
  void snapshot_slot(const Mark& none) const;
  void fill_padding(const std::vector<const core::Map*>& outputs) const;

  Context& c_;
  Emitter& e_;
  SequencePlaces places_;
  std::vector<const core::Map*> pools_;  // one of each operand
  int parts_, part_;
};

}  // namespace gdn::cpu
