// The processors that this process may use.
#pragma once

#include <thread>
#include <vector>

namespace gdn::runtime {

// Their numbers, ascending and at least one: the affinity mask as it stood when this library was loaded, before anybody
// pinned the thread that asks. The same in every child that is forked.
const std::vector<int>& processors();

// How many threads may run at once: the mask, or what the control group's quota of processor time pays for (rounded
// down, at least 1) where that is less. Threads beyond it would not run beside the others but in their place.
int allowed_processors();

// The quota that the text of a control group's file grants, in whole processors: cpu.max of version 2 ("200000 100000",
// "max 100000"). 0: none, or not such a text.
int quota_of(const char* text);

// Lets the calling thread run on these processors only. Ignores a refusal: a thread runs as well where it is.
void run_on(const std::vector<int>& processors);

// The same of another thread, which may sleep.
void run_on(std::thread& thread, const std::vector<int>& processors);

// The processor that the calling thread runs on now; the one it is pinned to where it is pinned to one. -1: unknown.
int current_processor();

}  // namespace gdn::runtime
