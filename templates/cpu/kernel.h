// A kernel of the CPU target: machine code made from a plan, in pages of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/plan.h"
#include "gdn/args.h"

namespace gdn::cpu {

// An item cut into parts for several threads.
struct ItemParts {
  int count = 1;                    // of an item; 1: whole items
  std::int64_t counter_bytes = 0;   // at the front of each item's exchange memory: zero before a launch
  std::int64_t exchange_bytes = 0;  // an item
  int per_mille = 1000;             // of the time that the whole item takes, what one part does
};

// Owns its pages. They are written while readable and writable only, then turned readable and executable: no page is
// ever both writable and executable. Movable, not copyable; an empty kernel has no code.
class Kernel {
 public:
  // Does items [begin, end) of rows * key_heads, item = row * key_heads + key_head (prefill: of sequences * key_heads).
  // An item owns the q and k channels of its key head and everything of the value heads that read it, so calls with
  // disjoint ranges may run at the same time, each with scratch memory of its own: scratch_bytes() at a multiple of 64,
  // null for a kernel that wants none. Reads and writes nothing but the operands of Args, that memory and its own
  // stack. Sets its own floating-point modes (round to nearest even, subnormal fp32 numbers count as zero) and restores
  // the caller's.
  // A kernel of parts counts these instead, item * parts().count + part. Where parts().exchange_bytes is not 0, all
  // calls of a launch have the same scratch memory: what the parts exchange, so many bytes for each item of the launch.
  using Function = void (*)(const gdn::Args* args, std::int64_t begin, std::int64_t end, void* scratch);

  Kernel() = default;
  // `code` is position independent and starts with the function. Throws std::runtime_error when the system gives no
  // pages.
  Kernel(const std::vector<std::uint8_t>& code, std::string listing, std::int64_t scratch_bytes = 0,
         const ItemParts& parts = {});
  Kernel(Kernel&& other) noexcept;
  Kernel& operator=(Kernel&& other) noexcept;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  ~Kernel();

  explicit operator bool() const { return pages_ != nullptr; }

  // Null for an empty kernel.
  Function function() const;

  // Bytes of the machine code, constants included.
  std::size_t size() const { return size_; }

  std::int64_t scratch_bytes() const { return scratch_bytes_; }
  const ItemParts& parts() const { return parts_; }

  // The machine code, constants included; the same bytes for the same plan, on any machine.
  std::vector<std::uint8_t> code() const;

  // One line an instruction: offset, bytes in hex, the emitter's own mnemonic and operands; labels and constants as
  // lines of their own.
  const std::string& listing() const { return listing_; }

 private:
  void release() noexcept;

  void* pages_ = nullptr;
  std::size_t size_ = 0;  // bytes of code; the mapping is rounded up to pages
  std::string listing_;
  std::int64_t scratch_bytes_ = 0;
  ItemParts parts_;
};

// Machine code for plan.operation on plan.target ("avx2", "avx512bf16", "amx"). Needs no such CPU to generate. Throws
// std::runtime_error that names what it can't generate: another target or operation, a head dimension that is no
// multiple of 16 or exceeds 256, a rule or a decay form it doesn't know, a part the operation needs and the plan lacks.
Kernel generate(const core::KernelPlan& plan);

// The same operation in parts of items, for launches with fewer items than threads; an empty kernel where there are
// none: for every operation but decode, chunk_delta and prefill. Results are those of generate()'s kernel to the bit.
Kernel generate_parts(const core::KernelPlan& plan);

// What the parts leave undone, over whole items once all of them are through; an empty kernel where that is nothing.
// For prefill the windows of q and k, which every part reads.
Kernel generate_after_parts(const core::KernelPlan& plan);

// chunk_delta and prefill in smaller parts, for launches of one sequence on so many threads: some value columns of a
// value head each. Between these and what comes after them, in parts of its own (of an item's rows), the outputs of
// prefill hold o in place of what the gated norm makes of it. Empty kernels where o would not survive that (quantised
// outputs, or of a shorter type than o is rounded to), where V has no such parts, and where there are as many value
// heads as threads.
Kernel generate_column_parts(const core::KernelPlan& plan, int threads);
Kernel generate_after_column_parts(const core::KernelPlan& plan, int threads);

}  // namespace gdn::cpu
