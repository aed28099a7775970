// The assembler of the CPU target: Xbyak, with every instruction also written down as text, and a pool of constants
// behind the code.
//
// Xbyak's own methods are out of reach (private base), so no instruction can miss the listing. Code is emitted into
// plain memory, never into executable pages; it reaches data of its own relative to rip and is position independent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include <xbyak/xbyak.h>

#include "cpu/halves.h"

namespace gdn::cpu {

using Xbyak::Address;
using Xbyak::Opmask;
using Xbyak::Reg32;
using Xbyak::Reg64;
using Xbyak::Xmm;
using Xbyak::Ymm;
using Xbyak::Zmm;

// A place in the code.
struct Mark {
  std::string name;
  Xbyak::Label label;
};

// An 8-bit immediate, in the type that Xbyak takes.
constexpr std::uint8_t imm8(int value) { return static_cast<std::uint8_t>(value); }

struct CodeBuffer {
  std::vector<std::uint8_t> storage;
};

class Emitter : private CodeBuffer, private Xbyak::CodeGenerator {
 public:
  Emitter();

  // From here on a vector register is two halves of 256 bits (halves.h), with AVX2 and what comes with it for all that
  // is done to them: what has no such form throws std::logic_error. Halves that no register holds lie at `base` +
  // `displacement`, Halves::kBytes of them; a base that is the stack pointer stays where it is as long as halves are
  // used.
  void narrow(const Reg64& base, int displacement);
  bool is_narrow() const { return halves_ != nullptr; }

  // Addresses. `broadcast` repeats one 4-byte element over a vector.
  Address at(const Reg64& base, std::int64_t displacement = 0) const;
  Address at_bits(int bits, const Reg64& base, std::int64_t displacement = 0) const;
  Address broadcast(const Reg64& base, std::int64_t displacement) const;
  Address indexed(const Reg64& base, const Reg64& index, int scale, std::int64_t displacement = 0, int bits = 0) const;
  Address gathered(const Reg64& base, const Zmm& index, int scale, std::int64_t displacement) const;

  // Constants, each kept once: a float or a 32-bit pattern, broadcast to a vector or as a scalar; whole vectors.
  Address constant(float value);
  Address constant_bits(std::uint32_t value);
  Address scalar(float value);
  Address scalar_bits(std::uint32_t value);
  Address vector(const std::array<std::uint32_t, 16>& lanes);
  Address vector(const std::array<std::uint16_t, 32>& lanes);

  // Marks live as long as the emitter; equal names get a number.
  Mark& mark(const std::string& name);
  void bind(Mark& mark);
  void comment(const std::string& text);

#define GDN_INSTRUCTION(name)                                                      \
  template <class... Operands>                                                     \
  void name(const Operands&... operands) {                                         \
    encode([&] { CodeGenerator::name(operands...); }, #name, {text(operands)...}); \
  }
  GDN_INSTRUCTION(add)
  GDN_INSTRUCTION(and_)
  GDN_INSTRUCTION(cmovg)
  GDN_INSTRUCTION(cmovl)
  GDN_INSTRUCTION(cmovz)
  GDN_INSTRUCTION(cmp)
  GDN_INSTRUCTION(dec)
  GDN_INSTRUCTION(div)
  GDN_INSTRUCTION(imul)
  GDN_INSTRUCTION(inc)
  GDN_INSTRUCTION(lea)
  GDN_INSTRUCTION(lock)
  GDN_INSTRUCTION(mov)
  GDN_INSTRUCTION(movsxd)
  GDN_INSTRUCTION(movzx)
  GDN_INSTRUCTION(prefetcht1)
  GDN_INSTRUCTION(shl)
  GDN_INSTRUCTION(shr)
  GDN_INSTRUCTION(sub)
  GDN_INSTRUCTION(test)
  GDN_INSTRUCTION(vldmxcsr)
  GDN_INSTRUCTION(vstmxcsr)
  GDN_INSTRUCTION(xadd)
  GDN_INSTRUCTION(xor_)

// Of vectors, with a form of 256 bits each.
#define GDN_VECTOR(name)                                                           \
  template <class... Operands>                                                     \
  void name(const Operands&... operands) {                                         \
    if (halves_ != nullptr) {                                                      \
      halves_->name(operands...);                                                  \
      return;                                                                      \
    }                                                                              \
    encode([&] { CodeGenerator::name(operands...); }, #name, {text(operands)...}); \
  }
  GDN_VECTOR(vaddps)
  GDN_VECTOR(vaddss)
  GDN_VECTOR(vbroadcastss)
  GDN_VECTOR(vcvtne2ps2bf16)
  GDN_VECTOR(vcvtneps2bf16)
  GDN_VECTOR(vcvtdq2ps)
  GDN_VECTOR(vcvtph2ps)
  GDN_VECTOR(vcvtps2ph)
  GDN_VECTOR(vdivps)
  GDN_VECTOR(vdivss)
  GDN_VECTOR(vextractf32x4)
  GDN_VECTOR(vfmadd213ps)
  GDN_VECTOR(vfmadd231ps)
  GDN_VECTOR(vfnmadd213ps)
  GDN_VECTOR(vfnmadd231ps)
  GDN_VECTOR(vmaxps)
  GDN_VECTOR(vmaxss)
  GDN_VECTOR(vminps)
  GDN_VECTOR(vmovaps)
  GDN_VECTOR(vmovd)
  GDN_VECTOR(vmovss)
  GDN_VECTOR(vmovups)
  GDN_VECTOR(vmulps)
  GDN_VECTOR(vmulss)
  GDN_VECTOR(vpaddd)
  GDN_VECTOR(vpandd)
  GDN_VECTOR(vpermilps)
  GDN_VECTOR(vpmaxud)
  GDN_VECTOR(vpminud)
  GDN_VECTOR(vpmovdb)
  GDN_VECTOR(vpmovzxbw)
  GDN_VECTOR(vpmovzxwd)
  GDN_VECTOR(vpmuludq)
  GDN_VECTOR(vpord)
  GDN_VECTOR(vpslld)
  GDN_VECTOR(vpsllq)
  GDN_VECTOR(vpsllw)
  GDN_VECTOR(vpsraw)
  GDN_VECTOR(vpsrld)
  GDN_VECTOR(vpsrlq)
  GDN_VECTOR(vpsubd)
  GDN_VECTOR(vpxord)
  GDN_VECTOR(vrcp14ps)
  GDN_VECTOR(vrndscaleps)
  GDN_VECTOR(vscalefps)
  GDN_VECTOR(vshuff64x2)
  GDN_VECTOR(vsqrtss)
  GDN_VECTOR(vsubps)
  GDN_VECTOR(vextractf64x4)
  GDN_VECTOR(vgetexpps)
  GDN_VECTOR(vgetmantps)
  GDN_VECTOR(vpunpckhdq)
  GDN_VECTOR(vpunpckhqdq)
  GDN_VECTOR(vpunpckldq)
  GDN_VECTOR(vpunpcklqdq)
  GDN_VECTOR(vshufi32x4)
#undef GDN_VECTOR

// Of vectors of 512 bits alone.
#define GDN_WIDE(name)                                                             \
  template <class... Operands>                                                     \
  void name(const Operands&... operands) {                                         \
    if (halves_ != nullptr) refuse(#name, {text(operands)...}, kNoNarrowForm);     \
    encode([&] { CodeGenerator::name(operands...); }, #name, {text(operands)...}); \
  }
  GDN_WIDE(kmovd)
  GDN_WIDE(kxnorw)
  GDN_WIDE(vcmpps)
  GDN_WIDE(vpcmpeqd)
  GDN_WIDE(vdpbf16ps)
  GDN_WIDE(vgatherdps)
  GDN_WIDE(vmovdqu16)
  GDN_WIDE(vpermi2w)
  GDN_WIDE(vpermw)
  GDN_WIDE(vreduceps)
  GDN_WIDE(vscatterdps)
#undef GDN_WIDE

  // target's lanes <- value's, where x is greater than the constant. Changes k1.
  void replace_where_greater(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value);

  // target's lanes <- value's, where x has the bits of the constant. Changes k1.
  void replace_where_equal(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value);

  // Bits of `to` are set for lanes of x that are greater than the constant, or NaN. Changes k1.
  void lanes_above(const Reg32& to, const Zmm& x, const Address& constant);

  // The first and the second 16 words of a register by turns; with halves alone, since whole registers have vpermw.
  void interleave_words(const Zmm& target);

  // Before the function returns to its caller; no vector register holds anything after it.
  void vzeroupper();

#define GDN_JUMP(jump)                                                                               \
  void jump(const Mark& target) {                                                                    \
    leave_registers();                                                                               \
    encode([&] { CodeGenerator::jump(target.label, CodeGenerator::T_NEAR); }, #jump, {target.name}); \
  }
  GDN_JUMP(jae)
  GDN_JUMP(jb)
  GDN_JUMP(jg)
  GDN_JUMP(jge)
  GDN_JUMP(jle)
  GDN_JUMP(jmp)
  GDN_JUMP(jnz)
  GDN_JUMP(js)
  GDN_JUMP(jz)
#undef GDN_JUMP
  void call(const Mark& target) {
    leave_registers();
    encode([&] { CodeGenerator::call(target.label); }, "call", {target.name});
    forget_registers();
  }
  void push(const Reg64& reg) {
    encode([&] { CodeGenerator::push(reg); }, "push", {text(reg)});
    ++pushed_;
  }
  void pop(const Reg64& reg) {
    encode([&] { CodeGenerator::pop(reg); }, "pop", {text(reg)});
    --pushed_;
  }
  void ret() {
    leave_registers();
    encode([&] { CodeGenerator::ret(); }, "ret", {});
    // What follows is reached by jumps from before the function took its pushes back.
    if (halves_ != nullptr) pushed_ = halves_->pushed(pushed_);
  }

  struct Program {
    std::vector<std::uint8_t> code;
    std::string listing;
  };

  // Puts the constants behind the code and resolves all marks; `title` heads the listing. The last call on an emitter.
  Program finish(const std::string& title);

 private:
  friend class Tiles;   // which checks what Xbyak doesn't
  friend class Halves;  // which says what is done to halves
  GDN_INSTRUCTION(ldtilecfg)
  GDN_INSTRUCTION(tdpbf16ps)
  GDN_INSTRUCTION(tileloadd)
  GDN_INSTRUCTION(tilerelease)
  GDN_INSTRUCTION(tilestored)
  GDN_INSTRUCTION(tilezero)
#undef GDN_INSTRUCTION

  struct Line {
    std::size_t begin = 0, end = 0;      // bytes of an instruction; equal for a label or a comment
    std::size_t text = 0, text_end = 0;  // in texts_
  };

  // Runs `emit` and writes the instruction down. Throws std::logic_error with its text where no such encoding exists.
  template <class Emit>
  void encode(const Emit& emit, const char* mnemonic, const std::vector<std::string>& operands) {
    const std::size_t begin = CodeGenerator::getSize();
    try {
      emit();
    } catch (const Xbyak::Error& error) {
      refuse(mnemonic, operands, error.what());
    }
    note(begin, line(mnemonic, operands));
  }
  static std::string line(const char* mnemonic, const std::vector<std::string>& operands);
  [[noreturn]] static void refuse(const char* mnemonic, const std::vector<std::string>& operands, const char* why);
  void note(std::size_t begin, const std::string& text);
  Mark& pooled(std::vector<std::uint8_t> bytes, const std::string& name);

  // Narrow, where the code forks or joins: halves in memory, and none in a register.
  void leave_registers();
  void forget_registers();
  static constexpr const char* kNoNarrowForm = "AVX2 has no such instruction";

  std::string text(const Xbyak::Operand& operand) const;
  std::string text(const Address& address) const;
  template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
  std::string text(Integer value) const {
    return number(static_cast<std::int64_t>(value));
  }
  static std::string number(std::int64_t value);

  std::deque<Mark> marks_;
  std::unordered_map<const Xbyak::Label*, const Mark*> mark_of_label_;
  std::map<std::string, int> uses_of_name_;
  std::map<std::vector<std::uint8_t>, Mark*> pool_;
  std::vector<std::pair<const std::vector<std::uint8_t>*, Mark*>> pool_order_;
  std::vector<Line> lines_;
  std::string texts_;
  int pushed_ = 0;
  std::unique_ptr<Halves> halves_;  // null: whole registers
};

}  // namespace gdn::cpu
