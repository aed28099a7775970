// The frame around an operation: entry, the loop over items, slots and padding, the loop over a key head's value
// heads, and the addresses of operands for the item at hand.
#pragma once

#include <functional>
#include <vector>

#include "cpu/context.h"

namespace gdn::cpu {

// What an operand's first dimension is counted by.
enum class Row : std::uint8_t { kNone, kToken, kSlot };

// The registers that say which row, slot and heads an address is for.
struct Position {
  Reg64 row = reg::row;
  Reg64 slot = reg::slot;
  Reg64 key_head = reg::key_head;
  bool first_group = false;  // the key head's first value head, whatever reg::group holds
};

// target <- address of the map's first element at a position. Changes rax; `target` is another register.
void emit_pointer(Context& c, const Reg64& target, const core::Map& map, Row row, const Position& at = {});

// target <- bytes between the rows of the map's operand
void emit_row_step(Context& c, const Reg64& target, const core::Map& map);

// Bytes between neighbours of a stride, checked against what an instruction can add.
int stride_bytes(const core::Map& map, std::int64_t stride);

// register += bytes; nothing for 0.
void emit_advance(Context& c, const Reg64& pointer, std::int64_t bytes);

// `body` once for each of `count` pieces, as a loop on rcx (which the body keeps).
void emit_repeat(Context& c, int count, const char* name, const std::function<void()>& body);

// `body` once for each value head of the key head, with reg::group counting.
void emit_for_heads(Context& c, const std::function<void()>& body);

// Zeros in the elements of an output's head at hand (reg::group of value heads), and in the scales of its groups.
void emit_zero_head(Context& c, const core::Map& map);

// Leaves for `padding` unless `slot`, the slot of token `row`, lies inside the pools. A slot beyond them counts as
// padding too, so that no index reaches foreign memory. Changes rax.
void emit_slot(Context& c, const Reg64& slot, const Reg64& row, const Mark& padding);

// The whole function around an item: `item` does one, with reg::row, reg::key_head and reg::item set, and goes on to
// `next` where there is nothing to do; `behind` emits what stands behind the function's end. A row has `in_row` items:
// its key heads, or parts of them, or itself alone; reg::key_head counts them within the row.
void emit_item_loop(Context& c, int in_row, const std::function<void(const Mark& next)>& item,
                    const std::function<void(const Mark& next)>& behind);

// The same for operations of one token a row, whose slot is reg::slot. With slots, rows of padding skip it and get
// zeros in `outputs` (or nothing, as the facts say).
void emit_items(Context& c, const std::vector<const core::Map*>& outputs, const std::function<void()>& body);

}  // namespace gdn::cpu
