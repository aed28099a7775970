// The probe finds every accident of a layout that keeps its shape, and accepts an engine that agrees.
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "layout/resolve.h"
#include "plan/plan.h"
#include "probe/probe.h"
#include "support/catch.h"
#include "support/refused.h"
#include "support/specs.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using core::DType;
using runtime::Part;
using runtime::Probe;
using runtime::View;

constexpr int kRows = 2;

core::KernelPlan plan_of(const spec::Spec& spec, const char* operation) {
  return plan::make(layout::resolve(spec), operation, *plan::find_target("sm_90a")).kernel;
}

float value_at(const std::vector<std::uint8_t>& memory, DType dtype, std::int64_t element) {
  const std::uint8_t* const place = memory.data() + static_cast<std::size_t>(element) * core::size_of(dtype);
  std::uint32_t bits = 0;
  if (dtype == DType::kFp32) {
    std::memcpy(&bits, place, 4);
  } else if (core::size_of(dtype) == 1) {  // e4m3, normal numbers
    const std::uint32_t bias = dtype == DType::kE4m3fn ? 7 : 8;
    bits = ((*place >> 3 & 15u) + 127 - bias) << 23 | (*place & 7u) << 20;
  } else {
    std::uint16_t half = 0;
    std::memcpy(&half, place, 2);
    if (dtype == DType::kBf16) {
      bits = std::uint32_t{half} << 16;
    } else {  // fp16, normal numbers
      bits = ((half >> 10 & 31u) + 112) << 23 | (half & 1023u) << 13;
    }
  }
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

// An engine: tensors of its own with padded rows, unpacked by the address maps of the spec that it believes in.
class Engine {
 public:
  Engine(const core::KernelPlan& kernel, const core::KernelPlan& belief) : kernel_(kernel), belief_(belief) {
    for (const core::Operand& operand : kernel.operands) {
      const std::int64_t stride = operand.inner + (operand.launch_stride ? 8 : 0);
      memory_.emplace_back(static_cast<std::size_t>(kRows * stride) * core::size_of(operand.dtype));
      View view{memory_.back().data(), operand.dtype, {operand.inner}, {1}, {}};
      if (operand.leading != core::Leading::kNone) {
        view.sizes.insert(view.sizes.begin(), kRows);
        view.strides.insert(view.strides.begin(), stride);
      }
      views_.push_back(view);
    }
  }

  std::vector<View>& views() { return views_; }

  // The whole probe; `leave_out` names a part that the engine does not read.
  std::string difference(const std::string& leave_out = "") {
    Probe probe(kernel_, kRows, views_);
    const std::vector<Part> believed = runtime::parts_of(belief_);
    for (int pass = 0; pass < probe.passes(); ++pass) {
      probe.fill(pass, [](void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); });
      for (std::size_t i = 0; i < probe.parts().size(); ++i) {
        if (probe.parts()[i].name == leave_out) continue;
        for (const Part& mine : believed) {
          if (mine.name == probe.parts()[i].name) probe.read(i, pass, unpack(mine, probe.size_of(mine)).data());
        }
      }
    }
    return probe.difference();
  }

 private:
  std::vector<float> unpack(const Part& part, std::size_t size) const {
    const auto operand = static_cast<std::size_t>(part.map.operand);
    std::vector<float> values;
    for (std::size_t n = 0; n < size; ++n) {
      const std::int64_t row = static_cast<std::int64_t>(n) / part.elements();
      const std::int64_t element =
          runtime::address_of(belief_.facts, part, static_cast<std::int64_t>(n) % part.elements());
      values.push_back(value_at(memory_[operand], views_[operand].dtype, row * views_[operand].strides[0] + element));
    }
    return values;
  }

  core::KernelPlan kernel_, belief_;
  std::vector<std::vector<std::uint8_t>> memory_;
  std::vector<View> views_;
};

TEST_CASE("an engine that agrees is believed, in every geometry") {
  for (const std::string& file : test::fuzz_specs()) {
    const spec::Spec spec = test::load_spec(file);
    for (const char* operation : {"decode", "unpack", "conv_update", "delta_update", "norm_quant", "gating"}) {
      INFO(file << " " << operation);
      if (!test::refusal(layout::resolve(spec), operation, *plan::find_target("sm_90a")).empty()) continue;
      const core::KernelPlan plan = plan_of(spec, operation);
      CHECK(Engine(plan, plan).difference() == "");
    }
  }
}

struct Accident {
  const char* what;
  const char *from, *to;  // in the kernel's spec, qwen3_next_80b
  std::vector<const char*> words;
};

// K = V = 128 here: no shape tells any of these apart.
TEST_CASE("layouts of one shape are told apart, and the first difference has both names") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  const core::KernelPlan kernel = plan_of(test::load_spec(file), "decode");
  const std::vector<Accident> table = {
      {"flat rows read as interleaved ones",
       "qkvz: {dtype: bf16, dims: [token@launch, key_head, {q: [key_dim], k: [key_dim], v: [group, value_dim], z: "
       "[group, value_dim]}]}",
       "qkvz: {dtype: bf16, dims: flat}",
       {"differ first at q[row 0, key_head 1, key_dim 0]",
        "kernel: element 768 of row 0 of qkvz, which the engine calls q[row 0, key_head 6, key_dim 0]",
        "engine: element 128 of row 0 of qkvz, which the kernel calls k[row 0, key_head 0, key_dim 0]"}},
      {"a (V, K) state read as (K, V)",
       "state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}",
       "state: {dtype: fp32, dims: [slot@launch, value_head, key_dim, value_dim]}",
       {"state[slot 0, value_head 0, value_dim 0, key_dim 1]", "kernel: element 1 of slot 0 of state",
        "which the engine calls state[slot 0, value_head 0, value_dim 1, key_dim 0]"}},
      {"a before b",
       "{b: [group], a: [group]}",
       "{a: [group], b: [group]}",
       {"b[row 0, value_head 0]", "which the kernel calls a[row 0, value_head 0]"}},
      {"a DS window read as SD",
       "conv_state: {dtype: bf16, dims: [slot@launch, tap, channel]}",
       "conv_state: {dtype: bf16, dims: [slot@launch, channel, tap]}",
       {"conv_state.q[slot 0, key_head 0, key_dim 0, tap 1]", "conv_state"}},
      {"tiled heads taken for grouped ones", "pairing: grouped", "pairing: tiled", {"v[row 0, value_head 1", "qkvz"}},
  };
  for (const Accident& accident : table) {
    INFO(accident.what);
    const spec::Spec believed = test::variant(file, accident.from, accident.to);
    const std::string text = Engine(kernel, plan_of(believed, "decode")).difference();
    INFO(text);
    for (const char* word : accident.words) CHECK_THAT(text, Catch::Contains(word));
  }
}

// A decay for each key channel, read as if channels were slower than heads, and the packed gates of kda.
TEST_CASE("KDA's decays are told apart by head and channel") {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/ling_3_0_tiny.yaml";
  const core::KernelPlan kernel = plan_of(test::load_spec(file), "decode");
  CHECK(Engine(kernel, kernel).difference() == "");
  const std::vector<Accident> table = {
      {"a by channel and head",
       "a: {dtype: bf16, dims: [token@launch, value_head, key_dim]}       # f_a_proj",
       "a: {dtype: bf16, dims: [token@launch, key_dim, value_head]}       # f_a_proj",
       {"differ first at a[row 0, value_head 0, key_dim 1]",
        "kernel: element 1 of row 0 of a, which the engine calls a[row 0, value_head 1, key_dim 0]"}},
      {"dt_bias by channel and head",
       "dt_bias: {dtype: fp32, dims: [value_head, key_dim]}",
       "dt_bias: {dtype: fp32, dims: [key_dim, value_head]}",
       {"dt_bias[value_head 0, key_dim 1]"}},
      {"a (V, K) state read as (K, V)",
       "state: {dtype: fp32, dims: [slot@launch, value_head, value_dim, key_dim]}",
       "state: {dtype: fp32, dims: [slot@launch, value_head, key_dim, value_dim]}",
       {"state[slot 0, value_head 0, value_dim 0, key_dim 1]"}},
      {"a window of q token by token",
       "conv_state_q: {dtype: bf16, dims: [slot@launch, key_head, key_dim, tap]}",
       "conv_state_q: {dtype: bf16, dims: [slot@launch, tap, key_head, key_dim]}",
       {"conv_state.q[slot 0, key_head 0, key_dim 0, tap 1]"}}};
  for (const Accident& accident : table) {
    INFO(accident.what);
    const std::string text =
        Engine(kernel, plan_of(test::variant(file, accident.from, accident.to), "decode")).difference();
    INFO(text);
    for (const char* word : accident.words) CHECK_THAT(text, Catch::Contains(word));
  }
}

TEST_CASE("a part that the engine does not read is not judged; what it never filled is a difference") {
  const spec::Spec spec = test::fuzz("fuzz_gdn");
  const core::KernelPlan plan = plan_of(spec, "decode");
  CHECK(Engine(plan, plan).difference("state") == "");

  Engine engine(plan, plan);
  Probe probe(plan, kRows, engine.views());
  const std::vector<float> zeros(probe.size_of(probe.parts()[0]));
  for (int pass = 0; pass < probe.passes(); ++pass) probe.read(0, pass, zeros.data());
  CHECK_THAT(probe.difference(), Catch::Contains("in none of the operands"));
}

TEST_CASE("bad views of a probe") {
  const core::KernelPlan plan = plan_of(test::fuzz("fuzz_gdn"), "decode");
  Engine engine(plan, plan);
  const auto code_of = [&](int rows, const std::vector<View>& views) {
    return test::thrown_by([&] { Probe probe(plan, rows, views); }).code;
  };
  CHECK(code_of(0, engine.views()) == runtime::Code::kBadArgument);
  CHECK(code_of(kRows + 1, engine.views()) == runtime::Code::kSizeMismatch);
  CHECK(code_of(kRows, {}) == runtime::Code::kBadArgument);
  std::vector<View> views = engine.views();
  views[0].dtype = views[0].dtype == DType::kFp32 ? DType::kBf16 : DType::kFp32;
  CHECK(code_of(kRows, views) == runtime::Code::kDtypeMismatch);
}

}  // namespace
