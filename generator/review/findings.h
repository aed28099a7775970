// Diagnostics of many specs for machines that show them beside the code.
#pragma once

#include <string>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/spec.h"

namespace gdn::review {

// What one spec (with its overlays) was found to have.
struct Finding {
  std::vector<spec::Source> sources;  // the spec, then its overlays
  spec::Diagnostics diagnostics;
};

// GitHub's workflow commands, a line each: ::error file=...,line=...,col=...,endColumn=...,title=<rule>::<message>.
std::string to_github(const Finding& finding);

// One SARIF 2.1.0 log, as code scanning services read it.
std::string to_sarif(const std::vector<Finding>& findings, const std::string& version);

}  // namespace gdn::review
