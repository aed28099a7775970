// gdn_set_open_bundle.
#include <fmt/format.h>

#include <memory>
#include <set>
#include <string_view>

#include "bundle/bundle.h"
#include "capi/handles.h"

using gdn::capi::created;
using gdn::capi::need;
using gdn::runtime::Bundle;
using gdn::runtime::Code;
using gdn::runtime::Entry;
using gdn::runtime::Error;

namespace {

// The spec that is meant: the one named, or the only one.
std::string_view spec_of(const Bundle& bundle, const char* named) {
  std::set<std::string_view> specs;
  for (const Bundle::Entry& entry : bundle.entries()) specs.insert(entry.spec);
  if (named == nullptr && specs.size() == 1) return *specs.begin();
  if (named != nullptr && specs.count(named) != 0) return *specs.find(named);
  throw Error(Code::kBadArgument, named == nullptr ? fmt::format("{} holds kernels of {} specs ({}): name one",
                                                                 bundle.name(), specs.size(), fmt::join(specs, ", "))
                                                   : fmt::format("{} holds no kernels of spec {}: it holds {}",
                                                                 bundle.name(), named, fmt::join(specs, ", ")));
}

Entry entry_of(const Bundle& bundle, const Bundle::Entry& from) {
  Entry entry;
  entry.operation = from.operation;
  entry.target = from.target;
  entry.plan = bundle.plan(from);
  entry.plan_text = from.plan_text;
  entry.binary.assign(from.binary.begin(), from.binary.end());
  return entry;
}

std::unique_ptr<gdn_set> set_of(const Bundle& bundle, const char* spec, const gdn_set_options* options) {
  const std::string_view wanted = spec_of(bundle, spec);
  std::vector<Entry> entries;
  for (const Bundle::Entry& entry : bundle.entries()) {
    if (entry.spec == wanted) entries.push_back(entry_of(bundle, entry));
  }
  return gdn::capi::make_set(std::move(entries), options);
}

}  // namespace

extern "C" {

gdn_status gdn_set_open_bundle(const char* path, const char* spec, const gdn_set_options* options, gdn_set** set) {
  return created(set, "set", [&] {
    need(path, "path");
    return set_of(Bundle::open(path), spec, options);
  });
}

gdn_status gdn_set_open_bundle_bytes(const void* data, size_t bytes, const char* spec, const gdn_set_options* options,
                                     gdn_set** set) {
  return created(set, "set", [&] {
    need(data, "data");
    return set_of(Bundle::view(data, bytes, "the bundle in memory"), spec, options);
  });
}

}  // extern "C"
