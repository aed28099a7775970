// Batches of prefill, decode and speculative rows in one call, through the host shim: each run is judged by the oracle
// as if it were alone, on tensors in which its rows stand among the others'.
#include <cstring>
#include <map>
#include <optional>

#include "compile/compiler.h"
#include "compile/headers.h"
#include "dispatch/mixed.h"
#include "emit/source.h"
#include "error.h"
#include "layout/resolve.h"
#include "oracle/parts.h"
#include "plan/operation.h"
#include "support/catch.h"
#include "support/specs.h"
#include "support/thrown.h"
#include "verify/verify.h"

using namespace gdn;
using runtime::RowKind;

namespace {

// A fuzz geometry that decodes, drafts and prefills.
spec::Spec mixed_spec(const std::string& name) {
  std::string text = test::read_text(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml");
  const std::string from = "prefill: none";
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(),
               "prefill: {kind: chunked, chunk: 64, offsets: int32, initial_states: flagged, flags: uint8, "
               "final_states: in_place, empty: untouched, qk: fp32, snapshots: none}");
  return test::parse_spec(name + ".yaml", text);
}

// One run of the batch, as a problem of its own, and where it lies in the batch.
struct Run {
  RowKind kind;
  oracle::Problem problem;
  oracle::Expectation expectation;
  int first_row = 0, first_slot = 0;
};

// A tensor of the batch: the runs' rows or slots, one behind the other.
struct Tensor {
  std::vector<std::byte> bytes;
  std::int64_t rows = 0;
  runtime::View view;
  const oracle::Buffer* like = nullptr;

  std::byte* row(std::int64_t i) {
    return data() + static_cast<std::size_t>(i * like->stride) * core::size_of(like->dtype);
  }
  std::byte* data() { return bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64; }
};

class Batch {
 public:
  Batch(const spec::Spec& spec, const std::vector<std::string>& operations, std::vector<Run> runs)
      : layout_(layout::resolve(spec)),
        zeroes_excess_(*spec.slots.excess_output == core::PaddedOutput::kZero),
        runs_(std::move(runs)) {
    const plan::Target& target = *plan::find_target("sm_80");
    const auto compiler = runtime::make_host_compiler();
    for (const std::string& operation : operations) {
      const plan::Planned planned = plan::make(layout_, operation, target);
      emit::EmittedFile file = emit::source(planned);
      runtime::Source source{file.path, std::move(file.text), runtime::template_headers()};
      for (const runtime::Header& header : runtime::host_headers()) source.headers.push_back(header);
      kernels_[operation] = runtime::load_host(planned.kernel, compiler->compile(source, planned.kernel.target));
    }
    for (Run& run : runs_) {
      run.first_row = rows_;
      run.first_slot = slots_;
      rows_ += run.problem.rows();
      slots_ += run.problem.slots();
      run.expectation = oracle::expect(run.problem);
    }
    behind_ = runs_.back().problem.buffer("out").rows - runs_.back().problem.rows();
    for (Run& run : runs_) gather(run);
  }

  int slots() const { return slots_; }
  std::vector<Run>& runs() { return runs_; }

  void launch() {
    std::vector<runtime::NamedView> shared;
    for (auto& [name, tensor] : tensors_) {
      tensor.view.data = tensor.data();
      if (!tensor.view.sizes.empty() && tensor.like->leading != oracle::Leading::kNone)
        tensor.view.sizes[0] = tensor.rows;
      shared.push_back({name, &tensor.view});
    }
    std::vector<runtime::MixedRun> batch;
    std::vector<std::vector<runtime::View>> views(runs_.size());
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      Run& run = runs_[i];
      runtime::MixedRun mixed;
      mixed.rows = {run.kind, run.problem.rows()};
      views[i] = verify::views_of(run.problem, layout_);
      for (std::size_t b = 0; b < views[i].size(); ++b) {
        const oracle::Buffer& buffer = run.problem.buffers()[b];
        if (is_own(buffer)) mixed.own.push_back({buffer.name, &views[i][b]});
      }
      batch.push_back(std::move(mixed));
    }
    runtime::launch_mixed(batch, slots_, shared, [&](std::string_view operation) -> const runtime::Kernel* {
      const auto found = kernels_.find(std::string(operation));
      return found == kernels_.end() ? nullptr : found->second.get();
    });
  }

  // Each run's part of the batch's tensors, judged.
  void judge() {
    for (Run& run : runs_) {
      shift_slots(run, -run.first_slot);
      for (oracle::Buffer& buffer : run.problem.buffers()) {
        if (is_own(buffer) || !buffer.written) continue;
        Tensor& tensor = tensors_.at(buffer.name);
        const std::int64_t first = start(run, buffer);
        for (std::int64_t i = 0; i < count(run, buffer); ++i)
          std::memcpy(buffer.row(i), tensor.row(first + i), row_bytes(buffer));
        // Beyond a run's rows lie those of the next one.
        for (std::int64_t i = count(run, buffer); zeroes_excess_ && i < buffer.rows; ++i) {
          std::memset(buffer.row(i), 0, row_bytes(buffer));
        }
      }
      const auto deviations = oracle::compare(run.expectation, run.problem);
      INFO(runtime::to_string(run.kind) << "\n" << oracle::describe(deviations));
      CHECK(!deviations.empty());
      CHECK(oracle::all_good(deviations));
    }
  }

 private:
  static bool is_own(const oracle::Buffer& buffer) {
    return buffer.kind == oracle::Kind::kSlots || buffer.kind == oracle::Kind::kIndices;
  }
  static std::size_t row_bytes(const oracle::Buffer& buffer) {
    return static_cast<std::size_t>(buffer.stride) * core::size_of(buffer.dtype);
  }
  static std::int64_t start(const Run& run, const oracle::Buffer& buffer) {
    return buffer.leading == oracle::Leading::kToken  ? run.first_row
           : buffer.leading == oracle::Leading::kSlot ? run.first_slot
                                                      : 0;
  }
  std::int64_t count(const Run& run, const oracle::Buffer& buffer) const {
    const bool end = &run == &runs_.back() && buffer.kind == oracle::Kind::kOutput;
    return buffer.leading == oracle::Leading::kToken && !end ? run.problem.rows() : buffer.rows;
  }

  // The runs' slots become those of the batch's pools; padding stays what it is.
  static void shift_slots(Run& run, int by) {
    for (oracle::Buffer& buffer : run.problem.buffers()) {
      if (buffer.kind != oracle::Kind::kSlots) continue;
      for (std::int64_t i = 0; i < buffer.rows * buffer.inner; ++i) {
        std::byte* at =
            buffer.row(i / buffer.inner) + static_cast<std::size_t>(i % buffer.inner) * core::size_of(buffer.dtype);
        const double slot = oracle::load(buffer.dtype, at);
        if (slot >= 0) oracle::store(buffer.dtype, at, slot + by);
      }
    }
  }

  void gather(Run& run) {
    const std::vector<runtime::View> views = verify::views_of(run.problem, layout_);
    shift_slots(run, run.first_slot);
    for (std::size_t b = 0; b < views.size(); ++b) {
      const oracle::Buffer& buffer = run.problem.buffers()[b];
      if (is_own(buffer)) continue;
      REQUIRE_FALSE(buffer.by_group());
      Tensor& tensor = tensors_[buffer.name];
      if (tensor.like == nullptr) {
        tensor.like = &buffer;
        tensor.view = views[b];
        tensor.rows = buffer.leading == oracle::Leading::kToken  ? rows_ + behind_
                      : buffer.leading == oracle::Leading::kSlot ? slots_
                                                                 : buffer.rows;
        tensor.bytes.resize(static_cast<std::size_t>(tensor.rows) * row_bytes(buffer) + 64);
      }
      const std::int64_t first = start(run, buffer);
      for (std::int64_t i = 0; i < count(run, buffer); ++i)
        std::memcpy(tensor.row(first + i), buffer.row(i), row_bytes(buffer));
    }
  }

  layout::Layout layout_;
  bool zeroes_excess_;
  std::vector<Run> runs_;
  std::map<std::string, std::unique_ptr<runtime::Kernel>> kernels_;
  std::map<std::string, Tensor> tensors_;
  int rows_ = 0, slots_ = 0;
  std::int64_t behind_ = 0;  // rows of the output behind the batch's
};

Run run_of(const spec::Spec& spec, RowKind kind, int rows, std::vector<int> lengths = {}) {
  oracle::Options options;
  options.rows = rows;
  options.lengths = std::move(lengths);
  if (kind == RowKind::kDecode) options.excess_rows = 2;
  options.padding_rows = kind == RowKind::kPrefill ? 0 : 1;
  return {kind, oracle::make_problem(spec, runtime::fused_operation(kind), options), {}, 0, 0};
}

}  // namespace

TEST_CASE("prefill, decode and speculative rows in one call") {
  for (const char* name : {"fuzz_spec_replay", "fuzz_spec_slots", "fuzz_spec_kda"}) {
    const spec::Spec spec = mixed_spec(name);
    std::vector<Run> runs;
    runs.push_back(run_of(spec, RowKind::kDecode, 4));
    runs.push_back(run_of(spec, RowKind::kSpeculative, 3));
    runs.push_back(run_of(spec, RowKind::kPrefill, 3, {19, 0, 5}));
    runs.push_back(run_of(spec, RowKind::kDecode, 2));
    Batch batch(spec, {"decode", "decode_spec", "prefill"}, std::move(runs));
    batch.launch();
    INFO(name);
    batch.judge();
  }
}

TEST_CASE("a slot that two runs of a batch have is refused, and nothing is launched") {
  const spec::Spec spec = mixed_spec("fuzz_spec_replay");
  std::vector<Run> runs;
  runs.push_back(run_of(spec, RowKind::kDecode, 2));
  runs.push_back(run_of(spec, RowKind::kPrefill, 2, {3, 4}));
  Batch batch(spec, {"decode", "prefill"}, std::move(runs));
  oracle::Buffer& decoded = batch.runs()[0].problem.buffer("slots");
  oracle::Buffer& prefilled = batch.runs()[1].problem.buffer("slots");
  for (int row = 0; row < 2; ++row) {  // whichever is not padding
    if (oracle::load(decoded.dtype, decoded.row(row)) >= 0) std::memcpy(prefilled.row(0), decoded.row(row), 4);
  }
  const test::Thrown thrown = test::thrown_by([&] { batch.launch(); });
  REQUIRE(thrown.code);
  CHECK(*thrown.code == runtime::Code::kSlotRepeated);
  CHECK(thrown.has("a sequence has one run"));
}

TEST_CASE("a batch that a kernel is missing for is refused, with the reason") {
  const spec::Spec spec = mixed_spec("fuzz_spec_replay");
  std::vector<Run> runs;
  runs.push_back(run_of(spec, RowKind::kDecode, 2));
  runs.push_back(run_of(spec, RowKind::kSpeculative, 2));
  Batch batch(spec, {"decode"}, std::move(runs));
  const test::Thrown thrown = test::thrown_by([&] { batch.launch(); });
  REQUIRE(thrown.code);
  CHECK(*thrown.code == runtime::Code::kUnsupported);
  CHECK(thrown.has("speculative rows: decode_spec"));
}
