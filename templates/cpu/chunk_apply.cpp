// A chunk meets the state: R, U, the output, and the state behind it. Strip by strip of 32 value channels.
//
// Each product of 32 x 32 is followed by its use, a pass over the sums in memory. With tiles the uses lag one product
// behind: the sums of the next one are under way in the matrix unit while the processor's vectors use the last one's.
#include <functional>
#include <utility>

#include "cpu/chunk.h"
#include "cpu/chunk_ahead.h"
#include "cpu/chunk_rows.h"
#include "cpu/product.h"

namespace gdn::cpu {
namespace {

constexpr int kStripRow = 4 * kBlock;   // bytes of a strip's row of fp32 or of pairs
constexpr int kNarrowRow = 2 * kChunk;  // of b, t_high and t_low

// Registers of a use: the block of sums, and pointers of its own.
const Reg64 kSums = reg::result;
const Reg64 kPointers[Buffers::kUsePointers] = {reg::rsi, reg::rdx, reg::r10, reg::r11};
const Reg64 kStrip = reg::r9;  // number of the strip that the loops are at

class Apply {
 public:
  explicit Apply(ChunkContext& cc) : cc_(cc), e_(cc.c.e), at_(cc.at) {}

  void emit() const {
    e_.comment("the chunk and the state");
    make_r();
    make_u();
    make_o();
    update();
  }

 private:
  struct Step {
    Reg64 pointer;
    int bytes;
  };

  // A use as a subroutine: `turns` times `body` with the block's sums at kSums and the pointers where point() left
  // them, each advanced by its bytes.
  Mark& use(const char* name, int turns, const std::vector<Step>& steps, const std::function<void()>& before,
            const std::function<void()>& body) const {
    Mark& routine = e_.mark(std::string(name) + "_use");
    Mark& over = e_.mark(std::string(name) + "_begin");
    Mark& again = e_.mark(name);
    e_.jmp(over);
    e_.bind(routine);
    e_.lea(kSums, e_.at(reg::work, at_.block));
    for (int i = 0; i < Buffers::kUsePointers; ++i) e_.mov(kPointers[i], e_.at(reg::work, at_.use + 8 * i));
    before();
    e_.mov(reg::ecx, turns);
    e_.bind(again);
    body();
    for (const Step& step : steps) e_.add(step.pointer, step.bytes);
    e_.dec(reg::ecx);
    e_.jnz(again);
    e_.ret();
    e_.bind(over);
    return routine;
  }

  // One product into the block, and the use of it (or, with tiles, of the one before). `point` leaves an address for
  // pointer i in rax.
  void product_and_use(const ProductStrides& strides, const SecondParts& second, const Mark& routine, int pointers,
                       const std::function<void(int pointer)>& point) const {
    const auto set_pointers = [&] {
      for (int i = 0; i < pointers; ++i) {
        point(i);
        e_.mov(e_.at(reg::work, at_.use + 8 * i), reg::rax);
      }
    };
    e_.lea(reg::result, e_.at(reg::work, at_.block));
    emit_product_sums(cc_, strides, second);
    emit_ahead(cc_);
    if (cc_.tiles == nullptr) {
      set_pointers();
      e_.call(routine);
      return;
    }
    use_pending(routine);
    e_.lea(reg::result, e_.at(reg::work, at_.block));
    emit_product_store(cc_, strides);
    set_pointers();
    e_.mov(e_.at_bits(32, reg::work, at_.pending), 1);
  }

  void use_pending(const Mark& routine) const {
    if (cc_.tiles == nullptr) return;
    Mark& none = e_.mark("nothing_pending");
    e_.cmp(e_.at_bits(32, reg::work, at_.pending), 0);
    e_.jz(none);
    e_.call(routine);
    e_.bind(none);
  }

  // Nothing is pending before the first product of a pass, nor after the last one.
  void finish_pass(const Mark& routine) const {
    if (cc_.tiles == nullptr) return;
    e_.call(routine);
    e_.mov(e_.at_bits(32, reg::work, at_.pending), 0);
  }

  // `body(first token)` for each strip and each block of 32 tokens that the chunk has.
  void for_strips(const char* name, const std::function<void(int rows)>& body) const {
    Mark& again = e_.mark(name);
    e_.xor_(kStrip, kStrip);
    e_.mov(e_.at_bits(32, reg::work, at_.pending), 0);
    e_.bind(again);
    Mark& next = e_.mark("next_strip");
    for (int rows = 0; rows < kChunk; rows += kBlock) {
      if (rows > 0) {
        e_.cmp(e_.at_bits(32, reg::work, at_.blocks), rows / kBlock);
        e_.jle(next);
      }
      body(rows);
    }
    e_.bind(next);
    e_.inc(kStrip);
    e_.cmp(kStrip, at_.strips());
    e_.jb(again);
  }

  // target <- base + offset + strip * bytes
  void strip_address(const Reg64& target, const Reg64& base, int offset, int bytes) const {
    e_.imul(target, kStrip, bytes);
    e_.lea(target, e_.indexed(base, target, 1, offset));
  }
  void strip_address(const Reg64& target, int buffer, int bytes) const {
    strip_address(target, reg::work, buffer, bytes);
  }

  bool by_channel() const { return cc_.c.by_channel(); }

  int tokens_strip() const { return kChunk * kStripRow; }      // of o
  int pairs_strip() const { return kChunk / 2 * kStripRow; }   // of r, u and u_decayed
  int state_strip() const { return at_.key_dim * kStripRow; }  // of the state

  // q S to its strip of o; k S to the block, and from it R.
  void make_r() const {
    const ProductStrides by_keys{2 * at_.key_dim, kStripRow, kStripRow};
    const Reg64 v = kPointers[0], factors = kPointers[1], r = kPointers[2];
    const int v_row = 2 * at_.value_dim;
    const auto body = [&] {
      for (int half = 0; half < 2; ++half) {
        for (int token = 0; token < 2; ++token) {
          e_.vpmovzxwd(zmm(token), e_.at(v, token * v_row + 32 * half));
          e_.vpslld(zmm(token), zmm(token), imm8(16));
          e_.vmulps(zmm(token), zmm(token), e_.broadcast(factors, at_.beta + 4 * token));
          e_.vbroadcastss(zmm(2), e_.at(factors, at_.beta_from_start + 4 * token));
          e_.vfnmadd231ps(zmm(token), zmm(2), e_.at(kSums, token * kStripRow + 64 * half));
        }
        emit_pair_up(e_, 3, 0, 1);
        e_.vmovups(e_.at(r, 64 * half), zmm(3));
      }
    };
    const Mark& routine = use(
        "r_pair", kBlock / 2, {{kSums, 2 * kStripRow}, {v, 2 * v_row}, {factors, 8}, {r, kStripRow}},
        [&] { emit_interleave(e_); }, body);
    const auto operands = [&](int left, int rows) {
      e_.lea(reg::left, e_.at(reg::work, left + rows * by_keys.left));
      e_.mov(reg::rax, e_.at(reg::work, at_.head_pairs));
      strip_address(reg::right, reg::rax, 0, state_strip() / 2);
      e_.mov(reg::ecx, at_.key_dim / kBlock);
    };
    for_strips("r", [&](int rows) {
      operands(by_channel() ? at_.q_from_start : at_.q, rows);
      strip_address(reg::result, at_.o + rows * kStripRow, tokens_strip());
      emit_product_sums(cc_, by_keys);
      emit_ahead(cc_);
      emit_product_store(cc_, by_keys);
      operands(by_channel() ? at_.k_from_start : at_.k, rows);
      product_and_use(by_keys, {}, routine, 3, [&](int pointer) {
        if (pointer == 0) strip_address(reg::rax, at_.v + rows * v_row, 2 * kBlock);
        if (pointer == 1) e_.lea(reg::rax, e_.at(reg::work, 4 * rows));
        if (pointer == 2) strip_address(reg::rax, at_.r + rows / 2 * kStripRow, pairs_strip());
      });
    });
    finish_pass(routine);
  }

  void make_u() const {
    const ProductStrides strides{kNarrowRow, kStripRow, kStripRow};
    const Reg64 u = kPointers[0], decayed = kPointers[1], factors = kPointers[2], apart = kPointers[3];
    constexpr int kLeft = 8;  // four: what the roundings of tokens t and t + 16 left, of both halves of the strip
    const auto before = [&] {
      emit_interleave(e_);
      for (int i = 0; i < 4; ++i) e_.vpxord(zmm(kLeft + i), zmm(kLeft + i), zmm(kLeft + i));
    };
    const auto store_pairs = [&](const Reg64& to, int offset, int value) {
      emit_interleave_words(e_, value);
      e_.vmovups(e_.at(to, offset), zmm(value));
    };
    const auto body = [&] {
      for (int half = 0; half < 2; ++half) {
        e_.vmovups(zmm(0), e_.at(kSums, 64 * half));
        e_.vmovups(zmm(1), e_.at(kSums, kStripRow + 64 * half));
        emit_round_off(e_, 2, 0, 1, 3);
        store_pairs(u, 64 * half, 2);
        if (cc_.parts.output == 2) {
          e_.vcvtne2ps2bf16(zmm(2), zmm(1), zmm(0));
          store_pairs(u, at_.u_low - at_.u + 64 * half, 2);
        }
        const int left = kLeft + 2 * half;
        for (int token = 0; token < 2; ++token) {
          e_.vbroadcastss(zmm(2), e_.at(factors, 4 * kSub * token));
          e_.vfmadd231ps(zmm(left + token), zmm(2), e_.at(apart, kSub * kStripRow * token + 64 * half));
        }
        emit_round_off(e_, 2, left, left + 1, 3);
        store_pairs(decayed, 64 * half, 2);
      }
    };
    const Mark& routine = use(
        "u_pair", kBlock / 2,
        {{kSums, 2 * kStripRow}, {apart, kStripRow}, {u, kStripRow}, {decayed, kStripRow}, {factors, 4}}, before, body);
    for_strips("u", [&](int rows) {
      e_.lea(reg::left, e_.at(reg::work, at_.t_high + rows * kNarrowRow));
      strip_address(reg::right, at_.r, pairs_strip());
      e_.mov(reg::ecx, rows / kBlock + 1);
      const SecondParts second{cc_.parts.inverse == 2 ? at_.t_low - at_.t_high : 0, 0};
      product_and_use(strides, second, routine, 4, [&](int pointer) {
        if (pointer == 0) strip_address(reg::rax, at_.u + rows / 2 * kStripRow, pairs_strip());
        if (pointer == 1) strip_address(reg::rax, at_.u_decayed + rows / 2 * kStripRow, pairs_strip());
        if (pointer == 2) e_.lea(reg::rax, e_.at(reg::work, at_.to_end + 4 * rows));
        if (pointer == 3) e_.lea(reg::rax, e_.at(reg::work, at_.block));
      });
    });
    finish_pass(routine);
  }

  void make_o() const {
    const ProductStrides strides{kNarrowRow, kStripRow, kStripRow};
    const Reg64 o = kPointers[0], factors = kPointers[1];
    const auto body = [&] {
      e_.vbroadcastss(zmm(2), e_.at(factors));
      for (int half = 0; half < 2; ++half) {
        e_.vmovups(zmm(half), e_.at(kSums, 64 * half));
        e_.vfmadd231ps(zmm(half), zmm(2), e_.at(o, 64 * half));
        e_.vmovups(e_.at(o, 64 * half), zmm(half));
      }
    };
    const Mark& routine = use("o_row", kBlock, {{kSums, kStripRow}, {o, kStripRow}, {factors, 4}}, [] {}, body);
    for_strips("o", [&](int rows) {
      e_.lea(reg::left, e_.at(reg::work, at_.b + rows * kNarrowRow));
      strip_address(reg::right, at_.u, pairs_strip());
      e_.mov(reg::ecx, rows / kBlock + 1);
      const bool both = cc_.parts.output == 2;
      const SecondParts second{both ? at_.b_low - at_.b : 0, both ? at_.u_low - at_.u : 0};
      product_and_use(strides, second, routine, 2, [&](int pointer) {
        if (pointer == 0) strip_address(reg::rax, at_.o + rows * kStripRow, tokens_strip());
        if (pointer == 1) e_.lea(reg::rax, e_.at(reg::work, at_.from_start + 4 * rows));
      });
    });
    finish_pass(routine);
  }

  // The state's blocks of 32 x 32, strip by strip.
  void update() const {
    constexpr int kDecay = 27;
    const ProductStrides strides{kNarrowRow, kStripRow, kStripRow};
    const Reg64 state = kPointers[0], pairs = kPointers[1], decays = kPointers[2];
    const auto before = [&] {
      emit_interleave(e_);
      if (!by_channel()) e_.vbroadcastss(zmm(kDecay), e_.at(reg::work, at_.decay));
    };
    const auto body = [&] {
      for (int half = 0; half < 2; ++half) {
        for (int row = 0; row < 2; ++row) {
          const int offset = row * kStripRow + 64 * half;
          e_.vmovups(zmm(row), e_.at(kSums, offset));
          if (by_channel()) e_.vbroadcastss(zmm(kDecay), e_.at(decays, 4 * row));
          e_.vfmadd231ps(zmm(row), zmm(kDecay), e_.at(state, offset));
          e_.vmovups(e_.at(state, offset), zmm(row));
        }
        emit_pair_up(e_, 2, 0, 1);
        e_.vmovups(e_.at(pairs, 64 * half), zmm(2));
      }
    };
    const Mark& routine =
        use("state_pair", kBlock / 2, {{kSums, 2 * kStripRow}, {state, 2 * kStripRow}, {pairs, kStripRow}, {decays, 8}},
            before, body);
    Mark& next_strip = e_.mark("state_strip");
    Mark& next_block = e_.mark("state_block");
    e_.comment("the state behind the chunk");
    e_.xor_(kStrip, kStrip);
    e_.mov(e_.at_bits(32, reg::work, at_.pending), 0);
    e_.bind(next_strip);
    e_.mov(e_.at_bits(32, reg::work, at_.key_block), 0);
    e_.bind(next_block);
    e_.mov(reg::eax, e_.at(reg::work, at_.key_block));
    e_.imul(reg::left, reg::rax, kBlock * kNarrowRow);
    e_.lea(reg::left, e_.indexed(reg::work, reg::left, 1, at_.k_rows));
    strip_address(reg::right, at_.u_decayed, pairs_strip());
    e_.mov(reg::rcx, e_.at(reg::work, at_.blocks));
    const SecondParts second{by_channel() && cc_.parts.decayed_key == 2 ? at_.k_rows_low - at_.k_rows : 0, 0};
    product_and_use(strides, second, routine, 3, [&](int pointer) {
      const int bytes = pointer == 0 ? kBlock * kStripRow : pointer == 1 ? kBlock / 2 * kStripRow : 4 * kBlock;
      e_.mov(reg::ecx, e_.at(reg::work, at_.key_block));
      e_.imul(reg::rcx, reg::rcx, bytes);
      if (pointer == 2) {
        e_.lea(reg::rax, e_.indexed(reg::work, reg::rcx, 1, at_.channel_decay));
        return;
      }
      e_.imul(reg::rax, kStrip, pointer == 0 ? state_strip() : state_strip() / 2);
      e_.add(reg::rax, reg::rcx);
      e_.add(reg::rax, e_.at(reg::work, pointer == 0 ? at_.head_state : at_.head_pairs));
    });
    e_.mov(reg::eax, e_.at(reg::work, at_.key_block));
    e_.inc(reg::eax);
    e_.mov(e_.at(reg::work, at_.key_block), reg::eax);
    e_.cmp(reg::eax, at_.key_dim / kBlock);
    e_.jb(next_block);
    e_.inc(kStrip);
    e_.cmp(kStrip, at_.strips());
    e_.jb(next_strip);
    finish_pass(routine);
  }

  ChunkContext& cc_;
  Emitter& e_;
  const Buffers& at_;
};

}  // namespace

void emit_apply(ChunkContext& cc) { Apply(cc).emit(); }

int products_of_apply(const Buffers& at) { return at.strips() * (4 * (kChunk / kBlock) + at.key_dim / kBlock); }

}  // namespace gdn::cpu
