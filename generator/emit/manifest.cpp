#include "emit/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace gdn::emit {

std::string manifest(std::vector<ManifestEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const ManifestEntry& a, const ManifestEntry& b) { return a.path < b.path; });
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const ManifestEntry& entry : entries) {
    nlohmann::ordered_json operands = nlohmann::ordered_json::object();
    for (const core::Operand& operand : entry.plan.operands) operands[operand.name] = core::id_text(operand.layout.id);
    kernels.push_back({{"path", entry.path},
                       {"symbol", entry.plan.symbol},
                       {"spec", entry.plan.spec_file},
                       {"operation", entry.plan.operation},
                       {"target", entry.plan.target},
                       {"identity", core::id_text(entry.plan.identity.id)},
                       {"operands", std::move(operands)}});
  }
  const nlohmann::ordered_json document = {
      {"format", 1}, {"template_abi", core::kTemplateAbi}, {"kernels", std::move(kernels)}};
  return document.dump(1) + "\n";
}

}  // namespace gdn::emit
