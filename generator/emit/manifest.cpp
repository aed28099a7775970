#include "emit/manifest.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace gdn::emit {
namespace {

constexpr int kFormat = 1;

std::string document_of(nlohmann::ordered_json kernels) {
  const nlohmann::ordered_json document = {
      {"format", kFormat}, {"template_abi", core::kTemplateAbi}, {"kernels", std::move(kernels)}};
  return document.dump(1) + "\n";
}

}  // namespace

std::string manifest(std::vector<ManifestEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const ManifestEntry& a, const ManifestEntry& b) { return a.path < b.path; });
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const ManifestEntry& entry : entries) {
    nlohmann::ordered_json operands = nlohmann::ordered_json::object();
    for (const core::Operand& operand : entry.plan.operands) operands[operand.name] = core::id_text(operand.layout.id);
    nlohmann::ordered_json variants = nlohmann::ordered_json::array();
    for (const core::Variant& variant : entry.plan.variants) {
      variants.push_back({{"symbol", variant.symbol},
                          {"max_rows", variant.max_rows},
                          {"edges", std::string(core::to_string(variant.edges))}});
    }
    nlohmann::ordered_json stages = nlohmann::ordered_json::array();
    for (const core::Stage& stage : entry.plan.stages) stages.push_back(stage.symbol);
    kernels.push_back({{"path", entry.path},
                       {"symbol", entry.plan.symbol},
                       {"stages", std::move(stages)},
                       {"spec", entry.plan.spec_file},
                       {"operation", entry.plan.operation},
                       {"target", entry.plan.target},
                       {"identity", core::id_text(entry.plan.identity.id)},
                       {"variants", std::move(variants)},
                       {"operands", std::move(operands)}});
  }
  return document_of(std::move(kernels));
}

std::string merge_manifests(const std::string& old, const std::string& fresh) {
  const auto before = nlohmann::ordered_json::parse(old, nullptr, /*allow_exceptions=*/false);
  const auto now = nlohmann::ordered_json::parse(fresh);
  if (!before.is_object() || before.value("format", 0) != kFormat ||
      before.value("template_abi", 0) != core::kTemplateAbi || !before.contains("kernels")) {
    return fresh;
  }
  std::map<std::string, nlohmann::ordered_json> by_path;
  for (const auto* document : {&before, &now}) {
    for (const auto& kernel : document->at("kernels")) {
      if (!kernel.is_object() || !kernel.contains("path") || !kernel.at("path").is_string()) return fresh;
      by_path[kernel.at("path").get<std::string>()] = kernel;
    }
  }
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (auto& [path, kernel] : by_path) kernels.push_back(std::move(kernel));
  return document_of(std::move(kernels));
}

}  // namespace gdn::emit
