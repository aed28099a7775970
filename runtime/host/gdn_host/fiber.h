// Fibers: stacks of their own on one operating-system thread, switched by hand.
//
// On x86-64 a switch saves the six registers that the System V calling convention asks a callee to keep, and takes a
// few nanoseconds; elsewhere, and with -DGDN_HOST_UCONTEXT, ucontext does it, slower. The floating-point control words
// are not saved: kernels leave them alone.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#if !defined(__x86_64__) || defined(GDN_HOST_UCONTEXT)
#include <ucontext.h>
#endif

#pragma GCC visibility push(hidden)
namespace gdn_host {

#if defined(__x86_64__) && !defined(GDN_HOST_UCONTEXT)

// Keeps the running context's stack pointer in *from and continues at `to`. GCC may otherwise look inside, see no
// register touched, and keep values in registers across the call.
#if defined(__clang__)
#define GDN_HOST_OPAQUE noinline
#else
#define GDN_HOST_OPAQUE noipa
#endif
__attribute__((naked, GDN_HOST_OPAQUE, unused)) static void switch_stack(void** /*from: rdi*/, void* /*to: rsi*/) {
  asm volatile(
      "pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "ret");
}

class Fiber {
 public:
  // `entry` runs at the first switch to this fiber, on [stack, stack + bytes), and must never return.
  void prepare(char* stack, std::size_t bytes, void (*entry)()) {
    // What switch_stack pops: six registers, then the address to return to. `entry` finds the stack as after a call:
    // 8 bytes below a multiple of 16.
    void** top = reinterpret_cast<void**>(stack + bytes) - 2;
    *top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_pointer_ = top;
  }

  void switch_to(Fiber& other) { switch_stack(&stack_pointer_, other.stack_pointer_); }

 private:
  void* stack_pointer_ = nullptr;
};

#else

class Fiber {
 public:
  void prepare(char* stack, std::size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }

  void switch_to(Fiber& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_{};
};

#endif

// Equal stacks in one mapping, each with an unreadable page below it: an overflow faults instead of overwriting its
// neighbour.
class Stacks {
 public:
  static constexpr std::size_t kBytes = 64 * 1024;

  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() { release(); }

  // At least `count` stacks; false when there is no memory.
  bool reserve(int count) {
    if (count <= count_) return true;
    release();
    page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, static_cast<std::size_t>(count) * (kBytes + page_), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    base_ = static_cast<char*>(memory);
    count_ = count;
    for (int i = 0; i < count; ++i) mprotect(stack(i) - page_, page_, PROT_NONE);
    return true;
  }

  char* stack(int i) const { return base_ + static_cast<std::size_t>(i) * (kBytes + page_) + page_; }

 private:
  void release() {
    if (base_) munmap(base_, static_cast<std::size_t>(count_) * (kBytes + page_));
    base_ = nullptr;
    count_ = 0;
  }

  char* base_ = nullptr;
  int count_ = 0;
  std::size_t page_ = 0;
};

}  // namespace gdn_host
#pragma GCC visibility pop
