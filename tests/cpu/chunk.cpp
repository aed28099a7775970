// The delta rule by chunks against the recurrence in double precision, over the same rounded q, k and v: with tiles
// (emulated where there are none) and without, over ragged sequences; how near it comes; and how many tile
// instructions that takes.
#include "chunk_run.h"
#include "support/catch.h"

using namespace gdn;
using test::ChunkCase;
using test::ChunkRun;

namespace {

constexpr double kLimit = 6e-3;          // beta at most 1
constexpr double kRepeatedLimit = 1e-2;  // beta up to 2, or nearly all keys the same

void check(ChunkCase s, double limit, std::initializer_list<bool> targets = {false, true}) {
  s.halves = true;
  const ChunkRun halves = test::run_chunked(s, false);
  INFO(s.text() << ": output " << halves.output_error << ", state " << halves.state_error);
  CHECK(halves.output_error < limit);
  CHECK(halves.state_error < limit);
  s.halves = false;
  for (const bool tiles : targets) {
    const ChunkRun run = test::run_chunked(s, tiles);
    INFO(s.text() << (tiles ? " by tiles" : "") << ": output " << run.output_error << ", state " << run.state_error);
    CHECK(run.output_error < limit);
    CHECK(run.state_error < limit);
  }
}

ChunkCase sized(int key_heads, int group, int key_dim, int value_dim, std::vector<int> lengths) {
  ChunkCase s;
  s.key_heads = key_heads;
  s.group = group;
  s.key_dim = key_dim;
  s.value_dim = value_dim;
  s.lengths = std::move(lengths);
  return s;
}

// Tile instructions of one chunk.
struct Count {
  std::uint64_t blocks = 0, multiply = 0, load = 0;

  // `count` products of so many steps each: 2 x 2 tiles, each operand's two loaded once a part; the first part of the
  // left one is kept for the right one's second.
  void add(int count, int steps, int left_parts, int right_parts) {
    blocks += static_cast<std::uint64_t>(count);
    multiply += static_cast<std::uint64_t>(4 * count * steps * (left_parts + right_parts - 1));
    load += static_cast<std::uint64_t>(2 * count * steps * (left_parts + right_parts));
  }
};

// Of a key head's chunk of so many blocks of 32 tokens (one or two).
Count expected(const ChunkCase& s, int blocks) {
  const int keys = (s.key_dim + 31) / 32, strips = (s.value_dim + 31) / 32;
  Count count;
  if (!s.by_channel) count.add(blocks * (blocks + 1), keys, 1, 1);  // k.k and q.k, on and below the diagonal
  for (int head = 0; head < s.group; ++head) {
    // Each block of 16 tokens, k's rows and q's as one, with all tokens up to its own.
    for (int block = 0; s.by_channel && block < 2 * blocks; ++block) {
      count.add(block / 2 + 1, keys, 1, s.parts.decayed_key);
    }
    count.add(2 * blocks * strips, keys, 1, 1);  // Q S and K S
    for (int row = 1; row <= blocks; ++row) {
      count.add(strips, row, s.parts.inverse, 1);
      count.add(strips, row, s.parts.output, s.parts.output);
    }
    count.add(keys * strips, blocks, s.by_channel ? s.parts.decayed_key : 1, 1);
  }
  return count;
}

void check_counts(const ChunkCase& s, int chunks) {
  const ChunkRun run = test::run_chunked(s, true);
  const Count chunk = expected(s, 2);
  const auto n = static_cast<std::uint64_t>(chunks * s.key_heads);
  INFO(s.text());
  CHECK(run.counts.multiply == n * chunk.multiply);
  CHECK(run.counts.load == n * chunk.load);
  CHECK(run.counts.zero == n * 4 * chunk.blocks);
  CHECK(run.counts.store == n * 4 * chunk.blocks);
  CHECK(run.counts.configure == 1);
  CHECK(run.counts.release == 1);
}

}  // namespace

TEST_CASE("chunks agree with the recurrence") {
  if (!test::runs_here()) return;
  ChunkCase shapes[] = {
      sized(1, 1, 32, 32, {64}),
      sized(1, 1, 32, 32, {16}),
      sized(1, 1, 64, 64, {128}),
      sized(2, 3, 32, 48, {133}),
      sized(2, 3, 32, 48, {133, 1, 64, 65, 31}),
      sized(2, 2, 48, 80, {100}),
      sized(1, 2, 128, 128, {256}),
  };
  shapes[4].keys_innermost = true;
  shapes[4].decay = 5;
  shapes[5].keys_innermost = true;
  for (const int mild : {5, 6}) {
    shapes[mild].decay = 0.05;
    shapes[mild].correlation = 0.9;
  }
  for (const ChunkCase& shape : shapes) check(shape, kLimit);
}

TEST_CASE("every pair of head dimensions, with the tile instructions that its plan says") {
  if (!test::runs_here()) return;
  for (int key_dim = 16; key_dim <= 256; key_dim += 16) {
    for (int value_dim = 16; value_dim <= 256; value_dim += 16) {
      // Every other one as (V, K), and every third of kda, so that each meets all tails of both.
      ChunkCase s = sized(1, 1, key_dim, value_dim, {81});
      s.keys_innermost = (key_dim + value_dim) / 16 % 2 != 0;
      s.by_channel = (key_dim + 2 * value_dim) / 16 % 3 == 0;
      check(s, kLimit, {false});
      const ChunkRun run = test::run_chunked(s, true);
      INFO(s.text() << " by tiles: output " << run.output_error << ", state " << run.state_error);
      CHECK(run.output_error < kLimit);
      CHECK(run.state_error < kLimit);
      if (cpu::cpu_supports("amx")) continue;
      const Count whole = expected(s, 2), last = expected(s, 1);
      CHECK(run.counts.multiply == whole.multiply + last.multiply);
      CHECK(run.counts.load == whole.load + last.load);
      CHECK(run.counts.store == 4 * (whole.blocks + last.blocks));
      CHECK(run.counts.zero == 4 * (whole.blocks + last.blocks));
    }
  }
}

TEST_CASE("a state of neighbouring key channels moves in blocks, without gathers") {
  ChunkCase s = sized(1, 2, 48, 80, {64});
  std::int64_t scratch = 0;
  for (const bool keys_innermost : {false, true}) {
    s.keys_innermost = keys_innermost;
    const std::string listing = test::make_chunked(s, false, scratch).listing();
    CHECK(listing.find("vgather") == std::string::npos);
    CHECK(listing.find("vscatter") == std::string::npos);
  }
}

TEST_CASE("as near as promised, whatever the keys, the decay and beta") {
  if (!test::runs_here()) return;
  for (const bool by_channel : {false, true}) {
    for (const double decay : {0.02, 4.0}) {
      for (const double correlation : {0.0, 0.9, 0.9995}) {
        for (const double beta : {1.0, 2.0}) {
          const bool repeated = correlation > 0.99 || beta > 1;
          for (const bool fuzz : {true, false}) {
            ChunkCase s = fuzz ? sized(2, 3, 32, 48, {133}) : sized(1, 1, 128, 96, {512});
            s.by_channel = by_channel;
            s.decay = decay;
            s.correlation = correlation;
            s.beta = beta;
            check(s, repeated ? kRepeatedLimit : kLimit, {false});
          }
        }
      }
    }
  }
}

TEST_CASE("a sequence of 32768 tokens stays as near") {
  if (!test::runs_here()) return;
  for (const bool by_channel : {false, true}) {
    for (const double decay : {0.0001, 1.0}) {
      ChunkCase s = sized(1, 1, 32, 16, {32768});
      s.by_channel = by_channel;
      s.decay = decay;
      s.correlation = 0.9;
      check(s, kLimit, {false});
    }
  }
}

TEST_CASE("one part of an operand is less near and still right, and two are what the plan says") {
  if (!test::runs_here()) return;
  ChunkCase s = sized(1, 1, 64, 48, {512});
  s.correlation = 0.9995;
  s.decay = 0.02;
  s.by_channel = true;
  const ChunkRun two = test::run_chunked(s, false);
  s.parts = {1, 1, 1};
  const ChunkRun one = test::run_chunked(s, false);
  INFO("two parts: " << two.output_error << ", " << two.state_error << "; one: " << one.output_error << ", "
                     << one.state_error);
  CHECK(one.output_error > 1.3 * two.output_error);
  CHECK(one.state_error > 2 * two.state_error);
  CHECK(one.state_error < 5e-2);
}

TEST_CASE("q, k and v of 32 and of 16 bits are rounded once, to bf16") {
  if (!test::runs_here()) return;
  for (const core::DType input : {core::DType::kFp32, core::DType::kFp16}) {
    for (const bool by_channel : {false, true}) {
      ChunkCase s = sized(2, 3, 32, 48, {133});
      s.input = input;
      s.by_channel = by_channel;
      check(s, 4e-3);
    }
  }
}

TEST_CASE("a decay of each key channel: products around references, and pair by pair where it ranges too far") {
  if (!test::runs_here()) return;
  ChunkCase s = sized(2, 2, 48, 80, {133, 7, 64});
  s.by_channel = true;
  // Up to e^-5 a token is what bounded gates reach, and what references stand; e^-40 is not.
  for (const double decay : {0.1, 5.0, 40.0}) {
    for (const bool keys_innermost : {false, true}) {
      s.decay = decay;
      s.keys_innermost = keys_innermost;
      check(s, kLimit);
    }
  }
  ChunkCase sizes[] = {sized(1, 2, 128, 128, {96}), sized(1, 1, 16, 256, {70}), sized(3, 1, 256, 16, {70})};
  for (ChunkCase& size : sizes) {
    size.by_channel = true;
    for (const double decay : {0.3, 20.0}) {
      size.decay = decay;
      check(size, kLimit);
    }
  }
}

TEST_CASE("which blocks of tokens go pair by pair shows in the tile instructions") {
  if (!test::runs_here() || cpu::cpu_supports("amx")) return;
  ChunkCase s = sized(2, 2, 64, 96, {128});
  s.by_channel = true;
  s.decay = 5;
  check_counts(s, 2);
  s.decay = 400;
  const ChunkRun pairs = test::run_chunked(s, true);
  const Count chunk = expected(s, 2);
  Count products;
  for (int block = 0; block < 4; ++block) products.add(block / 2 + 1, 2, 1, 2);
  // Without a product of tokens with tokens in any of them.
  CHECK(pairs.counts.multiply == 4 * (chunk.multiply - 2 * products.multiply));
  CHECK(pairs.counts.zero == 4 * 4 * (chunk.blocks - 2 * products.blocks));
}

TEST_CASE("kda with the same decay in all channels of a head is gdn") {
  if (!test::runs_here()) return;
  for (const double decay : {0.1, 3.0}) {
    ChunkCase s = sized(2, 3, 32, 48, {133, 20});
    s.decay = decay;
    const ChunkRun gdn = test::run_chunked(s, false);
    s.by_channel = true;
    s.same_decay = true;
    const ChunkRun kda = test::run_chunked(s, false);
    const auto apart = [](const std::vector<float>& got, const std::vector<float>& want) {
      return test::relative_error(got, std::vector<double>(want.begin(), want.end()));
    };
    CHECK(apart(kda.output, gdn.output) < kLimit);
    CHECK(apart(kda.state, gdn.state) < kLimit);
  }
}

TEST_CASE("as many tile instructions as the plan's shapes need, and no more") {
  if (!test::runs_here() || cpu::cpu_supports("amx")) return;
  ChunkCase s = sized(1, 2, 128, 128, {128});
  check_counts(s, 2);
  // The sums, by hand: 24 steps of tokens; per value head 64 of states, 12 of the inverse by two parts, 12 of the
  // output by three products, 32 of the update; 4 multiplications each.
  CHECK(expected(s, 2).multiply == 4 * (24 + 2 * (64 + 2 * 12 + 3 * 12 + 32)));
  s.parts = {2, 1, 2};
  check_counts(s, 2);
  CHECK(expected(s, 2).multiply == 1152);
  s.by_channel = true;
  s.parts = {};
  check_counts(s, 2);
  CHECK(expected(s, 2).multiply == 4 * 2 * (2 * 24 + 64 + 2 * 12 + 3 * 12 + 2 * 32));
}
