// Runs kernels with AMX instructions on a processor that has none, or where the system has not granted them: they trap
// as illegal (SIGILL), and the handler executes them on an AmxMachine of the thread, one after the other while more of
// them follow. About 8 us a trap.
//
//   AmxEmulator emulator;                     // while it lives; one at a time in a process
//   emulator.run([&] { kernel(...); });       // this thread; throws std::runtime_error for a fault, naming it
//   emulator.counts().multiply
//
// Threads that run kernels by themselves are emulated too, each on tiles of its own; a fault there ends the process
// with the same text. An illegal instruction that is none of the machine's goes to the handler that was there before.
#pragma once

#include <ucontext.h>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "support/amx_machine.h"

namespace gdn::test {

class AmxEmulator {
 public:
  AmxEmulator() {
    struct sigaction action = {};
    action.sa_sigaction = on_illegal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGILL, &action, &before()) != 0) throw std::runtime_error("no handler for SIGILL");
  }
  ~AmxEmulator() { sigaction(SIGILL, &before(), nullptr); }
  AmxEmulator(const AmxEmulator&) = delete;
  AmxEmulator& operator=(const AmxEmulator&) = delete;

  // Of the calling thread, since it started or since the last reset.
  const AmxMachine::Counts& counts() const { return here().machine.counts(); }
  void reset_counts() { here().machine.reset_counts(); }

  template <class Call>
  void run(const Call& call) {
    Thread& thread = here();
    thread.fault = nullptr;
    thread.guarded = true;
    if (sigsetjmp(thread.back, 1) == 0) call();
    thread.guarded = false;
    if (thread.fault != nullptr) throw std::runtime_error(std::string("AMX: ") + thread.fault);
  }

 private:
  struct Thread {
    AmxMachine machine;
    sigjmp_buf back = {};
    bool guarded = false;
    const char* fault = nullptr;
  };
  static Thread& here() {
    thread_local Thread thread;
    return thread;
  }
  static struct sigaction& before() {
    static struct sigaction action = {};
    return action;
  }

  static void on_illegal(int, siginfo_t*, void* context) {
    constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t* const saved = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    std::uint64_t registers[16];
    for (int i = 0; i < 16; ++i) registers[i] = static_cast<std::uint64_t>(saved[kOrder[i]]);
    Thread& thread = here();
    bool done = false;
    while (true) {
      const auto* const code = reinterpret_cast<const std::uint8_t*>(saved[REG_RIP]);
      const AmxMachine::Step step = thread.machine.step(code, registers);
      if (step.fault != nullptr) give_up(thread, step.fault);
      if (step.length == 0) break;
      saved[REG_RIP] += step.length;
      done = true;
    }
    if (!done) sigaction(SIGILL, &before(), nullptr);  // the instruction traps again, there
  }

  [[noreturn]] static void give_up(Thread& thread, const char* fault) {
    if (thread.guarded) {
      thread.fault = fault;
      siglongjmp(thread.back, 1);
    }
    std::fprintf(stderr, "AMX: %s\n", fault);
    std::abort();
  }
};

}  // namespace gdn::test
