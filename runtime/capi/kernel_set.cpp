#include "capi/kernel_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "compile/headers.h"
#include "cpu/support.h"
#include "error.h"

namespace gdn::runtime {
namespace {

bool is_cpu_target(std::string_view target) { return target.substr(0, 3) != "sm_" && target.substr(0, 3) != "gfx"; }

std::string operations_of(const std::vector<Entry>& entries) {
  std::set<std::string_view> names;
  for (const Entry& entry : entries) names.insert(entry.operation);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

const Entry* choose(const std::vector<Entry>& entries, std::string_view operation, const std::string& where,
                    const std::function<bool(std::string_view target)>& runs, std::string& why) {
  const Entry* best = nullptr;
  bool known = false;
  std::vector<std::string_view> others;
  std::string reason;
  for (const Entry& entry : entries) {
    if (entry.operation != operation) continue;
    known = true;
    if (!runs(entry.target)) {
      others.push_back(entry.target);
    } else if (!entry.unavailable.empty()) {
      reason = entry.unavailable;
    } else {
      best = &entry;
    }
  }
  if (best != nullptr) return best;
  if (!known) {
    why = fmt::format("the set has no operation {}; it has {}", operation,
                      entries.empty() ? std::string("none at all") : operations_of(entries));
  } else if (!reason.empty()) {
    why = reason;
  } else {
    why = fmt::format("the set has {} for {}, and none of them runs on {}: build it for that target", operation,
                      fmt::join(others, ", "), where);
  }
  return nullptr;
}

KernelSet::KernelSet(std::vector<Entry> entries, SetSettings settings)
    : entries_(std::move(entries)), settings_(std::move(settings)), compilers_(settings_.log) {
  const auto absent = std::stable_partition(entries_.begin(), entries_.end(),
                                            [](const Entry& entry) { return entry.unavailable.empty(); });
  kernels_ = static_cast<std::size_t>(absent - entries_.begin());
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Entry& entry : entries_) {
    if (seen.emplace(entry.operation, entry.target).second) continue;
    throw Error(Code::kBadArgument,
                fmt::format("the set would have two kernels of {} for {}", entry.operation, entry.target));
  }
}

Device KernelSet::device(const Place& place) const {
  const std::string name = to_string(place);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = devices_.find(name);
  if (found != devices_.end()) return found->second;
  Device opened = place.kind == Place::Kind::kCuda ? open_cuda(place.ordinal) : open_hip(place.ordinal);
  devices_.emplace(name, opened);
  return opened;
}

bool KernelSet::runs(std::string_view target, const Place& place) const {
  switch (place.kind) {
    case Place::Kind::kCpu:
      return is_cpu_target(target) && cpu::cpu_supports(target);
    case Place::Kind::kSimt:
      return target == place.target;
    case Place::Kind::kCuda:
    case Place::Kind::kHip:
      return device(place).runs(target);
  }
  return false;
}

const Entry& KernelSet::find(std::string_view operation, std::string_view where) const {
  std::string why, text(where);
  const Entry* entry = nullptr;
  if (is_place(where)) {
    const Place place = parse_place(where);
    if (place.gpu()) {
      const Device opened = device(place);
      text = fmt::format("{} ({}, {})", where, opened.info().name, opened.info().target);
    } else if (place.kind == Place::Kind::kCpu) {
      text = "this processor";
    }
    entry = choose(entries_, operation, text, [&](std::string_view target) { return runs(target, place); }, why);
  } else {
    entry = choose(entries_, operation, text, [&](std::string_view target) { return target == where; }, why);
  }
  if (entry == nullptr) throw Error(Code::kUnsupported, why);
  return *entry;
}

const Entry& KernelSet::expect_loadable(std::string_view operation, std::string_view where) const {
  const Entry& entry = find(operation, where);
  if (!is_place(where)) return entry;
  const Place place = parse_place(where);
  if (place.kind != Place::Kind::kCpu && entry.binary.empty()) compilers_.find(place, entry.target);
  return entry;
}

std::optional<CompileJob> KernelSet::job_of(const Entry& entry, const Place& place) const {
  if (place.kind == Place::Kind::kCpu || (place.gpu() && !entry.binary.empty())) return std::nullopt;
  if (entry.source.empty()) {
    throw Error(Code::kUnsupported, fmt::format("{}: the set has neither a binary nor a source that {} could take",
                                                entry.plan.symbol, to_string(place)));
  }
  CompileJob job;
  job.compiler = compilers_.find(place, entry.target);
  job.source = {entry.source_name, entry.source, template_headers()};
  if (place.kind == Place::Kind::kSimt) {
    for (const Header& header : host_headers()) job.source.headers.push_back(header);
  }
  job.target = entry.target;
  job.options.time_limit = settings_.time_limit;
  return job;
}

std::unique_ptr<Kernel> KernelSet::make(const Entry& entry, const Place& place, const Binary& compiled) const {
  if (place.kind == Place::Kind::kCpu) return load_cpu(entry.plan, settings_.threading);
  if (place.kind == Place::Kind::kSimt) return load_host(entry.plan, compiled);
  if (entry.binary.empty()) return load_gpu(device(place), entry.plan, compiled);
  Binary binary;
  binary.bytes = entry.binary;
  return load_gpu(device(place), entry.plan, binary);
}

std::shared_ptr<KernelSet::Loaded> KernelSet::slot_of(const Entry& entry, const Place& place) const {
  const std::string name =
      fmt::format("{} {} {}", entry.plan.symbol, to_string(place), checked_mode() ? "checked" : "");
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<Loaded>& known = loaded_[name];
  if (known == nullptr) known = std::make_shared<Loaded>();
  return known;
}

std::shared_ptr<const Kernel> KernelSet::load(std::string_view operation, const Place& place) const {
  const Entry& entry = find(operation, to_string(place));
  const std::shared_ptr<Loaded> loaded = slot_of(entry, place);
  // Others that want this kernel wait here; other kernels of the set compile meanwhile.
  const std::lock_guard<std::mutex> lock(loaded->mutex);
  if (loaded->kernel != nullptr) return loaded->kernel;
  Binary binary;
  if (const std::optional<CompileJob> job = job_of(entry, place)) {
    if (settings_.progress) settings_.progress(entry.plan.symbol, job->compiler->name(), -1);
    const auto start = std::chrono::steady_clock::now();
    binary = job->compiler->compile(job->source, job->target, job->options);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    if (settings_.progress) settings_.progress(entry.plan.symbol, job->compiler->name(), spent.count());
  }
  loaded->kernel = make(entry, place, binary);
  return loaded->kernel;
}

void KernelSet::load_all(const Place& place) const {
  std::set<std::string_view> operations;
  for (const Entry& entry : entries_) operations.insert(entry.operation);
  std::vector<const Entry*> chosen, compiled;
  std::vector<CompileJob> jobs;
  std::optional<Error> first;
  for (const std::string_view operation : operations) {
    try {
      const Entry& entry = find(operation, to_string(place));
      std::optional<CompileJob> job = job_of(entry, place);
      (job ? compiled : chosen).push_back(&entry);
      if (job) jobs.push_back(std::move(*job));
    } catch (const Error& error) {
      // What the set does not have for this place is no failure; a missing device or compiler is.
      if (error.code() != Code::kUnsupported && !first) first = error;
    }
  }
  CompileLimits limits;
  if (settings_.progress) {
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      settings_.progress(compiled[i]->plan.symbol, jobs[i].compiler->name(), -1);
    }
    limits.progress = [&](const CompileProgress& progress) {
      for (const Entry* entry : compiled) {
        if (entry->source_name != progress.job.source.name) continue;
        settings_.progress(entry->plan.symbol, progress.job.compiler->name(), progress.result.binary.seconds);
        return;
      }
    };
  }
  const std::vector<CompileResult> results = compile_all(std::move(jobs), limits);
  const auto keep = [&](const Entry& entry, const Binary& binary) {
    const std::shared_ptr<Loaded> loaded = slot_of(entry, place);
    const std::lock_guard<std::mutex> lock(loaded->mutex);
    try {
      if (loaded->kernel == nullptr) loaded->kernel = make(entry, place, binary);
    } catch (const Error& error) {
      if (!first) first = error;
    }
  };
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].error) {
      if (!first) first = results[i].error;
    } else {
      keep(*compiled[i], results[i].binary);
    }
  }
  for (const Entry* entry : chosen) keep(*entry, Binary());
  if (first) throw *first;
}

Decision KernelSet::decide(const std::vector<Rows>& batch, std::string_view where) const {
  Decision decision = dispatch(batch, [&](std::string_view operation) -> std::string {
    try {
      expect_loadable(operation, where);
      return {};
    } catch (const Error& error) {
      if (error.code() == Code::kBadArgument) throw;
      return error.what();
    }
  });
  if (!decision.supported() && settings_.log) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (std::find(logged_.begin(), logged_.end(), decision.unsupported) != logged_.end()) return decision;
      logged_.push_back(decision.unsupported);
    }
    settings_.log(fmt::format("unsupported on {}: {}", where, decision.unsupported));
  }
  return decision;
}

}  // namespace gdn::runtime
