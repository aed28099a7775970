// The memory in which blocks of one key head meet that are no cluster (templates/gdn/arrivals.h): the operand
// `arrivals` of a decode some of whose launches split a key head so.
//
// It has a record for each row of a launch, of one size for all launches of the kernel. Whoever owns it zeroes it once,
// before the first launch; every launch leaves the counters in it at zero. Launches that may run at the same time need
// a memory each. Unless the launch of any number of rows needs it too, it may be left out: launches then take a form in
// which one block serves a key head.
#pragma once

#include <cstdint>

#include "core/plan.h"

namespace gdn::core {

constexpr std::int64_t kArrivalsAlign = 128;  // bytes; gdn::kArrivalsAlign of templates/gdn/arrivals.h

// Whether a form of a kernel, launched so, has blocks that meet in memory.
bool meets_in_memory(const KernelPlan& plan, const LaunchRule& rule, const Choices& choices);

// Index of the operand; -1: no launch of the plan needs it.
int arrivals_operand(const KernelPlan& plan);

// Bytes of the record of one row.
std::int64_t arrivals_row_bytes(const Facts& facts);

// Bytes that a launch of so many rows needs, whatever edge it is on.
std::int64_t arrivals_bytes(const KernelPlan& plan, int rows);

// The most that a launch of up to so many rows needs.
std::int64_t most_arrivals_bytes(const KernelPlan& plan, int rows);

// Which entry point a launch takes: an index of plan.variants, or their number for the plan's own. A form whose blocks
// meet in memory is passed over by a launch without the operand. A launch on a programmatic edge takes the forms for
// such edges with and without the promise that pools are ready: they are measured with it, and without it they are the
// better ones at one row and the worse ones at some more (tests/bench/NOTES.md), so that the edge alone may decide.
std::size_t variant_of(const KernelPlan& plan, const Args& args, Edge edge = Edge::kPlain);

// The same for a launch of so many rows that has the operand.
std::size_t variant_of(const KernelPlan& plan, int rows, Edge edge);

}  // namespace gdn::core
