// A kernel's launches over a problem, one step after the other, against the oracle.
#pragma once

#include <memory>
#include <string>

#include "harness.h"
#include "support/amx_emulator.h"
#include "support/catch.h"

namespace gdn::test {

// `steps` launches, each from the states that the one before left. Tiles are emulated where the processor has none.
// `what` is said where a step is wrong.
inline void check_steps(const core::KernelPlan& plan, oracle::Problem& problem, int steps, const std::string& what) {
  const cpu::Kernel kernel = cpu::generate(plan);
  std::unique_ptr<AmxEmulator> emulator;
  if (!cpu::cpu_supports(plan.target)) emulator = std::make_unique<AmxEmulator>();
  for (int step = 0; step < steps; ++step) {
    if (step > 0) problem.next_step();
    const oracle::Expectation expectation = oracle::expect(problem);
    const Args args = args_of(problem, plan);
    const auto launch = [&] { call(kernel, args, 0, items_of(args, plan)); };
    if (emulator != nullptr) {
      emulator->run(launch);
    } else {
      launch();
    }
    zero_excess(plan, args, problem);
    const auto deviations = oracle::compare(expectation, problem);
    INFO(what << ", step " << step << "\n" << oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
  }
}

}  // namespace gdn::test
