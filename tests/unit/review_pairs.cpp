// Every pair of checked-in specs, overlays included, that agrees in all shapes and dtypes: what differs between the two
// is told apart as silent. silent_pairs.txt lists them, so that a review sees a pair that comes or goes;
// GDN_UPDATE_GOLDENS=1 writes it anew.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "layout/resolve.h"
#include "review/diff.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

struct Resolved {
  spec::Spec spec;
  layout::Layout layout;
};

std::vector<Resolved> everything() {
  std::vector<std::string> models = test::released_specs();
  for (std::string& file : test::yaml_files("specs/more")) models.push_back(std::move(file));
  std::vector<Resolved> all;
  const auto add = [&](const std::vector<std::string>& files) {
    std::vector<spec::Source> sources;
    for (const std::string& file : files) sources.push_back({file, test::read_text(file)});
    spec::Diagnostics diagnostics;
    std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
    INFO(spec::render(diagnostics, sources));
    REQUIRE(spec);
    layout::Layout layout = layout::resolve(*spec);
    all.push_back({std::move(*spec), std::move(layout)});
  };
  for (const std::string& model : models) {
    add({model});
    for (const std::string& overlay : test::yaml_files("specs/engines")) {
      const std::string name = std::filesystem::path(overlay).stem().string();
      if (test::overlay_fits(model, name)) add({model, overlay});
    }
  }
  return all;
}

std::int64_t product(const spec::Spec& spec, const std::vector<spec::Dim>& dims, bool pool);

std::int64_t size(const spec::Spec& spec, const spec::Dim& dim, bool pool) {
  if (dim.packed()) {
    std::int64_t sum = 0;
    for (const spec::Part& part : dim.parts) sum += product(spec, part.dims, pool);
    return sum;
  }
  const std::map<std::string, std::int64_t> sizes = {{"token", 1},
                                                     {"slot", 1},
                                                     {"key_head", *spec.heads.key},
                                                     {"value_head", *spec.heads.value},
                                                     {"group", *spec.heads.value / *spec.heads.key},
                                                     {"key_dim", *spec.dims.key},
                                                     {"value_dim", *spec.dims.value},
                                                     {"tap", pool ? *spec.conv.window : *spec.conv.width}};
  return sizes.at(*dim.name);
}

std::int64_t product(const spec::Spec& spec, const std::vector<spec::Dim>& dims, bool pool) {
  std::int64_t result = 1;
  for (const spec::Dim& dim : dims) result *= size(spec, dim, pool);
  return result;
}

// What an engine's checks see of a layer, written without the code under test: dtype and shape of every operand, rows
// of projections and of the output as one dimension.
std::string seen(const spec::Spec& spec) {
  std::string text(core::to_string(*spec.slots.dtype));
  text += " " + std::to_string(spec.layers.count->value_or(0)) + " layers";
  const auto add = [&](const std::vector<spec::Tensor>& tensors, bool flat, bool pool) {
    for (const spec::Tensor& tensor : tensors) {
      text += "; " + *tensor.name + " " + std::string(core::to_string(*tensor.dtype));
      if (flat) {
        text += " " + std::to_string(product(spec, tensor.dims, pool));
        continue;
      }
      for (const spec::Dim& dim : tensor.dims) text += " " + std::to_string(size(spec, dim, pool));
    }
  };
  add(spec.inputs, true, false);
  add(spec.parameters, false, false);
  add(spec.pools, false, true);
  add(spec.handover, false, false);
  add(spec.outputs, true, false);
  return text;
}

}  // namespace

TEST_CASE("pairs that agree in all shapes and dtypes are told apart as silent") {
  const std::vector<Resolved> all = everything();
  std::vector<std::string> seen_of;
  for (const Resolved& resolved : all) seen_of.push_back(seen(resolved.spec));
  std::string pairs, same;
  std::size_t silent_pairs = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = i + 1; j < all.size(); ++j) {
      INFO(*all[i].spec.name << " and " << *all[j].spec.name);
      const review::Difference difference = review::compare({all[i].spec, all[i].layout}, {all[j].spec, all[j].layout});
      const bool visible = difference.silent() != difference.changes.size();
      CHECK(visible == (seen_of[i] != seen_of[j]));
      if (visible) continue;
      std::string line = *all[i].spec.name + " | " + *all[j].spec.name + " |";
      for (const review::Change& change : difference.changes) line += " " + change.what;
      if (!difference.any()) {
        // Nothing differs in meaning: then every operand's layout has one identity in both.
        for (const char* tensor : {"state", "a_log", "norm_weight", "out"}) {
          if (std::string_view(tensor) == "norm_weight" && !*all[i].spec.out_norm.enabled) continue;
          CHECK(layout::identity(all[i].layout, all[i].layout.tensor(tensor)) ==
                layout::identity(all[j].layout, all[j].layout.tensor(tensor)));
        }
        same += line + " the same\n";
        continue;
      }
      ++silent_pairs;
      pairs += line + "\n";
    }
  }
  const std::string text =
      "# Pairs of specs that agree in every shape and dtype, and what differs between them silently.\n" + pairs +
      "# Pairs that are the same layer under two names.\n" + same;
  const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/unit/silent_pairs.txt";
  if (std::getenv("GDN_UPDATE_GOLDENS") != nullptr) std::ofstream(file) << text;
  INFO("GDN_UPDATE_GOLDENS=1 writes " << file << " anew");
  CHECK(test::read_text(file) == text);
  CHECK(silent_pairs > 20);
}
