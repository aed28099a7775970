#include "emit/standalone.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string_view>

namespace gdn::emit {
namespace {

constexpr std::string_view kInclude = "#include \"";
constexpr std::string_view kShim = "gdn_host/";

// nvcc says nothing about unused constants of a header, and all about those of the main file.
constexpr std::string_view kQuiet =
    "#if defined(__NVCC__)\n#pragma nv_diagnostic push\n#pragma nv_diag_suppress 177\n#endif\n";
constexpr std::string_view kLoud = "#if defined(__NVCC__)\n#pragma nv_diagnostic pop\n#endif\n";

class Folder {
 public:
  explicit Folder(const std::vector<NamedText>& headers) : headers_(headers) {}

  void fold(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line == "#pragma once") continue;
      if (line.substr(0, kInclude.size()) == kInclude) {
        include(line.substr(kInclude.size(), line.find('"', kInclude.size()) - kInclude.size()));
      } else {
        output_ += line;
        output_ += '\n';
      }
    }
  }

  std::string take() { return std::move(output_); }

 private:
  void include(std::string_view name) {
    if (name.substr(0, kShim.size()) == kShim) {
      output_ += "#error \"the host shim is not part of this file: use gdn-gen emit without --standalone\"\n";
      return;
    }
    if (!folded_.insert(std::string(name)).second) return;
    const auto found =
        std::find_if(headers_.begin(), headers_.end(), [&](const NamedText& header) { return header.first == name; });
    if (found == headers_.end()) throw std::runtime_error(fmt::format("no header {} to fold in", name));
    const bool outermost = folded_.size() == 1;
    if (outermost) output_ += kQuiet;
    output_ += fmt::format("// ---- {}\n", name);
    fold(found->second);
    output_ += fmt::format("// ---- end of {}\n", name);
    if (outermost) output_ += kLoud;
  }

  const std::vector<NamedText>& headers_;
  std::set<std::string> folded_;
  std::string output_;
};

}  // namespace

EmittedFile standalone(const EmittedFile& file, const std::vector<NamedText>& headers) {
  if (file.path.substr(0, 4) == "cpu/") {
    throw std::runtime_error(
        fmt::format("{}: a CPU kernel is generated at run time by the library and can't stand alone; "
                    "build a bundle or link the library",
                    file.path));
  }
  Folder folder(headers);
  folder.fold(file.text);
  return {file.path, folder.take()};
}

}  // namespace gdn::emit
