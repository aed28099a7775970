// Vector registers for a processor with AVX2: the generators' 32 registers of 16 lanes as two halves of 8 lanes each,
// which share the 16 registers that there are.
//
// A half is in a register from its first use on a straight piece of code, for as long as no other needs that register
// more recently, and in memory otherwise: wherever the code forks or joins (a mark, a jump, a call), all halves lie in
// memory. So the same half is found by every path, and a loop loads what it uses and stores what it changes once a
// turn.
//
// Operands are named as the generators name them: zmm means both halves, ymm and xmm the first one or the low part of
// it. Instructions of 16 lanes become two of 8; those that AVX2 lacks become several. None changes the flags.
// Differences: results in a ymm or xmm leave the other half as it was instead of zero.
#pragma once

#include <xbyak/xbyak.h>

#include <array>
#include <cstdint>

namespace gdn::cpu {

class Emitter;

class Halves {
 public:
  static constexpr int kBytes = 32 * 64;  // of all halves in memory

  // Halves in memory lie at base + displacement.
  Halves(Emitter& e, const Xbyak::Reg64& base, int displacement);

  // Every half that only a register holds to memory; registers keep what they hold.
  void leave();
  // Registers hold nothing.
  void forget();
  // Pushes before the first half in memory, where there was one.
  int pushed(int otherwise) const { return pushed_ < 0 ? otherwise : pushed_; }

#define GDN_THREE_OPERANDS(name) void name(const Xbyak::Xmm& to, const Xbyak::Xmm& a, const Xbyak::Operand& b);
  GDN_THREE_OPERANDS(vaddps)
  GDN_THREE_OPERANDS(vaddss)
  GDN_THREE_OPERANDS(vdivps)
  GDN_THREE_OPERANDS(vdivss)
  GDN_THREE_OPERANDS(vfmadd213ps)
  GDN_THREE_OPERANDS(vfmadd231ps)
  GDN_THREE_OPERANDS(vfnmadd213ps)
  GDN_THREE_OPERANDS(vfnmadd231ps)
  GDN_THREE_OPERANDS(vmaxps)
  GDN_THREE_OPERANDS(vmaxss)
  GDN_THREE_OPERANDS(vminps)
  GDN_THREE_OPERANDS(vmulps)
  GDN_THREE_OPERANDS(vmulss)
  GDN_THREE_OPERANDS(vpaddd)
  GDN_THREE_OPERANDS(vpandd)
  GDN_THREE_OPERANDS(vpmaxud)
  GDN_THREE_OPERANDS(vpminud)
  GDN_THREE_OPERANDS(vpmuludq)
  GDN_THREE_OPERANDS(vpord)
  GDN_THREE_OPERANDS(vpsubd)
  GDN_THREE_OPERANDS(vpxord)
  GDN_THREE_OPERANDS(vsqrtss)
  GDN_THREE_OPERANDS(vsubps)
  GDN_THREE_OPERANDS(vpunpckhdq)
  GDN_THREE_OPERANDS(vpunpckhqdq)
  GDN_THREE_OPERANDS(vpunpckldq)
  GDN_THREE_OPERANDS(vpunpcklqdq)
#undef GDN_THREE_OPERANDS

  void vmovups(const Xbyak::Operand& to, const Xbyak::Operand& from);
  void vmovaps(const Xbyak::Operand& to, const Xbyak::Operand& from) { vmovups(to, from); }
  void vmovss(const Xbyak::Operand& to, const Xbyak::Operand& from);
  void vmovd(const Xbyak::Xmm& to, const Xbyak::Reg32& from);
  void vmovd(const Xbyak::Reg32& to, const Xbyak::Xmm& from);
  void vbroadcastss(const Xbyak::Xmm& to, const Xbyak::Operand& from);

  void vpslld(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vpsllq(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vpsllw(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vpsraw(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vpsrld(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vpsrlq(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t bits);
  void vcvtdq2ps(const Xbyak::Xmm& to, const Xbyak::Xmm& from);
  void vpermilps(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t lanes);
  void vrndscaleps(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t mode);  // to whole numbers: 0 to 3
  void vshuff64x2(const Xbyak::Zmm& to, const Xbyak::Zmm& a, const Xbyak::Zmm& b, std::uint8_t lanes);
  void vshufi32x4(const Xbyak::Zmm& to, const Xbyak::Zmm& a, const Xbyak::Zmm& b, std::uint8_t lanes) {
    vshuff64x2(to, a, b, lanes);
  }
  void vextractf64x4(const Xbyak::Ymm& to, const Xbyak::Zmm& from, std::uint8_t half);
  void vextractf32x4(const Xbyak::Xmm& to, const Xbyak::Zmm& from, std::uint8_t lane);

  // x / 2^n in [3/4, 3/2) for a whole n (the only `interval` there is: 3); 1 for 0.
  void vgetmantps(const Xbyak::Zmm& to, const Xbyak::Zmm& from, std::uint8_t interval);
  // log2 of a power of two; below -250 for 0.
  void vgetexpps(const Xbyak::Zmm& to, const Xbyak::Zmm& from);

  // 1 / x, with the rounding of a division.
  void vrcp14ps(const Xbyak::Zmm& to, const Xbyak::Zmm& from);
  // a * 2^b for whole b from -250 to 250.
  void vscalefps(const Xbyak::Zmm& to, const Xbyak::Zmm& a, const Xbyak::Zmm& b);

  // From the first half's words, or memory's, to both halves, and back. xmm: four words.
  void vpmovzxwd(const Xbyak::Xmm& to, const Xbyak::Operand& from);
  void vpmovzxbw(const Xbyak::Ymm& to, const Xbyak::Operand& from);  // sixteen bytes to the first half
  void vpmovdb(const Xbyak::Xmm& to, const Xbyak::Zmm& from);        // of numbers up to 255
  void vcvtph2ps(const Xbyak::Xmm& to, const Xbyak::Operand& from);
  void vcvtps2ph(const Xbyak::Xmm& to, const Xbyak::Xmm& from, std::uint8_t mode);
  void vcvtneps2bf16(const Xbyak::Xmm& to, const Xbyak::Xmm& from);
  // The lower 16 words of the result are those of `low`.
  void vcvtne2ps2bf16(const Xbyak::Zmm& to, const Xbyak::Zmm& high, const Xbyak::Zmm& low);

  void lanes_above(const Xbyak::Reg32& to, const Xbyak::Zmm& x, const Xbyak::Address& constant);
  void interleave_words(const Xbyak::Zmm& target);
  void replace_where_greater(const Xbyak::Zmm& target, const Xbyak::Zmm& x, const Xbyak::Address& constant,
                             const Xbyak::Zmm& value);
  void replace_where_equal(const Xbyak::Zmm& target, const Xbyak::Zmm& x, const Xbyak::Address& constant,
                           const Xbyak::Zmm& value);

 private:
  struct Register {
    int half = -1;  // number of the vector register * 2 + which half; -1: none
    bool changed = false;
    bool pinned = false;  // by the instruction at hand
    std::uint64_t used = 0;
  };

  static void check(const Xbyak::Operand& operand);
  static int halves_of(const Xbyak::Operand& vector);
  static int half_of(const Xbyak::Operand& vector, int which);
  static int bits_of(const Xbyak::Operand& vector);
  static Xbyak::Xmm sized(int index, int bits);

  void begin();
  void unpin_but(int index);
  Xbyak::Address home(int half, int bits);
  Xbyak::Address displaced(const Xbyak::Address& address, int bytes, int bits) const;
  int held(int half) const;
  int pin(int index);
  int take();
  int temporary();                       // a register without a half, until begin() or unpin_but()
  int read(int half);                    // its register, loaded where it has none
  int write(int half);                   // its register, whose contents don't matter
  int change(int half);                  // its register, to be read and written
  void rename(int temporary, int half);  // the temporary is the half from now on
  int whole(std::uint32_t bits);         // a temporary with that in all lanes

  // One raw instruction, with its line in the listing.
  template <class Encode, class... Operands>
  void raw(const Encode& encode, const char* name, const Operands&... operands);

  // `use`s operand b of half `which`: its register, or where it lies in memory.
  template <class Use>
  void with_source(const Xbyak::Operand& b, int which, int bits, const Use& use);
  template <class Encode>
  void three(const Encode& encode, const char* name, bool fused, const Xbyak::Xmm& to, const Xbyak::Xmm& a,
             const Xbyak::Operand& b);
  template <class Encode>
  void two(const Encode& encode, const char* name, const Xbyak::Xmm& to, const Xbyak::Xmm& from,
           std::uint8_t immediate);
  template <class Encode>
  void widen(const Encode& encode, const char* name, const Xbyak::Xmm& to, const Xbyak::Operand& from);
  int bf16_dwords(int half);               // a temporary with eight rounded values, each in its dword's low half
  int bf16_words(const Xbyak::Zmm& from);  // a temporary with sixteen

  Emitter& e_;
  Xbyak::Reg64 base_;
  int displacement_;
  int pushed_ = -1;  // pushes before the first use of memory
  std::array<Register, 16> registers_;
  std::uint64_t clock_ = 0;
};

}  // namespace gdn::cpu
