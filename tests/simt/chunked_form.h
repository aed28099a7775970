// A form of prefill's kernels by a target's tensor cores, as emitted, in the host shim, and what its tests have in
// common.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "core/prefill.h"
#include "emit/source.h"
#include "kernel.h"
#include "layout/resolve.h"
#include "oracle/parts.h"
#include "plan/choices.h"
#include "support/catch.h"
#include "support/specs.h"
#include "verify/verify.h"

namespace gdn::test {

// As the choice "form" numbers them: two segments more than one for 3 and above.
constexpr int kOne = 1, kTwo = 2, kPair = 3, kThreeSegments = 4, kFiveSegments = 6;

class Form {
 public:
  // Empty where the spec's sizes do not allow the form on the target.
  static std::optional<Form> make(const spec::Spec& spec, int form, const std::string& operation = "chunk_delta",
                                  const std::string& target = "sm_90a") {
    const layout::Layout layout = layout::resolve(spec);
    plan::TuningTable tuning = plan::TuningTable::none();
    plan::Choices choices = plan::model_bands(*plan::find_target(target), operation, layout.numbers)[0].choices;
    choices.emplace_back("form", form);
    tuning.set(target, operation, layout.spec, {{0, choices}});
    try {
      plan::Planned planned = plan::make(layout, operation, *plan::find_target(target), tuning);
      if (core::prefill_set(planned.kernel) == core::PrefillSet::kNone) return std::nullopt;
      return Form(layout, std::move(planned));
    } catch (const plan::Unplannable&) {
      return std::nullopt;
    }
  }

  const core::KernelPlan& plan() const { return planned_.kernel; }

  // `order`: of blocks, threads and transfers.
  void run(oracle::Problem& problem, unsigned order) const { run(problem, order, layout_); }
  // Without operands that may be left out.
  void run_without(oracle::Problem& problem, std::initializer_list<const char*> names) const {
    std::vector<runtime::View> views = verify::views_of(problem, layout_);
    for (std::size_t i = 0; i < views.size(); ++i) {
      for (const char* name : names) {
        if (problem.buffers()[i].name == name) views[i].data = nullptr;
      }
    }
    const std::vector<std::byte> workspace = verify::add_workspace(plan(), problem.rows(), views);
    runtime::load_host(plan(), binary_, 0)->launch(problem.rows(), problem.slots(), views);
  }
  // Tensors as their owner states them.
  void run(oracle::Problem& problem, unsigned order, const layout::Layout& owner) const {
    std::vector<runtime::View> views = verify::views_of(problem, owner);
    const std::vector<std::byte> workspace = verify::add_workspace(plan(), problem.rows(), views);
    runtime::load_host(plan(), binary_, order)->launch(problem.rows(), problem.slots(), views);
  }

 private:
  Form(layout::Layout layout, plan::Planned planned) : layout_(std::move(layout)), planned_(std::move(planned)) {
    emit::EmittedFile file = emit::source(planned_);
    runtime::Source source{file.path, std::move(file.text), runtime::template_headers()};
    for (const runtime::Header& header : runtime::host_headers()) source.headers.push_back(header);
    binary_ = runtime::make_host_compiler()->compile(source, planned_.kernel.target);
  }

  layout::Layout layout_;
  plan::Planned planned_;
  runtime::Binary binary_;
};

// A fuzz geometry with other sizes, and lines that begin like `changed.first` in place of the spec's own.
inline spec::Spec sized(const std::string& name, const std::string& heads, const std::string& dims,
                        const std::pair<std::string, std::string>& changed = {}) {
  std::string text = read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, text.find('\n', at) - at, to);
  };
  replace("heads: {", "heads: {" + heads + "}");
  replace("dims: {", "dims: {" + dims + "}");
  if (!changed.first.empty()) replace(changed.first, changed.second);
  return parse_spec(name + ".yaml", text);
}

inline void check(const Form& form, const oracle::Problem& fresh, unsigned order, const std::string& what) {
  oracle::Problem problem = fresh;
  const oracle::Expectation expectation = oracle::expect(problem);
  form.run(problem, order);
  const auto deviations = oracle::compare(expectation, problem);
  INFO(what << ", order " << order << "\n" << oracle::describe(deviations));
  CHECK(!deviations.empty());
  CHECK(oracle::all_good(deviations));
}

inline oracle::Options with_lengths(std::vector<int> lengths) {
  oracle::Options options;
  options.lengths = std::move(lengths);
  options.extra_stride = 64;
  return options;
}

// Ragged sequences, and padding where the spec has it; blocks, threads and transfers in each of the orders.
inline void check_in_orders(const Form& form, const spec::Spec& spec, std::vector<int> lengths,
                            std::initializer_list<unsigned> orders, const std::string& what) {
  oracle::Options options = with_lengths(std::move(lengths));
  options.padding_rows = form.plan().facts.padding == core::Padding::kNone ? 0 : 1;
  const oracle::Problem problem = oracle::make_problem(spec, form.plan().operation, options);
  for (const unsigned order : orders) check(form, problem, order, what);
}

// Keys of every kind, behind each of these decays.
inline void check_keys(const Form& form, const spec::Spec& spec, std::initializer_list<bool> strong_decays,
                       const std::string& what) {
  for (const oracle::Keys keys : {oracle::Keys::kRandom, oracle::Keys::kCorrelated, oracle::Keys::kRepeated}) {
    for (const bool strong : strong_decays) {
      oracle::Options options = with_lengths({200, 63});
      options.keys = keys;
      options.strong_decay = strong;
      check(form, oracle::make_problem(spec, "chunk_delta", options), 3,
            fmt::format("{} keys {}, {} decay", what, static_cast<int>(keys), strong ? "strong" : "weak"));
    }
  }
}

// Two launches of chunk_delta, in two orders: the same bits in states and outputs.
inline void check_same_bits(const Form& form, const spec::Spec& spec, const std::string& what) {
  const oracle::Problem fresh = oracle::make_problem(spec, "chunk_delta", with_lengths({130, 40}));
  oracle::Problem first = fresh, second = fresh;
  form.run(first, 0);
  form.run(second, 12345);
  for (const char* name : {"state", "handover.o"}) {
    const oracle::Buffer& a = first.buffer(name);
    INFO(what << " " << name);
    CHECK(std::memcmp(a.data(), second.buffer(name).data(), a.size_bytes()) == 0);
  }
}

}  // namespace gdn::test
