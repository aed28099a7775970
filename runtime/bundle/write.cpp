#include <fmt/format.h>

#include <cstring>
#include <set>

#include "bundle/bundle.h"
#include "bundle/checksum.h"
#include "bundle/format.h"
#include "error.h"

namespace gdn::runtime {

using namespace bundle_format;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bundles are little-endian, and this code copies numbers");

std::string make_bundle(const std::vector<BundleKernel>& kernels) {
  std::set<std::string> symbols;
  for (const BundleKernel& kernel : kernels) {
    if (!symbols.insert(kernel.plan.symbol).second) {
      throw Error(Code::kBadArgument,
                  fmt::format("two kernels {} for one bundle: give each spec a name of its own", kernel.plan.symbol));
    }
  }
  std::string bytes(sizeof(FileHeader) + kernels.size() * sizeof(Row), '\0');
  const auto add = [&bytes](std::string_view text) {
    const Span span = {bytes.size(), text.size()};
    bytes += text;
    return span;
  };
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const core::KernelPlan& plan = kernels[i].plan;
    Row row = {};
    row.identity = plan.identity.id;
    row.spec = add(plan.spec);
    row.operation = add(plan.operation);
    row.target = add(plan.target);
    row.symbol = add(plan.symbol);
    row.plan = add(core::to_text(plan));
    row.compiler = add(kernels[i].compiler);
    bytes.resize((bytes.size() + kBinaryAlign - 1) / kBinaryAlign * kBinaryAlign);
    row.binary = add({reinterpret_cast<const char*>(kernels[i].binary.data()), kernels[i].binary.size()});
    std::memcpy(bytes.data() + sizeof(FileHeader) + i * sizeof(Row), &row, sizeof(Row));
  }
  FileHeader header = {};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.format = kFormat;
  header.template_abi = core::kTemplateAbi;
  header.plan_format = core::kPlanFormat;
  header.kernels = static_cast<std::uint32_t>(kernels.size());
  header.file_bytes = bytes.size();
  header.body_checksum = checksum(std::string_view(bytes).substr(sizeof(FileHeader)));
  std::memcpy(bytes.data(), &header, sizeof(FileHeader));
  header.header_checksum =
      checksum(std::string_view(bytes).substr(0, sizeof(FileHeader) - sizeof(header.header_checksum)));
  std::memcpy(bytes.data(), &header, sizeof(FileHeader));
  return bytes;
}

}  // namespace gdn::runtime
