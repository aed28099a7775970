#include "review/probe_file.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "layout/map.h"

namespace gdn::review {
namespace {

using layout::PartLayout;
using layout::TensorLayout;
using nlohmann::ordered_json;

constexpr std::int64_t kBase = 128;

// A whole number from 1 to 128, appended as the dtype stores it (little-endian).
void append(std::string& out, core::DType dtype, int value) {
  const float number = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &number, sizeof(bits));
  const auto byte = [&](std::uint32_t b) { out.push_back(static_cast<char>(b & 0xff)); };
  switch (dtype) {
    case core::DType::kFp32:
      byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24);
      return;
    case core::DType::kBf16:
      byte(bits >> 16), byte(bits >> 24);
      return;
    case core::DType::kFp16: {
      // The exponent's bias is 15 instead of 127, the fraction has 10 bits instead of 23.
      const std::uint32_t half = ((bits >> 23) - 112) << 10 | (bits >> 13 & 0x3ff);
      byte(half), byte(half >> 8);
      return;
    }
    default:
      throw std::logic_error("a layer's tensors are bf16, fp16 or fp32");
  }
}

std::string_view stored(core::DType dtype) {
  return dtype == core::DType::kFp32 ? "F32" : dtype == core::DType::kBf16 ? "BF16" : "F16";
}

int digit(std::int64_t n, int pass) {
  for (int i = 0; i < pass; ++i) n /= kBase;
  return static_cast<int>(n % kBase) + 1;
}

class Writer {
 public:
  Writer(const Side& side, int rows) : side_(side), rows_(rows) {
    const core::Facts& n = side.layout.numbers;
    meta_["spec"] = side.layout.spec;
    meta_["pairing"] = n.pairing == core::Pairing::kGrouped ? "grouped" : "tiled";
    meta_["heads"] = fmt::format("{} key, {} value", n.key_heads, n.value_heads);
  }

  void tensor(const std::string& path, const TensorLayout& tensor) {
    const std::int64_t rows = tensor.leading == core::Leading::kNone ? 1 : rows_;
    int passes = 1;
    for (std::int64_t n = rows * tensor.inner - 1; n >= kBase; n /= kBase) ++passes;
    meta_[path] = fmt::format("{} {}", core::to_string(tensor.dtype), tensor.list);
    meta_[path + "/identity"] = core::id_text(layout::identity(side_.layout, tensor).id);
    for (int pass = 0; pass < passes; ++pass) {
      const std::size_t begin = data_.size();
      for (std::int64_t n = 0; n < rows * tensor.inner; ++n) append(data_, tensor.dtype, digit(n, pass));
      add(fmt::format("{}/{}", path, pass), tensor.dtype, {rows, tensor.inner}, begin);
      for (const PartLayout& part : tensor.parts) view(path, tensor, part, rows, pass);
    }
  }

  std::string take() {
    header_["__metadata__"] = meta_;
    std::string head = header_.dump();
    while (head.size() % 8 != 0) head += ' ';
    std::string file;
    for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(head.size() >> (8 * i) & 0xff));
    return file + head + data_;
  }

 private:
  void add(const std::string& name, core::DType dtype, const std::vector<std::int64_t>& shape, std::size_t begin) {
    header_[name] = {{"dtype", stored(dtype)}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }

  void view(const std::string& path, const TensorLayout& tensor, const PartLayout& part, std::int64_t rows, int pass) {
    const core::Facts& n = side_.layout.numbers;
    const core::Map map = layout::map_of(n, tensor, part, 0);
    const std::int64_t heads = map.heads == core::HeadKind::kNone  ? 0
                               : map.heads == core::HeadKind::kKey ? n.key_heads
                                                                   : n.value_heads;
    std::int64_t taps = 0, inner = 0, outer = 0;
    for (const layout::Axis& axis : part.axes) {
      if (axis.name == "tap" || axis.name == "step") taps = axis.size;
      if (axis.name == "value_dim" && part.name == "state") outer = axis.size;
      if (axis.name == "key_dim" || (axis.name == "value_dim" && part.name != "state")) inner = axis.size;
    }
    std::vector<std::int64_t> shape = {rows};
    for (const std::int64_t size : {heads, inner, outer, taps}) {
      if (size > 0) shape.push_back(size);
    }
    const std::size_t begin = data_.size();
    const auto at_least_one = [](std::int64_t size) { return size > 0 ? size : 1; };
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t head = 0; head < at_least_one(heads); ++head) {
        const std::int64_t base = row * tensor.inner + layout::base(n, map, head);
        for (std::int64_t i = 0; i < at_least_one(inner); ++i) {
          for (std::int64_t o = 0; o < at_least_one(outer); ++o) {
            for (std::int64_t tap = 0; tap < at_least_one(taps); ++tap) {
              append(data_, tensor.dtype,
                     digit(base + i * map.inner_stride + o * map.outer_stride + tap * map.tap_stride, pass));
            }
          }
        }
      }
    }
    add(fmt::format("{}/{}/{}", path, part.name, pass), tensor.dtype, shape, begin);
  }

  const Side& side_;
  int rows_;
  ordered_json header_ = ordered_json::object(), meta_ = ordered_json::object();
  std::string data_;
};

}  // namespace

std::string probe_file(const Side& side, int rows) {
  Writer writer(side, rows);
  for (const Section& section : sections_of(side)) {
    if (section.name == "handover" || section.name == "outputs") continue;
    for (const TensorPair& tensor : section.tensors) {
      writer.tensor(section.name + "." + *tensor.written->name, *tensor.resolved);
    }
  }
  return writer.take();
}

}  // namespace gdn::review
