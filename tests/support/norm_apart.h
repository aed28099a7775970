// A layer without its norm, and the norm by itself behind it: what they leave together is what the whole layer leaves,
// to the bit.
#pragma once

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "oracle/problem.h"
#include "support/catch.h"
#include "support/parts_of_rows.h"
#include "support/rows.h"
#include "support/specs.h"

namespace gdn::test {

// A spec as it is under the overlay that takes its norm away.
inline spec::Spec without_norm(const std::string& file) {
  const std::string overlay = std::string(GDN_SOURCE_DIR) + "/specs/engines/vllm_core.yaml";
  const std::vector<spec::Source> sources = {{file, read_text(file)}, {overlay, read_text(overlay)}};
  spec::Diagnostics diagnostics;
  std::optional<spec::Spec> spec = spec::check(sources, diagnostics);
  INFO(spec::render(diagnostics, sources));
  REQUIRE(spec);
  return std::move(*spec);
}

inline std::string fuzz_file(const std::string& name) {
  return std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml";
}

// `operation` is decode or prefill; run(spec, operation, problem) leaves a kernel's results in the problem.
template <class Run>
void check_norm_apart(const std::string& file, const std::string& operation, Run run) {
  const spec::Spec normed = load_spec(file), bare = without_norm(file);
  oracle::Options options;
  options.rows = 5;
  options.extra_stride = 64;
  if (operation == "prefill") options.lengths = {67, 0, 3};
  oracle::Problem whole = oracle::make_problem(normed, operation, options);
  oracle::Problem core = oracle::make_problem(bare, operation, options);
  // The same numbers: what an operand holds depends on its name alone.
  for (const oracle::Buffer& buffer : core.buffers()) {
    const oracle::Buffer& same = whole.buffer(buffer.name);
    REQUIRE(std::memcmp(buffer.data(), same.data(), buffer.size_bytes()) == 0);
  }
  run(normed, operation, whole);
  run(bare, operation, core);
  for (const oracle::Buffer& buffer : core.buffers()) {
    if (buffer.kind != oracle::Kind::kPool) continue;
    INFO(buffer.name);
    CHECK(std::memcmp(buffer.data(), whole.buffer(buffer.name).data(), buffer.size_bytes()) == 0);
  }
  int rows = whole.rows();
  if (operation == "prefill") {
    rows = 0;
    for (const oracle::TokenRun& sequence : whole.sequences()) rows += sequence.tokens;
  }
  options.rows = rows;
  options.lengths.clear();
  oracle::Problem norm = oracle::make_problem(normed, "norm_quant", options);
  for (int row = 0; row < rows; ++row) {
    copy_row(core.buffer("out"), row, norm.buffer("handover.o"), row);
    put_part(norm, "in.z", row, part_of_row(whole, "in.z", row));
  }
  run(normed, "norm_quant", norm);
  int differ = 0, moved = 0;
  for (int row = 0; row < rows; ++row) {
    const oracle::Buffer &got = norm.buffer("out"), &want = whole.buffer("out"), &o = core.buffer("out");
    const std::size_t bytes = static_cast<std::size_t>(want.inner) * core::size_of(want.dtype);
    differ += std::memcmp(got.row(row), want.row(row), bytes) != 0 ? 1 : 0;
    moved += std::memcmp(o.row(row), want.row(row), bytes) != 0 ? 1 : 0;
  }
  CHECK(differ == 0);
  CHECK(moved == rows);  // the norm is not nothing
}

}  // namespace gdn::test
