// No two accesses of the bodies race, whatever the order in which blocks and threads run; and the detector that says so
// finds races that were planted.
#include "race_detector.h"
#include "shim_facts.h"
#include "shim_reference.h"
#include "support/catch.h"

#include "gdn/conv_update.h"
#include "gdn/decode.h"
#include "gdn/delta_update.h"

namespace {

template <class F>
void decode(gdn::Args args) {
  gdn::decode<F>(args);
}
template <class F>
void delta_update(gdn::Args args) {
  gdn::delta_update<F>(args);
}
void conv_update(gdn::Args args) { gdn::conv_update<shim::ConvUpdate>(args); }

template <class F, void (*kKernel)(gdn::Args)>
races::Report run(unsigned order) {
  races::Report all;
  // Blocks that meet in memory run one after the other, and as many side by side as there are in a key head, or more.
  for (const int beside : F::kArrivalsOperand < 0 ? std::vector<int>{1} : std::vector<int>{1, 2, 8}) {
    shim::Check<F> check(5 + order);
    check.watch(races::watch);
    const shim::Verdict verdict = check.run(kKernel, order, beside);
    CHECK(verdict.fault == "");
    const races::Report report = races::stop();
    if (all.races == 0) all.first = report.first;
    all.races += report.races;
  }
  return all;
}

template <class F>
races::Report run_in_memory(unsigned order) {
  return run<shim::InMemory<F>, decode<shim::InMemory<F>>>(order);
}

struct Row {
  const char* name;
  races::Report (*run)(unsigned order);
};

const Row kBodies[] = {
    {"decode", run<shim::Decode, decode<shim::Decode>>},
    {"decode (K, V)", run<shim::DecodeKv, decode<shim::DecodeKv>>},
    {"value heads over blocks", run<shim::DecodeHeadParts, decode<shim::DecodeHeadParts>>},
    {"value channels over blocks", run<shim::DecodeRowParts, decode<shim::DecodeRowParts>>},
    {"both", run<shim::DecodeParts, decode<shim::DecodeParts>>},
    {"both, (K, V)", run<shim::DecodeKvParts, decode<shim::DecodeKvParts>>},
    {"both, DS windows", run<shim::DecodeDsParts, decode<shim::DecodeDsParts>>},
    {"value heads over blocks that meet in memory", run_in_memory<shim::DecodeHeadParts>},
    {"value channels over such blocks", run_in_memory<shim::DecodeRowParts>},
    {"both, meeting in memory", run_in_memory<shim::DecodeParts>},
    {"both, (K, V), meeting in memory", run_in_memory<shim::DecodeKvParts>},
    {"both, DS windows, meeting in memory", run_in_memory<shim::DecodeDsParts>},
    {"delta_update", run<shim::DeltaUpdateParts, delta_update<shim::DeltaUpdateParts>>},
    {"conv_update", run<shim::ConvUpdate, conv_update>},
};

// ---- planted ----

struct Memory {
  float x[64];
};

gdn::Elements<float> operand(const gdn::Args& args) { return gdn::to_global<float>(args.operand[0]); }

// Each block reads a window that block 0 then shifts, as decode does: with the meeting of the cluster between, or
// without.
template <bool kMeets>
void shift_window(gdn::Args args) {
  const float x = gdn::load_one<float>(operand(args) + gdn::thread_id());
  if constexpr (kMeets) {
    gdn::cluster_arrive();
    gdn::cluster_wait();
  }
  if (gdn::block_number() == 0) gdn::store_one<float>(operand(args) + gdn::thread_id(), x + 1.0f);
}

// What one block writes and another reads behind a meeting: it need not be seen yet.
void hand_over(gdn::Args args) {
  if (gdn::block_number() == 0) gdn::store_one<float>(operand(args) + gdn::thread_id(), 1.0f);
  gdn::cluster_arrive();
  gdn::cluster_wait();
  if (gdn::block_number() == 1) gdn::load_one<float>(operand(args) + gdn::thread_id());
}

gdn::Global<unsigned> counter(const gdn::Args& args) { return gdn::to_global<unsigned>(args.operand[0]) + 63; }

// The same where a counter in memory says who is last: behind a barrier that all reads stand before, or too early.
template <bool kBarrier>
void shift_last(gdn::Args args) {
  struct Shared {
    bool last;
  };
  GDN_SHARED(Shared, shared);
  const float x = gdn::load_one<float>(operand(args) + gdn::thread_id());
  if constexpr (kBarrier) gdn::barrier();
  if (gdn::thread_id() == 0) shared.last = gdn::count_up(counter(args), 2) == 1;
  gdn::barrier();
  if (shared.last) gdn::store_one<float>(operand(args) + gdn::thread_id(), x + 1.0f);
}

// What each block of 16 threads puts in memory for the last one to gather: with fences on both sides, or on one.
template <bool kReleases, bool kAcquires>
void gather(gdn::Args args) {
  struct Shared {
    bool last;
  };
  GDN_SHARED(Shared, shared);
  gdn::store_one<float>(operand(args) + gdn::block_number() * 16 + gdn::thread_id(), 1.0f);
  if constexpr (kReleases) gdn::fence_device();
  gdn::barrier();
  if (gdn::thread_id() == 0) shared.last = gdn::count_up(counter(args), 2) == 1;
  gdn::barrier();
  if (!shared.last) return;
  if constexpr (kAcquires) gdn::fence_device();
  gdn::load_one<float>(operand(args) + (1 - gdn::block_number()) * 16 + gdn::thread_id());
}

// A neighbour's number through shared memory: with the barrier between, or without.
template <bool kBarrier>
void rotate(gdn::Args args) {
  GDN_SHARED(Memory, memory);
  memory.x[gdn::thread_id()] = 1.0f;
  if constexpr (kBarrier) gdn::barrier();
  gdn::store_one<float>(operand(args) + gdn::block_number() * 32 + gdn::thread_id(),
                        memory.x[(gdn::thread_id() + 1) % 32]);
}

// A neighbour's number that is then overwritten: with a shuffle between, or without; and one that is written and then
// read, which a shuffle does not order.
template <bool kShuffle, bool kReadsFirst>
void overwrite(gdn::Args args) {
  GDN_SHARED(Memory, memory);
  if constexpr (!kReadsFirst) memory.x[gdn::thread_id()] = 1.0f;
  float x = kReadsFirst ? memory.x[(gdn::thread_id() + 1) % 32] : 0.0f;
  if constexpr (kShuffle) x = gdn::shuffle_xor<1>(x);
  if constexpr (kReadsFirst) memory.x[gdn::thread_id()] = x;
  if constexpr (!kReadsFirst) x += memory.x[(gdn::thread_id() + 1) % 32];
  gdn::store_one<float>(operand(args) + gdn::block_number() * 32 + gdn::thread_id(), x);
}

// Two blocks that are no cluster write to one place.
void write_twice(gdn::Args args) { gdn::store_one<float>(operand(args) + gdn::thread_id(), 1.0f); }

races::Report launch(void (*kernel)(gdn::Args), int cluster, unsigned order, int threads = 32) {
  Memory memory = {};
  gdn::Args args{};
  args.operand[0] = memory.x;
  races::watch(&memory, sizeof(memory));
  char message[512];
  CHECK(gdn_host_launch(kernel, &args, 2, 1, threads, cluster, 0, order, message, sizeof(message)) == 0);
  return races::stop();
}

}  // namespace

TEST_CASE("no accesses of the bodies race, in any order of blocks and threads") {
  for (const Row& row : kBodies) {
    for (const unsigned order : {0u, 1u, 977u}) {
      CAPTURE(row.name, order);
      const races::Report report = row.run(order);
      CHECK(report.first == "");
      CHECK(report.races == 0);
    }
  }
}

TEST_CASE("the detector finds planted races, and nothing where a barrier or a meeting orders the accesses") {
  for (const unsigned order : {0u, 1u, 977u}) {
    CAPTURE(order);
    CHECK(launch(shift_window<false>, 2, order).races > 0);
    CHECK(launch(shift_window<true>, 2, order).first == "");
    CHECK(launch(hand_over, 2, order).races > 0);
    CHECK(launch(rotate<false>, 1, order).races > 0);
    CHECK(launch(rotate<true>, 1, order).first == "");
    CHECK(launch(overwrite<true, true>, 1, order).first == "");
    CHECK(launch(overwrite<false, true>, 1, order).races > 0);
    CHECK(launch(overwrite<true, false>, 1, order).races > 0);
    CHECK(launch(write_twice, 1, order).races > 0);
    for (const int beside : {1, 2}) {
      CAPTURE(beside);
      CHECK(launch(shift_last<true>, beside, order).first == "");
      CHECK(launch(shift_last<false>, beside, order).races > 0);
      CHECK(launch(gather<true, true>, beside, order, 16).first == "");
      CHECK(launch(gather<false, true>, beside, order, 16).races > 0);
      CHECK(launch(gather<true, false>, beside, order, 16).races > 0);
      CHECK(launch(gather<false, false>, beside, order, 16).races > 0);
    }
  }
}
