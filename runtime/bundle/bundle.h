// A bundle: the kernels of one or more specs for one or more targets in one file, made ahead of time.
//
// For each kernel it holds the plan as text, the kernel's identity, and its cubin or AMD code object. CPU kernels are
// plans alone: their code is generated from the plan when it is loaded. Opening maps the file and compares checksums of
// all of it; plans are read when they are asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compile/compiler.h"
#include "core/identity.h"
#include "core/plan.h"

namespace gdn::runtime {

// What goes into a bundle.
struct BundleKernel {
  core::KernelPlan plan;
  std::vector<std::uint8_t> binary;  // empty for a CPU kernel
  std::string compiler;              // Compiler::version, for people; empty for a CPU kernel
};

// The file's bytes: the same for the same kernels. Throws kBadArgument for two kernels of one spec, operation and
// target.
std::string make_bundle(const std::vector<BundleKernel>& kernels);

class Bundle {
 public:
  struct Entry {  // the texts live as long as the bundle
    std::string_view spec, operation, target, symbol, compiler;
    std::string_view plan_text;
    std::string_view binary;  // empty for a CPU kernel
    std::uint64_t identity = 0;
  };

  // Maps a file. A file that is replaced by renaming another one over it does no harm; one that is cut short in place
  // while it is mapped ends the process, as every mapped file does. Throws Error: kSystem when it can't be read,
  // kTruncated, kAltered (no bundle at all, or other bytes than were written), kOtherVersion.
  static Bundle open(const std::string& path);

  // Over bytes that outlive the bundle, such as those in a program's own image. `name` stands in messages.
  static Bundle view(const void* data, std::size_t size, const std::string& name = "bundle");

  const std::string& name() const { return name_; }
  const std::vector<Entry>& entries() const { return entries_; }

  // The kernel of an operation and target; with `spec` empty the bundle must hold one spec only. Null when there is
  // none.
  const Entry* find(std::string_view operation, std::string_view target, std::string_view spec = {}) const;

  // Reads an entry's plan. Throws kAltered for a text that is no plan, or the plan of another kernel.
  core::KernelPlan plan(const Entry& entry) const;

  // The entry's machine code as load_gpu() takes it. Throws kBadArgument for a CPU kernel.
  Binary binary(const Entry& entry) const;

  // Compares an entry with the identity of the same kernel of the caller's own spec. Throws kLayoutMismatch naming the
  // first line in which the two differ.
  void require(const Entry& entry, const core::Identity& own) const;

 private:
  class Mapping;
  Bundle(std::string name, std::shared_ptr<const Mapping> mapping, std::string_view bytes);

  std::string name_;
  std::shared_ptr<const Mapping> mapping_;  // null over somebody else's bytes
  std::vector<Entry> entries_;
};

}  // namespace gdn::runtime
