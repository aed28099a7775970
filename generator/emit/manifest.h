// generated/manifest.json: which file came from which spec, operation and target, with the identities that a launch
// compares.
#pragma once

#include <string>
#include <vector>

#include "core/plan.h"
#include "emit/source.h"

namespace gdn::emit {

struct ManifestEntry {
  std::string path;
  core::KernelPlan plan;
};

// Sorted by path; one entry a kernel.
std::string manifest(std::vector<ManifestEntry> entries);

}  // namespace gdn::emit
