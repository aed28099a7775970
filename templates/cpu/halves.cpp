#include "cpu/halves.h"

#include <stdexcept>

#include "cpu/emitter.h"

namespace gdn::cpu {
namespace {

using Xbyak::Address;
using Xbyak::Operand;

constexpr int kHalfBits = 256, kHalfBytes = 32;
constexpr std::uint32_t kOne = 0x3f800000u;

}  // namespace

// A raw instruction of 256 bits or less, as raw() takes it.
#define GDN_RAW(name) [](Xbyak::CodeGenerator& g, const auto&... operands) { g.name(operands...); }, #name

Halves::Halves(Emitter& e, const Xbyak::Reg64& base, int displacement)
    : e_(e), base_(base), displacement_(displacement) {}

template <class Encode, class... Operands>
void Halves::raw(const Encode& encode, const char* name, const Operands&... operands) {
  Xbyak::CodeGenerator& generator = e_;
  e_.encode([&] { encode(generator, operands...); }, name, {e_.text(operands)...});
}

void Halves::leave() {
  for (std::size_t i = 0; i < registers_.size(); ++i) {
    Register& r = registers_[i];
    if (r.half < 0 || !r.changed) continue;
    raw(GDN_RAW(vmovups), home(r.half, kHalfBits), Ymm(static_cast<int>(i)));
    r.changed = false;
  }
}

void Halves::forget() { registers_ = {}; }

void Halves::check(const Operand& operand) {
  if (operand.getOpmaskIdx() != 0 || operand.hasZero()) throw std::logic_error("AVX2 has no masks");
}

int Halves::halves_of(const Operand& vector) { return vector.isZMM() ? 2 : 1; }

int Halves::half_of(const Operand& vector, int which) {
  check(vector);
  return 2 * vector.getIdx() + which;
}

int Halves::bits_of(const Operand& vector) { return vector.isXMM() ? 128 : kHalfBits; }

Xmm Halves::sized(int index, int bits) { return {bits == 128 ? Operand::XMM : Operand::YMM, index}; }

void Halves::begin() {
  for (Register& r : registers_) r.pinned = false;
}

void Halves::unpin_but(int index) {
  begin();
  pin(index);
}

Address Halves::home(int half, int bits) {
  constexpr int kStackPointer = 4;
  if (pushed_ < 0) pushed_ = e_.pushed_;
  if (base_.getIdx() == kStackPointer && pushed_ != e_.pushed_)
    throw std::logic_error("a vector instruction between a push and its pop");
  return e_.at_bits(bits, base_, displacement_ + half * kHalfBytes);
}

Address Halves::displaced(const Address& address, int bytes, int bits) const {
  if (bytes == 0) return address;
  const Xbyak::AddressFrame frame(static_cast<std::uint32_t>(bits));
  if (address.getMode() == Address::M_rip) return frame[e_.rip + *address.getLabel() + bytes];
  return frame[address.getRegExp(false) + bytes];
}

int Halves::held(int half) const {
  for (std::size_t i = 0; i < registers_.size(); ++i) {
    if (registers_[i].half == half) return static_cast<int>(i);
  }
  return -1;
}

int Halves::pin(int index) {
  Register& r = registers_[static_cast<std::size_t>(index)];
  r.pinned = true;
  r.used = ++clock_;
  return index;
}

// An empty register, or else the one whose half was used longest ago.
int Halves::take() {
  int best = -1;
  for (std::size_t i = 0; i < registers_.size(); ++i) {
    const Register& r = registers_[i];
    if (r.pinned) continue;
    const auto rank = [](const Register& of) { return of.half < 0 ? 0 : of.used + 1; };
    if (best < 0 || rank(r) < rank(registers_[static_cast<std::size_t>(best)])) best = static_cast<int>(i);
  }
  if (best < 0) throw std::logic_error("an instruction of vectors needs more registers than there are");
  Register& r = registers_[static_cast<std::size_t>(best)];
  if (r.half >= 0 && r.changed) raw(GDN_RAW(vmovups), home(r.half, kHalfBits), Ymm(best));
  r = {};
  return best;
}

int Halves::temporary() { return pin(take()); }

int Halves::read(int half) {
  if (const int index = held(half); index >= 0) return pin(index);
  const int index = take();
  registers_[static_cast<std::size_t>(index)].half = half;
  raw(GDN_RAW(vmovups), Ymm(index), home(half, kHalfBits));
  return pin(index);
}

int Halves::write(int half) {
  int index = held(half);
  if (index < 0) index = take();
  Register& r = registers_[static_cast<std::size_t>(index)];
  r.half = half;
  r.changed = true;
  return pin(index);
}

int Halves::change(int half) {
  const int index = read(half);
  registers_[static_cast<std::size_t>(index)].changed = true;
  return index;
}

void Halves::rename(int temporary, int half) {
  if (const int old = held(half); old >= 0) registers_[static_cast<std::size_t>(old)] = {};
  Register& r = registers_[static_cast<std::size_t>(temporary)];
  r.half = half;
  r.changed = true;
}

int Halves::whole(std::uint32_t bits) {
  const int index = temporary();
  raw(GDN_RAW(vbroadcastss), Ymm(index), e_.scalar_bits(bits));
  return index;
}

template <class Use>
void Halves::with_source(const Operand& b, int which, int bits, const Use& use) {
  check(b);
  if (!b.isMEM()) {
    const int half = half_of(b, which), index = held(half);
    if (index >= 0) {
      use(sized(pin(index), bits));
    } else {
      use(home(half, bits));
    }
    return;
  }
  const Address& address = b.getAddress();
  if (!address.isBroadcast()) {
    use(displaced(address, which * kHalfBytes, bits));
    return;
  }
  const int index = temporary();
  const Xbyak::AddressFrame dword(32);
  if (address.getMode() == Address::M_rip) {
    raw(GDN_RAW(vbroadcastss), Ymm(index), dword[e_.rip + *address.getLabel()]);
  } else {
    raw(GDN_RAW(vbroadcastss), Ymm(index), dword[address.getRegExp(false)]);
  }
  use(sized(index, bits));
}

template <class Encode>
void Halves::three(const Encode& encode, const char* name, bool fused, const Xmm& to, const Xmm& a, const Operand& b) {
  const int bits = bits_of(to);
  for (int which = 0; which < halves_of(to); ++which) {
    begin();
    const int first = read(half_of(a, which));
    with_source(b, which, bits, [&](const auto& second) {
      const int result = fused ? change(half_of(to, which)) : write(half_of(to, which));
      raw(encode, name, sized(result, bits), sized(first, bits), second);
    });
  }
}

#define GDN_ARITHMETIC(name) \
  void Halves::name(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(name), /*fused=*/false, to, a, b); }
GDN_ARITHMETIC(vaddps)
GDN_ARITHMETIC(vaddss)
GDN_ARITHMETIC(vdivps)
GDN_ARITHMETIC(vdivss)
GDN_ARITHMETIC(vmaxps)
GDN_ARITHMETIC(vmaxss)
GDN_ARITHMETIC(vminps)
GDN_ARITHMETIC(vmulps)
GDN_ARITHMETIC(vmulss)
GDN_ARITHMETIC(vpunpckhdq)
GDN_ARITHMETIC(vpunpckhqdq)
GDN_ARITHMETIC(vpunpckldq)
GDN_ARITHMETIC(vpunpcklqdq)
GDN_ARITHMETIC(vsqrtss)
GDN_ARITHMETIC(vsubps)
#undef GDN_ARITHMETIC

#define GDN_FUSED(name) \
  void Halves::name(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(name), /*fused=*/true, to, a, b); }
GDN_FUSED(vfmadd213ps)
GDN_FUSED(vfmadd231ps)
GDN_FUSED(vfnmadd213ps)
GDN_FUSED(vfnmadd231ps)
#undef GDN_FUSED

void Halves::vpaddd(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpaddd), false, to, a, b); }
void Halves::vpmaxud(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpmaxud), false, to, a, b); }
void Halves::vpminud(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpminud), false, to, a, b); }
void Halves::vpmuludq(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpmuludq), false, to, a, b); }
void Halves::vpsubd(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpsubd), false, to, a, b); }
void Halves::vpandd(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpand), false, to, a, b); }
void Halves::vpord(const Xmm& to, const Xmm& a, const Operand& b) { three(GDN_RAW(vpor), false, to, a, b); }

void Halves::vpxord(const Xmm& to, const Xmm& a, const Operand& b) {
  if (b.isMEM() || a.getIdx() != b.getIdx()) {
    three(GDN_RAW(vpxor), false, to, a, b);
    return;
  }
  for (int which = 0; which < halves_of(to); ++which) {
    begin();
    const Xmm zero = sized(write(half_of(to, which)), bits_of(to));
    raw(GDN_RAW(vpxor), zero, zero, zero);
  }
}

void Halves::vmovups(const Operand& to, const Operand& from) {
  check(to);
  check(from);
  const Operand& vector = to.isMEM() ? from : to;
  const int bits = bits_of(vector);
  for (int which = 0; which < halves_of(vector); ++which) {
    begin();
    if (to.isMEM()) {
      const Xmm source = sized(read(half_of(from, which)), bits);
      raw(GDN_RAW(vmovups), displaced(to.getAddress(), which * kHalfBytes, bits), source);
    } else if (from.isMEM()) {
      const Xmm target = sized(write(half_of(to, which)), bits);
      raw(GDN_RAW(vmovups), target, displaced(from.getAddress(), which * kHalfBytes, bits));
    } else if (to.getIdx() != from.getIdx()) {
      const Xmm source = sized(read(half_of(from, which)), bits);
      raw(GDN_RAW(vmovaps), sized(write(half_of(to, which)), bits), source);
    }
  }
}

void Halves::vmovss(const Operand& to, const Operand& from) {
  begin();
  if (to.isMEM()) {
    const Xmm source(read(half_of(from, 0)));
    raw(GDN_RAW(vmovss), to.getAddress(), source);
  } else {
    const Xmm target(write(half_of(to, 0)));
    raw(GDN_RAW(vmovss), target, from.getAddress());
  }
}

void Halves::vmovd(const Xmm& to, const Xbyak::Reg32& from) {
  begin();
  const Xmm target(write(half_of(to, 0)));
  raw(GDN_RAW(vmovd), target, from);
}

void Halves::vmovd(const Xbyak::Reg32& to, const Xmm& from) {
  begin();
  const Xmm source(read(half_of(from, 0)));
  raw(GDN_RAW(vmovd), to, source);
}

void Halves::vbroadcastss(const Xmm& to, const Operand& from) {
  begin();
  if (from.isMEM()) {
    const Ymm first(write(half_of(to, 0)));
    raw(GDN_RAW(vbroadcastss), first, from.getAddress());
  } else {
    const Xmm source(read(half_of(from, 0)));
    raw(GDN_RAW(vbroadcastss), Ymm(write(half_of(to, 0))), source);
  }
  if (halves_of(to) == 1) return;
  const Ymm first(read(half_of(to, 0)));
  raw(GDN_RAW(vmovaps), Ymm(write(half_of(to, 1))), first);
}

template <class Encode>
void Halves::two(const Encode& encode, const char* name, const Xmm& to, const Xmm& from, std::uint8_t immediate) {
  for (int which = 0; which < halves_of(to); ++which) {
    begin();
    const Xmm source = sized(read(half_of(from, which)), bits_of(to));
    raw(encode, name, sized(write(half_of(to, which)), bits_of(to)), source, immediate);
  }
}

void Halves::vpslld(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpslld), to, from, bits); }
void Halves::vpsllq(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpsllq), to, from, bits); }
void Halves::vpsllw(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpsllw), to, from, bits); }
void Halves::vpsraw(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpsraw), to, from, bits); }
void Halves::vpsrld(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpsrld), to, from, bits); }
void Halves::vpsrlq(const Xmm& to, const Xmm& from, std::uint8_t bits) { two(GDN_RAW(vpsrlq), to, from, bits); }
void Halves::vpermilps(const Xmm& to, const Xmm& from, std::uint8_t lanes) { two(GDN_RAW(vpermilps), to, from, lanes); }
void Halves::vrndscaleps(const Xmm& to, const Xmm& from, std::uint8_t mode) { two(GDN_RAW(vroundps), to, from, mode); }

void Halves::vshuff64x2(const Zmm& to, const Zmm& a, const Zmm& b, std::uint8_t lanes) {
  begin();
  const auto half = [&](const Zmm& from, int first) {
    const Ymm low(read(half_of(from, 0))), high(read(half_of(from, 1))), result(temporary());
    const auto lane = [&](int i) { return lanes >> (2 * i) & 3; };
    raw(GDN_RAW(vperm2f128), result, low, high, imm8(lane(first) | lane(first + 1) << 4));
    return result.getIdx();
  };
  const int first = half(a, 0), second = half(b, 2);
  rename(first, half_of(to, 0));
  rename(second, half_of(to, 1));
}

void Halves::vextractf64x4(const Ymm& to, const Zmm& from, std::uint8_t half) {
  begin();
  const Ymm source(read(half_of(from, half))), result(temporary());
  raw(GDN_RAW(vmovaps), result, source);
  rename(result.getIdx(), half_of(to, 0));
}

void Halves::vextractf32x4(const Xmm& to, const Zmm& from, std::uint8_t lane) {
  begin();
  const int source = read(half_of(from, lane / 2)), result = temporary();
  if (lane % 2 != 0) {
    raw(GDN_RAW(vextractf128), Xmm(result), Ymm(source), imm8(1));
  } else {
    raw(GDN_RAW(vmovaps), Xmm(result), Xmm(source));
  }
  rename(result, half_of(to, 0));
}

// The exponent counted from 3/4 on; x - x keeps a NaN and makes one of infinity.
void Halves::vgetmantps(const Zmm& to, const Zmm& from, std::uint8_t interval) {
  constexpr std::uint32_t kThreeQuarters = 0x3f400000u;
  constexpr std::uint8_t kMantissa = 23, kFromThreeQuarters = 3;
  if (interval != kFromThreeQuarters) throw std::logic_error("vgetmantps: only mantissas from 3/4 on are known");
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm source(read(half_of(from, which))), part(temporary()), base(whole(kThreeQuarters));
    raw(GDN_RAW(vpsubd), part, source, base);
    raw(GDN_RAW(vpsrad), part, part, kMantissa);
    raw(GDN_RAW(vpslld), part, part, kMantissa);
    raw(GDN_RAW(vpsubd), part, source, part);
    raw(GDN_RAW(vsubps), base, source, source);
    raw(GDN_RAW(vaddps), Ymm(write(half_of(to, which))), part, base);
  }
}

void Halves::vgetexpps(const Zmm& to, const Zmm& from) {
  constexpr std::uint32_t kBias = 127;
  constexpr std::uint8_t kMantissa = 23, kToBias = 25;  // all ones, shifted, are the bias again
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm source(read(half_of(from, which))), exponent(temporary()), zero(temporary()), bias(whole(kBias));
    raw(GDN_RAW(vpxor), zero, zero, zero);
    raw(GDN_RAW(vpcmpeqd), zero, zero, source);
    raw(GDN_RAW(vpsrld), zero, zero, kToBias);
    raw(GDN_RAW(vpsrld), exponent, source, kMantissa);
    raw(GDN_RAW(vpsubd), exponent, exponent, bias);
    raw(GDN_RAW(vpsubd), exponent, exponent, zero);
    raw(GDN_RAW(vcvtdq2ps), exponent, exponent);
    raw(GDN_RAW(vsubps), bias, source, source);
    raw(GDN_RAW(vaddps), Ymm(write(half_of(to, which))), exponent, bias);
  }
}

void Halves::vrcp14ps(const Zmm& to, const Zmm& from) {
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm one(whole(kOne)), source(read(half_of(from, which)));
    raw(GDN_RAW(vdivps), Ymm(write(half_of(to, which))), one, source);
  }
}

// By two powers of two, since one of them would leave the normal numbers beyond 2^127 and 2^-126.
void Halves::vscalefps(const Zmm& to, const Zmm& a, const Zmm& b) {
  constexpr std::uint32_t kBias = 127;
  constexpr std::uint8_t kMantissa = 23;
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm power(read(half_of(b, which))), factor(read(half_of(a, which)));
    const Ymm rest(temporary()), part(temporary()), bias(whole(kBias));
    raw(GDN_RAW(vcvtps2dq), rest, power);
    raw(GDN_RAW(vpsrad), part, rest, imm8(1));
    raw(GDN_RAW(vpsubd), rest, rest, part);
    for (const Ymm& exponent : {rest, part}) {
      raw(GDN_RAW(vpaddd), exponent, exponent, bias);
      raw(GDN_RAW(vpslld), exponent, exponent, kMantissa);
    }
    raw(GDN_RAW(vmulps), rest, rest, factor);
    raw(GDN_RAW(vmulps), Ymm(write(half_of(to, which))), rest, part);
  }
}

template <class Encode>
void Halves::widen(const Encode& encode, const char* name, const Xmm& to, const Operand& from) {
  constexpr int kSourceBytes = kHalfBytes / 2;
  begin();
  if (from.isMEM()) {
    for (int which = 0; which < halves_of(to); ++which) {
      begin();
      const Xmm target = sized(write(half_of(to, which)), bits_of(to));
      raw(encode, name, target, displaced(from.getAddress(), which * kSourceBytes, 128));
    }
    return;
  }
  const int source = read(half_of(from, 0)), first = temporary();
  if (halves_of(to) == 1) {
    raw(encode, name, Xmm(first), Xmm(source));
  } else {
    const int second = temporary();
    raw(GDN_RAW(vextracti128), Xmm(second), Ymm(source), imm8(1));
    raw(encode, name, Ymm(second), Xmm(second));
    raw(encode, name, Ymm(first), Xmm(source));
    rename(second, half_of(to, 1));
  }
  rename(first, half_of(to, 0));
}

void Halves::vpmovzxwd(const Xmm& to, const Operand& from) { widen(GDN_RAW(vpmovzxwd), to, from); }
void Halves::vcvtph2ps(const Xmm& to, const Operand& from) { widen(GDN_RAW(vcvtph2ps), to, from); }

void Halves::vcvtdq2ps(const Xmm& to, const Xmm& from) {
  for (int which = 0; which < halves_of(to); ++which) {
    begin();
    const Xmm source = sized(read(half_of(from, which)), bits_of(to));
    raw(GDN_RAW(vcvtdq2ps), sized(write(half_of(to, which)), bits_of(to)), source);
  }
}

void Halves::vpmovzxbw(const Ymm& to, const Operand& from) {
  check(from);
  begin();
  if (from.isMEM()) {
    raw(GDN_RAW(vpmovzxbw), Ymm(write(half_of(to, 0))), displaced(from.getAddress(), 0, 128));
    return;
  }
  const Xmm source(read(half_of(from, 0)));
  raw(GDN_RAW(vpmovzxbw), Ymm(write(half_of(to, 0))), source);
}

void Halves::vpmovdb(const Xmm& to, const Zmm& from) {
  begin();
  const Ymm low(read(half_of(from, 0))), high(read(half_of(from, 1))), words(temporary()), rest(temporary());
  raw(GDN_RAW(vpackusdw), words, low, high);
  raw(GDN_RAW(vpermq), words, words, imm8(0xd8));  // lanes in order
  raw(GDN_RAW(vextracti128), Xmm(rest.getIdx()), words, imm8(1));
  raw(GDN_RAW(vpackuswb), Xmm(words.getIdx()), Xmm(words.getIdx()), Xmm(rest.getIdx()));
  rename(words.getIdx(), half_of(to, 0));
}

void Halves::vcvtps2ph(const Xmm& to, const Xmm& from, std::uint8_t mode) {
  begin();
  const int first = temporary();
  if (halves_of(from) == 1) {
    const Xmm source(read(half_of(from, 0)));
    raw(GDN_RAW(vcvtps2ph), Xmm(first), source, mode);
  } else {
    const int second = temporary();
    const Ymm low(read(half_of(from, 0))), high(read(half_of(from, 1)));
    raw(GDN_RAW(vcvtps2ph), Xmm(first), low, mode);
    raw(GDN_RAW(vcvtps2ph), Xmm(second), high, mode);
    raw(GDN_RAW(vinserti128), Ymm(first), Ymm(first), Xmm(second), imm8(1));
  }
  rename(first, half_of(to, 0));
}

// To nearest even: half of the last place that stays, less one unless the number before it is odd. A NaN is cut, since
// a carry would make another number of it; subnormal numbers become zero by the modes that the multiplication obeys.
int Halves::bf16_dwords(int half) {
  constexpr std::uint8_t kUnordered = 3, kDropped = 16;
  const Ymm source(read(half)), result(temporary()), number(temporary()), constant(temporary());
  const auto load = [&](std::uint32_t bits) { raw(GDN_RAW(vbroadcastss), constant, e_.scalar_bits(bits)); };
  load(kOne);
  raw(GDN_RAW(vmulps), number, source, constant);
  raw(GDN_RAW(vpsrld), result, number, kDropped);
  load(1);
  raw(GDN_RAW(vpand), result, result, constant);
  load(0x7fff);
  raw(GDN_RAW(vpaddd), result, result, constant);
  raw(GDN_RAW(vpaddd), result, result, number);
  raw(GDN_RAW(vcmpps), constant, number, number, kUnordered);
  raw(GDN_RAW(vblendvps), result, result, number, constant);
  raw(GDN_RAW(vpsrld), result, result, kDropped);
  return result.getIdx();
}

int Halves::bf16_words(const Zmm& from) {
  constexpr std::uint8_t kLanesInOrder = 0xd8;
  const int first = bf16_dwords(half_of(from, 0));
  const int second = bf16_dwords(half_of(from, 1));
  raw(GDN_RAW(vpackusdw), Ymm(first), Ymm(first), Ymm(second));
  raw(GDN_RAW(vpermq), Ymm(first), Ymm(first), kLanesInOrder);
  return first;
}

void Halves::vcvtneps2bf16(const Xmm& to, const Xmm& from) {
  begin();
  if (halves_of(from) == 2) {
    rename(bf16_words(Zmm(from.getIdx())), half_of(to, 0));
    return;
  }
  const int result = bf16_dwords(half_of(from, 0));
  raw(GDN_RAW(vpackusdw), Xmm(result), Xmm(result), Xmm(result));
  rename(result, half_of(to, 0));
}

void Halves::vcvtne2ps2bf16(const Zmm& to, const Zmm& high, const Zmm& low) {
  begin();
  const int first = bf16_words(low);
  unpin_but(first);
  const int second = bf16_words(high);
  rename(first, half_of(to, 0));
  rename(second, half_of(to, 1));
}

void Halves::lanes_above(const Xbyak::Reg32& to, const Zmm& x, const Address& constant) {
  constexpr std::uint8_t kNotLessOrEqual = 0x06;
  begin();
  const Ymm either(temporary()), mask(temporary());
  with_source(constant, 0, kHalfBits, [&](const auto& bound) {
    raw(GDN_RAW(vcmpps), either, Ymm(read(half_of(x, 0))), bound, kNotLessOrEqual);
    raw(GDN_RAW(vcmpps), mask, Ymm(read(half_of(x, 1))), bound, kNotLessOrEqual);
  });
  // Packed twice, to a bit a lane.
  raw(GDN_RAW(vpackssdw), either, either, mask);
  raw(GDN_RAW(vpermq), either, either, imm8(0xd8));
  raw(GDN_RAW(vextracti128), Xmm(mask.getIdx()), either, imm8(1));
  raw(GDN_RAW(vpacksswb), Xmm(either.getIdx()), Xmm(either.getIdx()), Xmm(mask.getIdx()));
  raw(GDN_RAW(vpmovmskb), to, Xmm(either.getIdx()));
}

void Halves::interleave_words(const Zmm& target) {
  begin();
  const Ymm even(read(half_of(target, 0))), odd(read(half_of(target, 1)));
  const Ymm low(temporary()), high(temporary()), first(temporary());
  raw(GDN_RAW(vpunpcklwd), low, even, odd);
  raw(GDN_RAW(vpunpckhwd), high, even, odd);
  raw(GDN_RAW(vperm2i128), first, low, high, imm8(0x20));
  raw(GDN_RAW(vperm2i128), low, low, high, imm8(0x31));
  rename(first.getIdx(), half_of(target, 0));
  rename(low.getIdx(), half_of(target, 1));
}

void Halves::replace_where_greater(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value) {
  constexpr std::uint8_t kGreater = 0x1e;  // ordered, quiet
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm source(read(half_of(x, which))), mask(temporary());
    with_source(constant, which, kHalfBits,
                [&](const auto& bound) { raw(GDN_RAW(vcmpps), mask, source, bound, kGreater); });
    const Ymm other(read(half_of(value, which))), result(change(half_of(target, which)));
    raw(GDN_RAW(vblendvps), result, result, other, mask);
  }
}

void Halves::replace_where_equal(const Zmm& target, const Zmm& x, const Address& constant, const Zmm& value) {
  for (int which = 0; which < 2; ++which) {
    begin();
    const Ymm source(read(half_of(x, which))), mask(temporary());
    with_source(constant, which, kHalfBits, [&](const auto& bits) { raw(GDN_RAW(vpcmpeqd), mask, source, bits); });
    const Ymm other(read(half_of(value, which))), result(change(half_of(target, which)));
    raw(GDN_RAW(vblendvps), result, result, other, mask);
  }
}

#undef GDN_RAW

}  // namespace gdn::cpu
