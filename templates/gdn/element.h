// What an emitted facts type is written with: element types, the mark of an absent part, and GDN_HD. Includes nothing,
// so that device compilers, the host shim and the CPU generators read the same words.
#pragma once

// Before the functions of a facts type, which kernels call on the device and the host evaluates at compile time.
#ifndef GDN_HD
#if defined(__CUDACC__) || defined(__HIPCC__) || defined(__HIP__)
#define GDN_HD __host__ __device__
#else
#define GDN_HD
#endif
#endif

#define GDN_MAPS_DISAGREE "the address maps of the generator and of the template disagree"

namespace gdn {

// Raised whenever the members that a body expects of a facts type, or the operands' order, change: an emitted file
// asserts that it was made for this version. core::kTemplateAbi is the generator's copy.
constexpr int kTemplateAbi = 5;

// Storage only: no arithmetic. bfloat16 and IEEE half.
struct Bf16 {
  unsigned short bits;
};
struct Fp16 {
  unsigned short bits;
};
// 8 bits: sign, 4 of exponent, 3 of mantissa. E4m3fn has bias 7, largest 448, NaN 0x7f and 0xff; E4m3fnuz has bias 8,
// largest 240, NaN 0x80 and no negative zero. Neither has infinities.
struct E4m3fn {
  unsigned char bits;
};
struct E4m3fnuz {
  unsigned char bits;
};

// The map of a part that an operation does not have. Its members let discarded code compile; nothing reads them.
struct Absent {
  using Element = float;
  static constexpr bool kPresent = false;
  static constexpr int kOperand = 0;
  GDN_HD static constexpr int base(int) { return 0; }
  static constexpr int kRun = 1, kInnerStride = 1, kOuterStride = 0, kTapStride = 0, kAlign = 1;
};

// Whether a part's elements at `head` span `first` to `last`, in elements below the row. `outer` and `taps` are the
// lengths of the state's slower axis and of a conv window or weight. Emitted files assert it with the generator's own
// addresses: the map is computed twice, and the two must agree.
template <class Part>
GDN_HD constexpr bool spans(int head, int first, int last, int outer = 1, int taps = 1) {
  return Part::base(head) == first && first + (Part::kRun - 1) * Part::kInnerStride + (outer - 1) * Part::kOuterStride +
                                              (taps - 1) * Part::kTapStride ==
                                          last;
}

// The base of every facts type: an operation names the parts that it has, the rest stay absent.
struct NoParts {
  using InputQ = Absent;
  using InputK = Absent;
  using InputV = Absent;
  using InputZ = Absent;
  using InputB = Absent;
  using InputA = Absent;
  using InputG = Absent;
  using InputBeta = Absent;
  using InputO = Absent;
  using OutputQ = Absent;
  using OutputK = Absent;
  using OutputV = Absent;
  using OutputZ = Absent;
  using OutputB = Absent;
  using OutputA = Absent;
  using OutputG = Absent;
  using OutputBeta = Absent;
  using OutputO = Absent;
  using Out = Absent;
  using WeightQ = Absent;
  using WeightK = Absent;
  using WeightV = Absent;
  using BiasQ = Absent;
  using BiasK = Absent;
  using BiasV = Absent;
  using WindowQ = Absent;
  using WindowK = Absent;
  using WindowV = Absent;
  using State = Absent;
  using Intermediate = Absent;
  using RecordK = Absent;
  using RecordU = Absent;
  using RecordDecay = Absent;
  using ALog = Absent;
  using DtBias = Absent;
  using NormW = Absent;
  using NormB = Absent;
  using OutScale = Absent;
  using StateScale = Absent;
  static constexpr bool kStochasticState = false;
  static constexpr int kQuantGroup = 0;      // an output that is not quantised
  static constexpr bool kHoldsO = false;     // a prefill whose `out` holds o until the norm
  static constexpr bool kRowsInOut = false;  // whose kernels, given a workspace, have rows of v and o there
  static constexpr int kWorkspaceOperand = -1;
  static constexpr bool kOnePlace = false;   // shared memory has room for one chunk of gdn/mma/chain.h
  static constexpr bool kInPrefill = false;  // the delta rule of a whole prefill on Hopper
  // Choices that the plan need not make.
  static constexpr int kSkew = 0, kFixedHeads = 0, kInTurns = 0, kAtOnce = 0, kAhead = 0, kInterleave = 0,
                       kProducts = 0, kInbox = 0, kRowOrder = 0, kWeightsAhead = 0, kNormAhead = 0, kEvictFirst = 0;
  static constexpr int kArrivalsOperand = -1, kArrivalsRowBytes = 0;  // a decode whose blocks do not meet in memory
  static constexpr int kSnapshotRowsOperand = -1, kSnapshotSlotsOperand = -1;  // a prefill that keeps no snapshots
};

}  // namespace gdn
