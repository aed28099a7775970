// A launch to be judged: every operand of one operation, filled, with its outputs poisoned.
//
// The values depend on seed, part and coordinates only, not on where the spec puts them: two specs of one geometry with
// different layouts get the same numbers, each at its own place. They are far from degenerate: non-zero states, decays
// from 0.02 to 0.999, heads whose q or k is so small that the norm's eps shows, a head whose softplus is beyond the
// threshold, norm weights that are not one. Rows of padding hold NaN.
//
// Where the spec rounds the conv's output or beta to 16 bits, inputs are chosen so that the unrounded value is not
// within a fiftieth of a last place of a tie: an fp32 kernel then rounds it the same way as the oracle, and errors stay
// comparable with a tolerance. The norm's input o is not protected in this way.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "oracle/buffer.h"
#include "oracle/operands.h"
#include "spec/spec.h"

namespace gdn::oracle {

// How the keys of a sequence in prefill lie to each other.
enum class Keys : std::uint8_t {
  kRandom,      // each drawn by itself
  kCorrelated,  // 0.8 of each is common to all of a head
  kRepeated,    // nearly all of them one key
};

struct Options {
  std::uint64_t seed = 1;
  int rows = 4;          // sequences, of operations that take several tokens of each
  int slots = 0;         // in the pools; 0: two more than the rows need
  int padding_rows = 0;  // of `rows`, in the middle; none in operations without slots
  bool strong_decay = true;
  int excess_rows = 0;            // of output buffers beyond `rows`: they belong to nobody
  std::int64_t extra_stride = 0;  // elements added to the row stride of every tensor whose stride is given at launch
  // Prefill: tokens of each sequence, and `rows` becomes their number; empty: a few of each kind.
  std::vector<int> lengths = {};
  // Prefill that keeps snapshots: behind which rows, ascending; empty: some in every sequence, one in none.
  std::vector<int> snapshots = {};
  Keys keys = Keys::kRandom;
  // Prefill where products take nothing wider: q, k and v are rounded to this in place of prefill.qk. The promised
  // errors are those of what is made of them. kFp32: q and k by prefill.qk, and v as it is.
  core::DType products = core::DType::kFp32;
};

// What a tagged input says: 1 + its part's number (q k v z b a), head, channel, tap or row, modulo 256 and so exact
// in every element type.
enum class Tag : std::uint8_t { kPart, kHead, kChannel, kTap, kRow };
constexpr Tag kAllTags[] = {Tag::kPart, Tag::kHead, Tag::kChannel, Tag::kTap, Tag::kRow};

// A sequence of a launch: rows [first, first + tokens).
struct TokenRun {
  int first = 0, tokens = 1;
  bool padding = false;
  bool initial = false;  // prefill: starts from what its slot holds, not from zeros
  int accepted = 0;      // drafts: tokens of the launch before that count, the guaranteed one included; 0: none
  std::int64_t slot = 0;
  std::vector<std::int64_t> slots;  // `slot`, or where each token has its own those, `slot` first
};

// What a launch of prefill keeps of a sequence on the way: what the token of `row` leaves goes to `slot`.
struct Snapshot {
  int row = 0;
  std::int64_t slot = 0;
  bool padding = false;  // of the slot: nothing is kept
};

class Problem {
 public:
  const spec::Spec& spec() const { return operands_->spec(); }
  const Operands& operands() const { return *operands_; }
  const std::string& operation() const { return operands_->operation(); }
  const Options& options() const { return options_; }
  int rows() const { return rows_; }            // Args::rows
  int slots() const { return options_.slots; }  // Args::slots
  int step() const { return step_; }

  // In operand order.
  std::vector<Buffer>& buffers() { return buffers_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }

  // By operand name. Throws std::out_of_range, listing the names, for an unknown one.
  Buffer& buffer(std::string_view name);
  const Buffer& buffer(std::string_view name) const;

  // The sequences of prefill's operations, of decode_spec (up to speculative.tokens rows each, now and then none) and
  // of state_commit; of others none. In prefill kExcessRows rows behind the last belong to no sequence.
  const std::vector<TokenRun>& sequences() const { return sequences_; }
  static constexpr int kExcessRows = 3;

  // Of a prefill that keeps some, by row.
  const std::vector<Snapshot>& snapshots() const { return snapshots_; }

  // The sequence that a row is a token of; null for a row of none.
  const TokenRun* sequence_of(int row) const;

  // Tokens and accepted tokens of each sequence in place of those that the step drew; inputs are drawn anew. Throws
  // std::invalid_argument for other than one number a sequence, or numbers beyond speculative.tokens.
  void arrange(const std::vector<int>& tokens, const std::vector<int>& accepted);

  // How many inputs before a launch's tokens stand in front of the window that a sequence's state belongs to.
  int window_offset(const TokenRun& sequence) const;

  // The slot of a row; `padding` says whether it marks a padding row. Both without meaning where there are no slots:
  // row_slot throws std::logic_error, padding is false. All rows of a sequence have its slot, and a row of no sequence
  // counts as padding.
  std::int64_t row_slot(int row) const;
  bool padding(int row) const;

  // Fresh per-token inputs, poisoned outputs; pools and slots stay as they are. The pools' bytes are read (ties), so
  // what a kernel wrote elsewhere is copied back before.
  void next_step();

 private:
  friend Problem make_problem(const spec::Spec&, std::string_view, const Options&);
  friend Problem make_tagged(const spec::Spec&, std::string_view, const Options&, Tag);
  Problem(const spec::Spec& spec, std::string_view operation, const Options& options, const Tag* tag);
  void fill_tokens();
  void lay_out_sequences();
  void draw_snapshots(std::vector<std::int64_t> free);
  void draw_sequences();
  void write_indices();

  std::shared_ptr<const Operands> operands_;
  Options options_;
  bool tagged_ = false;
  Tag tag_ = Tag::kPart;
  int step_ = 0;
  int rows_ = 0;
  std::vector<TokenRun> sequences_;
  std::vector<Snapshot> snapshots_;
  std::vector<Buffer> buffers_;
};

// Throws std::invalid_argument for options that make no sense (no rows, fewer slots than rows, padding rows in a spec
// that has none).
Problem make_problem(const spec::Spec& spec, std::string_view operation, const Options& options);

// The same buffers with inputs and conv windows that say where they come from, so that an element at the wrong place
// is known by its value. Run it once for each tag.
Problem make_tagged(const spec::Spec& spec, std::string_view operation, const Options& options, Tag tag);

// The relative error that a kernel may have in this operand: 5e-3 for 16-bit types, 1e-5 for fp32, and 5e-3 for fp32
// too where a 16-bit rounding point lies before it whose ties no choice of inputs avoids. 4e-2 for 8-bit types, beside
// what compare.h says of their codes.
double tolerance(const spec::Spec& spec, const Buffer& buffer);

// The same for what prefill computes, which may multiply in 16 bits: 6e-3, and 1e-2 where beta goes up to 2 or keys
// repeat. Of the whole layer's output, both of these: the root of the sum of their squares.
double prefill_tolerance(const spec::Spec& spec, Keys keys);

// The same for the output before it is quantised.
double output_tolerance(const spec::Spec& spec);

}  // namespace gdn::oracle
