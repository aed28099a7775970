// Choices of output_quant that meet every formula: types and maxima, floors, powers of two, groups, where scales lie,
// what is rounded before, GDN and KDA; and what makes groups silent and nearly so, where the floors disagree.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <string_view>

#include "oracle/convert.h"
#include "oracle/problem.h"
#include "oracle/reference.h"
#include "support/catch.h"

namespace gdn::test {

inline constexpr const char* kByToken = "[token@launch, scale_group]";
inline constexpr const char* kByGroup = "[scale_group@launch, token]";

struct QuantChoice {
  const char* spec;
  const char* dtype;
  int max;
  const char* group;
  const char* floor;  // floor_at, and floor where there is one
  const char* scale;
  const char* from;
  const char* arithmetic;
  const char* dims;
};

// Each value of each column, most pairs of values that meet in the formulas.
inline constexpr QuantChoice kQuantChoices[] = {
    {"fuzz_gdn", "e4m3fn", 448, "head", "floor_at: none", "fp32", "fp32", "reciprocal", kByToken},
    {"fuzz_gdn", "e4m3fn", 448, "16", "floor_at: amax, floor: 1e-10", "ue8m0", "bf16", "reciprocal", kByGroup},
    {"fuzz_gdn", "e4m3fn", 448, "head", "floor_at: replace, floor: 1e-10", "ue8m0", "bf16", "divide", kByToken},
    {"fuzz_gdn", "e4m3fnuz", 240, "token", "floor_at: scale, floor: 1e-10", "fp32", "bf16", "divide", kByGroup},
    {"fuzz_gdn", "e4m3fnuz", 224, "16", "floor_at: none", "ue8m0", "fp32", "divide", kByToken},
    {"fuzz_gdn", "e4m3fnuz", 240, "head", "floor_at: replace, floor: 1e-10", "fp32", "fp32", "reciprocal", kByGroup},
    {"fuzz_gdn", "e4m3fnuz", 224, "32", "floor_at: amax, floor: 1e-10", "fp32", "bf16", "reciprocal", kByToken},
    {"fuzz_gdn", "e4m3fn", 448, "96", "floor_at: scale, floor: 4.359654017857143e-06", "ue8m0", "bf16", "divide",
     kByGroup},
    {"fuzz_kda", "e4m3fn", 448, "head", "floor_at: amax, floor: 1e-10", "fp32", "bf16", "divide", kByToken},
    {"fuzz_kda", "e4m3fnuz", 224, "16", "floor_at: replace, floor: 1e-10", "ue8m0", "fp32", "reciprocal", kByGroup},
    {"fuzz_kda", "e4m3fnuz", 240, "16", "floor_at: scale, floor: 1e-10", "fp32", "fp32", "divide", kByToken}};

inline std::string text_of(const QuantChoice& c) {
  return fmt::format(
      "output_quant: {{kind: dynamic, max: {}, group: {}, {}, scale: {}, from: {}, arithmetic: {}}}\n"
      "outputs:\n  out: {{dtype: {}, dims: [token@launch, value_head, value_dim]}}\n"
      "  out_scale: {{dtype: fp32, dims: {}}}\n",
      c.max, c.group, c.floor, c.scale, c.from, c.arithmetic, c.dtype, c.dims);
}

inline void scale_row(oracle::Buffer& buffer, int row, double factor) {
  for (std::int64_t i = 0; i < buffer.inner; ++i) {
    std::byte* const at = buffer.data() + buffer.offset(row, i);
    oracle::store(buffer.dtype, at, oracle::load(buffer.dtype, at) * factor);
  }
}

// Nothing; amax below every floor; amax between the floors that two engines read from one sentence: rows of
// norm_quant's input.
inline void hush_rows(oracle::Problem& problem) {
  const double quiet[] = {0, 1e-13, 1e-11};
  for (int row = 0; row < 3; ++row) scale_row(problem.buffer("handover.o"), row, quiet[row]);
}

// Scales one by one: beside those of loud groups a wrong floor would not show.
inline void check_scales(const oracle::Problem& problem, const oracle::Expectation& expectation,
                         const QuantChoice& choice) {
  const double allowed = std::string_view(choice.scale) == "ue8m0" ? 1.0 : 0.02;  // amax near a power of two
  for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
    const oracle::Buffer& scales = problem.buffers()[i];
    if (scales.name != "out_scale") continue;
    for (int row = 0; row < problem.rows(); ++row) {
      for (std::int64_t group = 0; group < scales.inner; ++group) {
        const std::size_t at = scales.offset(row, group);
        const double got = oracle::load(scales.dtype, scales.data() + at);
        const double want = oracle::load(scales.dtype, expectation.buffers[i].image.data() + at);
        INFO("row " << row << " group " << group << ": " << got << ", wanted " << want);
        CHECK(std::fabs(got - want) <= (row == 0 ? 1e-6 : allowed) * want);
      }
    }
  }
}

}  // namespace gdn::test
