#include "oracle/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>

#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "oracle/quantise.h"

namespace gdn::oracle {
namespace {

using Values = std::vector<double>;

class Reference {
 public:
  Reference(const Problem& problem, const Operands& operands, StepOrder order)
      : problem_(problem), operands_(operands), spec_(operands.spec()), order_(order) {
    for (const Buffer& buffer : problem.buffers()) {
      ExpectedBuffer expected;
      expected.image.assign(buffer.data(), buffer.data() + buffer.size_bytes());
      expected.rows.assign(static_cast<std::size_t>(buffer.rows), RowRule::kUntouched);
      expected.written.assign(static_cast<std::size_t>(buffer.inner), false);
      expectation_.buffers.push_back(std::move(expected));
    }
  }

  Expectation run() {
    zero_excess();
    for (const TokenRun& sequence : problem_.sequences()) {
      if (sequence.padding) {
        for (int i = 0; i < sequence.tokens && operands_.offsets() >= 0; ++i) pad(sequence.first + i);
      } else if (operands_.operation() == "state_commit") {
        commit(sequence);
      } else if (operands_.drafts()) {
        decode(sequence);
      } else if (sequence.tokens > 0) {
        compute(sequence);
      }
    }
    if (operands_.prefills() || operands_.drafts()) return std::move(expectation_);
    for (int row = 0; row < problem_.rows(); ++row) {
      if (problem_.padding(row)) {
        pad(row);
      } else {
        compute(row);
      }
    }
    return std::move(expectation_);
  }

 private:
  // Rows of the layer's output that no token has.
  void zero_excess() {
    const std::string& operation = operands_.operation();
    if (operation != "decode" && operation != "decode_spec" && operation != "norm_quant" && operation != "prefill") {
      return;
    }
    if (*spec_.slots.excess_output == core::PaddedOutput::kUntouched) return;
    int end = problem_.sequences().empty() ? problem_.rows() : 0;
    for (const TokenRun& sequence : problem_.sequences()) end = std::max(end, sequence.first + sequence.tokens);
    for (const Buffer& buffer : problem_.buffers()) {
      if (buffer.kind != Kind::kOutput) continue;
      for (int row = end; row < buffer.rows; ++row) zero(row);
      return;
    }
  }

  void pad(int row) {
    if (*spec_.slots.padded_output == core::PaddedOutput::kZero) zero(row);
  }

  void zero(int row) {
    for (std::size_t i = 0; i < problem_.buffers().size(); ++i) {
      const Buffer& buffer = problem_.buffers()[i];
      if (buffer.kind != Kind::kOutput) continue;
      ExpectedBuffer& expected = expectation_.buffers[i];
      expected.rows[static_cast<std::size_t>(row)] = RowRule::kZero;
      for (std::int64_t at = 0; at < buffer.inner; ++at) {
        std::memset(expected.image.data() + buffer.offset(row, at), 0, core::size_of(buffer.dtype));
      }
    }
  }

  // A sequence of prefill, token by token. The state is rounded once, when it is stored; a conv's older input as a
  // window would keep it.
  void compute(const TokenRun& sequence) {
    const std::string& operation = operands_.operation();
    const bool ends = *spec_.prefill.final_states;
    std::map<std::string, Values> windows;
    for (const std::string part : {"q", "k", "v"}) {
      if (operation == "chunk_delta") break;
      if (sequence.initial) windows[part] = get("conv_state." + part, sequence.slot);
    }
    Values state(static_cast<std::size_t>(*spec_.heads.value) * static_cast<std::size_t>(*spec_.dims.key) *
                 static_cast<std::size_t>(*spec_.dims.value));
    if (sequence.initial && operation != "conv_prefill") state = get("state", sequence.slot);
    for (int row = sequence.first; row < sequence.first + sequence.tokens; ++row) {
      if (operation == "conv_prefill") {
        for (const std::string part : {"q", "k", "v"}) put("out." + part, row, conv_token(part, row, windows[part]));
        pass_on("z", row);
      } else if (operation == "chunk_delta") {
        Values g = get("in.g", row);
        for (double& x : g) x = to_ln(*spec_.decay.handover, x);
        put("out.o", row,
            prefill_step(get("in.q", row), get("in.k", row), get("in.v", row), g, get("in.beta", row), state));
      } else {
        const Values q = conv_token("q", row, windows["q"]), k = conv_token("k", row, windows["k"]);
        const Values v = conv_token("v", row, windows["v"]);
        const Values o = prefill_step(q, k, v, decay(row), betas(row), state);
        if (*spec_.out_norm.enabled) {
          Norm norm;
          put_output(row, gated_norm(o, get("in.z", row), &norm), &norm);
        } else {
          put_output(row, o);
        }
      }
      for (const Snapshot& snapshot : problem_.snapshots()) {
        if (snapshot.row == row && !snapshot.padding) put_states(snapshot.slot, windows, state);
      }
    }
    if (ends) put_states(sequence.slot, windows, state);
  }

  // What a sequence of prefill leaves in a slot.
  void put_states(std::int64_t slot, const std::map<std::string, Values>& windows, const Values& state) {
    for (const auto& [part, window] : windows) put("conv_state." + part, slot, window, shifted_rows(spec_.conv));
    if (operands_.operation() != "conv_prefill") put("state", slot, state);
  }

  Values prefill_step(const Values& q, const Values& k, const Values& v, const Values& g, const Values& beta,
                      Values& state) const {
    Values rounded_v = v;
    for (double& x : rounded_v) x = round_to_point(problem_.options().products, x);
    return step(prefill_normalised(q, *spec_.qk_scale.q), prefill_normalised(k, *spec_.qk_scale.k), rounded_v, g, beta,
                state);
  }

  // The conv's output of one part of a row of prefill. Moves `windows` on, which is made of zeros where it is empty.
  Values conv_token(const std::string& part, int row, Values& windows) {
    const Values current = get("in." + part, row);
    const Values& weights = constant("conv_weight." + part);
    const std::size_t width = static_cast<std::size_t>(*spec_.conv.width);
    const std::size_t window = static_cast<std::size_t>(*spec_.conv.window);
    const BoundPart pool = operands_.find("conv_state." + part);
    windows.resize(current.size() * window);
    Values out(current.size());
    for (std::size_t c = 0; c < current.size(); ++c) {
      double* rows = windows.data() + c * window;
      const double bias = *spec_.conv.bias ? constant("conv_bias." + part)[c] : 0;
      const double y = conv_channel(spec_.conv, weights.data() + c * width, rows, current[c], bias);
      out[c] = round_to_point(*spec_.rounding.conv, activate(*spec_.conv.activation, y));
      const bool kept = pool.operand >= 0;
      const double stored =
          kept ? round_to(problem_.buffers()[static_cast<std::size_t>(pool.operand)].dtype, current[c]) : current[c];
      shift_window(spec_.conv, rows, stored);
    }
    return out;
  }

  void compute(int row) {
    const std::string& operation = operands_.operation();
    if (operation == "decode") {
      const Values q = conv("q", row), k = conv("k", row), v = conv("v", row);
      const Values g = decay(row), beta = betas(row);
      const Values o = delta(row, q, k, v, g, beta);
      put_output(row, layer_output(o, row));
    } else if (operation == "unpack") {
      for (const std::string part : {"q", "k", "v", "z", "b", "a"}) pass_on(part, row);
    } else if (operation == "conv_pack") {
      for (const std::string part : {"q", "k", "v"}) put("packed." + part, 0, constant("conv_weight." + part));
    } else if (operation == "conv_update") {
      for (const std::string part : {"q", "k", "v"}) put("out." + part, row, conv(part, row));
      pass_on("z", row);
    } else if (operation == "gating") {
      Values g = decay(row);
      for (double& x : g) x = from_ln(*spec_.decay.handover, x);
      put("out.g", row, g);
      put("out.beta", row, betas(row));
    } else if (operation == "delta_update") {
      Values g = get("in.g", row);
      for (double& x : g) x = to_ln(*spec_.decay.handover, x);
      put("out.o", row, delta(row, get("in.q", row), get("in.k", row), get("in.v", row), g, get("in.beta", row)));
    } else {
      put_output(row, gated_norm(get("in.o", row), get("in.z", row)));
    }
  }

  // ---- several tokens of a sequence -------------------------------------------------------------------------------

  // The state that a sequence's tokens of this launch continue from. With records, the accepted ones are applied, and
  // the result is the sequence's new state in the pool. From token to token of a launch no state is rounded: only what
  // is stored is.
  Values state_before(const TokenRun& sequence) {
    const std::size_t accepted = static_cast<std::size_t>(std::max(sequence.accepted - 1, 0));
    if (scheme() == core::Rollback::kSlots) return stored_state(sequence.slots[accepted]);
    Values state = stored_state(sequence.slots[0]);
    if (scheme() == core::Rollback::kReplay && sequence.accepted > 0) {
      apply_records(sequence, state);
      store_state(sequence.slots[0], state);
    }
    return state;
  }

  // S <- diag(d) S + k u^T for each accepted token.
  void apply_records(const TokenRun& sequence, Values& state) const {
    const Values k = get("record_k", sequence.slots[0]), u = get("record_u", sequence.slots[0]);
    const Values d = get("record_decay", sequence.slots[0]);
    const std::size_t steps = static_cast<std::size_t>(*spec_.speculative.tokens);
    const std::size_t key_dim = static_cast<std::size_t>(*spec_.dims.key);
    const std::size_t value_dim = static_cast<std::size_t>(*spec_.dims.value);
    const std::size_t heads = static_cast<std::size_t>(*spec_.heads.value);
    const std::size_t decays = d.size() / steps / heads;  // of a head: one, or one for each key channel
    for (std::size_t step = 0; step < static_cast<std::size_t>(sequence.accepted); ++step) {
      for (std::size_t head = 0; head < heads; ++head) {
        const std::size_t key_head = static_cast<std::size_t>(key_head_of(spec_, static_cast<int>(head)));
        for (std::size_t c = 0; c < key_dim; ++c) {
          const double decay = d[(head * decays + (decays == 1 ? 0 : c)) * steps + step];
          const double along = k[(key_head * key_dim + c) * steps + step];
          for (std::size_t v = 0; v < value_dim; ++v) {
            double& s = state[(head * key_dim + c) * value_dim + v];
            s = decay * s + along * u[(head * value_dim + v) * steps + step];
          }
        }
      }
    }
  }

  void decode(const TokenRun& sequence) {
    if (sequence.tokens == 0) return;
    const std::size_t steps = static_cast<std::size_t>(*spec_.speculative.tokens);
    const std::size_t tokens = static_cast<std::size_t>(sequence.tokens);
    std::vector<Values> q = conv_all("q", sequence), k = conv_all("k", sequence), v = conv_all("v", sequence);
    Values state = state_before(sequence);
    Values record_k, record_u, record_decay, states;
    for (std::size_t t = 0; t < tokens; ++t) {
      const int row = sequence.first + static_cast<int>(t);
      const Values g = decay(row), beta = betas(row);
      const Values q_hat = normalised(q[t], *spec_.qk_scale.q), k_hat = normalised(k[t], *spec_.qk_scale.k);
      Values u(v[t].size());
      const Values o = step(q_hat, k_hat, v[t], g, beta, state, &u);
      put_output(row, layer_output(o, row));
      if (scheme() == core::Rollback::kSlots) store_state(sequence.slots[t], state);
      const auto keep = [&](Values& records, const Values& values, bool exponentiate) {
        records.resize(values.size() * steps, -1);
        for (std::size_t i = 0; i < values.size(); ++i) {
          records[i * steps + t] = exponentiate ? std::exp(values[i]) : values[i];
        }
      };
      keep(record_k, k_hat, false);
      keep(record_u, u, false);
      keep(record_decay, g, true);
      if (scheme() == core::Rollback::kIntermediate) keep(states, state, false);
    }
    if (scheme() == core::Rollback::kReplay) {
      put("record_k", sequence.slots[0], record_k, sequence.tokens);
      put("record_u", sequence.slots[0], record_u, sequence.tokens);
      put("record_decay", sequence.slots[0], record_decay);  // -1 behind the last token
    }
    if (scheme() == core::Rollback::kIntermediate) {
      put("intermediate_state", &sequence - problem_.sequences().data(), states, sequence.tokens);
    }
  }

  // The accepted token's state becomes the sequence's, and the window the one that belongs to it.
  void commit(const TokenRun& sequence) {
    if (sequence.accepted == 0 && scheme() != core::Rollback::kSlots) return;
    for (const std::string part : {"q", "k", "v"}) {
      Values windows = get("conv_state." + part, sequence.slots[0]);
      discard_oldest(spec_, problem_.window_offset(sequence), windows);
      put("conv_state." + part, sequence.slots[0], windows, *spec_.conv.width - 1);
    }
    if (scheme() == core::Rollback::kIntermediate) {
      const Values all = get("intermediate_state", &sequence - problem_.sequences().data());
      const std::size_t steps = static_cast<std::size_t>(*spec_.speculative.tokens);
      Values state(all.size() / steps);
      for (std::size_t i = 0; i < state.size(); ++i) {
        state[i] = all[i * steps + static_cast<std::size_t>(sequence.accepted) - 1];
      }
      store_state(sequence.slots[0], state);
    } else if (scheme() == core::Rollback::kSlots) {
      // It moves as it is stored.
      const std::size_t accepted = static_cast<std::size_t>(std::max(sequence.accepted - 1, 0));
      for (const std::string key : {"state", "state_scale"}) {
        if (operands_.find(key).operand >= 0) put(key, sequence.slots[0], get(key, sequence.slots[accepted]));
      }
    } else {
      state_before(sequence);
    }
  }

  // The conv's outputs of one part for all tokens of a sequence. The window keeps the inputs in front of the tokens,
  // less the one that no roll-back can reach any more where tokens have slots, and the tokens.
  std::vector<Values> conv_all(const std::string& part, const TokenRun& sequence) {
    const Values& weights = constant("conv_weight." + part);
    const std::string window_key = "conv_state." + part;
    const std::size_t width = static_cast<std::size_t>(*spec_.conv.width);
    const std::size_t window = static_cast<std::size_t>(*spec_.conv.window);
    const core::DType stored = problem_.buffers()[static_cast<std::size_t>(operands_.at(window_key).operand)].dtype;
    Values windows = get(window_key, sequence.slots[0]);
    discard_oldest(spec_, problem_.window_offset(sequence), windows);
    const std::size_t dropped = scheme() == core::Rollback::kSlots ? 1 : 0;
    Values kept = windows;
    std::vector<Values> out;
    for (int t = 0; t < sequence.tokens; ++t) {
      const Values current = get("in." + part, sequence.first + t);
      Values y(current.size());
      for (std::size_t c = 0; c < current.size(); ++c) {
        double* rows = windows.data() + c * window;
        const double bias = *spec_.conv.bias ? constant("conv_bias." + part)[c] : 0;
        const double sum = conv_channel(spec_.conv, weights.data() + c * width, rows, current[c], bias);
        y[c] = round_to_point(*spec_.rounding.conv, activate(*spec_.conv.activation, sum));
        shift_window(spec_.conv, rows, round_to(stored, current[c]));  // the next token finds it as the window keeps it
        double* to = kept.data() + c * window;
        if (t == 0 && dropped == 1) std::copy(to + 1, to + width - 1, to);
        to[width - 1 - dropped + static_cast<std::size_t>(t)] = current[c];
      }
      out.push_back(std::move(y));
    }
    put(window_key, sequence.slots[0], kept, static_cast<int>(width - 1 - dropped) + sequence.tokens);
    return out;
  }

  core::Rollback scheme() const { return *spec_.speculative.scheme; }

  // ---- one token ----------------------------------------------------------------------------------------------------

  // The conv's output of one part, activated and rounded. Moves the part's window on.
  Values conv(const std::string& part, int row) {
    const Values current = get("in." + part, row);
    const Values& weights = constant("conv_weight." + part);
    const bool has_bias = *spec_.conv.bias;
    const std::string window_key = "conv_state." + part;
    Values windows = get(window_key, problem_.row_slot(row));
    const std::size_t width = static_cast<std::size_t>(*spec_.conv.width);
    const std::size_t window = static_cast<std::size_t>(*spec_.conv.window);
    Values out(current.size());
    for (std::size_t c = 0; c < current.size(); ++c) {
      double* rows = windows.data() + c * window;
      const double bias = has_bias ? constant("conv_bias." + part)[c] : 0;
      const double y = conv_channel(spec_.conv, weights.data() + c * width, rows, current[c], bias);
      out[c] = round_to_point(*spec_.rounding.conv, activate(*spec_.conv.activation, y));
      shift_window(spec_.conv, rows, current[c]);
    }
    put(window_key, problem_.row_slot(row), windows, shifted_rows(spec_.conv));
    return out;
  }

  // g = ln of the decay, a number per value head (GDN) or per value head and key channel (KDA).
  Values decay(int row) {
    Values g = get("in.a", row);
    const bool has_a_log = *spec_.decay.a_log != core::AStored::kAbsent;
    const Values& dt_bias = constant("dt_bias");
    if (dt_bias.size() != g.size()) {
      throw std::invalid_argument(fmt::format("dt_bias has {} elements, a has {}", dt_bias.size(), g.size()));
    }
    const std::size_t per_head = g.size() / static_cast<std::size_t>(*spec_.heads.value);
    for (std::size_t i = 0; i < g.size(); ++i) {
      const std::size_t head = i / per_head;
      const double a_log = has_a_log ? constant("a_log")[head] : 0;
      g[i] = log_decay(spec_.decay, g[i], a_log, dt_bias[i]);
    }
    return g;
  }

  Values betas(int row) {
    Values beta = get("in.b", row);
    for (double& x : beta) x = round_to_point(*spec_.rounding.beta, beta_of(spec_.beta, x));
    return beta;
  }

  // q or k of all key heads, normalised, scaled and rounded.
  Values normalised(Values x, double scale) const { return normalised(std::move(x), scale, *spec_.rounding.qk, 1); }

  // The same for prefill, which rounds before it scales.
  Values prefill_normalised(Values x, double scale) const {
    const core::DType products = problem_.options().products;
    return normalised(std::move(x), 1, products == core::DType::kFp32 ? *spec_.prefill.qk : products, scale);
  }

  Values normalised(Values x, double scale, core::DType rounding, double scale_after) const {
    const int n = *spec_.dims.key;
    for (int head = 0; head < *spec_.heads.key; ++head) {
      double* begin = x.data() + static_cast<std::ptrdiff_t>(head) * n;
      double squares = 0;
      for (int c = 0; c < n; ++c) squares += begin[c] * begin[c];
      const double factor =
          *spec_.qk_norm.enabled ? norm_factor(*spec_.qk_norm.eps_at, *spec_.qk_norm.eps, squares, n) : 1;
      for (int c = 0; c < n; ++c) begin[c] = scale_after * round_to_point(rounding, begin[c] * factor * scale);
    }
    return x;
  }

  // The recurrent step of all value heads. Moves the state on; returns o, rounded.
  Values delta(int row, const Values& raw_q, const Values& raw_k, const Values& v, const Values& g,
               const Values& beta) {
    Values state = stored_state(problem_.row_slot(row));
    const Values o =
        step(normalised(raw_q, *spec_.qk_scale.q), normalised(raw_k, *spec_.qk_scale.k), v, g, beta, state);
    store_state(problem_.row_slot(row), state);
    return o;
  }

  // An 8-bit state is codes times the scales of their value channels.
  Values stored_state(std::int64_t slot) const {
    Values state = get("state", slot);
    if (operands_.find("state_scale").operand < 0) return state;
    const Values scale = get("state_scale", slot);
    for (std::size_t i = 0; i < state.size(); ++i) state[i] *= scale[scale_index(i)];
    return state;
  }

  void store_state(std::int64_t slot, Values state) {
    const BoundPart part = operands_.at("state");
    ExpectedBuffer& expected = expectation_.buffers[static_cast<std::size_t>(part.operand)];
    const Buffer& buffer = problem_.buffers()[static_cast<std::size_t>(part.operand)];
    if (operands_.find("state_scale").operand >= 0) {
      Values scale(static_cast<std::size_t>(*spec_.heads.value) * static_cast<std::size_t>(*spec_.dims.value));
      for (std::size_t i = 0; i < state.size(); ++i) {
        scale[scale_index(i)] = std::max(scale[scale_index(i)], std::fabs(state[i]));
      }
      for (double& x : scale) x = state_scale(buffer.dtype, x);
      for (std::size_t i = 0; i < state.size(); ++i) {
        state[i] = scale[scale_index(i)] == 0 ? 0 : state[i] / scale[scale_index(i)];
      }
      put("state_scale", slot, scale);
    } else if (!*spec_.rounding.state_stochastic) {
      put("state", slot, state);
      return;
    }
    expected.exact.resize(static_cast<std::size_t>(buffer.rows * buffer.inner));
    for (std::size_t i = 0; i < state.size(); ++i) {
      expected.exact[static_cast<std::size_t>(slot * buffer.inner + part.map->offset[i])] = state[i];
    }
    put("state", slot, state);
  }

  // From a state's element in the oracle's order to its value channel's scale.
  std::size_t scale_index(std::size_t i) const {
    const std::size_t key_dim = static_cast<std::size_t>(*spec_.dims.key);
    const std::size_t value_dim = static_cast<std::size_t>(*spec_.dims.value);
    return i / (key_dim * value_dim) * value_dim + i % value_dim;
  }

  // The same on a state at hand, from q and k as the rule reads them; `u`, where it is asked for, is what was written
  // along k.
  Values step(const Values& q, const Values& k, const Values& v, const Values& g, const Values& beta, Values& state,
              Values* u = nullptr) const {
    const int key_dim = *spec_.dims.key, value_dim = *spec_.dims.value;
    const std::size_t per_head = g.size() / static_cast<std::size_t>(*spec_.heads.value);
    Values o(v.size()), g_head(static_cast<std::size_t>(key_dim));
    for (int head = 0; head < *spec_.heads.value; ++head) {
      for (int c = 0; c < key_dim; ++c) {
        const std::size_t first = static_cast<std::size_t>(head) * per_head;
        g_head[static_cast<std::size_t>(c)] = g[first + (per_head == 1 ? 0 : static_cast<std::size_t>(c))];
      }
      const std::ptrdiff_t key = static_cast<std::ptrdiff_t>(key_head_of(spec_, head)) * key_dim;
      const std::ptrdiff_t value = static_cast<std::ptrdiff_t>(head) * value_dim;
      delta_step(key_dim, value_dim, q.data() + key, k.data() + key, v.data() + value, g_head.data(),
                 beta[static_cast<std::size_t>(head)], state.data() + value * key_dim, o.data() + value, order_,
                 u != nullptr ? u->data() + value : nullptr);
    }
    for (double& x : o) x = round_to_point(*spec_.rounding.o, x);
    return o;
  }

  // A part as it came; z is nobody's where nothing norms.
  void pass_on(const std::string& part, int row) {
    if (part == "z" && !*spec_.out_norm.enabled) return;
    put("out." + part, row, get("in." + part, row));
  }

  Values layer_output(const Values& o, int row) {
    return *spec_.out_norm.enabled ? gated_norm(o, get("in.z", row)) : o;
  }

  // What each head was divided by, and how much an element of the result grows with its o.
  struct Norm {
    std::vector<double> divisors, slopes;
  };

  Values gated_norm(Values x, const Values& z, Norm* norm = nullptr) {
    const std::size_t value_dim = static_cast<std::size_t>(*spec_.dims.value);
    const Values& weight = constant("norm_weight");
    const bool norm_first = *spec_.out_norm.norm_before_gate, biased = operands_.find("norm_bias").operand >= 0;
    for (std::size_t head = 0; head * value_dim < x.size(); ++head) {
      double* begin = x.data() + head * value_dim;
      const double* gate = z.data() + head * value_dim;
      double squares = 0;
      for (std::size_t c = 0; c < value_dim; ++c) {
        if (!norm_first) begin[c] *= gate_factor(*spec_.out_norm.gate, gate[c]);
        squares += begin[c] * begin[c];
      }
      const double factor = 1 / std::sqrt(squares / static_cast<double>(value_dim) + *spec_.out_norm.eps);
      if (norm != nullptr) norm->divisors.push_back(1 / factor);
      for (std::size_t c = 0; c < value_dim; ++c) {
        const double w = weight[weight.size() == value_dim ? c : head * value_dim + c];
        begin[c] = round_to_point(*spec_.rounding.norm, begin[c] * factor) * weight_factor(*spec_.out_norm.weight, w);
        if (biased) begin[c] += constant("norm_bias")[c];
        const double open = gate_factor(*spec_.out_norm.gate, gate[c]);
        if (norm_first) begin[c] *= open;
        if (norm != nullptr)
          norm->slopes.push_back(std::fabs(factor * weight_factor(*spec_.out_norm.weight, w) * open));
      }
    }
    return x;
  }

  // See ExpectedBuffer::weight; a number for each head of the row.
  void weigh(const std::string& key, int row, const std::vector<double>& of_heads) {
    const BoundPart part = operands_.at(key);
    ExpectedBuffer& expected = expectation_.buffers[static_cast<std::size_t>(part.operand)];
    const Buffer& buffer = problem_.buffers()[static_cast<std::size_t>(part.operand)];
    expected.weight.resize(static_cast<std::size_t>(buffer.rows * buffer.inner));
    const std::vector<std::int32_t>& place = part.map->offset;
    const std::size_t run = place.size() / of_heads.size();
    for (std::size_t i = 0; i < place.size(); ++i) {
      expected.weight[static_cast<std::size_t>(row * buffer.inner + place[i])] = of_heads[i / run];
    }
  }

  // The layer's output as it is stored: as it is, or as codes and scales.
  void put_output(int row, Values y, const Norm* norm = nullptr) {
    const int channels = channels_of_group(spec_);
    if (channels == 0) {
      put("out.out", row, y);
      if (norm != nullptr) weigh("out.out", row, norm->divisors);
      return;
    }
    for (double& x : y) x = round_to_point(*spec_.output_quant.from, x);
    const BoundPart part = operands_.at("out.out");
    const std::vector<std::int32_t>& place = part.map->offset;
    Values amax(y.size() / static_cast<std::size_t>(channels)), scales;
    const auto group = [&](std::size_t i) { return static_cast<std::size_t>(place[i] / channels); };
    for (std::size_t i = 0; i < y.size(); ++i) amax[group(i)] = std::max(amax[group(i)], std::fabs(y[i]));
    for (const double most : amax) scales.push_back(quantisation_scale(spec_.output_quant, most));
    ExpectedBuffer& expected = expectation_.buffers[static_cast<std::size_t>(part.operand)];
    const Buffer& buffer = problem_.buffers()[static_cast<std::size_t>(part.operand)];
    expected.exact.resize(static_cast<std::size_t>(buffer.rows * buffer.inner));
    for (std::size_t i = 0; i < y.size(); ++i) {
      y[i] = quantised(spec_.output_quant, y[i], scales[group(i)]);
      expected.exact[static_cast<std::size_t>(row * buffer.inner + place[i])] = y[i];
    }
    put("out.out", row, y);
    put("out.out_scale", row, scales);
    if (norm != nullptr) {
      expected.divisors.insert(expected.divisors.end(), norm->divisors.begin(), norm->divisors.end());
      expected.slope.resize(expected.exact.size());
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double scale = scales[group(i)];
        expected.slope[static_cast<std::size_t>(row * buffer.inner + place[i])] =
            scale == 0 ? 0 : norm->slopes[i] / scale;
      }
    }
    if (!*spec_.output_quant.power_of_two) return;
    const std::size_t of_scales = static_cast<std::size_t>(operands_.at("out.out_scale").operand);
    const std::size_t count = amax.size();
    std::vector<double>& before = expectation_.buffers[of_scales].exact;
    before.resize(static_cast<std::size_t>(problem_.buffers()[of_scales].rows) * count);
    for (std::size_t g = 0; g < count; ++g) {
      before[static_cast<std::size_t>(row) * count + g] = scale_before(spec_.output_quant, amax[g]);
    }
  }

  static double round_to_point(core::DType dtype, double x) {
    return dtype == core::DType::kFp32 ? x : round_to(dtype, x);
  }

  Values get(const std::string& key, std::int64_t row) const {
    const BoundPart part = operands_.at(key);
    const Buffer& buffer = problem_.buffers()[static_cast<std::size_t>(part.operand)];
    return load_part(buffer.dtype, buffer.row(row), *part.map);
  }

  const Values& constant(const std::string& key) {
    const auto it = constants_.find(key);
    if (it != constants_.end()) return it->second;
    return constants_[key] = get(key, 0);
  }

  // Writes a part of a row into the image: its first `taps` taps, or all.
  void put(const std::string& key, std::int64_t row, const Values& values, int taps = -1) {
    const BoundPart part = operands_.at(key);
    const std::size_t index = static_cast<std::size_t>(part.operand);
    const Buffer& buffer = problem_.buffers()[index];
    ExpectedBuffer& expected = expectation_.buffers[index];
    if (values.size() != part.map->offset.size()) {
      throw std::invalid_argument(fmt::format("part {} of {} has {} elements, the computation gives {}", key,
                                              buffer.name, part.map->offset.size(), values.size()));
    }
    const std::size_t all_taps = static_cast<std::size_t>(part.map->taps);
    const std::size_t first_taps = taps < 0 ? all_taps : static_cast<std::size_t>(taps);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (all_taps > 1 && i % all_taps >= first_taps) continue;
      const std::size_t position = static_cast<std::size_t>(part.map->offset[i]);
      store(buffer.dtype, expected.image.data() + buffer.offset(row, part.map->offset[i]), values[i]);
      expected.written[position] = true;
    }
    expected.rows[static_cast<std::size_t>(row)] = RowRule::kValues;
  }

  const Problem& problem_;
  const Operands& operands_;
  const spec::Spec& spec_;
  StepOrder order_;
  Expectation expectation_;
  std::map<std::string, Values> constants_;
};

}  // namespace

Expectation expect(const Problem& problem) { return Reference(problem, problem.operands(), StepOrder::kRule).run(); }

Expectation expect_as(const Problem& problem, const spec::Spec& made_for, StepOrder order) {
  const Operands operands(made_for, problem.operation());
  const auto& list = operands.list();
  if (list.size() != problem.buffers().size()) {
    throw std::invalid_argument(
        fmt::format("{} takes {} operands, the problem has {}", *made_for.name, list.size(), problem.buffers().size()));
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Buffer& buffer = problem.buffers()[i];
    if (list[i].name != buffer.name || list[i].dtype != buffer.dtype ||
        operands.map(static_cast<int>(i)).inner != buffer.inner) {
      throw std::invalid_argument(
          fmt::format("operand {} of {} does not fit the problem's {}", list[i].name, *made_for.name, buffer.name));
    }
  }
  return Reference(problem, operands, order).run();
}

void apply(const Expectation& expectation, Problem& problem) {
  for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
    Buffer& buffer = problem.buffers()[i];
    std::memcpy(buffer.data(), expectation.buffers[i].image.data(), buffer.size_bytes());
  }
}

}  // namespace gdn::oracle
