#include "cpu/emitter.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <stdexcept>

namespace gdn::cpu {
namespace {

// The largest kernel so far (K = V = 256, strided everything) stays below a tenth of it.
constexpr std::size_t kMaxCode = 1u << 20;

constexpr char kHex[] = "0123456789abcdef";
constexpr std::size_t kHexColumn = 24;  // of an instruction's bytes in a listing

int displacement32(std::int64_t displacement) {
  if (displacement < std::numeric_limits<std::int32_t>::min() ||
      displacement > std::numeric_limits<std::int32_t>::max()) {
    throw std::runtime_error(
        fmt::format("an offset of {} bytes inside an operand is beyond what an instruction can "
                    "address (2^31)",
                    displacement));
  }
  return static_cast<int>(displacement);
}

template <std::size_t N, class T>
std::vector<std::uint8_t> bytes_of(const std::array<T, N>& lanes) {
  std::vector<std::uint8_t> bytes(sizeof(lanes));
  std::memcpy(bytes.data(), lanes.data(), bytes.size());
  return bytes;
}

}  // namespace

// The base classes are constructed in this order, so that the generator finds its buffer allocated.
Emitter::Emitter()
    : CodeBuffer{std::vector<std::uint8_t>(kMaxCode)}, Xbyak::CodeGenerator(kMaxCode, CodeBuffer::storage.data()) {}

void Emitter::narrow(const Reg64& base, int displacement) {
  halves_ = std::make_unique<Halves>(*this, base, displacement);
}

void Emitter::leave_registers() {
  if (halves_ != nullptr) halves_->leave();
}

void Emitter::forget_registers() {
  if (halves_ != nullptr) halves_->forget();
}

void Emitter::vzeroupper() {
  forget_registers();
  encode([&] { CodeGenerator::vzeroupper(); }, "vzeroupper", {});
}

void Emitter::replace_where_greater(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value) {
  if (halves_ != nullptr) {
    halves_->replace_where_greater(target, x, constant, value);
    return;
  }
  constexpr std::uint8_t kGreater = 0x1e;  // ordered, quiet
  const Opmask above(1);
  vcmpps(above, x, constant, kGreater);
  vmovaps(target | above, value);
}

void Emitter::replace_where_equal(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value) {
  if (halves_ != nullptr) {
    halves_->replace_where_equal(target, x, constant, value);
    return;
  }
  const Opmask equal(1);
  vpcmpeqd(equal, x, constant);
  vmovaps(target | equal, value);
}

void Emitter::lanes_above(const Reg32& to, const Zmm& x, const Address& constant) {
  if (halves_ != nullptr) {
    halves_->lanes_above(to, x, constant);
    return;
  }
  constexpr std::uint8_t kNotLessOrEqual = 0x06;
  vcmpps(Opmask(1), x, constant, kNotLessOrEqual);
  kmovd(to, Opmask(1));
}

void Emitter::interleave_words(const Zmm& target) {
  if (halves_ == nullptr) throw std::logic_error("whole registers are permuted");
  halves_->interleave_words(target);
}

Address Emitter::at(const Reg64& base, std::int64_t displacement) const {
  return CodeGenerator::ptr[base + displacement32(displacement)];
}

Address Emitter::at_bits(int bits, const Reg64& base, std::int64_t displacement) const {
  const Xbyak::AddressFrame frame(static_cast<std::uint32_t>(bits));
  return frame[base + displacement32(displacement)];
}

Address Emitter::broadcast(const Reg64& base, std::int64_t displacement) const {
  return CodeGenerator::ptr_b[base + displacement32(displacement)];
}

Address Emitter::indexed(const Reg64& base, const Reg64& index, int scale, std::int64_t displacement, int bits) const {
  const Xbyak::AddressFrame frame(static_cast<std::uint32_t>(bits));
  return frame[base + index * scale + displacement32(displacement)];
}

Address Emitter::gathered(const Reg64& base, const Zmm& index, int scale, std::int64_t displacement) const {
  return CodeGenerator::ptr[base + index * scale + displacement32(displacement)];
}

Mark& Emitter::pooled(std::vector<std::uint8_t> bytes, const std::string& name) {
  const auto [place, added] = pool_.try_emplace(std::move(bytes), nullptr);
  if (added) {
    place->second = &mark(name);
    pool_order_.emplace_back(&place->first, place->second);
  }
  return *place->second;
}

Address Emitter::constant(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return CodeGenerator::ptr_b[CodeGenerator::rip +
                              pooled(bytes_of(std::array{bits}), fmt::format("f_{}", value)).label];
}

Address Emitter::constant_bits(std::uint32_t value) {
  return CodeGenerator::ptr_b[CodeGenerator::rip +
                              pooled(bytes_of(std::array{value}), fmt::format("x_{:08x}", value)).label];
}

Address Emitter::scalar(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return CodeGenerator::dword[CodeGenerator::rip +
                              pooled(bytes_of(std::array{bits}), fmt::format("f_{}", value)).label];
}

Address Emitter::scalar_bits(std::uint32_t value) {
  return CodeGenerator::dword[CodeGenerator::rip +
                              pooled(bytes_of(std::array{value}), fmt::format("x_{:08x}", value)).label];
}

Address Emitter::vector(const std::array<std::uint32_t, 16>& lanes) {
  return CodeGenerator::ptr[CodeGenerator::rip + pooled(bytes_of(lanes), "dwords").label];
}

Address Emitter::vector(const std::array<std::uint16_t, 32>& lanes) {
  return CodeGenerator::ptr[CodeGenerator::rip + pooled(bytes_of(lanes), "words").label];
}

Mark& Emitter::mark(const std::string& name) {
  const int uses = uses_of_name_[name]++;
  marks_.push_back({uses == 0 ? name : fmt::format("{}.{}", name, uses), {}});
  mark_of_label_.emplace(&marks_.back().label, &marks_.back());
  return marks_.back();
}

void Emitter::bind(Mark& mark) {
  leave_registers();
  forget_registers();
  CodeGenerator::L(mark.label);
  note(CodeGenerator::getSize(), mark.name + ":");
}

void Emitter::comment(const std::string& text) { note(CodeGenerator::getSize(), "; " + text); }

// From `begin` to where the code is now.
void Emitter::note(std::size_t begin, const std::string& text) {
  const std::size_t at = texts_.size();
  texts_ += text;
  lines_.push_back({begin, CodeGenerator::getSize(), at, texts_.size()});
}

std::string Emitter::line(const char* mnemonic, const std::vector<std::string>& operands) {
  std::string text = mnemonic;
  if (text.back() == '_') text.pop_back();  // and_, xor_: keywords of C++ without it
  for (std::size_t i = 0; i < operands.size(); ++i) {
    text += i == 0 ? " " : ", ";
    text += operands[i];
  }
  return text;
}

void Emitter::refuse(const char* mnemonic, const std::vector<std::string>& operands, const char* why) {
  throw std::logic_error(fmt::format("no encoding for `{}`: {}", line(mnemonic, operands), why));
}

std::string Emitter::number(std::int64_t value) {
  return value >= -0x100000 && value <= 0x100000 ? std::to_string(value) : fmt::format("{:#x}", value);
}

std::string Emitter::text(const Xbyak::Operand& operand) const {
  if (operand.isMEM()) return text(operand.getAddress());
  std::string name = operand.toString();
  if (operand.getOpmaskIdx() != 0) name += fmt::format("{{k{}}}", operand.getOpmaskIdx());
  if (operand.hasZero()) name += "{z}";
  return name;
}

std::string Emitter::text(const Address& address) const {
  std::string inside;
  const auto join = [&](const std::string& term) {
    if (!inside.empty()) inside += " + ";
    inside += term;
  };
  if (address.getMode() == Address::M_rip) {
    inside = "rip";
    if (const auto found = mark_of_label_.find(address.getLabel()); found != mark_of_label_.end()) {
      join(found->second->name);
    }
    if (address.getDisp() != 0) inside += fmt::format(" + {}", address.getDisp());
  } else {
    const Xbyak::RegExp& expression = address.getRegExp(false);
    if (expression.getBase().getBit() != 0) join(expression.getBase().toString());
    if (expression.getIndex().getBit() != 0) {
      join(std::string(expression.getIndex().toString()) + " * " + std::to_string(expression.getScale()));
    }
    const auto displacement = static_cast<std::int64_t>(static_cast<std::int32_t>(address.getDisp()));
    if (displacement != 0) {
      inside += displacement < 0 ? " - " : " + ";
      inside += std::to_string(std::abs(displacement));
    }
  }
  std::string whole = "[";
  whole += inside;
  whole += "]";
  if (address.isBroadcast()) whole += "{1toN}";
  if (address.getOpmaskIdx() != 0) whole += fmt::format("{{k{}}}", address.getOpmaskIdx());
  return whole;
}

Emitter::Program Emitter::finish(const std::string& title) {
  // Whole vectors first: they stay aligned to the cache line that the pool starts with.
  while (CodeGenerator::getSize() % 64 != 0) CodeGenerator::db(0);
  for (const bool whole : {true, false}) {
    for (const auto& [bytes, place] : pool_order_) {
      if ((bytes->size() == 64) != whole) continue;
      bind(*place);
      const std::size_t begin = CodeGenerator::getSize();
      CodeGenerator::db(bytes->data(), bytes->size());
      note(begin, whole ? "vector" : "dword");
    }
  }
  CodeGenerator::ready(PROTECT_RW);
  Program program;
  program.code.assign(CodeGenerator::getCode(), CodeGenerator::getCode() + CodeGenerator::getSize());
  program.listing = fmt::format("; {}, {} bytes\n", title, program.code.size());
  program.listing.reserve(program.listing.size() + texts_.size() + 2 * kHexColumn * lines_.size());
  for (const Line& entry : lines_) {
    if (entry.begin == entry.end) {
      program.listing.append(texts_, entry.text, entry.text_end - entry.text);
      program.listing += '\n';
      continue;
    }
    // By hand: a kernel has thousands of lines.
    std::string& out = program.listing;
    out += "  ";
    for (int shift = 16; shift >= 0; shift -= 4) out += kHex[entry.begin >> shift & 15];
    out += "  ";
    for (std::size_t i = entry.begin; i < entry.end; ++i) {
      out += kHex[program.code[i] >> 4];
      out += kHex[program.code[i] & 15];
    }
    const std::size_t width = 2 * (entry.end - entry.begin);
    out.append(width < kHexColumn ? kHexColumn - width : 0, ' ');
    out += ' ';
    out.append(texts_, entry.text, entry.text_end - entry.text);
    out += '\n';
  }
  return program;
}

}  // namespace gdn::cpu
