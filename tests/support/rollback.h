// Speculative decoding against plain decoding: the same tokens, once with drafts that are accepted in part, once one by
// one. States, windows and outputs of the accepted tokens must agree to the bit where the state is fp32.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "layout/resolve.h"
#include "oracle/convert.h"
#include "oracle/formulas.h"
#include "oracle/parts.h"
#include "oracle/problem.h"
#include "oracle/random.h"
#include "support/catch.h"
#include "verify/executor.h"

namespace gdn::test {

// A kernel of a spec and a problem whose memory it runs on.
struct Bench {
  Bench(verify::Executor& executor, const spec::Spec& spec, const std::string& operation,
        const oracle::Options& options, const plan::TuningTable& tuning = plan::TuningTable::built_in())
      : layout(layout::resolve(spec)),
        kernel(executor.load(plan::make(layout, operation, executor.target(), tuning))),
        problem(oracle::make_problem(spec, operation, options)) {}

  void run() { kernel->run(problem, verify::views_of(problem, layout)); }

  layout::Layout layout;
  std::unique_ptr<verify::Loaded> kernel;
  oracle::Problem problem;
};

class Rollback {
 public:
  // `tuning` is of decode_spec and state_commit.
  Rollback(verify::Executor& executor, const spec::Spec& spec, std::uint64_t seed, int sequences = 5,
           const plan::TuningTable& tuning = plan::TuningTable::built_in())
      : spec_(spec),
        random_(seed),
        drafts_(executor, spec, "decode_spec", options(spec, seed, sequences), tuning),
        commit_(executor, spec, "state_commit", options(spec, seed, sequences), tuning),
        plain_(executor, spec, "decode", options(spec, seed, sequences)),
        pending_(static_cast<std::size_t>(sequences)),
        plain_slot_(static_cast<std::size_t>(sequences)) {
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      const int row = static_cast<int>(i);
      plain_slot_[i] = plain_.problem.padding(row) ? -1 : plain_.problem.row_slot(row);
    }
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (active(i)) copy_sequence(i);
    }
  }

  // What the pools of one problem hold, to those of another.
  static void copy_pools(const oracle::Problem& from, oracle::Problem& to) {
    for (oracle::Buffer& buffer : to.buffers()) {
      if (buffer.kind != oracle::Kind::kPool) continue;
      const oracle::Buffer& source = from.buffer(buffer.name);
      std::memcpy(buffer.data(), source.data(), source.size_bytes());
    }
  }

  // One launch: of each sequence `tokens[i]` tokens, after `accepted[i]` of its last launch's were accepted.
  void launch(const std::vector<int>& tokens, const std::vector<int>& accepted) {
    // What is committed is accepted: the next launch starts from the pools.
    if (intermediate()) settle(accepted);
    drafts_.problem.next_step();
    drafts_.problem.arrange(tokens, accepted);
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (!active(i) || tokens[i] == 0 || intermediate()) continue;
      consume(i, accepted[i]);
      if (slots()) compare_state(i, sequence(i).slots[static_cast<std::size_t>(std::max(accepted[i], 1) - 1)]);
    }
    drafts_.run();
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      const bool replayed = !slots() && !intermediate();
      if (replayed && active(i) && tokens[i] > 0) compare_state(i, sequence(i).slots[0]);
    }
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (active(i) && tokens[i] > 0) remember(i);
    }
  }

  // state_commit, and the comparison of states and windows with those of plain decoding.
  void settle(const std::vector<int>& accepted) {
    commit_.problem.arrange(std::vector<int>(pending_.size(), 1), accepted);
    copy_pools(drafts_.problem, commit_.problem);
    commit_.run();
    copy_pools(commit_.problem, drafts_.problem);
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (!active(i)) continue;
      consume(i, accepted[i]);
      pending_[i].clear();
      compare_sequence(i);
    }
  }

  // Random launches. `most` bounds the accepted tokens' number.
  void random_launches(int count) {
    const int most = *spec_.speculative.tokens;
    std::vector<int> tokens(pending_.size(), 0), accepted(pending_.size(), 0);
    for (int step = 0; step < count; ++step) {
      for (std::size_t i = 0; i < pending_.size(); ++i) {
        accepted[i] = random_.below(static_cast<int>(pending_[i].size()) + 1);
        if (random_.below(3) == 0) accepted[i] = static_cast<int>(pending_[i].size());
        tokens[i] = random_.below(6) == 0 ? 0 : 1 + random_.below(most);
        if (intermediate() && tokens[i] == 0) tokens[i] = 1;
      }
      tokens[0] = std::max(tokens[0], 1);
      launch(tokens, accepted);
    }
    settle(accept_some());
  }

  std::vector<int> accept_some() {
    std::vector<int> accepted;
    for (const auto& pending : pending_) accepted.push_back(random_.below(static_cast<int>(pending.size()) + 1));
    return accepted;
  }

  int differing_outputs() const { return differing_outputs_; }
  int compared_outputs() const { return compared_outputs_; }
  int compared_states() const { return compared_states_; }

 private:
  using Bytes = std::vector<std::byte>;
  struct Token {
    std::vector<Bytes> inputs;  // a row of each input operand
    Bytes out;
  };

  static oracle::Options options(const spec::Spec& spec, std::uint64_t seed, int sequences) {
    oracle::Options options;
    options.seed = seed;
    options.rows = sequences;
    options.padding_rows = *spec.slots.padding == core::Padding::kNone ? 0 : 1;
    return options;
  }

  bool intermediate() const { return *spec_.speculative.scheme == core::Rollback::kIntermediate; }
  bool slots() const { return *spec_.speculative.scheme == core::Rollback::kSlots; }
  const oracle::TokenRun& sequence(std::size_t i) const { return drafts_.problem.sequences()[i]; }
  bool active(std::size_t i) const { return !sequence(i).padding && plain_slot_[i] >= 0; }

  static Bytes row_of(const oracle::Buffer& buffer, std::int64_t row) {
    const std::byte* from = buffer.row(row);
    return {from, from + static_cast<std::size_t>(buffer.inner) * core::size_of(buffer.dtype)};
  }
  static void put_row(oracle::Buffer& buffer, std::int64_t row, const Bytes& bytes) {
    std::memcpy(buffer.row(row), bytes.data(), bytes.size());
  }

  // The state and the window that a sequence begins with.
  void copy_sequence(std::size_t i) {
    for (oracle::Buffer& buffer : plain_.problem.buffers()) {
      if (buffer.kind != oracle::Kind::kPool) continue;
      put_row(buffer, plain_slot_[i], row_of(drafts_.problem.buffer(buffer.name), sequence(i).slots[0]));
    }
  }

  void remember(std::size_t i) {
    pending_[i].clear();
    for (int t = 0; t < sequence(i).tokens; ++t) {
      Token token;
      for (const oracle::Buffer& buffer : drafts_.problem.buffers()) {
        if (buffer.kind == oracle::Kind::kInput) token.inputs.push_back(row_of(buffer, sequence(i).first + t));
      }
      token.out = row_of(drafts_.problem.buffer("out"), sequence(i).first + t);
      pending_[i].push_back(std::move(token));
    }
  }

  // Decodes the accepted tokens of a sequence's last launch one by one. Where each token has a slot the guaranteed one
  // cannot be rejected: no accepted tokens are as good as one.
  void consume(std::size_t i, int accepted) {
    if (slots() && !pending_[i].empty()) accepted = std::max(accepted, 1);
    oracle::Problem& problem = plain_.problem;
    for (int t = 0; t < accepted; ++t) {
      const Token& token = pending_[i][static_cast<std::size_t>(t)];
      std::size_t input = 0;
      for (oracle::Buffer& buffer : problem.buffers()) {
        if (buffer.kind == oracle::Kind::kInput) put_row(buffer, static_cast<std::int64_t>(i), token.inputs[input++]);
        if (buffer.kind != oracle::Kind::kSlots) continue;
        for (std::size_t row = 0; row < pending_.size(); ++row) {
          const double slot = row == i ? static_cast<double>(plain_slot_[row]) : -1;
          oracle::store(buffer.dtype, buffer.row(static_cast<std::int64_t>(row)), slot);
        }
      }
      plain_.run();
      ++compared_outputs_;
      const oracle::Buffer& out = problem.buffer("out");
      if (std::memcmp(out.row(static_cast<std::int64_t>(i)), token.out.data(), token.out.size()) != 0) {
        ++differing_outputs_;
      }
    }
  }

  void compare_state(std::size_t i, std::int64_t slot) {
    ++compared_states_;
    INFO("sequence " << i << ", slot " << slot);
    const oracle::Buffer& plain = plain_.problem.buffer("state");
    const oracle::Buffer& drafted = drafts_.problem.buffer("state");
    const std::size_t bytes = static_cast<std::size_t>(plain.inner) * core::size_of(plain.dtype);
    const bool same = std::memcmp(plain.row(plain_slot_[i]), drafted.row(slot), bytes) == 0;
    CHECK(same);
  }

  void compare_sequence(std::size_t i) {
    compare_state(i, sequence(i).slots[0]);
    for (const std::string part : {"q", "k", "v"}) {
      INFO("window of " << part);
      const bool same =
          window(plain_.problem, part, plain_slot_[i]) == window(drafts_.problem, part, sequence(i).slots[0]);
      CHECK(same);
    }
  }

  // The inputs of a part that the next token looks back at.
  std::vector<double> window(const oracle::Problem& problem, const std::string& part, std::int64_t slot) const {
    const oracle::BoundPart bound = problem.operands().at("conv_state." + part);
    const oracle::Buffer& buffer = problem.buffers()[static_cast<std::size_t>(bound.operand)];
    const std::vector<double> all = oracle::load_part(buffer.dtype, buffer.row(slot), *bound.map);
    const std::size_t window = static_cast<std::size_t>(*spec_.conv.window);
    std::vector<double> front;
    for (std::size_t at = 0; at < all.size(); ++at) {
      if (at % window < static_cast<std::size_t>(*spec_.conv.width) - 1) front.push_back(all[at]);
    }
    return front;
  }

  spec::Spec spec_;
  oracle::Random random_;
  Bench drafts_, commit_, plain_;
  std::vector<std::vector<Token>> pending_;  // of each sequence, the tokens of its last launch
  std::vector<std::int64_t> plain_slot_;
  int differing_outputs_ = 0, compared_outputs_ = 0, compared_states_ = 0;
};

}  // namespace gdn::test
