#include "cpu/emitter.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <stdexcept>

namespace gdn::cpu {
namespace {

// The largest kernel so far (K = V = 256, strided everything) stays below a tenth of it.
constexpr std::size_t kMaxCode = 1u << 20;

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
  return marks_.back();
}

void Emitter::bind(Mark& mark) {
  leave_registers();
  forget_registers();
  CodeGenerator::L(mark.label);
  lines_.push_back({CodeGenerator::getSize(), CodeGenerator::getSize(), mark.name + ":"});
}

void Emitter::comment(const std::string& text) {
  lines_.push_back({CodeGenerator::getSize(), CodeGenerator::getSize(), "; " + text});
}

std::string Emitter::line(const char* mnemonic, const std::vector<std::string>& operands) {
  std::string text = mnemonic;
  if (text.back() == '_') text.pop_back();  // and_, xor_: keywords of C++ without it
  for (std::size_t i = 0; i < operands.size(); ++i) text += (i == 0 ? " " : ", ") + operands[i];
  return text;
}

void Emitter::refuse(const char* mnemonic, const std::vector<std::string>& operands, const char* why) {
  throw std::logic_error(fmt::format("no encoding for `{}`: {}", line(mnemonic, operands), why));
}

std::string Emitter::number(std::int64_t value) {
  return value >= -0x100000 && value <= 0x100000 ? fmt::format("{}", value) : fmt::format("{:#x}", value);
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
  const auto join = [&](const std::string& term) { inside += inside.empty() ? term : " + " + term; };
  if (address.getMode() == Address::M_rip) {
    inside = "rip";
    for (const Mark& mark : marks_) {
      if (&mark.label == address.getLabel()) join(mark.name);
    }
    if (address.getDisp() != 0) inside += fmt::format(" + {}", address.getDisp());
  } else {
    const Xbyak::RegExp& expression = address.getRegExp(false);
    if (expression.getBase().getBit() != 0) join(expression.getBase().toString());
    if (expression.getIndex().getBit() != 0) {
      join(fmt::format("{} * {}", expression.getIndex().toString(), expression.getScale()));
    }
    const auto displacement = static_cast<std::int64_t>(static_cast<std::int32_t>(address.getDisp()));
    if (displacement != 0) inside += fmt::format(" {} {}", displacement < 0 ? '-' : '+', std::abs(displacement));
  }
  std::string whole = "[" + inside + "]";
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
      lines_.push_back({begin, CodeGenerator::getSize(), whole ? "vector" : "dword"});
    }
  }
  CodeGenerator::ready(PROTECT_RW);
  Program program;
  program.code.assign(CodeGenerator::getCode(), CodeGenerator::getCode() + CodeGenerator::getSize());
  program.listing = fmt::format("; {}, {} bytes\n", title, program.code.size());
  for (const Line& entry : lines_) {
    if (entry.begin == entry.end) {
      program.listing += entry.text + "\n";
      continue;
    }
    std::string hex;
    for (std::size_t i = entry.begin; i < entry.end; ++i) hex += fmt::format("{:02x}", program.code[i]);
    program.listing += fmt::format("  {:05x}  {:<24} {}\n", entry.begin, hex, entry.text);
  }
  return program;
}

}  // namespace gdn::cpu
