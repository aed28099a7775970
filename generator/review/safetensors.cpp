#include "review/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "spec/diagnostics.h"

namespace gdn::review {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxHeader = 32ll << 20;
constexpr std::size_t kMaxRank = 64;
constexpr std::int64_t kMaxData = 64ll << 10;  // of a tensor whose data are read

std::int64_t bits_of(const std::string& dtype) {
  static const std::map<std::string, std::int64_t> kBits = {
      {"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8},
      {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},    {"U32", 32},
      {"F32", 32}, {"F64", 64}, {"I64", 64}, {"U64", 64},    {"F4", 4}};
  const auto found = kBits.find(dtype);
  return found == kBits.end() ? 0 : found->second;
}

// What one tensor's entry said.
struct Header {
  std::string name;
  std::set<std::string> keys;
  std::string dtype;
  std::vector<std::uint64_t> shape, offsets;
  std::string wrong;  // a key whose value has another type than it wants; empty: none
};

// {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ..., "__metadata__": {...}}, event by event.
class Reader final : public nlohmann::json_sax<json> {
 public:
  Reader(const std::string& file, std::int64_t data) : file_(file), data_(data) {}

  std::map<std::string, StoredTensor> take() {
    std::sort(spans_.begin(), spans_.end());
    std::int64_t end = 0;
    for (const auto& [from, to, name] : spans_) {
      if (from < end) refuse(name, fmt::format("its data_offsets start at {}, before the tensor before it ends", from));
      if (from > end)
        refuse(name, fmt::format("its data_offsets start at {}: {} bytes before it are no tensor's", from, from - end));
      end = to;
    }
    if (end != data_)
      throw BadCheckpoint(fmt::format("{}: {} bytes of data, of which tensors fill {}", file_, data_, end));
    return std::move(tensors_);
  }

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (list_ == nullptr) return other();
    if (list_->size() >= kMaxRank) refuse(entry_.name, "a shape has at most 64 sizes");
    list_->push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ == 2 && list_ == nullptr && key_ == "dtype") {
      entry_.dtype = value;
      return true;
    }
    return other();
  }

  bool start_object(std::size_t) override {
    if (++depth_ > 2 || list_ != nullptr) nested();
    if (depth_ == 2) entry_ = {key_, {}, {}, {}, {}, {}};
    return true;
  }

  bool end_object() override {
    if (depth_-- == 2 && entry_.name != "__metadata__") add();
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ == 0) top();
    if (depth_ != 2 || list_ != nullptr) nested();
    list_ = key_ == "shape" ? &entry_.shape : key_ == "data_offsets" ? &entry_.offsets : nullptr;
    if (list_ == nullptr) nested();
    return true;
  }

  bool end_array() override {
    list_ = nullptr;
    return true;
  }

  bool key(string_t& value) override {
    std::set<std::string>& seen = depth_ == 1 ? names_ : entry_.keys;
    if (!seen.insert(value).second) throw BadCheckpoint(fmt::format("{}: {} stands twice", file_, spec::quote(value)));
    key_ = value;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    throw BadCheckpoint(fmt::format("{}: not JSON: {}", file_, error.what()));
  }

 private:
  [[noreturn]] void refuse(const std::string& name, const std::string& what) const {
    throw BadCheckpoint(fmt::format("{}: {}: {}", file_, spec::quote(name), what));
  }

  [[noreturn]] void top() const { throw BadCheckpoint(fmt::format("{}: the top is not a JSON object", file_)); }

  [[noreturn]] void nested() const {
    throw BadCheckpoint(fmt::format("{}: {}: nested more than a safetensors header is", file_, spec::quote(key_)));
  }

  // A value of a type that no key of a tensor has; metadata may hold any.
  bool other() {
    if (depth_ == 0) top();
    if (depth_ == 1) refuse(key_, "a tensor has dtype, shape and data_offsets");
    if (entry_.name != "__metadata__" && (key_ == "dtype" || key_ == "shape" || key_ == "data_offsets")) {
      entry_.wrong = key_;
    }
    return true;
  }

  void add() {
    const std::string& name = entry_.name;
    const auto outside = [&] {
      refuse(name, fmt::format("its data_offsets lie outside the file's {} bytes of data", data_));
    };
    if (entry_.wrong == "shape") refuse(name, "a shape holds sizes");
    if (entry_.wrong == "data_offsets") outside();
    if (!entry_.wrong.empty() || entry_.keys.count("dtype") == 0 || entry_.keys.count("shape") == 0 ||
        entry_.offsets.size() != 2) {
      refuse(name, "a tensor has dtype, shape and data_offsets");
    }
    StoredTensor tensor;
    tensor.dtype = entry_.dtype;
    std::int64_t bits = bits_of(tensor.dtype);
    if (bits == 0) refuse(name, fmt::format("unknown dtype {}", spec::quote(tensor.dtype)));
    for (const std::uint64_t size : entry_.shape) {
      if (size > (1ull << 40)) refuse(name, "is impossibly large");
      tensor.shape.push_back(static_cast<std::int64_t>(size));
      if (size != 0 && bits > (std::int64_t{1} << 60) / tensor.shape.back()) refuse(name, "is impossibly large");
      bits *= tensor.shape.back();
    }
    for (const std::uint64_t offset : entry_.offsets) {
      if (offset > static_cast<std::uint64_t>(data_)) outside();
    }
    const auto begin = static_cast<std::int64_t>(entry_.offsets[0]), end = static_cast<std::int64_t>(entry_.offsets[1]);
    if (end < begin || (end - begin) != (bits + 7) / 8) {
      refuse(name, fmt::format("its shape needs {} bytes, its data_offsets span {}", (bits + 7) / 8, end - begin));
    }
    tensor.begin = begin;
    tensor.bytes = end - begin;
    spans_.emplace_back(begin, end, name);
    tensors_.emplace(name, std::move(tensor));
  }

  const std::string& file_;
  std::int64_t data_;
  int depth_ = 0;                               // objects that are open
  std::vector<std::uint64_t>* list_ = nullptr;  // the array that is open
  std::string key_;
  Header entry_;
  std::set<std::string> names_;
  std::map<std::string, StoredTensor> tensors_;
  std::vector<std::tuple<std::int64_t, std::int64_t, std::string>> spans_;
};

}  // namespace

std::ifstream open_stored(const std::string& file, std::int64_t& size) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::file_status status = fs::status(file, failed);
  // A pipe or a device could block or never end.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw BadCheckpoint(fmt::format("{}: not a regular file", file));
  }
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  if (!stream) throw BadCheckpoint(fmt::format("{}: can't be opened", file));
  size = static_cast<std::int64_t>(stream.tellg());
  if (size < 0) throw BadCheckpoint(fmt::format("{}: not a regular file", file));
  stream.seekg(0);
  return stream;
}

std::string read_stored(std::ifstream& stream, const std::string& file, std::int64_t bytes) {
  std::string text(static_cast<std::size_t>(bytes), '\0');
  stream.read(text.data(), bytes);
  if (stream.gcount() != bytes) throw BadCheckpoint(fmt::format("{}: ends early", file));
  return text;
}

std::map<std::string, StoredTensor> read_safetensors_header(const std::string& file) {
  std::int64_t size = 0;
  std::ifstream stream = open_stored(file, size);
  if (size < 8) throw BadCheckpoint(fmt::format("{}: {} bytes are no safetensors file", file, size));
  const std::string start = read_stored(stream, file, 8);
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(start[static_cast<std::size_t>(i)]);
  if (length > static_cast<std::uint64_t>(size - 8)) {
    throw BadCheckpoint(fmt::format("{}: its header says {} bytes, the file has {}", file, length, size));
  }
  if (length > static_cast<std::uint64_t>(kMaxHeader)) {
    throw BadCheckpoint(
        fmt::format("{}: its header says {} bytes, more than the {} that are read", file, length, kMaxHeader));
  }
  Reader reader(file, size - 8 - static_cast<std::int64_t>(length));
  json::sax_parse(read_stored(stream, file, static_cast<std::int64_t>(length)), &reader);
  std::map<std::string, StoredTensor> tensors = reader.take();
  for (auto& [name, tensor] : tensors) {
    tensor.file = file;
    tensor.begin += 8 + static_cast<std::int64_t>(length);
  }
  return tensors;
}

std::string read_data(const StoredTensor& tensor) {
  if (tensor.bytes > kMaxData) {
    throw BadCheckpoint(
        fmt::format("{}: a tensor of {} bytes, more than the {} that are read", tensor.file, tensor.bytes, kMaxData));
  }
  std::int64_t size = 0;
  std::ifstream stream = open_stored(tensor.file, size);
  stream.seekg(tensor.begin);
  return read_stored(stream, tensor.file, tensor.bytes);
}

}  // namespace gdn::review
