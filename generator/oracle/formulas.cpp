#include "oracle/formulas.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace gdn::oracle {
namespace {

constexpr double kLn2 = 0.693147180559945309417232121458;

// The window's row that holds the input of `ago` tokens before, and the weight's tap for it.
int row_of(const spec::Conv& conv, int ago) {
  const int history = *conv.width - 1;
  const int first = *conv.anchor == core::Anchor::kFirst ? 0 : *conv.window - history;
  return first + history - ago;
}
int tap_of(const spec::Conv& conv, int ago) { return *conv.taps_oldest_first ? *conv.width - 1 - ago : ago; }

}  // namespace

double sigmoid(double x) {
  if (x >= 0) return 1 / (1 + std::exp(-x));
  const double e = std::exp(x);
  return e / (1 + e);
}

double softplus(double x, double threshold) {
  if (threshold > 0 && x > threshold) return x;
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

double activate(core::Activation activation, double x) {
  switch (activation) {
    case core::Activation::kSilu:
      return x * sigmoid(x);
    case core::Activation::kSigmoid:
      return sigmoid(x);
    case core::Activation::kNone:
      break;
  }
  return x;
}

double gate_factor(core::Activation activation, double z) {
  return activation == core::Activation::kNone ? 1 : activate(activation, z);
}

double norm_factor(core::EpsAt eps_at, double eps, double squares, int n) {
  switch (eps_at) {
    case core::EpsAt::kMean:
      return 1 / std::sqrt(squares / n + eps) / std::sqrt(static_cast<double>(n));
    case core::EpsAt::kMax:
      return 1 / std::max(std::sqrt(squares), eps);
    case core::EpsAt::kSum:
      break;
  }
  return 1 / std::sqrt(squares + eps);
}

double log_decay(const spec::Decay& decay, double a, double a_log, double dt_bias) {
  double gain = 1;
  if (*decay.a_log == core::AStored::kLog) gain = std::exp(a_log);
  if (*decay.a_log == core::AStored::kNegativeExp) gain = -a_log;
  if (*decay.form == core::DecayForm::kBounded) return *decay.bound * sigmoid(gain * (a + dt_bias));
  return -gain * softplus(a + dt_bias, *decay.threshold);
}

double beta_of(const spec::Beta& beta, double b) { return *beta.factor * sigmoid(b); }

double from_ln(core::Domain domain, double g) {
  switch (domain) {
    case core::Domain::kLn:
      return g;
    case core::Domain::kLog2:
      return g / kLn2;
    case core::Domain::kExp:
      return std::exp(g);
    default:
      throw std::invalid_argument("a decay is handed over as ln, log2 or exp");
  }
}

double to_ln(core::Domain domain, double g) {
  switch (domain) {
    case core::Domain::kLn:
      return g;
    case core::Domain::kLog2:
      return g * kLn2;
    case core::Domain::kExp:
      return std::log(g);
    default:
      throw std::invalid_argument("a decay is handed over as ln, log2 or exp");
  }
}

double conv_channel(const spec::Conv& conv, const double* weight, const double* window, double current, double bias) {
  double sum = bias + weight[tap_of(conv, 0)] * current;
  for (int ago = 1; ago < *conv.width; ++ago) sum += weight[tap_of(conv, ago)] * window[row_of(conv, ago)];
  return sum;
}

double conv_magnitude(const spec::Conv& conv, const double* weight, const double* window, double current, double bias) {
  double sum = std::fabs(bias) + std::fabs(weight[tap_of(conv, 0)] * current);
  for (int ago = 1; ago < *conv.width; ++ago) sum += std::fabs(weight[tap_of(conv, ago)] * window[row_of(conv, ago)]);
  return sum;
}

int shifted_rows(const spec::Conv& conv) {
  return *conv.anchor == core::Anchor::kFirst ? *conv.width - 1 : *conv.window;
}

void shift_window(const spec::Conv& conv, double* rows, double stored) {
  const int count = shifted_rows(conv);
  for (int i = 0; i + 1 < count; ++i) rows[i] = rows[i + 1];
  if (count > 0) rows[count - 1] = stored;
}

void discard_oldest(const spec::Spec& spec, int count, std::vector<double>& windows) {
  const std::size_t window = static_cast<std::size_t>(*spec.conv.window);
  for (std::size_t first = 0; first < windows.size(); first += window) {
    for (std::size_t i = 0; i + static_cast<std::size_t>(count) < window; ++i) {
      windows[first + i] = windows[first + i + static_cast<std::size_t>(count)];
    }
  }
}

double weight_factor(core::NormWeight weight, double w) {
  switch (weight) {
    case core::NormWeight::kOnePlusW:
      return 1 + w;
    case core::NormWeight::kTwiceOnePlusW:
      return 2 * (1 + w);
    case core::NormWeight::kW:
      break;
  }
  return w;
}

}  // namespace gdn::oracle
