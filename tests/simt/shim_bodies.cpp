// Every body through the shim against the reference in double, over facts types written by hand. Compiled once per
// wave size.
#include "shim_facts.h"
#include "shim_reference.h"
#include "support/catch.h"

#include "gdn/conv_update.h"
#include "gdn/decode.h"
#include "gdn/delta_update.h"
#include "gdn/gating.h"
#include "gdn/norm_quant.h"
#include "gdn/unpack.h"

namespace {

template <class F>
void decode(gdn::Args args) {
  gdn::decode<F>(args);
}
void unpack(gdn::Args args) { gdn::unpack<shim::Unpack>(args); }
void conv_update(gdn::Args args) { gdn::conv_update<shim::ConvUpdate>(args); }
void gating(gdn::Args args) { gdn::gating<shim::Gating>(args); }
template <class F>
void delta_update(gdn::Args args) {
  gdn::delta_update<F>(args);
}
void norm_quant(gdn::Args args) { gdn::norm_quant<shim::NormQuant>(args); }

constexpr double kFp32 = 1e-6, kRounded16 = 6e-3;

struct Row {
  const char* name;
  shim::Verdict (*run)(unsigned order);
  double tolerance;
};

template <class F, void (*kKernel)(gdn::Args)>
shim::Verdict run(unsigned order) {
  return shim::Check<F>(17 + order, 2.0).run(kKernel, order);
}

template <class F>
shim::Verdict run_decode(unsigned order) {
  return run<F, decode<F>>(order);
}

const Row kTable[] = {
    {"decode", run_decode<shim::Decode>, kFp32},
    {"decode, state (K, V)", run_decode<shim::DecodeKv>, kFp32},
    {"decode, state with value heads innermost", run_decode<shim::DecodeStrided>, kFp32},
    {"decode, bf16 state", run_decode<shim::DecodeBf16State>, kRounded16},
    {"decode, fp16 state (K, V)", run_decode<shim::DecodeFp16KvState>, kRounded16},
    {"decode, DS windows", run_decode<shim::DecodeDs>, kFp32},
    {"decode, long window", run_decode<shim::DecodeLongWindow>, kFp32},
    {"decode, long window, newest last", run_decode<shim::DecodeLongLast>, kFp32},
    {"decode, other numbers", run_decode<shim::DecodeOtherNumbers>, kFp32},
    {"decode, tiled", run_decode<shim::DecodeTiled>, kFp32},
    {"decode, rounding points", run_decode<shim::DecodeRounded>, kRounded16},
    {"decode, many heads", run_decode<shim::DecodeManyHeads>, kFp32},
    {"decode, value heads over blocks", run_decode<shim::DecodeHeadParts>, kFp32},
    {"decode, value channels over blocks", run_decode<shim::DecodeRowParts>, kFp32},
    {"decode, both over blocks, rounding points", run_decode<shim::DecodeParts>, kRounded16},
    {"decode, both over blocks, state (K, V)", run_decode<shim::DecodeKvParts>, kFp32},
    {"decode, both over blocks, DS windows", run_decode<shim::DecodeDsParts>, kFp32},
    {"decode, both over blocks, other numbers", run_decode<shim::DecodeOtherParts>, kFp32},
    {"decode, value heads over blocks that meet in memory", run_decode<shim::InMemory<shim::DecodeHeadParts>>, kFp32},
    {"decode, value channels over such blocks", run_decode<shim::InMemory<shim::DecodeRowParts>>, kFp32},
    {"decode, both, rounding points", run_decode<shim::InMemory<shim::DecodeParts>>, kRounded16},
    {"decode, both, state (K, V)", run_decode<shim::InMemory<shim::DecodeKvParts>>, kFp32},
    {"decode, both, DS windows", run_decode<shim::InMemory<shim::DecodeDsParts>>, kFp32},
    {"decode, both, other numbers", run_decode<shim::InMemory<shim::DecodeOtherParts>>, kFp32},
    {"decode, rows of a head first, state (K, V)", run_decode<shim::DecodeKvRowsFirst>, kFp32},
    {"unpack", run<shim::Unpack, unpack>, kRounded16},  // its q is bf16
    {"conv_update", run<shim::ConvUpdate, conv_update>, kFp32},
    {"gating", run<shim::Gating, gating>, kFp32},
    {"delta_update", run<shim::DeltaUpdate, delta_update<shim::DeltaUpdate>>, kFp32},
    {"delta_update, value heads over blocks", run<shim::DeltaUpdateParts, delta_update<shim::DeltaUpdateParts>>, kFp32},
    {"norm_quant", run<shim::NormQuant, norm_quant>, kFp32},
};

}  // namespace

TEST_CASE("bodies agree with the formulas in double, in any order of blocks and threads") {
  for (const Row& row : kTable) {
    for (const unsigned order : {0u, 1u, 12345u}) {
      CAPTURE(row.name, order);
      const shim::Verdict verdict = row.run(order);
      CHECK(verdict.fault == "");
      CHECK(verdict.error < row.tolerance);
    }
  }
}

TEST_CASE("blocks that meet in memory agree with one block to the bit, one after the other and side by side") {
  for (const unsigned order : {0u, 1u, 2u, 3u, 977u, 12345u}) {
    CAPTURE(order);
    const auto compare = [&](auto whole, auto parts, int beside) {
      using Whole = decltype(whole);
      using Parts = decltype(parts);
      shim::Check<Whole> one(23);
      shim::Check<Parts> many(23);
      CHECK(one.run(decode<Whole>, 0).fault == "");
      CHECK(many.run(decode<Parts>, order, beside).fault == "");
      CHECK(one.made() == many.made());
    };
    for (const int beside : {1, 2, 4, 8}) {
      CAPTURE(beside);
      compare(shim::Decode{}, shim::InMemory<shim::DecodeHeadParts>{}, beside);
      compare(shim::Decode{}, shim::InMemory<shim::DecodeRowParts>{}, beside);
      compare(shim::DecodeRounded{}, shim::InMemory<shim::DecodeParts>{}, beside);
      compare(shim::DecodeKv{}, shim::InMemory<shim::DecodeKvParts>{}, beside);
    }
  }
}

TEST_CASE("a counter that is not zero before a launch ends it with the reason") {
  shim::Check<shim::InMemory<shim::DecodeParts>> check(3);
  check.disturb_counter(7);
  CHECK_THAT(check.run(decode<shim::InMemory<shim::DecodeParts>>, 0).fault,
             Catch::Contains("the counter was not zero before the launch"));
}

TEST_CASE("the reference tells a wrong kernel from a right one") {
  // The kernel of one layout on operands of another: sizes equal, meaning not.
  const shim::Verdict transposed = shim::Check<shim::Decode>(1).run(decode<shim::DecodeKv>, 0);
  CHECK((transposed.error > 0.05 || !transposed.fault.empty()));
  const shim::Verdict tiled = shim::Check<shim::Decode>(1).run(decode<shim::DecodeTiled>, 0);
  CHECK((tiled.error > 0.05 || !tiled.fault.empty()));
  const shim::Verdict anchored = shim::Check<shim::DecodeLongWindow>(1).run(decode<shim::DecodeLongLast>, 0);
  CHECK(anchored.fault == "window of v: not the shifted window");
}

TEST_CASE("a slot outside the pools touches no pool and shows as NaN") {
  for (const int slot : {6, 1000000000, -2000000000}) {
    CAPTURE(slot);
    shim::Check<shim::DecodeOtherNumbers> check(3);
    if (slot > 0) check.stray(1, slot);  // a negative slot is padding here
    CHECK(check.run(decode<shim::DecodeOtherNumbers>, 0).fault == "");
    shim::Check<shim::ConvUpdate> conv(4);
    if (slot > 0) conv.stray(3, slot);
    CHECK(conv.run(conv_update, 0).fault == "");
    shim::Check<shim::DecodeNoPadding> strict(5);
    strict.stray(0, slot);
    CHECK(strict.run(decode<shim::DecodeNoPadding>, 1).fault == "");
    shim::Check<shim::DecodeParts> parts(6);
    if (slot > 0) parts.stray(2, slot);
    CHECK(parts.run(decode<shim::DecodeParts>, 7).fault == "");
  }
}
