// Hopper's asynchronous copies and the barriers with phases on which they complete: the part of gdn_host/simt.h's
// machine that templates/gdn/sm90/bulk.h maps to.
//
// A shared address is the offset in the block's shared memory; for another block of the cluster its rank + 1 stands in
// the upper eight bits. When a transfer happens is the launch's order: forward, as late as possible (when no thread can
// run any more); reverse, as soon as it is issued; any other order, by a coin for each. A kernel must come out the
// same.
//
// Stricter than hardware:
//   - a barrier is initialised once, and used by another thread only behind a barrier of the block (by one of another
//     block: of the cluster)
//   - addresses and sizes of transfers are multiples of what they have to be, and lie in shared memory
//   - shared memory that ordinary stores wrote is fenced before a transfer or a product reads it
//   - a thread that returns has waited for its stores and copies, and no transfer is left when the last one returns
#pragma once

#include "gdn_host/simt.h"

#pragma GCC visibility push(hidden)
namespace gdn_host {

inline Machine::SharedPlace Machine::shared_place(unsigned address, std::size_t bytes, std::size_t alignment) {
  const unsigned rank = address >> 24;
  const std::size_t offset = address & 0xffffffu;
  if (rank > blocks_.size()) fail("an address in block %u of a cluster of %zu", rank - 1, blocks_.size());
  if (offset % alignment != 0) fail("a shared address of %zu, which is no multiple of %zu", offset, alignment);
  if (offset + bytes > dynamic_bytes_ + kSharedBytes) {
    fail("%zu bytes at %zu of shared memory, which ends at %zu", bytes, offset, dynamic_bytes_ + kSharedBytes);
  }
  return {rank == 0 ? current_->block : &blocks_[rank - 1], offset};
}

inline char* Machine::shared_pointer(unsigned address, std::size_t bytes, std::size_t alignment) {
  const SharedPlace place = shared_place(address, bytes, alignment);
  return shared_base(*place.block) + place.offset;
}

inline unsigned Machine::shared_address(const void* pointer) const {
  return static_cast<unsigned>(static_cast<const char*>(pointer) - shared_base(*current_->block));
}

// ---- barriers with phases -------------------------------------------------------------------------------------------

inline void Machine::phase_init(unsigned address, int arrivals) {
  const SharedPlace place = shared_place(address, 8, 8);
  for (const PhaseBarrier& other : place.block->phases) {
    if (other.offset == place.offset) fail("initialises the barrier at %zu twice", place.offset);
  }
  PhaseBarrier barrier;
  barrier.offset = place.offset;
  barrier.expected = barrier.pending = arrivals;
  barrier.maker = current_->id;
  barrier.made_at = place.block->barriers;
  barrier.met_at = meetings_;
  place.block->phases.push_back(barrier);
}

inline PhaseBarrier& Machine::phase_at(Block& block, std::size_t offset) {
  for (PhaseBarrier& barrier : block.phases) {
    if (barrier.offset == offset) return barrier;
  }
  fail("uses a barrier at %zu that was never initialised", offset);
}

// The barrier at an address, for a thread that has to know of it.
inline PhaseBarrier& Machine::known_phase(unsigned address) {
  const SharedPlace place = shared_place(address, 8, 8);
  PhaseBarrier& barrier = phase_at(*place.block, place.offset);
  const bool own = place.block == current_->block;
  const bool published =
      own ? barrier.maker == current_->id || place.block->barriers > barrier.made_at || meetings_ != barrier.met_at
          : meetings_ != barrier.met_at;
  if (!published) fail("uses the barrier at %zu before its initialisation is published", place.offset);
  return barrier;
}

inline void Machine::phase_complete(Block& block, PhaseBarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  wake_all(block, Wait::kPhase);
}

inline void Machine::phase_arrive(Block& block, PhaseBarrier& barrier) {
  if (--barrier.pending < 0)
    fail("one arrival more than the %d of the barrier at %zu", barrier.expected, barrier.offset);
  phase_complete(block, barrier);
}

inline void Machine::phase_expect(unsigned address, int bytes) {
  PhaseBarrier& barrier = known_phase(address);
  barrier.bytes += bytes;
  phase_arrive(*shared_place(address, 8, 8).block, barrier);
}

inline void Machine::phase_arrive(unsigned address) {
  phase_arrive(*shared_place(address, 8, 8).block, known_phase(address));
}

inline void Machine::phase_wait(unsigned address, unsigned parity) {
  const SharedPlace place = shared_place(address, 8, 8);
  if (place.block != current_->block) fail("waits on a barrier of another block");
  known_phase(address);
  while ((phase_at(*place.block, place.offset).phase & 1u) == (parity & 1u)) {
    current_->wait = Wait::kPhase;
    next();
  }
}

// ---- transfers ------------------------------------------------------------------------------------------------------

inline bool Machine::at_once() {
  if (order_ == kForward || order_ == kReverse) return order_ == kReverse;
  return random() % 2 == 0;
}

inline void Machine::start(Transfer transfer) {
  if (at_once()) {
    deliver(transfer);
  } else {
    transfers_.push_back(std::move(transfer));
  }
}

inline void Machine::deliver_one() {
  const std::size_t i = order_ == kForward ? 0 : random() % transfers_.size();
  const Transfer transfer = std::move(transfers_[i]);
  transfers_.erase(transfers_.begin() + static_cast<std::ptrdiff_t>(i));
  deliver(transfer);
}

inline void Machine::deliver(Block& block, const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    char* const to = shared_base(block) + copy.offset;
    if (copy.from == nullptr) {
      std::memset(to, 0, 16);
    } else {
      gdn_host_heard(copy.from, 16, false);
      std::memcpy(to, copy.from, 16);
    }
  }
}

inline void Machine::deliver(const Transfer& transfer) {
  Block& block = *transfer.block;
  char* const base = shared_base(block);
  const auto count = [&](std::size_t bytes) {
    PhaseBarrier& barrier = phase_at(block, transfer.barrier);
    barrier.bytes -= static_cast<long long>(bytes);
    phase_complete(block, barrier);
  };
  if (block.returned == static_cast<int>(block.threads.size())) fail("a transfer to a block that has ended");
  switch (transfer.kind) {
    case Transfer::Kind::kLoad:
      for (std::size_t i = 0; i < transfer.bytes; i += 16) {
        gdn_host_heard(transfer.memory + i, 16, false);
        std::memcpy(base + transfer.offset + i, transfer.memory + i, 16);
      }
      count(transfer.bytes);
      break;
    case Transfer::Kind::kStore:
      for (std::size_t i = 0; i < transfer.bytes; i += 16) {
        gdn_host_heard(transfer.memory + i, 16, true);
        std::memcpy(transfer.memory + i, base + transfer.offset + i, 16);
      }
      break;
    case Transfer::Kind::kArrive:
      deliver(block, transfer.copies);
      phase_arrive(block, phase_at(block, transfer.barrier));
      break;
    case Transfer::Kind::kSend:
      std::memcpy(base + transfer.offset, transfer.words, transfer.bytes);
      count(transfer.bytes);
      break;
  }
}

inline void Machine::bulk_load(unsigned to, const char* from, int bytes, unsigned barrier) {
  const auto size = static_cast<std::size_t>(bytes);
  const SharedPlace place = shared_place(to, size, 16);
  if (bytes % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    fail("a bulk load that is not of 16-byte pieces");
  known_phase(barrier);
  Transfer transfer;
  transfer.kind = Transfer::Kind::kLoad;
  transfer.block = place.block;
  transfer.offset = place.offset;
  transfer.barrier = shared_place(barrier, 8, 8).offset;
  transfer.memory = const_cast<char*>(from);
  transfer.bytes = size;
  start(std::move(transfer));
}

inline void Machine::bulk_store(char* to, unsigned from, int bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  const SharedPlace place = shared_place(from, size, 16);
  if (bytes % 16 != 0 || reinterpret_cast<std::uintptr_t>(to) % 16 != 0)
    fail("a bulk store that is not of 16-byte pieces");
  expect_fenced(*place.block, place.offset, size);
  Transfer transfer;
  transfer.kind = Transfer::Kind::kStore;
  transfer.block = place.block;
  transfer.owner = current_->id;
  transfer.offset = place.offset;
  transfer.memory = to;
  transfer.bytes = size;
  start(std::move(transfer));
}

// All of this thread's stores, committed or not: nobody waits for one that was not.
inline void Machine::bulk_wait_read() {
  for (std::size_t i = 0; i < transfers_.size();) {
    const bool mine = transfers_[i].kind == Transfer::Kind::kStore && transfers_[i].owner == current_->id &&
                      transfers_[i].block == current_->block;
    if (!mine) {
      ++i;
      continue;
    }
    const Transfer transfer = std::move(transfers_[i]);
    transfers_.erase(transfers_.begin() + static_cast<std::ptrdiff_t>(i));
    deliver(transfer);
  }
}

inline void Machine::copy_16(unsigned to, const char* from, bool inside) {
  const SharedPlace place = shared_place(to, 16, 16);
  if (inside && reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    fail("a copy of 16 bytes from %p", static_cast<const void*>(from));
  }
  current_->copies.push_back({place.offset, inside ? from : nullptr});
}

inline void Machine::arrive_after_copies(unsigned barrier) {
  known_phase(barrier);
  Transfer transfer;
  transfer.kind = Transfer::Kind::kArrive;
  transfer.block = current_->block;
  transfer.barrier = shared_place(barrier, 8, 8).offset;
  transfer.copies = std::move(current_->copies);
  current_->copies.clear();
  start(std::move(transfer));
}

inline void Machine::copies_commit() {
  current_->copy_groups.push_back(std::move(current_->copies));
  current_->copies.clear();
  if (!at_once()) return;
  deliver(*current_->block, current_->copy_groups.back());
  current_->copy_groups.back().clear();
}

// Groups land in their order, and as late as they may: here.
inline void Machine::copies_wait(int pending) {
  while (current_->copy_groups.size() > static_cast<std::size_t>(pending)) {
    deliver(*current_->block, current_->copy_groups.front());
    current_->copy_groups.pop_front();
  }
}

inline void Machine::send_words(unsigned to, const unsigned* words, int count, unsigned barrier) {
  const std::size_t bytes = static_cast<std::size_t>(count) * 4;
  const SharedPlace place = shared_place(to, bytes, bytes);
  const SharedPlace at = shared_place(barrier, 8, 8);
  if (place.block != at.block) fail("sends to one block and counts it in another");
  known_phase(barrier);
  Transfer transfer;
  transfer.kind = Transfer::Kind::kSend;
  transfer.block = place.block;
  transfer.offset = place.offset;
  transfer.barrier = at.offset;
  transfer.bytes = bytes;
  std::memcpy(transfer.words, words, bytes);
  start(std::move(transfer));
}

inline unsigned Machine::address_in(unsigned address, int rank) const {
  return (address & 0xffffffu) | static_cast<unsigned>(rank + 1) << 24;
}

// ---- ordinary accesses that asynchronous ones follow ----------------------------------------------------------------

inline void Machine::store_shared(unsigned address, const void* from, std::size_t bytes) {
  const SharedPlace place = shared_place(address, bytes, bytes);
  if (place.block != current_->block) fail("an ordinary store to another block");
  std::memcpy(shared_base(*place.block) + place.offset, from, bytes);
  Block& block = *place.block;
  if (block.writers.size() * 16 < dynamic_bytes_) block.writers.resize(dynamic_bytes_ / 16 + 1);
  const std::size_t piece = place.offset / 16;
  if (piece >= block.writers.size()) return;
  block.writers[piece] = static_cast<short>(current_->id + 1);
  current_->unfenced.push_back(piece);
}

inline void Machine::load_shared(unsigned address, void* to, std::size_t bytes) {
  std::memcpy(to, shared_pointer(address, bytes, bytes), bytes);
}

inline void Machine::fence_async() {
  for (const std::size_t piece : current_->unfenced) {
    short& writer = current_->block->writers[piece];
    if (writer == current_->id + 1) writer = 0;
  }
  current_->unfenced.clear();
}

inline void Machine::expect_fenced(Block& block, std::size_t offset, std::size_t bytes) {
  for (std::size_t piece = offset / 16; piece <= (offset + bytes - 1) / 16 && piece < block.writers.size(); ++piece) {
    if (block.writers[piece] == 0) continue;
    fail("shared memory at %zu is read beside the threads, and thread %d wrote it without a fence", piece * 16,
         block.writers[piece] - 1);
  }
}

// A thread of the block is about to return.
inline void Machine::expect_idle() {
  for (const Transfer& transfer : transfers_) {
    if (transfer.kind == Transfer::Kind::kStore && transfer.owner == current_->id &&
        transfer.block == current_->block) {
      fail("returns before its bulk stores have read shared memory");
    }
  }
  if (!current_->products.held.empty()) fail("returns while products are under way");
  if (!current_->copies.empty() || !current_->copy_groups.empty()) {
    fail("returns before its copies of 16 bytes were waited for");
  }
  const bool last = returned_ + 1 == static_cast<int>(blocks_.size() * blocks_[0].threads.size());
  if (!last) return;
  if (!transfers_.empty()) fail("the last thread returns while %zu transfers are under way", transfers_.size());
  for (const Block& block : blocks_) {
    for (std::size_t w = 0; w < block.waves.size(); ++w) {
      if (block.threads.size() % 128 != 0 || block.product_logs.size() <= w / 4) continue;
      const auto count = static_cast<long long>(block.product_logs[w / 4].size());
      if (block.waves[w].first_product == count) continue;
      fail("warp %zu took part in %lld products of its warp group's %lld", w, block.waves[w].first_product, count);
    }
  }
}

}  // namespace gdn_host
#pragma GCC visibility pop
