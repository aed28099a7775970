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

// `fresh` with the entries of `old` that it says nothing of, for a tree of which only a part was emitted. An old text
// that is no manifest of this format, or of other templates, is left out as a whole: its files have to be emitted
// again.
std::string merge_manifests(const std::string& old, const std::string& fresh);

}  // namespace gdn::emit
