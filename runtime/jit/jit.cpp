// gdn/jit.h: spec -> plans and sources -> a set of libgdn. Knows libgdn by its C interface only, so that both libraries
// share one runtime.
#include "gdn/jit.h"

#include <fmt/format.h>

#include <cstddef>
#include <filesystem>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "capi/set_options.h"
#include "core/plan.h"
#include "emit/source.h"
#include "layout/resolve.h"
#include "layout/shard.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "spec/diagnostics.h"
#include "spec/parser.h"

namespace {

using namespace gdn;

class Refused : public std::runtime_error {
 public:
  Refused(gdn_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  gdn_status status() const { return status_; }

 private:
  gdn_status status_;
};

template <class Body>
gdn_status guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (const Refused& error) {
    return gdn_set_last_error(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return gdn_set_last_error(GDN_OUT_OF_MEMORY, "no memory of the host could be had");
  } catch (const std::exception& error) {
    return gdn_set_last_error(GDN_INTERNAL, error.what());
  } catch (...) {
    return gdn_set_last_error(GDN_INTERNAL, "an exception of an unknown kind");
  }
}

void need(const void* argument, const char* name) {
  if (argument == nullptr) throw Refused(GDN_BAD_ARGUMENT, std::string(name) + " is null");
}

// "a/model.yaml+vllm_ds+b/mine.yaml": the spec's file, then those of its overlays. A bare name is an overlay in the
// folder engines/ beside the spec.
std::vector<std::string> files_of(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> files;
  std::string_view rest = path;
  while (!fs::exists(fs::path(path), ignored)) {
    const std::size_t plus = rest.find('+');
    std::string piece(rest.substr(0, plus));
    if (piece.empty()) throw Refused(GDN_BAD_ARGUMENT, fmt::format("{}: an overlay without a name", path));
    if (!files.empty() && fs::path(piece).extension() != ".yaml") {
      piece.append(".yaml");
      piece = (fs::path(files.front()).parent_path() / "engines" / piece).string();
    }
    files.push_back(std::move(piece));
    if (plus == std::string_view::npos) return files;
    rest.remove_prefix(plus + 1);
  }
  return {path};
}

layout::Layout load(const char* path, int ranks) {
  need(path, "spec_path");
  if (ranks < 0) throw Refused(GDN_BAD_ARGUMENT, fmt::format("{} ranks: there is at least 1", ranks));
  spec::Diagnostics diagnostics;
  std::vector<spec::Source> sources;
  for (const std::string& file : files_of(path)) {
    std::optional<std::string> text = spec::read_file(file, diagnostics);
    if (!text) throw Refused(GDN_BAD_SPEC, spec::render(diagnostics, file, ""));
    sources.push_back({file, std::move(*text)});
  }
  const std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
  if (!spec) throw Refused(GDN_BAD_SPEC, spec::render(diagnostics, sources));
  try {
    layout::Layout layout = layout::resolve(layout::shard(*spec, ranks == 0 ? 1 : ranks));
    // Sources name their spec, and cache keys hold sources: where the file lies on this machine is not part of it.
    layout.spec_file = "specs/" + std::filesystem::path(path).filename().string();
    if (ranks > 1) layout.spec_file += fmt::format(" --tp {}", ranks);
    return layout;
  } catch (const layout::Unshardable& error) {
    throw Refused(GDN_UNSUPPORTED, error.what());
  }
}

std::vector<const plan::Target*> targets_of(const char* text) {
  std::vector<const plan::Target*> chosen;
  std::string_view rest = text == nullptr ? "" : text;
  if (rest.empty() || rest == "auto") {
    for (const plan::Target& target : plan::targets()) chosen.push_back(&target);
    return chosen;
  }
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view name = rest.substr(0, comma);
    const plan::Target* target = plan::find_target(name);
    if (target == nullptr) {
      std::string legal;
      for (const plan::Target& known : plan::targets()) legal += fmt::format(" {}", known.name);
      throw Refused(GDN_UNSUPPORTED, fmt::format("unknown target `{}`: auto, or some of{}", name, legal));
    }
    chosen.push_back(target);
    if (comma == std::string_view::npos) return chosen;
    rest.remove_prefix(comma + 1);
  }
}

// One kernel's texts, and the C struct that points at them.
struct Texts {
  std::string plan, name, source, operation, target, unavailable;

  gdn_kernel_source view() const {
    gdn_kernel_source source_view = {};
    source_view.struct_size = sizeof(source_view);
    source_view.operation = operation.c_str();
    source_view.target = target.c_str();
    if (!unavailable.empty()) {
      source_view.unavailable = unavailable.c_str();
      return source_view;
    }
    source_view.plan = plan.c_str();
    source_view.source_name = name.c_str();
    source_view.source = source.empty() ? nullptr : source.c_str();
    return source_view;
  }
};

// The launches that matter, of options that are checked with the set.
struct Wanted {
  int rows = 0;
  core::Edges edges = core::Edges::kBoth;
};

Wanted wanted_by(const gdn_set_options* options) {
  const std::optional<gdn_set_options> known = capi::known_options(options);
  if (!known) return {};
  const bool plain = known->edges == GDN_EDGES_PLAIN, programmatic = known->edges == GDN_EDGES_PROGRAMMATIC;
  return {known->rows, plain ? core::Edges::kPlain : programmatic ? core::Edges::kProgrammatic : core::Edges::kBoth};
}

Texts texts_of(const layout::Layout& layout, std::string_view operation, const plan::Target& target,
               const Wanted& wanted) {
  Texts texts;
  texts.operation = operation;
  texts.target = target.name;
  try {
    const plan::Planned planned =
        plan::make(layout, operation, target, plan::TuningTable::built_in(), wanted.rows, wanted.edges);
    texts.plan = core::to_text(planned.kernel);
    if (target.family != plan::Family::kCpu) {
      emit::EmittedFile file = emit::source(planned);
      texts.name = std::filesystem::path(file.path).filename().string();
      texts.source = std::move(file.text);
    }
  } catch (const plan::Unplannable& error) {
    texts.unavailable = error.what();
  }
  return texts;
}

// The pieces of two identities' texts, between semicolons, that differ first.
std::string first_difference(std::string_view made, std::string_view own) {
  while (true) {
    const std::size_t end = made.find(';'), own_end = own.find(';');
    const std::string_view piece = made.substr(0, end), own_piece = own.substr(0, own_end);
    if (piece != own_piece || end == std::string_view::npos || own_end == std::string_view::npos) {
      return fmt::format("  set:  {}\n  spec: {}", piece, own_piece);
    }
    made.remove_prefix(end + 1);
    own.remove_prefix(own_end + 1);
  }
}

void expect_same(const layout::Layout& layout, const gdn_set* set, std::size_t index) {
  const char *operation = nullptr, *target = nullptr, *symbol = nullptr, *reason = nullptr, *text = nullptr;
  gdn_set_entry(set, index, &operation, &target, &symbol, &reason);
  if (reason != nullptr || gdn_set_plan(set, operation, target, &text) != GDN_OK) return;
  const plan::Target* known = plan::find_target(target);
  if (known == nullptr || !plan::is_operation(operation)) {
    throw Refused(GDN_UNSUPPORTED, fmt::format("{}: this library makes no {} for {}", symbol, operation, target));
  }
  const core::KernelPlan made = core::parse_plan(text);
  const core::KernelPlan own = plan::make(layout, operation, *known).kernel;
  if (made.identity == own.identity && made.identity.text == own.identity.text) return;
  throw Refused(GDN_LAYOUT_MISMATCH,
                fmt::format("{} is not the kernel that {} makes\n{}\nBuild the kernels again", symbol, layout.spec_file,
                            first_difference(made.identity.text, own.identity.text)));
}

}  // namespace

extern "C" {

gdn_status gdn_jit_check(const char* spec_path, int32_t ranks, const gdn_set* set) {
  return guarded([&] {
    need(set, "set");
    const layout::Layout layout = load(spec_path, ranks);
    for (std::size_t i = 0; i < gdn_set_size(set); ++i) expect_same(layout, set, i);
    return GDN_OK;
  });
}

gdn_status gdn_jit_open(const char* spec_path, const char* targets, int32_t ranks, const gdn_set_options* options,
                        gdn_set** set) {
  if (set != nullptr) *set = nullptr;
  return guarded([&] {
    need(set, "set");
    const layout::Layout layout = load(spec_path, ranks);
    std::vector<Texts> texts;
    for (const plan::Target* target : targets_of(targets)) {
      for (const std::string_view operation : plan::operations()) {
        texts.push_back(texts_of(layout, operation, *target, wanted_by(options)));
      }
    }
    std::vector<gdn_kernel_source> kernels;
    for (const Texts& kernel : texts) kernels.push_back(kernel.view());
    return gdn_set_open_kernels(kernels.data(), kernels.size(), options, set);
  });
}

gdn_status gdn_jit_layout(const char* spec_path, const char* operation, const char* tensor, int32_t ranks,
                          gdn_layout** layout) {
  if (layout != nullptr) *layout = nullptr;
  return guarded([&] {
    need(layout, "layout");
    need(tensor, "tensor");
    const layout::Layout resolved = load(spec_path, ranks);
    const std::string_view wanted = operation == nullptr ? "decode" : operation;
    if (!plan::is_operation(wanted)) {
      throw Refused(GDN_BAD_ARGUMENT, fmt::format("unknown operation {}: {} are the operations", wanted,
                                                  fmt::join(plan::operations(), ", ")));
    }
    std::string names;
    for (const plan::Use& use : plan::uses(resolved, wanted)) {
      if (plan::name_of(use) == tensor) {
        return gdn_layout_from_text(plan::identity_of(resolved, use).text.c_str(), layout);
      }
      names += fmt::format("{}{}", names.empty() ? "" : ", ", plan::name_of(use));
    }
    throw Refused(GDN_BAD_ARGUMENT, fmt::format("operation {} of {} takes no tensor {}: it takes {}", wanted,
                                                resolved.spec, tensor, names));
  });
}

}  // extern "C"
