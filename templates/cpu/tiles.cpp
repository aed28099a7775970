#include "cpu/tiles.h"

#include <fmt/format.h>

#include <stdexcept>

namespace gdn::cpu {
namespace {

constexpr int kMaxRows = 16, kMaxBytes = 64, kDword = 4;

[[noreturn]] void refuse(const std::string& why) { throw std::logic_error("tile instruction: " + why); }

const Xbyak::Tmm tmm(int index) { return Xbyak::Tmm(index); }

}  // namespace

Tiles::Tiles(Emitter& e, const Palette& palette) : e_(e), palette_(palette) {
  for (std::size_t i = 0; i < palette_.size(); ++i) {
    const TileShape& shape = palette_[i];
    if (shape.rows == 0 && shape.bytes == 0) continue;
    if (shape.rows < 1 || shape.rows > kMaxRows || shape.bytes < kDword || shape.bytes > kMaxBytes ||
        shape.bytes % kDword != 0) {
      refuse(fmt::format("tile {} can't have {} rows of {} bytes: 1 to {} rows of whole dwords, up to {} bytes", i,
                         shape.rows, shape.bytes, kMaxRows, kMaxBytes));
    }
  }
}

void Tiles::configure() {
  // 64 bytes: palette 1, row to start at, 14 reserved, bytes of a row (16 words), rows (16 bytes).
  std::array<std::uint16_t, 32> block{};
  block[0] = 1;
  for (std::size_t i = 0; i < palette_.size(); ++i) {
    block[8 + i] = static_cast<std::uint16_t>(palette_[i].bytes);
    block[24 + i / 2] = static_cast<std::uint16_t>(block[24 + i / 2] | palette_[i].rows << (i % 2 * 8));
  }
  e_.ldtilecfg(e_.vector(block));
  configured_ = true;
}

void Tiles::release() {
  if (!configured_) refuse("release without configure");
  e_.tilerelease();
  configured_ = false;
}

void Tiles::check_tile(int tile, const char* what) const {
  if (tile < 0 || tile >= static_cast<int>(palette_.size())) refuse(fmt::format("{}: there is no tile {}", what, tile));
  if (!configured_) refuse(fmt::format("{} of tile {} before configure", what, tile));
  if (palette_[static_cast<std::size_t>(tile)].rows == 0) {
    refuse(fmt::format("{}: the palette has no tile {}", what, tile));
  }
}

Address Tiles::rows_at(const Reg64& base, const Reg64& stride, std::int64_t displacement, const char* what) const {
  constexpr int kStackPointer = 4;  // no index register
  if (base.getBit() != 64 || stride.getBit() != 64) refuse(fmt::format("{}: base and stride are 64-bit", what));
  if (stride.getIdx() == kStackPointer) refuse(fmt::format("{}: rsp can't hold a stride", what));
  return e_.indexed(base, stride, 1, displacement);
}

void Tiles::zero(int tile) {
  check_tile(tile, "zero");
  e_.tilezero(tmm(tile));
}

void Tiles::load(int tile, const Reg64& base, const Reg64& stride, std::int64_t displacement) {
  check_tile(tile, "load");
  e_.tileloadd(tmm(tile), rows_at(base, stride, displacement, "load"));
}

void Tiles::store(const Reg64& base, const Reg64& stride, std::int64_t displacement, int tile) {
  check_tile(tile, "store");
  e_.tilestored(rows_at(base, stride, displacement, "store"), tmm(tile));
}

void Tiles::multiply(int c, int a, int b) {
  for (const int tile : {c, a, b}) check_tile(tile, "multiply");
  if (c == a || c == b || a == b) {
    refuse(fmt::format("multiply: {}, {} and {} must be three different tiles", c, a, b));
  }
  const auto shape = [&](int tile) { return palette_[static_cast<std::size_t>(tile)]; };
  if (shape(c).rows != shape(a).rows || shape(c).bytes != shape(b).bytes || shape(a).bytes / kDword != shape(b).rows) {
    refuse(fmt::format("multiply: {}x{} += {}x{} * {}x{} (rows x bytes) don't fit", shape(c).rows, shape(c).bytes,
                       shape(a).rows, shape(a).bytes, shape(b).rows, shape(b).bytes));
  }
  e_.tdpbf16ps(tmm(c), tmm(a), tmm(b));
}

}  // namespace gdn::cpu
