// Kernels that belong together: what a spec, a bundle or the registry offers, and those of them that are loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "capi/compilers.h"
#include "capi/place.h"
#include "compile/compile_all.h"
#include "compile/compiler.h"
#include "device/device.h"
#include "dispatch/dispatch.h"
#include "kernel.h"

namespace gdn::runtime {

// A kernel that can be had, or why it can't.
struct Entry {
  std::string operation, target;
  std::string unavailable;  // not empty: there is no plan
  core::KernelPlan plan;
  std::string plan_text;
  std::string source_name, source;   // empty: nothing to compile
  std::vector<std::uint8_t> binary;  // empty: compile the source
};

struct SetSettings {
  Threading threading;  // of kernels on the CPU
  std::chrono::seconds time_limit{120};
  std::function<void(const std::string& symbol, const std::string& compiler, double seconds)> progress;
  std::function<void(const std::string&)> log;
};

// Of the entries of an operation, the last one in the set's order whose target `runs`: sets go from old targets to new
// ones. Null, and `why` filled, when there is none; `where` names the place in the text.
const Entry* choose(const std::vector<Entry>& entries, std::string_view operation, const std::string& where,
                    const std::function<bool(std::string_view target)>& runs, std::string& why);

// Thread-safe.
class KernelSet {
 public:
  // Throws Error kBadArgument for two entries of one operation and target.
  KernelSet(std::vector<Entry> entries, SetSettings settings);

  // Kernels first, then what is unavailable; each in the order that it was given in.
  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t kernels() const { return kernels_; }  // of them

  // The entry of an operation at a place, or on a target. Throws kUnsupported with the reason, and for a place what
  // opening its device throws.
  const Entry& find(std::string_view operation, std::string_view where) const;

  // The loaded kernel: compiled at most once for each place, whoever asks first.
  std::shared_ptr<const Kernel> load(std::string_view operation, const Place& place) const;

  // Loads every operation that the set has for a place, those that have to be compiled side by side. Tries all of them,
  // then throws the first failure.
  void load_all(const Place& place) const;

  // Throws what load() would throw before it compiles: no device, no compiler, no such operation.
  const Entry& expect_loadable(std::string_view operation, std::string_view where) const;

  // Dispatch over what expect_loadable() lets pass. An unsupported batch is logged once for each reason.
  Decision decide(const std::vector<Rows>& batch, std::string_view where) const;

  Device device(const Place& place) const;

 private:
  struct Loaded {
    std::mutex mutex;
    std::shared_ptr<const Kernel> kernel;
  };
  std::shared_ptr<Loaded> slot_of(const Entry& entry, const Place& place) const;
  // Nothing for a kernel that needs no compilation. Throws when there is no source, or no compiler.
  std::optional<CompileJob> job_of(const Entry& entry, const Place& place) const;
  std::unique_ptr<Kernel> make(const Entry& entry, const Place& place, const Binary& compiled) const;
  bool runs(std::string_view target, const Place& place) const;

  std::vector<Entry> entries_;
  std::size_t kernels_ = 0;
  SetSettings settings_;
  mutable Compilers compilers_;
  mutable std::mutex mutex_;  // of everything below
  mutable std::map<std::string, std::shared_ptr<Loaded>> loaded_;
  mutable std::map<std::string, Device> devices_;
  mutable std::vector<std::string> logged_;
};

}  // namespace gdn::runtime
