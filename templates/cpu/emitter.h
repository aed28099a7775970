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
#include <string>
#include <type_traits>
#include <vector>

#include <xbyak/xbyak.h>

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
  GDN_INSTRUCTION(cmp)
  GDN_INSTRUCTION(dec)
  GDN_INSTRUCTION(div)
  GDN_INSTRUCTION(imul)
  GDN_INSTRUCTION(inc)
  GDN_INSTRUCTION(kmovd)
  GDN_INSTRUCTION(kxnorw)
  GDN_INSTRUCTION(lea)
  GDN_INSTRUCTION(mov)
  GDN_INSTRUCTION(movsxd)
  GDN_INSTRUCTION(movzx)
  GDN_INSTRUCTION(pop)
  GDN_INSTRUCTION(prefetcht1)
  GDN_INSTRUCTION(push)
  GDN_INSTRUCTION(ret)
  GDN_INSTRUCTION(shl)
  GDN_INSTRUCTION(shr)
  GDN_INSTRUCTION(sub)
  GDN_INSTRUCTION(test)
  GDN_INSTRUCTION(vaddps)
  GDN_INSTRUCTION(vaddss)
  GDN_INSTRUCTION(vbroadcastss)
  GDN_INSTRUCTION(vcmpps)
  GDN_INSTRUCTION(vcvtne2ps2bf16)
  GDN_INSTRUCTION(vcvtneps2bf16)
  GDN_INSTRUCTION(vcvtph2ps)
  GDN_INSTRUCTION(vcvtps2ph)
  GDN_INSTRUCTION(vdpbf16ps)
  GDN_INSTRUCTION(vdivps)
  GDN_INSTRUCTION(vdivss)
  GDN_INSTRUCTION(vextractf32x4)
  GDN_INSTRUCTION(vextractf64x4)
  GDN_INSTRUCTION(vfmadd213ps)
  GDN_INSTRUCTION(vfmadd231ps)
  GDN_INSTRUCTION(vfnmadd213ps)
  GDN_INSTRUCTION(vfnmadd231ps)
  GDN_INSTRUCTION(vgatherdps)
  GDN_INSTRUCTION(vgetexpps)
  GDN_INSTRUCTION(vgetmantps)
  GDN_INSTRUCTION(vldmxcsr)
  GDN_INSTRUCTION(vmaxps)
  GDN_INSTRUCTION(vmaxss)
  GDN_INSTRUCTION(vminps)
  GDN_INSTRUCTION(vmovaps)
  GDN_INSTRUCTION(vmovd)
  GDN_INSTRUCTION(vmovdqu16)
  GDN_INSTRUCTION(vmovss)
  GDN_INSTRUCTION(vmovups)
  GDN_INSTRUCTION(vmulps)
  GDN_INSTRUCTION(vmulss)
  GDN_INSTRUCTION(vpandd)
  GDN_INSTRUCTION(vpermi2w)
  GDN_INSTRUCTION(vpermilps)
  GDN_INSTRUCTION(vpermw)
  GDN_INSTRUCTION(vpmovzxwd)
  GDN_INSTRUCTION(vpord)
  GDN_INSTRUCTION(vpslld)
  GDN_INSTRUCTION(vpsrld)
  GDN_INSTRUCTION(vpunpckhdq)
  GDN_INSTRUCTION(vpunpckhqdq)
  GDN_INSTRUCTION(vpunpckldq)
  GDN_INSTRUCTION(vpunpcklqdq)
  GDN_INSTRUCTION(vpxord)
  GDN_INSTRUCTION(vrcp14ps)
  GDN_INSTRUCTION(vrndscaleps)
  GDN_INSTRUCTION(vscalefps)
  GDN_INSTRUCTION(vscatterdps)
  GDN_INSTRUCTION(vshufi32x4)
  GDN_INSTRUCTION(vshuff64x2)
  GDN_INSTRUCTION(vsqrtss)
  GDN_INSTRUCTION(vstmxcsr)
  GDN_INSTRUCTION(vsubps)
  GDN_INSTRUCTION(vzeroupper)
  GDN_INSTRUCTION(xor_)

#define GDN_JUMP(jump)                                                                               \
  void jump(const Mark& target) {                                                                    \
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
    encode([&] { CodeGenerator::call(target.label); }, "call", {target.name});
  }

  struct Program {
    std::vector<std::uint8_t> code;
    std::string listing;
  };

  // Puts the constants behind the code and resolves all marks; `title` heads the listing. The last call on an emitter.
  Program finish(const std::string& title);

 private:
  friend class Tiles;  // which checks what Xbyak doesn't
  GDN_INSTRUCTION(ldtilecfg)
  GDN_INSTRUCTION(tdpbf16ps)
  GDN_INSTRUCTION(tileloadd)
  GDN_INSTRUCTION(tilerelease)
  GDN_INSTRUCTION(tilestored)
  GDN_INSTRUCTION(tilezero)
#undef GDN_INSTRUCTION

  struct Line {
    std::size_t begin = 0, end = 0;  // bytes of an instruction; equal for a label or a comment
    std::string text;
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
    lines_.push_back({begin, CodeGenerator::getSize(), line(mnemonic, operands)});
  }
  static std::string line(const char* mnemonic, const std::vector<std::string>& operands);
  [[noreturn]] static void refuse(const char* mnemonic, const std::vector<std::string>& operands, const char* why);
  Mark& pooled(std::vector<std::uint8_t> bytes, const std::string& name);

  std::string text(const Xbyak::Operand& operand) const;
  std::string text(const Address& address) const;
  template <class Integer, class = std::enable_if_t<std::is_integral_v<Integer>>>
  std::string text(Integer value) const {
    return number(static_cast<std::int64_t>(value));
  }
  static std::string number(std::int64_t value);

  std::deque<Mark> marks_;
  std::map<std::string, int> uses_of_name_;
  std::map<std::vector<std::uint8_t>, Mark*> pool_;
  std::vector<std::pair<const std::vector<std::uint8_t>*, Mark*>> pool_order_;
  std::vector<Line> lines_;
};

}  // namespace gdn::cpu
