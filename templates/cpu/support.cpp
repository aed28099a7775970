#include "cpu/support.h"

#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gdn::cpu {
namespace {

#if defined(__x86_64__)

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf leaf(unsigned number, unsigned sub) {
  Leaf result;
  if (__get_cpuid_count(number, sub, &result.eax, &result.ebx, &result.ecx, &result.edx) == 0) return {};
  return result;
}

bool has(unsigned value, std::initializer_list<int> bits) {
  for (const int bit : bits) {
    if ((value >> bit & 1u) == 0) return false;
  }
  return true;
}

unsigned saved_state() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Bit numbers: Intel SDM volume 2, CPUID.
bool avx2() {
  if (!has(leaf(1, 0).ecx, {12 /*FMA*/, 27 /*OSXSAVE*/, 28 /*AVX*/, 29 /*F16C*/})) return false;
  return has(saved_state(), {1 /*XMM*/, 2 /*YMM*/}) && has(leaf(7, 0).ebx, {5 /*AVX2*/});
}

bool avx512bf16() {
  if (!avx2() || !has(saved_state(), {5 /*k*/, 6 /*ZMM low*/, 7 /*ZMM high*/})) return false;
  if (!has(leaf(7, 0).ebx, {16 /*F*/, 17 /*DQ*/, 30 /*BW*/, 31 /*VL*/})) return false;
  return has(leaf(7, 1).eax, {5 /*AVX512_BF16*/});
}

// The system keeps tile registers only for processes that ask: Linux, Documentation/arch/x86/xstate.rst. It refuses
// where a thread's signal stack is too small for them.
bool tiles_granted() {
  constexpr long kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

bool amx() {
  if (!avx512bf16()) return false;
  if (!has(leaf(7, 0).edx, {22 /*AMX_BF16*/, 24 /*AMX_TILE*/})) return false;
  if (!has(saved_state(), {17 /*TILECFG*/, 18 /*TILEDATA*/})) return false;
  return tiles_granted();
}

#else

bool avx2() { return false; }
bool avx512bf16() { return false; }
bool amx() { return false; }

#endif

}  // namespace

bool cpu_supports(std::string_view target) {
  if (target == "avx2") {
    static const bool kSupported = avx2();
    return kSupported;
  }
  if (target == "avx512bf16") {
    static const bool kSupported = avx512bf16();
    return kSupported;
  }
  if (target == "amx") {
    static const bool kSupported = amx();
    return kSupported;
  }
  return false;
}

}  // namespace gdn::cpu
