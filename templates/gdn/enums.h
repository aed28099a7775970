// The words of a spec that a kernel body branches on. Shared by the device code, the generator and the runtime
// (core/facts.h), so it includes nothing.
#pragma once

namespace gdn {

enum class Rule : unsigned char { kGdn, kKda };
enum class Pairing : unsigned char {
  kGrouped,  // value head h reads key head h / group
  kTiled,    // value head h reads key head h % key_heads
};
enum class Activation : unsigned char { kNone, kSilu, kSigmoid };
enum class NormWeight : unsigned char { kW, kOnePlusW, kTwiceOnePlusW };  // w, 1+w, 2*(1+w)
enum class EpsAt : unsigned char {
  kSum,   // x / sqrt(sum(x^2) + eps)
  kMean,  // x / sqrt(mean(x^2) + eps) / sqrt(n)
  kMax,   // x / max(sqrt(sum(x^2)), eps)
};
enum class DecayForm : unsigned char {
  kSoftplus,  // g = -exp(A_log) * softplus(a + dt_bias)
  kBounded,   // g = bound * sigmoid(exp(A_log) * (a + dt_bias))
};
enum class AStored : unsigned char { kLog, kNegativeExp, kAbsent };  // A_log, -exp(A_log), or no such parameter
enum class Domain : unsigned char { kLogit, kLn, kLog2, kExp, kSigmoid };
enum class Anchor : unsigned char { kFirst, kLast };  // which rows of a longer window hold the last width-1 inputs
enum class Padding : unsigned char { kNone, kNegative, kZeroOrNegative };  // which slot indices mark a padding row
// Which sequences of a prefill start from what their slots hold; the others start from zeros.
enum class InitialStates : unsigned char { kNone, kAll, kFlagged };  // flagged: an operand has a number a sequence
// Where a quantised group's scale s = amax / max is kept from becoming too small.
enum class FloorAt : unsigned char {
  kNone,     // nowhere: a group of zeros has scale 0
  kAmax,     // s = larger(amax, floor) / max
  kScale,    // s = larger(amax / max, floor)
  kReplace,  // s = amax > floor ? amax / max : floor
};
enum class PaddedOutput : unsigned char { kZero, kUntouched };
// Speculative decoding: where the states after each token of a launch go, so that a rejected token can be undone.
enum class Rollback : unsigned char {
  kNone,
  kSlots,         // to a slot for each token; the next launch starts from the accepted token's
  kIntermediate,  // to a buffer of the launch; state_commit copies the accepted one to the pool
  kReplay,        // nowhere: records of the tokens let the next launch, or state_commit, apply the accepted ones
};
enum class Counts : unsigned char { kTokens, kDrafts };  // what `accepted` counts: with the guaranteed token or without

}  // namespace gdn
