#include "bundle/bundle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bundle/checksum.h"
#include "bundle/format.h"
#include "error.h"

namespace gdn::runtime {

using namespace bundle_format;

class Bundle::Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info = {};
    if (file < 0 || fstat(file, &info) != 0) fail(path, errno, file);
    if (!S_ISREG(info.st_mode)) fail(path, EINVAL, file);
    size_ = static_cast<std::size_t>(info.st_size);
    if (size_ > 0) {
      data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
      if (data_ == MAP_FAILED) fail(path, errno, file);
    }
    close(file);
  }
  ~Mapping() {
    if (size_ > 0) munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

 private:
  [[noreturn]] static void fail(const std::string& path, int error, int file) {
    if (file >= 0) close(file);
    throw Error(Code::kSystem, fmt::format("the bundle {} can't be read: {}", path,
                                           error == EINVAL ? "it is no regular file" : std::strerror(error)));
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

namespace {

// Opens a file's bytes row by row. Every number in it is input.
class Reader {
 public:
  Reader(const std::string& name, std::string_view bytes) : name_(name), bytes_(bytes) {}

  FileHeader header() const {
    FileHeader header = {};
    const std::string_view start = bytes_.substr(0, kMagic.size());
    if (start.empty() || start != kMagic.substr(0, start.size())) {
      if (start.empty()) truncated(sizeof(FileHeader));
      fail(Code::kAltered, "it is no bundle: gdn-gen build writes them");
    }
    if (bytes_.size() < sizeof(FileHeader)) truncated(sizeof(FileHeader));
    std::memcpy(&header, bytes_.data(), sizeof(FileHeader));
    if (header.format != kFormat) other_version("bundle format", header.format, kFormat);
    if (header.header_checksum != checksum(bytes_.substr(0, sizeof(FileHeader) - sizeof(header.header_checksum)))) {
      fail(Code::kAltered, "its header is not as it was written");
    }
    if (header.template_abi != core::kTemplateAbi) other_version("templates", header.template_abi, core::kTemplateAbi);
    if (header.plan_format != core::kPlanFormat) other_version("plan format", header.plan_format, core::kPlanFormat);
    if (bytes_.size() < header.file_bytes) truncated(header.file_bytes);
    if (bytes_.size() > header.file_bytes) {
      fail(Code::kAltered, fmt::format("{} bytes follow its end", bytes_.size() - header.file_bytes));
    }
    if (header.body_checksum != checksum(bytes_.substr(sizeof(FileHeader)))) {
      fail(Code::kAltered, "its content is not as it was written");
    }
    if ((bytes_.size() - sizeof(FileHeader)) / sizeof(Row) < header.kernels)
      fail(Code::kAltered, "its table is too long");
    return header;
  }

  Bundle::Entry entry(std::size_t index) const {
    Row row;
    std::memcpy(&row, bytes_.data() + sizeof(FileHeader) + index * sizeof(Row), sizeof(Row));
    Bundle::Entry entry;
    entry.spec = text(row.spec);
    entry.operation = text(row.operation);
    entry.target = text(row.target);
    entry.symbol = text(row.symbol);
    entry.plan_text = text(row.plan);
    entry.compiler = text(row.compiler);
    entry.binary = text(row.binary);
    entry.identity = row.identity;
    return entry;
  }

  [[noreturn]] void fail(Code code, const std::string& why) const {
    throw Error(code, fmt::format("the bundle {} is refused: {}. Build it again with gdn-gen build", name_, why));
  }

 private:
  [[noreturn]] void truncated(std::uint64_t whole) const {
    fail(Code::kTruncated, fmt::format("it ends after {} of at least {} bytes", bytes_.size(), whole));
  }
  [[noreturn]] void other_version(const char* what, std::uint32_t there, int here) const {
    fail(Code::kOtherVersion,
         fmt::format("its {} has version {}, and this program reads version {}", what, there, here));
  }

  std::string_view text(const Span& span) const {
    if (span.offset > bytes_.size() || span.bytes > bytes_.size() - span.offset) {
      fail(Code::kAltered, "its table points behind its end");
    }
    return bytes_.substr(span.offset, span.bytes);
  }

  const std::string& name_;
  std::string_view bytes_;
};

// The first line of two texts in which they differ.
std::pair<std::string, std::string> first_difference(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    const std::size_t end_a = std::min(a.find('\n'), a.size()), end_b = std::min(b.find('\n'), b.size());
    if (a.substr(0, end_a) != b.substr(0, end_b))
      return {std::string(a.substr(0, end_a)), std::string(b.substr(0, end_b))};
    a.remove_prefix(std::min(end_a + 1, a.size()));
    b.remove_prefix(std::min(end_b + 1, b.size()));
  }
  return {};
}

}  // namespace

Bundle::Bundle(std::string name, std::shared_ptr<const Mapping> mapping, std::string_view bytes)
    : name_(std::move(name)), mapping_(std::move(mapping)) {
  const Reader reader(name_, bytes);
  const FileHeader header = reader.header();
  entries_.reserve(header.kernels);
  for (std::size_t i = 0; i < header.kernels; ++i) entries_.push_back(reader.entry(i));
}

Bundle Bundle::open(const std::string& path) {
  auto mapping = std::make_shared<const Mapping>(path);
  const std::string_view bytes = mapping->bytes();
  return Bundle(path, std::move(mapping), bytes);
}

Bundle Bundle::view(const void* data, std::size_t size, const std::string& name) {
  return Bundle(name, nullptr, {static_cast<const char*>(data), size});
}

const Bundle::Entry* Bundle::find(std::string_view operation, std::string_view target, std::string_view spec) const {
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.operation != operation || entry.target != target || (!spec.empty() && entry.spec != spec)) continue;
    if (found != nullptr) return nullptr;
    found = &entry;
  }
  return found;
}

core::KernelPlan Bundle::plan(const Entry& entry) const {
  const auto refuse = [&](const std::string& why) {
    return Error(Code::kAltered, fmt::format("the bundle {} is refused: {} of {}. Build it again with gdn-gen build",
                                             name_, why, entry.symbol));
  };
  core::KernelPlan plan;
  try {
    plan = core::parse_plan(entry.plan_text);
  } catch (const std::runtime_error& error) {
    throw refuse(fmt::format("{} in the plan", error.what()));
  }
  if (plan.symbol != entry.symbol || plan.spec != entry.spec || plan.operation != entry.operation ||
      plan.target != entry.target || plan.identity.id != entry.identity) {
    throw refuse(fmt::format("the plan of {} stands in the place of that", plan.symbol));
  }
  return plan;
}

Binary Bundle::binary(const Entry& entry) const {
  if (entry.binary.empty()) {
    throw Error(Code::kBadArgument, fmt::format("{} is a CPU kernel: the bundle {} holds its plan and no machine code; "
                                                "load_cpu() makes it",
                                                entry.symbol, name_));
  }
  Binary binary;
  binary.bytes.assign(entry.binary.begin(), entry.binary.end());
  return binary;
}

void Bundle::require(const Entry& entry, const core::Identity& own) const {
  if (entry.identity == own.id) return;
  const auto [theirs, mine] = first_difference(plan(entry).identity.text, own.text);
  throw Error(
      Code::kLayoutMismatch,
      fmt::format("{} in the bundle {} was made from another spec: identity {} there, {} here.\n  bundle: {}\n  "
                  "spec:   {}\nBuild the bundle again from this spec",
                  entry.symbol, name_, core::id_text(entry.identity), core::id_text(own.id), theirs, mine));
}

}  // namespace gdn::runtime
