// Sets of kernels, support and dispatch of gdn.h.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "capi/handles.h"
#include "capi/set_options.h"
#include "check.h"
#include "core/plan.h"
#include "core/prefill.h"

namespace gdn::capi {
namespace {

using runtime::Code;
using runtime::Entry;
using runtime::Error;

// Pointers and no copies: what registers itself lives as long as the process.
struct Registry {
  std::mutex mutex;
  std::vector<const gdn_kernel_source*> kernels;
};

Registry& registry() {
  static Registry the;
  return the;
}

core::KernelPlan parse(const char* text) {
  try {
    return core::parse_plan(text);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(Code::kBadArgument, fmt::format("a plan that can't be read: {}", error.what()));
  }
}

std::string text_or(const char* text, const char* otherwise) { return text == nullptr ? otherwise : text; }

// The spec's name in the text of a plan: enough to choose, without reading all of it.
bool is_of_spec(const gdn_kernel_source& source, const std::string& spec) {
  return source.plan != nullptr && parse(source.plan).spec == spec;
}

runtime::Threading threading_of(const gdn_set_options& options) {
  using Kind = runtime::Threading::Kind;
  runtime::Threading threading;
  switch (options.threading) {
    case GDN_THREADS_POOL:
      break;
    case GDN_THREADS_CALLER:
      threading.kind = Kind::kCaller;
      break;
    case GDN_THREADS_OPENMP:
      threading.kind = Kind::kOpenMp;
      break;
    default:
      throw Error(Code::kBadArgument, fmt::format("gdn_set_options: threading = {}: GDN_THREADS_POOL, _CALLER and "
                                                  "_OPENMP are known",
                                                  static_cast<int>(options.threading)));
  }
  if ((threading.kind == Kind::kCaller) != (options.parallel_for != nullptr)) {
    throw Error(Code::kBadArgument,
                "gdn_set_options: parallel_for goes with threading = GDN_THREADS_CALLER, and with that alone");
  }
  threading.threads = options.threads;
  threading.spin_us = options.spin_us;
  threading.parallel_for = options.parallel_for;
  threading.user = options.parallel_user;
  return threading;
}

}  // namespace

runtime::SetSettings settings_of(const gdn_set_options* given) {
  runtime::SetSettings settings;
  settings.log = log;
  const std::optional<gdn_set_options> options = known_options(given);
  if (!options) {
    throw Error(Code::kOtherVersion, fmt::format("gdn_set_options of {} bytes: set struct_size to sizeof, {} here",
                                                 given->struct_size, sizeof(gdn_set_options)));
  }
  if (options->threads < 0 || options->compile_seconds < 0) {
    throw Error(Code::kBadArgument,
                fmt::format("gdn_set_options: threads = {}, compile_seconds = {}: they are 0 or more", options->threads,
                            options->compile_seconds));
  }
  if (options->rows < 0) {
    throw Error(Code::kBadArgument,
                fmt::format("gdn_set_options: rows = {}: the tokens of a launch, or 0", options->rows));
  }
  if (options->edges < GDN_EDGES_BOTH || options->edges > GDN_EDGES_PROGRAMMATIC) {
    throw Error(Code::kBadArgument, fmt::format("gdn_set_options: edges = {}: GDN_EDGES_BOTH, _PLAIN and _PROGRAMMATIC "
                                                "are known",
                                                static_cast<int>(options->edges)));
  }
  settings.threading = threading_of(*options);
  if (options->compile_seconds > 0) settings.time_limit = std::chrono::seconds(options->compile_seconds);
  if (options->progress != nullptr) {
    settings.progress = [progress = options->progress, user = options->user](
                            const std::string& symbol, const std::string& compiler, double seconds) {
      progress(user, symbol.c_str(), compiler.c_str(), seconds);
    };
  }
  return settings;
}

Entry entry_of(const gdn_kernel_source& source) {
  if (source.struct_size < sizeof(gdn_kernel_source)) {
    throw Error(Code::kOtherVersion, fmt::format("gdn_kernel_source of {} bytes: set struct_size to sizeof, {} here",
                                                 source.struct_size, sizeof(gdn_kernel_source)));
  }
  Entry entry;
  if (source.plan == nullptr) {
    need(source.operation, "a kernel without a plan: operation");
    need(source.target, "a kernel without a plan: target");
    entry.operation = source.operation;
    entry.target = source.target;
    entry.unavailable = text_or(source.unavailable, "");
    if (entry.unavailable.empty()) entry.unavailable = "no reason was given";
    return entry;
  }
  entry.plan = parse(source.plan);
  entry.plan_text = source.plan;
  entry.operation = entry.plan.operation;
  entry.target = entry.plan.target;
  entry.source_name = text_or(source.source_name, entry.plan.symbol.c_str());
  entry.source = text_or(source.source, "");
  if (source.binary != nullptr) {
    const auto* const bytes = static_cast<const std::uint8_t*>(source.binary);
    entry.binary.assign(bytes, bytes + source.binary_bytes);
  }
  return entry;
}

std::unique_ptr<gdn_set> make_set(std::vector<Entry> entries, const gdn_set_options* options) {
  auto handle = std::make_unique<gdn_set>();
  handle->set = std::make_shared<const runtime::KernelSet>(std::move(entries), settings_of(options));
  return handle;
}

}  // namespace gdn::capi

using gdn::capi::created;
using gdn::capi::guarded;
using gdn::capi::need;
using gdn::runtime::Code;
using gdn::runtime::Entry;
using gdn::runtime::Error;

extern "C" {

gdn_status gdn_set_open_kernels(const gdn_kernel_source* kernels, size_t count, const gdn_set_options* options,
                                gdn_set** set) {
  return created(set, "set", [&] {
    if (count > 0) need(kernels, "kernels");
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < count; ++i) entries.push_back(gdn::capi::entry_of(kernels[i]));
    return gdn::capi::make_set(std::move(entries), options);
  });
}

gdn_status gdn_register_kernels(const gdn_kernel_source* kernels, size_t count) {
  return guarded([&] {
    if (count > 0) need(kernels, "kernels");
    gdn::capi::Registry& registry = gdn::capi::registry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    for (std::size_t i = 0; i < count; ++i) registry.kernels.push_back(&kernels[i]);
  });
}

gdn_status gdn_set_open_registry(const char* spec, const gdn_set_options* options, gdn_set** set) {
  return created(set, "set", [&] {
    need(spec, "spec");
    std::vector<Entry> entries;
    gdn::capi::Registry& registry = gdn::capi::registry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    for (const gdn_kernel_source* source : registry.kernels) {
      if (gdn::capi::is_of_spec(*source, spec)) entries.push_back(gdn::capi::entry_of(*source));
    }
    if (entries.empty()) {
      throw Error(Code::kUnsupported,
                  fmt::format("no kernel of spec {} is compiled into this program ({} of other specs)", spec,
                              registry.kernels.size()));
    }
    return gdn::capi::make_set(std::move(entries), options);
  });
}

void gdn_set_close(gdn_set* set) { delete set; }

size_t gdn_set_size(const gdn_set* set) { return set == nullptr ? 0 : set->set->kernels(); }

size_t gdn_set_absent(const gdn_set* set) {
  return set == nullptr ? 0 : set->set->entries().size() - set->set->kernels();
}

gdn_status gdn_set_entry(const gdn_set* set, size_t index, const char** operation, const char** target,
                         const char** symbol, const char** reason) {
  return guarded([&] {
    need(set, "set");
    if (index >= set->set->entries().size()) {
      throw Error(Code::kBadArgument, fmt::format("entry {} of a set of {} kernels and {} absent ones", index,
                                                  set->set->kernels(), gdn_set_absent(set)));
    }
    const Entry& entry = set->set->entries()[index];
    if (operation != nullptr) *operation = entry.operation.c_str();
    if (target != nullptr) *target = entry.target.c_str();
    if (symbol != nullptr) *symbol = entry.plan.symbol.c_str();
    if (reason != nullptr) *reason = entry.unavailable.empty() ? nullptr : entry.unavailable.c_str();
  });
}

gdn_status gdn_set_plan(const gdn_set* set, const char* operation, const char* target, const char** text) {
  if (text != nullptr) *text = nullptr;
  return guarded([&] {
    need(set, "set");
    need(operation, "operation");
    need(target, "target");
    need(text, "text");
    *text = set->set->find(operation, target).plan_text.c_str();
  });
}

gdn_status gdn_set_workspace(const gdn_set* set, const char* operation, const char* where, int32_t rows, int32_t slots,
                             uint64_t* bytes) {
  return guarded([&] {
    need(set, "set");
    need(operation, "operation");
    need(where, "where");
    need(bytes, "bytes");
    if (rows < 1 || slots < 0) throw Error(Code::kBadArgument, fmt::format("{} rows, {} slots", rows, slots));
    std::uint64_t sum = 0;
    const gdn::core::KernelPlan& plan = set->set->find(operation, where).plan;
    // As many sequences as there are slots for, or rows; never more than rows. Snapshots have slots of their own.
    const int most = plan.facts.snapshots ? std::min(rows, std::numeric_limits<int>::max() / 2) * 2 : rows;
    const int sequences = slots > 0 ? std::min(most, slots) : most;
    sum += static_cast<std::uint64_t>(gdn::core::most_workspace_bytes(plan, rows, sequences));
    for (const gdn::core::Operand& operand : plan.operands) {
      if (operand.role != gdn::core::Role::kWorkspace) continue;
      const std::int64_t count = operand.leading == gdn::core::Leading::kNone   ? 1
                                 : operand.leading == gdn::core::Leading::kSlot ? slots
                                                                                : rows;  // no more sequences than rows
      sum += static_cast<std::uint64_t>(count * operand.inner) * gdn::core::size_of(operand.dtype);
    }
    *bytes = sum;
  });
}

gdn_status gdn_set_load(const gdn_set* set, const char* place) {
  return guarded([&] {
    need(set, "set");
    need(place, "place");
    set->set->load_all(gdn::runtime::parse_place(place));
  });
}

gdn_status gdn_supported(const gdn_set* set, const char* operation, const char* where, int32_t rows, int32_t slots,
                         const gdn_view* const* views, size_t count) {
  return guarded([&] {
    need(set, "set");
    need(operation, "operation");
    need(where, "where");
    const Entry& entry = set->set->expect_loadable(operation, where);
    if (views == nullptr) return;
    const gdn::capi::ViewArray array(views, count);
    gdn::runtime::check(entry.plan, rows, slots, array);
    if (!gdn::runtime::is_place(where)) return;
    const gdn::runtime::Place place = gdn::runtime::parse_place(where);
    gdn::runtime::check_devices(entry.plan, array, place.memory(), place.ordinal);
  });
}

gdn_status gdn_dispatch(const gdn_set* set, const char* where, const gdn_rows* batch, size_t batch_count,
                        gdn_step* steps, size_t capacity, size_t* count) {
  if (count != nullptr) *count = 0;
  return guarded([&] {
    need(set, "set");
    need(where, "where");
    if (batch_count > 0) need(batch, "batch");
    if (capacity > 0) need(steps, "steps");
    need(count, "count");
    std::vector<gdn::runtime::Rows> runs;
    for (std::size_t i = 0; i < batch_count; ++i) {
      if (batch[i].kind < GDN_ROWS_DECODE || batch[i].kind > GDN_ROWS_PREFILL) {
        throw Error(Code::kBadArgument, fmt::format("{} is no gdn_row_kind", static_cast<int>(batch[i].kind)));
      }
      runs.push_back({static_cast<gdn::runtime::RowKind>(batch[i].kind), batch[i].rows});
    }
    const gdn::runtime::Decision decision = set->set->decide(runs, where);
    if (!decision.supported()) throw Error(Code::kUnsupported, decision.unsupported);
    *count = decision.steps.size();
    if (decision.steps.size() > capacity) {
      throw Error(Code::kSizeMismatch, fmt::format("{} steps, and room for {}", decision.steps.size(), capacity));
    }
    for (std::size_t i = 0; i < decision.steps.size(); ++i) {
      const gdn::runtime::Step& from = decision.steps[i];
      gdn_step& to = steps[i];
      std::memset(&to, 0, sizeof(to));
      from.operation.copy(to.operation, sizeof(to.operation) - 1);
      to.kind = static_cast<gdn_row_kind>(from.kind);
      to.first_row = from.first_row;
      to.rows = from.rows;
    }
  });
}

}  // extern "C"
