// kda in chunks: a decay of each key channel, G_tc the running sum of g inside the chunk. What is one factor for a head
// of gdn stands inside the products here:
//
//   (k_i . k_j) becomes  sum over c of k_ic k_jc exp(G_ic - G_jc), and q_i . k_j alike
//   K S         becomes  (K exp(G)) S, Q S alike; K^T (exp(G_last - G) U) becomes (K exp(G_last - G))^T U
//
// The first is a product of two matrices around a reference: a block of 16 tokens takes G of its token in the middle,
// which leaves no exponent above that of 8 tokens' decay (earlier tokens' are negative). Where 8 tokens decay by more
// than 2^60 in any channel, which no bounded gate does, that block's rows are summed up pair by pair instead.
#include "cpu/chunk.h"
#include "cpu/chunk_rows.h"
#include "cpu/chunk_source.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/norm.h"
#include "cpu/product.h"

namespace gdn::cpu {
namespace {

constexpr float kMostRange = 60.0f;   // of exponents of 2 around a reference
constexpr int kWideRow = 4 * kChunk;  // of products_by_channel and a
constexpr int kMiddle = kSub / 2;     // the reference token of a block

class Channels {
 public:
  explicit Channels(ChunkContext& cc) : cc_(cc), c_(cc.c), e_(cc.c.e), at_(cc.at) {}

  // at.gates: log2 of the decays, summed up; behind the last token the sum stays.
  void sum_up() const {
    // A layer's gates lie there already, one by one.
    const bool ready = cc_.projected != nullptr;
    const RowPlace from = ready ? RowPlace(at_.gates, at_.key_dim, core::DType::kFp32) : RowPlace(c_.facts.in_g);
    const int vectors = c_.key_vectors();
    const std::int64_t step = kLanes * from.stride() * static_cast<std::int64_t>(core::size_of(from.dtype));
    e_.comment("sums of the channels' gates");
    for (int i = 0; i < vectors; ++i) e_.vpxord(zmm(i), zmm(i), zmm(i));
    emit_point_at_rows(c_, reg::r8, reg::r10, from);
    e_.lea(reg::r9, e_.at(reg::work, at_.gates));
    e_.mov(reg::rcx, reg::tokens);
    Mark& row = e_.mark("gates_row");
    e_.bind(row);
    for (int i = 0; i < vectors; ++i) {
      load(c_, kX, {reg::r8, i * step, from.dtype, from.stride()});
      if (!ready) emit_to_log2(c_, kX, kT1, kT2, kT3);
      e_.vaddps(zmm(i), zmm(i), zmm(kX));
      e_.vmovups(e_.at(reg::r9, 64 * i), zmm(i));
    }
    e_.add(reg::r8, reg::r10);
    e_.add(reg::r9, gates_row());
    e_.dec(reg::ecx);
    e_.jnz(row);
    Mark& none = e_.mark("no_missing_gates");
    Mark& missing = e_.mark("missing_gates");
    e_.mov(reg::ecx, kChunk);
    e_.sub(reg::rcx, reg::tokens);
    e_.jz(none);
    e_.bind(missing);
    for (int i = 0; i < vectors; ++i) e_.vmovups(e_.at(reg::r9, 64 * i), zmm(i));
    e_.add(reg::r9, gates_row());
    e_.dec(reg::ecx);
    e_.jnz(missing);
    e_.bind(none);
    // exp(G_last), for the state's rows; padded channels have no state.
    for (int i = 0; i < vectors; ++i) {
      emit_exp2(c_, i, kT1, kT2);
      e_.vmovups(e_.at(reg::work, at_.channel_decay + 64 * i), zmm(i));
    }
    if (vectors % 2 == 0) return;
    e_.vpxord(zmm(kX), zmm(kX), zmm(kX));
    e_.vmovups(e_.at(reg::work, at_.channel_decay + 64 * vectors), zmm(kX));
  }

  // Rows of k and q with their decays: from the chunk's start, to its end, and around their block's reference.
  void scale_rows() const {
    e_.comment("k and q with the channels' decays");
    e_.lea(reg::r8, e_.at(reg::work, 0));
    e_.lea(reg::r9, e_.at(reg::work, kMiddle * gates_row()));
    e_.lea(reg::r10, e_.at(reg::work, at_.block_left));
    e_.lea(reg::r11, e_.at(reg::work, 0));
    e_.xor_(reg::rdx, reg::rdx);
    Mark& block = e_.mark("scaled_block");
    Mark& row = e_.mark("scaled_row");
    e_.bind(block);
    e_.vpxord(zmm(kRange), zmm(kRange), zmm(kRange));
    e_.mov(reg::ecx, kSub);
    e_.bind(row);
    for (int i = 0; i < c_.key_vectors(); i += 2) {
      scale_vector(i, kEven);
      if (i + 1 < c_.key_vectors()) {
        scale_vector(i + 1, kOdd);
      } else {
        for (int k = 0; k <= kForms; ++k) e_.vpxord(zmm(kOdd + k), zmm(kOdd + k), zmm(kOdd + k));
      }
      const Address places[kForms] = {e_.at(reg::r11, at_.k_from_start + 32 * i),
                                      e_.at(reg::r11, at_.q_from_start + 32 * i), e_.at(reg::r10, 32 * i),
                                      e_.at(reg::r10, kSub * narrow_row() + 32 * i)};
      for (int k = 0; k < kForms; ++k) {
        e_.vcvtne2ps2bf16(zmm(kEven + k), zmm(kOdd + k), zmm(kEven + k));
        e_.vmovups(places[k], zmm(kEven + k));
      }
      leave_parts(kEven + kForms, kOdd + kForms, e_.at(reg::r11, at_.k_to_end + 32 * i),
                  e_.at(reg::r11, at_.k_to_end_low + 32 * i));
    }
    e_.add(reg::r8, gates_row());
    e_.add(reg::r10, narrow_row());
    e_.add(reg::r11, narrow_row());
    e_.dec(reg::ecx);
    e_.jnz(row);
    e_.mov(reg::rax, reg::rdx);
    e_.shl(reg::rax, 6);
    e_.vmovups(e_.indexed(reg::work, reg::rax, 1, at_.range), zmm(kRange));
    e_.add(reg::r9, kSub * gates_row());
    e_.add(reg::r10, kSub * narrow_row());
    e_.inc(reg::rdx);
    e_.cmp(reg::rdx, kChunk / kSub);
    e_.jb(block);
  }

  // products_by_channel: of each block of 16 tokens its rows of k with k in front, of q with k behind.
  void multiply() const {
    e_.comment("k.k and q.k under the channels' decays");
    Mark& block = e_.mark("channel_block");
    Mark& by_pair = e_.mark("channel_by_pair");
    Mark& next = e_.mark("channel_next");
    e_.mov(e_.at_bits(32, reg::work, at_.token_block), 0);
    e_.bind(block);
    e_.mov(reg::eax, e_.at(reg::work, at_.token_block));
    e_.shl(reg::rax, 6);
    e_.vmovups(zmm(kX), e_.indexed(reg::work, reg::rax, 1, at_.range));
    e_.lanes_above(reg::eax, zmm(kX), e_.constant(kMostRange));
    e_.test(reg::eax, reg::eax);
    e_.jnz(by_pair);
    right_rows();
    e_.mov(reg::ecx, e_.at(reg::work, at_.token_block));
    e_.inc(reg::ecx);
    emit_transpose_rows(cc_, at_.block_right, at_.block_right_pairs);
    if (two_parts()) {
      e_.mov(reg::ecx, e_.at(reg::work, at_.token_block));
      e_.inc(reg::ecx);
      emit_transpose_rows(cc_, at_.block_right_low, at_.block_right_pairs_low);
    }
    products();
    e_.jmp(next);
    e_.bind(by_pair);
    pairs();
    e_.bind(next);
    e_.mov(reg::eax, e_.at(reg::work, at_.token_block));
    e_.inc(reg::eax);
    e_.mov(e_.at(reg::work, at_.token_block), reg::eax);
    e_.mov(reg::rcx, e_.at(reg::work, at_.blocks));
    e_.add(reg::rcx, reg::rcx);
    e_.cmp(reg::rax, reg::rcx);
    e_.jb(block);
  }

  // A and B from the products: what is above the diagonal is dropped, whatever it holds.
  void mask() const {
    const core::Facts& f = c_.facts;
    e_.comment("A and B");
    Mark& done = e_.mark("masked");
    for (int block = 0; block < kChunk / kSub; ++block) {
      if (block * kSub == kBlock) {
        e_.cmp(e_.at_bits(32, reg::work, at_.blocks), 1);
        e_.jle(done);
      }
      Mark& again = e_.mark("masked_row");
      e_.lea(reg::r8, e_.at(reg::work, at_.products_by_channel + block * kBlock * kWideRow));
      e_.lea(reg::r9, e_.at(reg::work, block * kSub * 2 * kChunk));
      e_.lea(reg::r10, e_.at(reg::work, at_.beta + block * kSub * 4));
      e_.lea(reg::rdx, e_.at(reg::work, at_.a + block * kSub * kWideRow));
      e_.lea(reg::r11, e_.at(reg::work, at_.lower_up_to(0)));
      e_.mov(reg::ecx, kSub);
      e_.bind(again);
      e_.vpxord(zmm(kZero), zmm(kZero), zmm(kZero));
      e_.vbroadcastss(zmm(kT1), e_.at(reg::r10));
      if (f.k_scale != 1) e_.vmulps(zmm(kT1), zmm(kT1), e_.constant(static_cast<float>(f.k_scale * f.k_scale)));
      e_.vbroadcastss(zmm(kT2), e_.scalar(static_cast<float>(f.q_scale * f.k_scale)));
      for (int column = 0; column <= block; ++column) {
        const int offset = 4 * kSub * column;
        e_.vmulps(zmm(column), zmm(kT2), e_.at(reg::r8, kSub * kWideRow + offset));
        e_.vmulps(zmm(kX), zmm(kT1), e_.at(reg::r8, offset));
        if (column == block) {
          e_.vpandd(zmm(column), zmm(column), e_.at(reg::r11));
          e_.vpandd(zmm(kX), zmm(kX), e_.at(reg::r11, 4));  // less the diagonal itself
        }
        e_.vmovups(e_.at(reg::rdx, offset), zmm(kX));
      }
      emit_leave_b(cc_, block, 0, kZero, kX, kT3);
      for (const Reg64& wide : {reg::r8, reg::rdx}) e_.add(wide, kWideRow);
      e_.add(reg::r9, 2 * kChunk);
      e_.add(reg::r10, 4);
      e_.sub(reg::r11, 4);
      e_.dec(reg::ecx);
      e_.jnz(again);
    }
    e_.bind(done);
  }

  // What gdn's factors of a head are here: the scales alone.
  void constant_factors() const {
    const core::Facts& f = c_.facts;
    for (int token = 0; token < kChunk; token += kLanes) {
      const auto place = [&](int buffer) { return e_.at(reg::work, buffer + 4 * token); };
      e_.vmovups(zmm(kX), place(at_.beta));
      if (f.k_scale != 1) e_.vmulps(zmm(kX), zmm(kX), e_.constant(static_cast<float>(f.k_scale)));
      e_.vmovups(place(at_.beta_from_start), zmm(kX));
      e_.vbroadcastss(zmm(kX), e_.scalar(static_cast<float>(f.q_scale)));
      e_.vmovups(place(at_.from_start), zmm(kX));
      e_.vbroadcastss(zmm(kX), e_.scalar(static_cast<float>(f.k_scale)));
      e_.vmovups(place(at_.to_end), zmm(kX));
    }
  }

 private:
  static constexpr int kX = 20, kT1 = 21, kT2 = 22, kT3 = 23, kRange = 24, kZero = 25, kK = 26, kQ = 27;
  // Scaled rows of two neighbouring vectors: four, and behind them the one that is left in parts.
  static constexpr int kForms = 4, kEven = 0, kOdd = kForms + 1;

  int gates_row() const { return 4 * at_.key_dim; }
  int narrow_row() const { return 2 * at_.key_dim; }

  void load_bf16(int target, const Address& from) const {
    e_.vpmovzxwd(zmm(target), from);
    e_.vpslld(zmm(target), zmm(target), imm8(16));
  }

  // The forms of vector i of the row at r11 (k, q), r8 (G), r9 (the reference's G), into registers from `first` on.
  void scale_vector(int i, int first) const {
    load_bf16(kK, e_.at(reg::r11, at_.k + 32 * i));
    load_bf16(kQ, e_.at(reg::r11, at_.q + 32 * i));
    e_.vmovups(zmm(kX), e_.at(reg::r8, at_.gates + 64 * i));
    emit_exp2(c_, kX, kT1, kT2);
    e_.vmulps(zmm(first), zmm(kK), zmm(kX));
    e_.vmulps(zmm(first + 1), zmm(kQ), zmm(kX));
    e_.vmovups(zmm(kX), e_.at(reg::work, at_.gates + (kChunk - 1) * gates_row() + 64 * i));
    e_.vsubps(zmm(kX), zmm(kX), e_.at(reg::r8, at_.gates + 64 * i));
    emit_exp2(c_, kX, kT1, kT2);
    e_.vmulps(zmm(first + kForms), zmm(kK), zmm(kX));
    e_.vmovups(zmm(kX), e_.at(reg::r8, at_.gates + 64 * i));
    e_.vsubps(zmm(kX), zmm(kX), e_.at(reg::r9, at_.gates + 64 * i));
    e_.vpandd(zmm(kT1), zmm(kX), e_.constant_bits(0x7fffffffu));
    e_.vmaxps(zmm(kRange), zmm(kRange), zmm(kT1));
    emit_exp2(c_, kX, kT1, kT2);
    e_.vmulps(zmm(first + 2), zmm(kK), zmm(kX));
    e_.vmulps(zmm(first + 3), zmm(kQ), zmm(kX));
  }

  bool two_parts() const { return cc_.parts.decayed_key == 2; }

  // bf16 of two fp32 vectors, which change, to `high`; in two parts what that leaves of them to `low`.
  void leave_parts(int first, int second, const Address& high, const Address& low) const {
    if (!two_parts()) {
      e_.vcvtne2ps2bf16(zmm(kT3), zmm(second), zmm(first));
      e_.vmovups(high, zmm(kT3));
      return;
    }
    emit_round_off(e_, kT3, first, second, kT2);
    e_.vmovups(high, zmm(kT3));
    e_.vcvtne2ps2bf16(zmm(kT3), zmm(second), zmm(first));
    e_.vmovups(low, zmm(kT3));
  }

  // target <- work + the gates' row of the block's reference
  void reference_row(const Reg64& target) const {
    e_.mov(reg::eax, e_.at(reg::work, at_.token_block));
    e_.imul(target, reg::rax, kSub * gates_row());
    e_.lea(target, e_.indexed(reg::work, target, 1, kMiddle * gates_row()));
  }

  // at.right: k of the block's tokens and all before them, times exp(G of the reference - G).
  void right_rows() const {
    Mark& row = e_.mark("right_row");
    reference_row(reg::r9);
    e_.lea(reg::r8, e_.at(reg::work, 0));
    e_.lea(reg::r11, e_.at(reg::work, 0));
    e_.mov(reg::ecx, e_.at(reg::work, at_.token_block));
    e_.inc(reg::ecx);
    e_.shl(reg::rcx, 4);
    e_.bind(row);
    for (int i = 0; i < c_.key_vectors(); ++i) {
      load_bf16(kK, e_.at(reg::r11, at_.k + 32 * i));
      e_.vmovups(zmm(kX), e_.at(reg::r9, at_.gates + 64 * i));
      e_.vsubps(zmm(kX), zmm(kX), e_.at(reg::r8, at_.gates + 64 * i));
      emit_exp2(c_, kX, kT1, kT2);
      e_.vmulps(zmm(i), zmm(kK), zmm(kX));
    }
    const int vectors = c_.key_vectors();
    if (vectors % 2 != 0) e_.vpxord(zmm(kX), zmm(kX), zmm(kX));
    for (int i = 0; i < vectors; i += 2) {
      const int odd = i + 1 < vectors ? i + 1 : kX;
      leave_parts(i, odd, e_.at(reg::r11, at_.block_right + 32 * i), e_.at(reg::r11, at_.block_right_low + 32 * i));
    }
    e_.add(reg::r8, gates_row());
    e_.add(reg::r11, narrow_row());
    e_.dec(reg::ecx);
    e_.jnz(row);
  }

  // Columns beyond the block's own tokens hold what was there before: each stands for itself, and none of them is kept.
  void products() const {
    const ProductStrides strides{narrow_row(), kWideRow, kWideRow};
    Mark& done = e_.mark("channel_products");
    for (int column = 0; column < kChunk; column += kBlock) {
      if (column > 0) {
        e_.cmp(e_.at_bits(32, reg::work, at_.token_block), column / kSub);
        e_.jb(done);
      }
      e_.mov(reg::eax, e_.at(reg::work, at_.token_block));
      e_.imul(reg::left, reg::rax, kBlock * strides.left);
      e_.lea(reg::left, e_.indexed(reg::work, reg::left, 1, at_.block_left));
      e_.imul(reg::result, reg::rax, kBlock * kWideRow);
      e_.lea(reg::result, e_.indexed(reg::work, reg::result, 1, at_.products_by_channel + 4 * column));
      e_.lea(reg::right, e_.at(reg::work, at_.block_right_pairs + 4 * column));
      e_.mov(reg::ecx, at_.key_dim / kBlock);
      emit_product(cc_, strides, {0, two_parts() ? at_.block_right_pairs_low - at_.block_right_pairs : 0});
    }
    e_.bind(done);
  }

  // The block's rows pair by pair. r8 and r11: gates and k of token i; r9 and r10: of token j; rsi: results of i.
  void pairs() const {
    const int vectors = c_.key_vectors();
    const Reg64 results = reg::rsi;
    Mark& row = e_.mark("pair_row");
    Mark& pair = e_.mark("pair");
    e_.mov(reg::eax, e_.at(reg::work, at_.token_block));
    e_.imul(reg::r8, reg::rax, kSub * gates_row());
    e_.add(reg::r8, reg::work);
    e_.imul(reg::r11, reg::rax, kSub * narrow_row());
    e_.add(reg::r11, reg::work);
    e_.imul(results, reg::rax, kBlock * kWideRow);
    e_.lea(results, e_.indexed(reg::work, results, 1, at_.products_by_channel));
    e_.shl(reg::rax, 4);
    e_.inc(reg::rax);
    e_.mov(reg::rdx, reg::rax);  // tokens up to i
    e_.bind(row);
    e_.lea(reg::r9, e_.at(reg::work, 0));
    e_.lea(reg::r10, e_.at(reg::work, 0));
    e_.mov(reg::rcx, reg::rdx);
    e_.push(results);
    e_.bind(pair);
    e_.vpxord(zmm(0), zmm(0), zmm(0));
    e_.vpxord(zmm(1), zmm(1), zmm(1));
    for (int i = 0; i < vectors; ++i) {
      e_.vmovups(zmm(kX), e_.at(reg::r8, at_.gates + 64 * i));
      e_.vsubps(zmm(kX), zmm(kX), e_.at(reg::r9, at_.gates + 64 * i));
      emit_exp2(c_, kX, kT1, kT2);
      load_bf16(kK, e_.at(reg::r10, at_.k + 32 * i));
      e_.vmulps(zmm(kX), zmm(kX), zmm(kK));
      load_bf16(kK, e_.at(reg::r11, at_.k + 32 * i));
      load_bf16(kQ, e_.at(reg::r11, at_.q + 32 * i));
      e_.vfmadd231ps(zmm(0), zmm(kX), zmm(kK));
      e_.vfmadd231ps(zmm(1), zmm(kX), zmm(kQ));
    }
    emit_sum_pair(c_, 0, 0, 1, 2);
    e_.vmovss(e_.at(results), xmm(0));
    e_.vextractf32x4(xmm(0), zmm(0), imm8(2));
    e_.vmovss(e_.at(results, kSub * kWideRow), xmm(0));
    e_.add(results, 4);
    e_.add(reg::r9, gates_row());
    e_.add(reg::r10, narrow_row());
    e_.dec(reg::ecx);
    e_.jnz(pair);
    e_.pop(results);
    e_.add(results, kWideRow);
    e_.add(reg::r8, gates_row());
    e_.add(reg::r11, narrow_row());
    e_.inc(reg::rdx);
    e_.mov(reg::rax, reg::rdx);
    e_.dec(reg::rax);
    e_.and_(reg::rax, kSub - 1);
    e_.jnz(row);
  }

  ChunkContext& cc_;
  Context& c_;
  Emitter& e_;
  const Buffers& at_;
};

}  // namespace

void emit_channel_values(ChunkContext& cc) {
  cc.c.e.comment("v and the gates of the chunk");
  emit_value_rows(cc);
  emit_betas(cc);
  if (cc.projected != nullptr) emit_channel_decays(cc);
  const Channels channels(cc);
  channels.constant_factors();
  channels.sum_up();
  channels.scale_rows();
  channels.multiply();
  channels.mask();
  emit_key_rows(cc, cc.at.k_to_end, cc.at.k_rows);
  if (cc.parts.decayed_key == 2) emit_key_rows(cc, cc.at.k_to_end_low, cc.at.k_rows_low);
}

}  // namespace gdn::cpu
