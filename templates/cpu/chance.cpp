#include "cpu/chance.h"

#include <array>
#include <cstddef>
#include <utility>

#include "cpu/memory.h"
#include "gdn/args.h"

namespace gdn::cpu {
namespace {

using core::DType;

// Salmon et al., SC11.
constexpr std::uint32_t kMultiply0 = 0xD2511F53u, kMultiply1 = 0xCD9E8D57u;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;

constexpr int kBlock = 8, kBlocks = 8;  // elements of a block of random bits; blocks side by side in a register

std::array<std::uint32_t, 16> repeated(std::uint32_t value) {
  std::array<std::uint32_t, 16> lanes{};
  lanes.fill(value);
  return lanes;
}

// Numbers of the blocks in the low halves of a register's quadwords, so that their words come out in the order of the
// elements: interleaved, the even ones and then the odd ones.
std::array<std::uint32_t, 16> numbers_from(std::uint32_t first) {
  std::array<std::uint32_t, 16> lanes{};
  for (std::uint32_t i = 0; i < kBlocks; ++i) lanes[2 * i] = first + i / 2 + i % 2 * (kBlocks / 2);
  return lanes;
}

// Quadwords of which only the low halves count, but for products.
class Philox {
 public:
  Philox(Context& c, int first) : e_(c.e), key_{first + 6, first + 7}, free_{first + 4, first + 5} {
    for (int i = 0; i < 4; ++i) x_[static_cast<std::size_t>(i)] = first + i;
  }

  Zmm x(int word) const { return Zmm(x_[static_cast<std::size_t>(word)]); }
  Zmm key(int word) const { return Zmm(key_[static_cast<std::size_t>(word)]); }
  Zmm free(int index) const { return Zmm(free_[static_cast<std::size_t>(index)]); }

  void rounds() {
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0) {
        e_.vpaddd(key(0), key(0), e_.constant_bits(kWeyl0));
        e_.vpaddd(key(1), key(1), e_.constant_bits(kWeyl1));
      }
      e_.vpmuludq(free(0), x(0), e_.vector(repeated(kMultiply0)));
      e_.vpmuludq(free(1), x(2), e_.vector(repeated(kMultiply1)));
      e_.vpsrlq(x(0), free(1), imm8(32));
      e_.vpxord(x(0), x(0), x(1));
      e_.vpxord(x(0), x(0), key(0));
      e_.vpsrlq(x(2), free(0), imm8(32));
      e_.vpxord(x(2), x(2), x(3));
      e_.vpxord(x(2), x(2), key(1));
      std::swap(x_[1], free_[1]);
      std::swap(x_[3], free_[0]);
    }
  }

 private:
  Emitter& e_;
  std::array<int, 4> x_{};
  std::array<int, 2> key_, free_;
};

}  // namespace

void emit_chances(Context& c, const Reg64& block, int more, int elements, int first) {
  Emitter& e = c.e;
  constexpr int kAtOnce = kBlocks * kBlock;
  e.comment("chances");
  for (int at = 0; at < elements; at += kAtOnce) {
    Philox words(c, first);
    e.mov(reg::rax,
          e.at(reg::args, static_cast<std::int64_t>(offsetof(Args, operand)) + std::int64_t{8} * c.facts.seed_operand));
    e.vbroadcastss(words.key(0), e.at_bits(32, reg::rax));
    e.vbroadcastss(words.key(1), e.at_bits(32, reg::rax, 4));
    e.lea(reg::rax, e.at(block, more + at / kBlock));
    e.vmovd(Xmm(words.x(0).getIdx()), reg::eax);
    e.vbroadcastss(words.x(0), Xmm(words.x(0).getIdx()));
    e.vpaddd(words.x(0), words.x(0), e.vector(numbers_from(0)));
    e.mov(reg::rax, reg::slot);
    e.vmovd(Xmm(words.x(1).getIdx()), reg::eax);
    e.vbroadcastss(words.x(1), Xmm(words.x(1).getIdx()));
    e.shr(reg::rax, 32);
    e.vmovd(Xmm(words.x(2).getIdx()), reg::eax);
    e.vbroadcastss(words.x(2), Xmm(words.x(2).getIdx()));
    e.vpxord(words.x(3), words.x(3), words.x(3));
    words.rounds();
    // Four words of a block become neighbours.
    for (const int word : {0, 2}) {
      e.vpsllq(words.x(word), words.x(word), imm8(32));
      e.vpsrlq(words.x(word), words.x(word), imm8(32));
      e.vpsllq(words.x(word + 1), words.x(word + 1), imm8(32));
      e.vpord(words.x(word), words.x(word), words.x(word + 1));
    }
    e.vpunpcklqdq(words.free(0), words.x(0), words.x(2));
    e.vpunpckhqdq(words.free(1), words.x(0), words.x(2));
    for (int half = 0; half < 2; ++half) {
      e.vmovups(e.at(reg::frame, c.frame.chances + 2 * at + 64 * half), words.free(half));
    }
  }
}

void emit_round_by_chance(Context& c, int x, DType dtype, int index) {
  Emitter& e = c.e;
  const Zmm number(x), result(kScratch), random(kScratch + 1), size(kScratch + 2);
  const bool bf16 = dtype == DType::kBf16;
  // What is larger, and a NaN, the conversion to nearest decides.
  const std::uint32_t below_largest = bf16 ? 0x7f7effffu : 0x477fdfffu;
  e.vpmovzxwd(random, e.at(reg::frame, c.frame.chances + 2 * kLanes * index));
  e.vpandd(size, number, e.constant_bits(0x7fffffffu));
  if (bf16) {
    e.vpaddd(result, number, random);
    e.vpandd(result, result, e.constant_bits(0xffff0000u));
    e.replace_where_greater(result, size, e.constant_bits(below_largest), number);
    e.vmovaps(number, result);
    return;
  }
  constexpr std::uint32_t kBelowSmallest = 0x387fffffu;  // the smallest normal number is 2^-14
  constexpr int kWhole = 3;                              // cut
  e.vpsrld(result, random, imm8(3));
  e.vpaddd(result, result, number);
  e.vpandd(result, result, e.constant_bits(0xffffe000u));
  e.replace_where_greater(result, size, e.constant_bits(below_largest), number);
  // Below it, steps of 2^-24.
  e.vcvtdq2ps(random, random);
  e.vmulps(random, random, e.constant(1.0f / 65536));
  e.vfmadd231ps(random, size, e.constant(16777216.0f));
  e.vrndscaleps(random, random, imm8(kWhole));
  e.vmulps(random, random, e.constant(1.0f / 16777216));
  e.replace_where_greater(random, size, e.constant_bits(kBelowSmallest), result);
  e.vpandd(size, number, e.constant_bits(0x80000000u));
  e.vpord(number, random, size);
}

}  // namespace gdn::cpu
