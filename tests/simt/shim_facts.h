// Facts types written by hand for the shim's tests: the geometry at which nothing is equal by accident (2 key heads,
// group 3, K=32, V=48), and variants that hide single members.
#pragma once

#include "gdn/numeric.h"

namespace shim {

constexpr int kHk = 2, kGroups = 3, kHv = kHk * kGroups, kK = 32, kV = 48, kChannels = 2 * kHk * kK + kHv * kV;

// A map with its head strides as template arguments; heads are paired grouped.
template <class E, int kOp, int kOffset, int kHeadStride, int kLength, int kInner = 1, int kOuter = 0, int kTap = 0,
          int kElements = 16>
struct Map {
  using Element = E;
  static constexpr bool kPresent = true;
  static constexpr int kOperand = kOp;
  GDN_HD static constexpr int base(int head) { return kOffset + head * kHeadStride; }
  static constexpr int kRun = kLength, kInnerStride = kInner, kOuterStride = kOuter, kTapStride = kTap,
                       kAlign = kElements;
};

// Interleaved rows: for each key head q | k | v of its group | z of its group.
template <class E, int kOp, int kOffset>
struct InterleavedMap : Map<E, kOp, 0, 0, kV> {
  GDN_HD static constexpr int base(int head) {
    return (head / kGroups) * (2 * kK + 2 * kGroups * kV) + kOffset + (head % kGroups) * kV;
  }
};
template <class E, int kOp, int kOffset>
struct InterleavedGate : Map<E, kOp, 0, 0, 1, 1, 0, 0, 1> {
  GDN_HD static constexpr int base(int head) { return (head / kGroups) * 2 * kGroups + kOffset + head % kGroups; }
};

// decode, everything fp32: operands qkvz, ba, conv_weight, a_log, dt_bias, norm_weight, conv_state (SD), state (V, K),
// slots, out, conv_bias.
struct Decode {
  static constexpr int kKeyHeads = kHk, kValueHeads = kHv, kGroup = kGroups, kKeyDim = kK, kValueDim = kV;
  static constexpr gdn::Pairing kPairing = gdn::Pairing::kGrouped;
  static constexpr int kConvWidth = 4, kWindow = 3;
  static constexpr gdn::Activation kConvActivation = gdn::Activation::kSilu;
  static constexpr bool kConvBias = false, kTapsOldestFirst = true;
  static constexpr gdn::Anchor kAnchor = gdn::Anchor::kFirst;
  static constexpr bool kQkNorm = true;
  static constexpr float kQkEps = 1e-6f, kQScale = 0.17677669f, kKScale = 1.0f;
  static constexpr gdn::EpsAt kQkEpsAt = gdn::EpsAt::kSum;
  static constexpr gdn::DecayForm kDecayForm = gdn::DecayForm::kSoftplus;
  static constexpr float kSoftplusThreshold = 20.0f, kDecayBound = 0.0f, kBetaFactor = 1.0f, kNormEps = 1e-6f;
  static constexpr gdn::Rule kRule = gdn::Rule::kGdn;
  static constexpr gdn::AStored kAStored = gdn::AStored::kLog;
  static constexpr gdn::Domain kGHandover = gdn::Domain::kLn;
  static constexpr gdn::NormWeight kNormWeight = gdn::NormWeight::kW;
  static constexpr gdn::Activation kNormGate = gdn::Activation::kSilu;
  static constexpr bool kNormBeforeGate = true;
  static constexpr int kQuantGroup = 0;
  static constexpr bool kStochasticState = false;
  using StateScale = gdn::Absent;
  using NormB = gdn::Absent;
  using OutScale = gdn::Absent;
  using RoundConv = float;
  using RoundQk = float;
  using RoundBeta = float;
  using RoundO = float;
  using RoundNorm = float;
  using Slot = int;
  static constexpr gdn::Padding kPadding = gdn::Padding::kNegative;
  static constexpr gdn::PaddedOutput kPaddedOutput = gdn::PaddedOutput::kZero;
  static constexpr gdn::PaddedOutput kExcessOutput = gdn::PaddedOutput::kUntouched;
  static constexpr int kSlotsOperand = 8, kThreads = 128, kRowsPerPass = 2;
  static constexpr int kHeadParts = 1, kRowParts = 1, kHeadsFirst = 1, kSkew = 0, kFixedHeads = 0, kInTurns = 0,
                       kAtOnce = 0, kAhead = 0, kRowOrder = 0, kWeightsAhead = 0, kNormAhead = 0, kEvictFirst = 0,
                       kInbox = 0;
  static constexpr int kArrivalsOperand = -1, kArrivalsRowBytes = 0;

  static constexpr int kRowOfHead = 2 * kK + 2 * kGroups * kV;
  using InputQ = Map<float, 0, 0, kRowOfHead, kK>;
  using InputK = Map<float, 0, kK, kRowOfHead, kK>;
  using InputV = InterleavedMap<float, 0, 2 * kK>;
  using InputZ = InterleavedMap<float, 0, 2 * kK + kGroups * kV>;
  using InputB = InterleavedGate<float, 1, 0>;
  using InputA = InterleavedGate<float, 1, kGroups>;
  using WeightQ = Map<float, 2, 0, kK * 4, kK, 4, 0, 1>;
  using WeightK = Map<float, 2, kHk * kK * 4, kK * 4, kK, 4, 0, 1>;
  using WeightV = Map<float, 2, 2 * kHk * kK * 4, kV * 4, kV, 4, 0, 1>;
  using ALog = Map<float, 3, 0, 1, 1, 1, 0, 0, 1>;
  using DtBias = Map<float, 4, 0, 1, 1, 1, 0, 0, 1>;
  using NormW = Map<float, 5, 0, 0, kV>;
  using WindowQ = Map<float, 6, 0, kK, kK, 1, 0, kChannels>;
  using WindowK = Map<float, 6, kHk * kK, kK, kK, 1, 0, kChannels>;
  using WindowV = Map<float, 6, 2 * kHk * kK, kV, kV, 1, 0, kChannels>;
  using State = Map<float, 7, 0, kK * kV, kK, 1, kK>;
  using Out = Map<float, 9, 0, kV, kV>;
  using BiasQ = gdn::Absent;
  using BiasK = gdn::Absent;
  using BiasV = gdn::Absent;
  using InputG = gdn::Absent;
  using InputBeta = gdn::Absent;
  using InputO = gdn::Absent;
  using OutputQ = gdn::Absent;
  using OutputK = gdn::Absent;
  using OutputV = gdn::Absent;
  using OutputZ = gdn::Absent;
  using OutputB = gdn::Absent;
  using OutputA = gdn::Absent;
  using OutputG = gdn::Absent;
  using OutputBeta = gdn::Absent;
  using OutputO = gdn::Absent;
};

// State (K, V): the value channels adjacent.
struct DecodeKv : Decode {
  using State = Map<float, 7, 0, kK * kV, kK, kV, 1>;
};
// A state in which neither channel is adjacent: value heads innermost.
struct DecodeStrided : Decode {
  using State = Map<float, 7, 0, 1, kK, kHv, kK * kHv, 0, 1>;
};
struct DecodeBf16State : Decode {
  using State = Map<gdn::Bf16, 7, 0, kK * kV, kK, 1, kK>;
};
struct DecodeFp16KvState : Decode {
  using State = Map<gdn::Fp16, 7, 0, kK * kV, kK, kV, 1>;
};
// DS windows, longer than the convolution needs, newest inputs last; bias; taps newest first.
struct DecodeDs : Decode {
  static constexpr int kWindow = 6;
  static constexpr gdn::Anchor kAnchor = gdn::Anchor::kLast;
  static constexpr bool kConvBias = true, kTapsOldestFirst = false;
  using WindowQ = Map<gdn::Bf16, 6, 0, kK * 6, kK, 6, 0, 1>;
  using WindowK = Map<gdn::Bf16, 6, kHk * kK * 6, kK * 6, kK, 6, 0, 1>;
  using WindowV = Map<gdn::Bf16, 6, 2 * kHk * kK * 6, kV * 6, kV, 6, 0, 1>;
  using BiasQ = Map<float, 10, 0, kK, kK>;
  using BiasK = Map<float, 10, kHk * kK, kK, kK>;
  using BiasV = Map<float, 10, 2 * kHk * kK, kV, kV>;
};
// A window longer than needed, inputs in its first rows; tail rows stay as they are.
struct DecodeLongWindow : Decode {
  static constexpr int kWindow = 5;
};
struct DecodeLongLast : DecodeLongWindow {
  static constexpr gdn::Anchor kAnchor = gdn::Anchor::kLast;
};
// The other choice of every number-changing key.
struct DecodeOtherNumbers : Decode {
  static constexpr gdn::Activation kConvActivation = gdn::Activation::kSigmoid;
  static constexpr gdn::EpsAt kQkEpsAt = gdn::EpsAt::kMean;
  static constexpr float kQkEps = 0.01f, kKScale = 0.5f, kSoftplusThreshold = 0.0f, kBetaFactor = 2.0f;
  static constexpr gdn::Rule kRule = gdn::Rule::kGdn;
  static constexpr gdn::AStored kAStored = gdn::AStored::kNegativeExp;
  static constexpr gdn::NormWeight kNormWeight = gdn::NormWeight::kTwiceOnePlusW;
  static constexpr gdn::Activation kNormGate = gdn::Activation::kSigmoid;
  static constexpr bool kNormBeforeGate = false;
  using Slot = long long;
  static constexpr gdn::Padding kPadding = gdn::Padding::kZeroOrNegative;
  static constexpr gdn::PaddedOutput kPaddedOutput = gdn::PaddedOutput::kUntouched;
  static constexpr gdn::PaddedOutput kExcessOutput = gdn::PaddedOutput::kUntouched;
  static constexpr int kThreads = 192, kRowsPerPass = 8;
};
struct DecodeNoPadding : Decode {
  static constexpr gdn::Padding kPadding = gdn::Padding::kNone;
};
// Value heads tiled over key heads.
struct DecodeTiled : Decode {
  static constexpr gdn::Pairing kPairing = gdn::Pairing::kTiled;
  static constexpr int kInTurns = 1;
};
// Rounding at every point.
struct DecodeRounded : Decode {
  using RoundConv = gdn::Bf16;
  using RoundQk = gdn::Bf16;
  using RoundBeta = gdn::Bf16;
  using RoundO = gdn::Bf16;
  using RoundNorm = gdn::Fp16;
};

// The blocks of a key head: its value heads over several, the value channels of each over several, and both.
struct DecodeHeadParts : Decode {
  static constexpr int kHeadParts = 2;  // two heads and one
};
struct DecodeRowParts : Decode {
  static constexpr int kRowParts = 3, kHeadsFirst = 0;
};
struct DecodeParts : DecodeRounded {
  static constexpr int kHeadParts = 3, kRowParts = 2;
};
struct DecodeKvParts : DecodeKv {
  static constexpr int kHeadParts = 2, kRowParts = 4;
};
struct DecodeDsParts : DecodeDs {
  static constexpr int kHeadParts = 3, kRowParts = 2, kHeadsFirst = 0, kThreads = 64;
};
struct DecodeOtherParts : DecodeOtherNumbers {
  static constexpr int kHeadParts = 3, kRowParts = 2, kFixedHeads = 1;
};
struct DecodeKvRowsFirst : DecodeKv {
  static constexpr int kHeadsFirst = 0, kRowsPerPass = 8, kSkew = 1;
};

// The same in blocks that are no cluster. A row's record: 8 counters in one line, 6 heads of 48 channels in nine.
template <class F>
struct InMemory : F {
  static constexpr int kArrivalsOperand = 11, kArrivalsRowBytes = 128 * (1 + 9);
};

// ---- the parts ------------------------------------------------------------------------------------------------------

struct Unpack : Decode {
  static constexpr int kSlotsOperand = -1;
  using WeightQ = gdn::Absent;
  using WeightK = gdn::Absent;
  using WeightV = gdn::Absent;
  using WindowQ = gdn::Absent;
  using WindowK = gdn::Absent;
  using WindowV = gdn::Absent;
  using ALog = gdn::Absent;
  using DtBias = gdn::Absent;
  using NormW = gdn::Absent;
  using State = gdn::Absent;
  using Out = gdn::Absent;
  using OutputQ = Map<gdn::Bf16, 2, 0, kK, kK>;
  using OutputK = Map<float, 3, 0, kK, kK>;
  using OutputV = Map<float, 4, 0, kV, kV>;
  using OutputZ = Map<float, 5, 0, 1, kV, kHv, 0, 0, 1>;  // heads innermost
  using OutputB = Map<float, 6, 0, 1, 1, 1, 0, 0, 1>;
  using OutputA = Map<float, 7, 0, 1, 1, 1, 0, 0, 1>;
};

struct ConvUpdate : Decode {
  using InputB = gdn::Absent;
  using InputA = gdn::Absent;
  using ALog = gdn::Absent;
  using DtBias = gdn::Absent;
  using NormW = gdn::Absent;
  using State = gdn::Absent;
  using Out = gdn::Absent;
  using OutputQ = Map<float, 9, 0, kK, kK>;
  using OutputK = Map<float, 10, 0, kK, kK>;
  using OutputV = Map<float, 11, 0, 1, kV, kHv, 0, 0, 1>;
  using OutputZ = Map<float, 12, 0, kV, kV>;
};

struct Gating : Unpack {
  using InputQ = gdn::Absent;
  using InputK = gdn::Absent;
  using InputV = gdn::Absent;
  using InputZ = gdn::Absent;
  using OutputQ = gdn::Absent;
  using OutputK = gdn::Absent;
  using OutputV = gdn::Absent;
  using OutputZ = gdn::Absent;
  using OutputB = gdn::Absent;
  using OutputA = gdn::Absent;
  using ALog = Decode::ALog;
  using DtBias = Decode::DtBias;
  static constexpr gdn::Domain kGHandover = gdn::Domain::kLog2;
  using OutputG = Map<float, 5, 0, 1, 1, 1, 0, 0, 1>;
  using OutputBeta = Map<float, 6, 0, 1, 1, 1, 0, 0, 1>;
  static constexpr int kThreads = 64;
};

struct DeltaUpdate : Gating {
  static constexpr int kSlotsOperand = 8, kThreads = 128;
  using InputB = gdn::Absent;
  using InputA = gdn::Absent;
  using ALog = gdn::Absent;
  using DtBias = gdn::Absent;
  using OutputG = gdn::Absent;
  using OutputBeta = gdn::Absent;
  using InputQ = Map<float, 0, 0, kK, kK>;
  using InputK = Map<float, 1, 0, kK, kK>;
  using InputV = Map<float, 2, 0, kV, kV>;
  using InputG = Map<float, 3, 0, 1, 1, 1, 0, 0, 1>;
  using InputBeta = Map<float, 4, 0, 1, 1, 1, 0, 0, 1>;
  using State = Decode::State;
  using OutputO = Map<float, 9, 0, kV, kV>;
};
struct DeltaUpdateParts : DeltaUpdate {
  static constexpr int kHeadParts = 3, kHeadsFirst = 0;
};

struct NormQuant : Unpack {
  using InputQ = gdn::Absent;
  using InputK = gdn::Absent;
  using InputV = gdn::Absent;
  using InputB = gdn::Absent;
  using InputA = gdn::Absent;
  using OutputQ = gdn::Absent;
  using OutputK = gdn::Absent;
  using OutputV = gdn::Absent;
  using OutputZ = gdn::Absent;
  using OutputB = gdn::Absent;
  using OutputA = gdn::Absent;
  using InputO = Map<float, 0, 0, kV, kV>;
  using InputZ = Map<float, 1, 0, kV, kV>;
  using NormW = Decode::NormW;
  using Out = Decode::Out;
  static constexpr int kThreads = 64, kHeadsPerBlock = kValueHeads / kKeyHeads;
};

// One key head with more value heads than fit into shared memory at a time.
struct DecodeManyHeads : Decode {
  static constexpr int kKeyHeads = 1, kValueHeads = 20, kGroup = 20, kKeyDim = 16, kValueDim = 256;
  static constexpr int kChannelsHere = 2 * 16 + 20 * 256;
  using InputQ = Map<float, 0, 0, 0, 16>;
  using InputK = Map<float, 0, 16, 0, 16>;
  using InputV = Map<float, 0, 32, 256, 256>;
  using InputZ = Map<float, 0, 32 + 20 * 256, 256, 256>;
  using InputB = Map<float, 1, 0, 1, 1, 1, 0, 0, 1>;
  using InputA = Map<float, 1, 20, 1, 1, 1, 0, 0, 1>;
  using WeightQ = Map<float, 2, 0, 0, 16, 4, 0, 1>;
  using WeightK = Map<float, 2, 16 * 4, 0, 16, 4, 0, 1>;
  using WeightV = Map<float, 2, 32 * 4, 256 * 4, 256, 4, 0, 1>;
  using NormW = Map<float, 5, 0, 0, 256>;
  using WindowQ = Map<float, 6, 0, 0, 16, 1, 0, kChannelsHere>;
  using WindowK = Map<float, 6, 16, 0, 16, 1, 0, kChannelsHere>;
  using WindowV = Map<float, 6, 32, 256, 256, 1, 0, kChannelsHere>;
  using State = Map<float, 7, 0, 16 * 256, 16, 1, 16>;
  using Out = Map<float, 9, 0, 256, 256>;
};

}  // namespace shim
