// What a kernel of templates/gdn must compute, in double and straight from the formulas, for any facts type; and a
// run of the kernel through the host shim against it.
//
// The reference addresses operands through the maps of the same facts type: it judges the bodies, not the maps. The
// maps are judged by the oracle, which shares nothing with them.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "gdn/numeric.h"

namespace shim {

// A number as it comes back from memory, and as it is put there.
template <class E>
double element_from(const unsigned char* at) {
  unsigned word = 0;
  std::memcpy(&word, at, sizeof(E));
  return gdn::Number<E>::to_float(word);
}
template <class E>
void element_to(unsigned char* at, double x) {
  const unsigned word = gdn::Number<E>::from_float(static_cast<float>(x));
  std::memcpy(at, &word, sizeof(E));
}

template <class R>
double round_to(double x) {
  if constexpr (std::is_same_v<R, float>) {
    return x;
  } else {
    return gdn::rounded<R>(static_cast<float>(x));
  }
}

struct Random {
  unsigned long long state = 1;
  double next() {  // in [-1, 1)
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 40) / static_cast<double>(1 << 23) - 1.0;
  }
};

struct Operand {
  std::vector<unsigned char> bytes;
  long long stride = 0;  // elements between rows or slots; 0 for parameters
};

// The operands of one launch, at whatever sizes the maps of F reach.
template <class F>
struct Operands {
  static constexpr int kRows = 4, kSlots = 6;
  Operand operand[gdn::kMaxOperands];

  template <class M>
  static long long at(int head, int inner, int outer, int tap) {
    return M::base(head) + static_cast<long long>(inner) * M::kInnerStride +
           static_cast<long long>(outer) * M::kOuterStride + static_cast<long long>(tap) * M::kTapStride;
  }
  template <class M>
  unsigned char* address(long long row, int head, int inner, int outer = 0, int tap = 0) {
    Operand& o = operand[M::kOperand];
    return o.bytes.data() +
           static_cast<std::size_t>(row * o.stride + at<M>(head, inner, outer, tap)) * sizeof(typename M::Element);
  }
  template <class M>
  double get(long long row, int head, int inner, int outer = 0, int tap = 0) {
    return element_from<typename M::Element>(address<M>(row, head, inner, outer, tap));
  }
  template <class M>
  void put(double x, long long row, int head, int inner, int outer = 0, int tap = 0) {
    element_to<typename M::Element>(address<M>(row, head, inner, outer, tap), x);
  }

  // Makes room for a part: `leading` rows or slots (1 and no stride for a parameter), some elements apart beyond what
  // the part needs.
  template <class M>
  void reserve(int leading, int heads, int outers, int taps) {
    if constexpr (M::kPresent) {
      long long last = 0;
      for (int h = 0; h < heads; ++h) {
        const long long end = at<M>(h, M::kRun - 1, outers - 1, taps - 1);
        if (end > last) last = end;
      }
      Operand& o = operand[M::kOperand];
      const long long room = (last / 64 + 2) * 64;
      if (leading > 0 && room > o.stride) o.stride = room;
      const std::size_t bytes =
          static_cast<std::size_t>(leading > 0 ? leading * o.stride : room) * sizeof(typename M::Element);
      if (bytes > o.bytes.size()) o.bytes.resize(bytes, 0xff);
    }
  }

  template <class M>
  void fill(Random& random, int leading, int heads, int outers, int taps, double scale, double offset = 0) {
    if constexpr (M::kPresent) {
      for (int row = 0; row < (leading > 0 ? leading : 1); ++row) {
        for (int h = 0; h < heads; ++h) {
          for (int t = 0; t < taps; ++t) {
            for (int v = 0; v < outers; ++v) {
              for (int i = 0; i < M::kRun; ++i) put<M>(offset + scale * random.next(), row, h, i, v, t);
            }
          }
        }
      }
    }
  }
};

// Largest relative error ||x - ref|| / ||ref|| over the tensors compared, and what went wrong otherwise.
struct Verdict {
  double error = 0;
  std::string fault;  // empty: none

  void compare(const char* what, double difference, double norm) {
    if (!(norm > 0)) fault = std::string(what) + ": the reference is zero";
    const double e = std::sqrt(difference / norm);
    if (!(e < 1e30)) fault = std::string(what) + ": not a number";
    if (e > error) error = e;
  }
};

inline double activation(gdn::Activation kind, double x) {
  const double sigmoid = 1 / (1 + std::exp(-x));
  return kind == gdn::Activation::kSilu ? x * sigmoid : kind == gdn::Activation::kSigmoid ? sigmoid : x;
}

template <class F>
class Check {
 public:
  using Data = Operands<F>;
  static constexpr int kRows = Data::kRows, kSlots = Data::kSlots, Hk = F::kKeyHeads, Hv = F::kValueHeads;
  static constexpr int K = F::kKeyDim, V = F::kValueDim, W = F::kConvWidth;
  static constexpr bool kHasSlots = F::kSlotsOperand >= 0;
  static constexpr std::size_t kCounterBytes = (4 * Hk * (1 + F::kGroup) + 127) / 128 * 128;  // of a row's arrivals

  explicit Check(unsigned seed, double decay_scale = 1.0) {
    Random random{seed};
    for_layout([&](auto map, int leading, int heads, int outers, int taps, double scale, double offset) {
      using M = decltype(map);
      before_.template reserve<M>(leading, heads, outers, taps);
      (void)scale, (void)offset;
    });
    // A second pass: an operand's stride is known only when all its parts have asked for room.
    for_layout([&](auto map, int leading, int heads, int outers, int taps, double scale, double offset) {
      using M = decltype(map);
      before_.template reserve<M>(leading, heads, outers, taps);
      if (scale > 0) {
        const bool gate = std::is_same_v<M, typename F::InputA>;
        before_.template fill<M>(random, leading, heads, outers, taps, gate ? scale * decay_scale : scale, offset);
      }
    });
    if constexpr (kHasSlots) {
      using Slot = typename F::Slot;
      Operand& slots = before_.operand[F::kSlotsOperand];
      slots.bytes.resize(sizeof(Slot) * kRows);
      for (int r = 0; r < kRows; ++r) put_slot(r, slot_of(r));
    }
    if constexpr (F::kArrivalsOperand >= 0) {
      std::vector<unsigned char>& bytes = before_.operand[F::kArrivalsOperand].bytes;
      bytes.resize(static_cast<std::size_t>(kRows) * F::kArrivalsRowBytes, 0xff);
      for (std::size_t row = 0; row < kRows; ++row) {
        std::memset(bytes.data() + row * F::kArrivalsRowBytes, 0, kCounterBytes);
      }
    }
  }

  // Gives a row a slot that is not in the pools: its outputs must be NaN and no pool touched for it.
  void stray(int row, int slot) {
    stray_row_ = row;
    put_slot(row, slot);
  }

  // Row 2 is padding where the facts know padding.
  static int slot_of(int row) {
    if (row == 2 && F::kPadding != gdn::Padding::kNone) return F::kPadding == gdn::Padding::kNegative ? -1 : 0;
    const int slots[kRows] = {4, 1, 5, 3};
    return slots[row];
  }
  static bool padding(int row) { return kHasSlots && row == 2 && F::kPadding != gdn::Padding::kNone; }

  // Leaves a number in the first counter of the first row's record.
  void disturb_counter(unsigned char number) { before_.operand[F::kArrivalsOperand].bytes[0] = number; }

  // Every operand but the record in which blocks meet, as the launch left it.
  std::vector<std::vector<unsigned char>> made() const { return made_; }

  // Hears of every operand before a launch: for a race detector.
  void watch(void (*hear)(const void* begin, std::size_t bytes)) { watch_ = hear; }

  // Launches the kernel on a copy of the operands and judges what it left. Blocks that are no cluster run one after the
  // other, or `beside` of them at a time.
  Verdict run(void (*kernel)(gdn::Args), unsigned order, int beside = 1) {
    after_ = before_;
    gdn::Args args{};
    args.rows = kRows;
    args.slots = kSlots;
    for (int i = 0; i < gdn::kMaxOperands; ++i) {
      args.operand[i] = after_.operand[i].bytes.empty() ? nullptr : after_.operand[i].bytes.data();
      args.stride[i] = after_.operand[i].stride;
    }
    if (watch_ != nullptr) {
      for (const Operand& operand : after_.operand) watch_(operand.bytes.data(), operand.bytes.size());
    }
    Verdict verdict;
    char message[512];
    constexpr int kParts = F::kHeadParts * F::kRowParts;
    const int cluster = F::kArrivalsOperand >= 0 ? beside : kParts;
    const int blocks = Hk * kParts;
    const bool linear = F::State::kPresent;  // as the plan launches what streams the state
    if (gdn_host_launch(kernel, &args, linear ? kRows * blocks : kRows, linear ? 1 : blocks, F::kThreads, cluster, 0,
                        order, message, sizeof(message)) != 0) {
      verdict.fault = message;
      return verdict;
    }
    made_.clear();
    for (int i = 0; i < gdn::kMaxOperands; ++i) {
      if (i != F::kArrivalsOperand && !after_.operand[i].bytes.empty()) made_.push_back(after_.operand[i].bytes);
    }
    expect();
    judge(verdict);
    return verdict;
  }

 private:
  void put_slot(int row, int value) {
    const typename F::Slot slot = value;
    std::memcpy(before_.operand[F::kSlotsOperand].bytes.data() + sizeof(slot) * static_cast<std::size_t>(row), &slot,
                sizeof(slot));
  }

  bool skipped(int row) const { return padding(row) || row == stray_row_; }

  // visit(map, leading, heads, outers, taps, scale, offset) for every part; scale 0: an output.
  template <class Visit>
  void for_layout(Visit&& visit) {
    visit(typename F::InputQ{}, kRows, Hk, 1, 1, 1.0, 0.0);
    visit(typename F::InputK{}, kRows, Hk, 1, 1, 1.0, 0.0);
    visit(typename F::InputV{}, kRows, Hv, 1, 1, 1.0, 0.0);
    visit(typename F::InputZ{}, kRows, Hv, 1, 1, 3.0, 0.0);
    visit(typename F::InputB{}, kRows, Hv, 1, 1, 3.0, 0.0);
    visit(typename F::InputA{}, kRows, Hv, 1, 1, 3.0, 0.0);
    visit(typename F::InputG{}, kRows, Hv, 1, 1, 0.4, F::kGHandover == gdn::Domain::kExp ? 0.5 : -0.5);
    visit(typename F::InputBeta{}, kRows, Hv, 1, 1, 0.5, 0.5);
    visit(typename F::InputO{}, kRows, Hv, 1, 1, 1.0, 0.0);
    visit(typename F::WeightQ{}, 0, Hk, 1, W, 0.7, 0.0);
    visit(typename F::WeightK{}, 0, Hk, 1, W, 0.7, 0.0);
    visit(typename F::WeightV{}, 0, Hv, 1, W, 0.7, 0.0);
    visit(typename F::BiasQ{}, 0, Hk, 1, 1, 0.5, 0.0);
    visit(typename F::BiasK{}, 0, Hk, 1, 1, 0.5, 0.0);
    visit(typename F::BiasV{}, 0, Hv, 1, 1, 0.5, 0.0);
    const double negative = F::kAStored == gdn::AStored::kNegativeExp ? -1.5 : 0.0;
    visit(typename F::ALog{}, 0, Hv, 1, 1, 1.0, negative);
    visit(typename F::DtBias{}, 0, Hv, 1, 1, 1.0, 0.0);
    visit(typename F::NormW{}, 0, 1, 1, 1, 0.5, 1.0);
    visit(typename F::WindowQ{}, kSlots, Hk, 1, F::kWindow, 1.0, 0.0);
    visit(typename F::WindowK{}, kSlots, Hk, 1, F::kWindow, 1.0, 0.0);
    visit(typename F::WindowV{}, kSlots, Hv, 1, F::kWindow, 1.0, 0.0);
    visit(typename F::State{}, kSlots, Hv, V, 1, 1.0, 0.0);
    visit(typename F::OutputQ{}, kRows, Hk, 1, 1, 0.0, 0.0);
    visit(typename F::OutputK{}, kRows, Hk, 1, 1, 0.0, 0.0);
    visit(typename F::OutputV{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputZ{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputB{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputA{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputG{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputBeta{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::OutputO{}, kRows, Hv, 1, 1, 0.0, 0.0);
    visit(typename F::Out{}, kRows, Hv, 1, 1, 0.0, 0.0);
  }

  static int key_head(int h) { return F::kPairing == gdn::Pairing::kGrouped ? h / F::kGroup : h % Hk; }

  // Everything a token makes, each stage from the one before it or from the operand that brings it.
  struct Token {
    double q[Hk][K], k[Hk][K], v[Hv][V], z[Hv][V], b[Hv], a[Hv], g[Hv], beta[Hv], o[Hv][V], out[Hv][V];
    double state[Hv][K][V];
    double window_q[Hk][K][F::kWindow], window_k[Hk][K][F::kWindow], window_v[Hv][V][F::kWindow];
  };

  template <class In, class Weight, class Bias, class Window, int kHeads, int kRun>
  void convolve(int row, double (&y)[kHeads][kRun], double (&shifted)[kHeads][kRun][F::kWindow]) {
    if constexpr (In::kPresent) {
      for (int h = 0; h < kHeads; ++h) {
        for (int c = 0; c < kRun; ++c) {
          const double u = before_.template get<In>(row, h, c);
          y[h][c] = u;
          if constexpr (Weight::kPresent) {
            const bool last = F::kAnchor == gdn::Anchor::kLast;
            double window[F::kWindow + 1];
            for (int t = 0; t < F::kWindow; ++t) {
              window[t] = shifted[h][c][t] = padding(row) ? 0 : before_.template get<Window>(slot_of(row), h, c, 0, t);
            }
            const int moved = last ? F::kWindow : W - 1;
            for (int t = 0; t + 1 < moved; ++t) shifted[h][c][t] = window[t + 1];
            shifted[h][c][moved - 1] = gdn::rounded<typename Window::Element>(static_cast<float>(u));
            double sum = 0;
            if constexpr (Bias::kPresent) sum = before_.template get<Bias>(0, h, c);
            const int oldest = last ? F::kWindow - (W - 1) : 0;
            for (int age = 0; age < W; ++age) {
              const double input = age == 0 ? u : window[oldest + W - 1 - age];
              sum += before_.template get<Weight>(0, h, c, 0, F::kTapsOldestFirst ? W - 1 - age : age) * input;
            }
            y[h][c] = round_to<typename F::RoundConv>(activation(F::kConvActivation, sum));
          }
        }
      }
    }
  }

  void expect() {
    tokens_.assign(kRows, Token{});
    for (int row = 0; row < kRows; ++row) expect(row, tokens_[static_cast<std::size_t>(row)]);
  }

  void expect(int row, Token& t) {
    convolve<typename F::InputQ, typename F::WeightQ, typename F::BiasQ, typename F::WindowQ>(row, t.q, t.window_q);
    convolve<typename F::InputK, typename F::WeightK, typename F::BiasK, typename F::WindowK>(row, t.k, t.window_k);
    convolve<typename F::InputV, typename F::WeightV, typename F::BiasV, typename F::WindowV>(row, t.v, t.window_v);
    for (int h = 0; h < Hv; ++h) {
      for (int c = 0; c < V; ++c) {
        if constexpr (F::InputZ::kPresent) t.z[h][c] = before_.template get<typename F::InputZ>(row, h, c);
        if constexpr (F::InputO::kPresent) t.o[h][c] = before_.template get<typename F::InputO>(row, h, c);
      }
      expect_gates(row, h, t);
      if constexpr (F::State::kPresent) {
        if (!padding(row)) expect_delta(row, h, t);
      }
      if constexpr (F::Out::kPresent) expect_norm(h, t);
    }
  }

  void expect_gates(int row, int h, Token& t) {
    if constexpr (F::InputB::kPresent) {
      t.b[h] = before_.template get<typename F::InputB>(row, h, 0);
      t.a[h] = before_.template get<typename F::InputA>(row, h, 0);
    }
    if constexpr (F::ALog::kPresent) {
      t.beta[h] = round_to<typename F::RoundBeta>(F::kBetaFactor / (1 + std::exp(-t.b[h])));
      const double stored = before_.template get<typename F::ALog>(0, h, 0);
      const double rate = F::kAStored == gdn::AStored::kNegativeExp ? -stored : std::exp(stored);
      const double x = t.a[h] + before_.template get<typename F::DtBias>(0, h, 0);
      const bool linear = F::kSoftplusThreshold > 0 && x > static_cast<double>(F::kSoftplusThreshold);
      t.g[h] = F::kDecayForm == gdn::DecayForm::kSoftplus ? -rate * (linear ? x : std::log1p(std::exp(x)))
                                                          : F::kDecayBound / (1 + std::exp(-rate * x));
    }
    if constexpr (F::InputG::kPresent) {
      const double g = before_.template get<typename F::InputG>(row, h, 0);
      t.g[h] = F::kGHandover == gdn::Domain::kLn     ? g
               : F::kGHandover == gdn::Domain::kLog2 ? g * std::log(2.0)
                                                     : std::log(g);
      t.beta[h] = before_.template get<typename F::InputBeta>(row, h, 0);
    }
  }

  static void normalise(const double (&x)[K], double scale, double (&y)[K]) {
    double sum = 0;
    for (int c = 0; c < K; ++c) sum += x[c] * x[c];
    const double eps = static_cast<double>(F::kQkEps);
    double factor = 1;
    if (F::kQkNorm && F::kQkEpsAt == gdn::EpsAt::kSum) factor = 1 / std::sqrt(sum + eps);
    if (F::kQkNorm && F::kQkEpsAt == gdn::EpsAt::kMean) factor = 1 / std::sqrt(sum / K + eps) / std::sqrt(double{K});
    if (F::kQkNorm && F::kQkEpsAt == gdn::EpsAt::kMax) factor = 1 / std::fmax(std::sqrt(sum), eps);
    for (int c = 0; c < K; ++c) y[c] = round_to<typename F::RoundQk>(x[c] * factor * scale);
  }

  void expect_delta(int row, int h, Token& t) {
    double q[K], k[K];
    normalise(t.q[key_head(h)], static_cast<double>(F::kQScale), q);
    normalise(t.k[key_head(h)], static_cast<double>(F::kKScale), k);
    const double decay = std::exp(t.g[h]);
    for (int v = 0; v < V; ++v) {
      double predicted = 0;
      for (int c = 0; c < K; ++c) {
        t.state[h][c][v] = decay * before_.template get<typename F::State>(slot_of(row), h, c, v);
        predicted += t.state[h][c][v] * k[c];
      }
      const double u = t.beta[h] * (t.v[h][v] - predicted);
      double o = 0;
      for (int c = 0; c < K; ++c) {
        t.state[h][c][v] += k[c] * u;
        o += t.state[h][c][v] * q[c];
      }
      t.o[h][v] = round_to<typename F::RoundO>(o);
    }
  }

  void expect_norm(int h, Token& t) {
    double x[V];
    double sum = 0;
    for (int v = 0; v < V; ++v) {
      const double gate = F::kNormGate == gdn::Activation::kNone ? 1 : activation(F::kNormGate, t.z[h][v]);
      x[v] = F::kNormBeforeGate ? t.o[h][v] : t.o[h][v] * gate;
      sum += x[v] * x[v];
    }
    for (int v = 0; v < V; ++v) {
      const double w = before_.template get<typename F::NormW>(0, 0, v);
      const double weight = F::kNormWeight == gdn::NormWeight::kW          ? w
                            : F::kNormWeight == gdn::NormWeight::kOnePlusW ? 1 + w
                                                                           : 2 * (1 + w);
      const double gate =
          F::kNormBeforeGate && F::kNormGate != gdn::Activation::kNone ? activation(F::kNormGate, t.z[h][v]) : 1;
      t.out[h][v] =
          round_to<typename F::RoundNorm>(x[v] / std::sqrt(sum / V + static_cast<double>(F::kNormEps))) * weight * gate;
    }
  }

  // Compares one per-token output, and puts back what stood there before so that the last comparison sees only what
  // should not have been written.
  template <class M, class Expected>
  void judge_output(Verdict& verdict, const char* what, int heads, Expected&& expected) {
    if constexpr (M::kPresent) {
      double difference = 0, norm = 0;
      for (int row = 0; row < kRows; ++row) {
        for (int h = 0; h < heads; ++h) {
          for (int c = 0; c < M::kRun; ++c) {
            const double got = after_.template get<M>(row, h, c);
            if (row == stray_row_) {
              if (!std::isnan(got)) verdict.fault = std::string(what) + ": a row without a slot is not NaN";
            } else if (!padding(row)) {
              const double want = expected(tokens_[static_cast<std::size_t>(row)], h, c);
              difference += (got - want) * (got - want), norm += want * want;
            } else if (F::kPaddedOutput == gdn::PaddedOutput::kZero) {
              if (!(got == 0)) verdict.fault = std::string(what) + ": a padding row is not zero";
            } else {
              continue;
            }
            std::memcpy(after_.template address<M>(row, h, c), before_.template address<M>(row, h, c),
                        sizeof(typename M::Element));
          }
        }
      }
      verdict.compare(what, difference, norm);
    }
  }

  template <class M, class Expected>
  void judge_pool(Verdict& verdict, const char* what, int heads, int outers, int taps, bool exact,
                  Expected&& expected) {
    if constexpr (M::kPresent) {
      double difference = 0, norm = 0;
      for (int row = 0; row < kRows; ++row) {
        if (skipped(row)) continue;
        for (int h = 0; h < heads; ++h) {
          for (int c = 0; c < M::kRun; ++c) {
            for (int v = 0; v < outers; ++v) {
              for (int tap = 0; tap < taps; ++tap) {
                const double got = after_.template get<M>(slot_of(row), h, c, v, tap);
                const double want = expected(tokens_[static_cast<std::size_t>(row)], h, c, v, tap);
                if (exact && got != want) verdict.fault = std::string(what) + ": not the shifted window";
                difference += (got - want) * (got - want), norm += want * want;
                std::memcpy(after_.template address<M>(slot_of(row), h, c, v, tap),
                            before_.template address<M>(slot_of(row), h, c, v, tap), sizeof(typename M::Element));
              }
            }
          }
        }
      }
      verdict.compare(what, difference, norm);
    }
  }

  void judge(Verdict& verdict) {
    judge_output<typename F::OutputQ>(verdict, "q", Hk, [](const Token& t, int h, int c) { return t.q[h][c]; });
    judge_output<typename F::OutputK>(verdict, "k", Hk, [](const Token& t, int h, int c) { return t.k[h][c]; });
    judge_output<typename F::OutputV>(verdict, "v", Hv, [](const Token& t, int h, int c) { return t.v[h][c]; });
    judge_output<typename F::OutputZ>(verdict, "z", Hv, [](const Token& t, int h, int c) { return t.z[h][c]; });
    judge_output<typename F::OutputB>(verdict, "b", Hv, [](const Token& t, int h, int) { return t.b[h]; });
    judge_output<typename F::OutputA>(verdict, "a", Hv, [](const Token& t, int h, int) { return t.a[h]; });
    judge_output<typename F::OutputG>(verdict, "g", Hv, [](const Token& t, int h, int) {
      return F::kGHandover == gdn::Domain::kLn     ? t.g[h]
             : F::kGHandover == gdn::Domain::kLog2 ? t.g[h] / std::log(2.0)
                                                   : std::exp(t.g[h]);
    });
    judge_output<typename F::OutputBeta>(verdict, "beta", Hv, [](const Token& t, int h, int) { return t.beta[h]; });
    judge_output<typename F::OutputO>(verdict, "o", Hv, [](const Token& t, int h, int c) { return t.o[h][c]; });
    judge_output<typename F::Out>(verdict, "out", Hv, [](const Token& t, int h, int c) { return t.out[h][c]; });
    judge_pool<typename F::State>(verdict, "state", Hv, V, 1, false,
                                  [](const Token& t, int h, int c, int v, int) { return t.state[h][c][v]; });
    judge_pool<typename F::WindowQ>(verdict, "window of q", Hk, 1, F::kWindow, true,
                                    [](const Token& t, int h, int c, int, int tap) { return t.window_q[h][c][tap]; });
    judge_pool<typename F::WindowK>(verdict, "window of k", Hk, 1, F::kWindow, true,
                                    [](const Token& t, int h, int c, int, int tap) { return t.window_k[h][c][tap]; });
    judge_pool<typename F::WindowV>(verdict, "window of v", Hv, 1, F::kWindow, true,
                                    [](const Token& t, int h, int c, int, int tap) { return t.window_v[h][c][tap]; });
    if constexpr (F::kArrivalsOperand >= 0) judge_arrivals(verdict);
    for (const Operand& operand : after_.operand) {
      const std::size_t i = static_cast<std::size_t>(&operand - after_.operand);
      if (operand.bytes != before_.operand[i].bytes) {
        verdict.fault = "operand " + std::to_string(i) + ": written where nothing should be";
      }
    }
  }

  // Counters are as they were; o stood behind them, and nothing is left to say about it.
  void judge_arrivals(Verdict& verdict) {
    std::vector<unsigned char>& bytes = after_.operand[F::kArrivalsOperand].bytes;
    for (std::size_t row = 0; row < kRows; ++row) {
      for (std::size_t i = 0; i < F::kArrivalsRowBytes; ++i) {
        unsigned char& byte = bytes[row * F::kArrivalsRowBytes + i];
        if (i < kCounterBytes && byte != 0) verdict.fault = "arrivals: a counter is not zero after the launch";
        byte = i < kCounterBytes ? 0 : 0xff;
      }
    }
  }

  void (*watch_)(const void*, std::size_t) = nullptr;
  int stray_row_ = -1;
  Data before_, after_;
  std::vector<std::vector<unsigned char>> made_;
  std::vector<Token> tokens_;
};

}  // namespace shim
