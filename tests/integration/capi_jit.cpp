// The C interface from spec to numbers: every launch is judged by the oracle, every bad input has its own error.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "gdn/jit.hpp"
#include "oracle/compare.h"
#include "oracle/problem.h"
#include "oracle/reference.h"
#include "support/catch.h"
#include "support/command_line.h"
#include "support/environment.h"
#include "support/specs.h"

namespace {

using gdn::Kernel;
using gdn::Layout;
using gdn::Pool;
using gdn::Set;
using gdn::View;
namespace oracle = gdn::oracle;

const std::string kSpec = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml";
// Same shapes, other orders.
const std::string kOther = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_flat_grouped_kv_fp16_bf16.yaml";

// A place where kernels run on any machine: the CPU where it has the instructions, else the host shim. $GDN_TEST_PLACE
// replaces it.
const std::string& place() {
  static const std::string chosen = [] {
    if (const char* wanted = std::getenv("GDN_TEST_PLACE")) return std::string(wanted);
    return std::string(gdn::open_spec(kSpec).supports("decode", "cpu") ? "cpu" : "simt");
  }();
  return chosen;
}

// A problem of the oracle, its operands as views whose layouts a spec states.
struct Step {
  oracle::Problem problem;
  std::vector<View> views;

  Step(const std::string& spec, const std::string& operation, const std::string& stated, int rows = 3)
      : problem(oracle::make_problem(gdn::test::load_spec(spec), operation, options(rows))) {
    for (oracle::Buffer& buffer : problem.buffers()) {
      std::vector<std::int64_t> sizes, strides;
      if (buffer.leading != oracle::Leading::kNone) {
        sizes.push_back(buffer.rows);
        strides.push_back(buffer.stride);
      }
      if (buffer.kind != oracle::Kind::kSlots) {
        sizes.push_back(buffer.inner);
        strides.push_back(1);
      }
      const Layout layout = gdn::layout_of_spec(stated, operation, buffer.name);
      views.push_back(View::of(buffer.data(), static_cast<gdn_dtype>(buffer.dtype), sizes, strides, layout));
    }
  }
  static oracle::Options options(int rows) {
    oracle::Options made;
    made.rows = rows;
    made.extra_stride = 16;
    return made;
  }
  std::size_t index(const std::string& name) const {
    for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
      if (problem.buffers()[i].name == name) return i;
    }
    throw std::out_of_range(name);
  }
  gdn_status launch(const Kernel& kernel) const {
    const gdn::ViewList list(views);
    return gdn_launch(kernel.get(), problem.rows(), problem.slots(), list.data(), list.size(), nullptr);
  }
};

TEST_CASE("every operation, opened from a spec and launched through C, is right") {
  const Set set = gdn::open_spec(kSpec);
  for (const char* operation : {"decode", "unpack", "conv_update", "gating", "delta_update", "norm_quant"}) {
    INFO(operation << " on " << place());
    const Kernel kernel = set.open(operation, place());
    Step step(kSpec, operation, kSpec);
    const oracle::Expectation expectation = oracle::expect(step.problem);
    kernel.launch(step.problem.rows(), step.problem.slots(), step.views);
    const auto deviations = oracle::compare(expectation, step.problem);
    INFO(oracle::describe(deviations));
    CHECK(oracle::all_good(deviations));
    if (place() != "cpu") break;  // the shim compiles for seconds
  }
}

TEST_CASE("a set for launches of one token has their form alone, which computes the same of more") {
  const std::string spec = std::string(GDN_SOURCE_DIR) + "/specs/kimi_linear_48b.yaml";
  const auto plan = [&](std::int32_t rows, gdn_edges edges = GDN_EDGES_BOTH) {
    gdn::SetOptions options;
    options->rows = rows;
    options->edges = edges;
    return gdn::open_spec(spec, "sm_90a", 1, options.get()).plan("decode", "sm_90a");
  };
  CHECK_THAT(plan(0), Catch::Contains("decode_sm_90a_to_1"));
  CHECK_THAT(plan(1), !Catch::Contains("decode_sm_90a_to_"));
  CHECK(plan(1) != plan(1000));
  CHECK_THROWS_WITH(plan(-1), Catch::Contains("rows = -1"));
  CHECK_THAT(plan(16), Catch::Contains("decode_sm_90a_programmatic"));
  for (const gdn_edges edges : {GDN_EDGES_PLAIN, GDN_EDGES_PROGRAMMATIC}) {
    CHECK_THAT(plan(16, edges), !Catch::Contains("decode_sm_90a_programmatic"));
  }
  CHECK(plan(16, GDN_EDGES_PLAIN) != plan(16, GDN_EDGES_PROGRAMMATIC));
  CHECK_THROWS_WITH(plan(1, static_cast<gdn_edges>(3)), Catch::Contains("edges = 3"));

  gdn::SetOptions options;
  options->rows = 1;
  const Kernel all = gdn::open_spec(kSpec, "sm_90a").open("decode", "simt"),
               one = gdn::open_spec(kSpec, "sm_90a", 1, options.get()).open("decode", "simt");
  Step expected(kSpec, "decode", kSpec, 4), step(kSpec, "decode", kSpec, 4);
  REQUIRE(expected.launch(all) == GDN_OK);
  REQUIRE(step.launch(one) == GDN_OK);
  for (std::size_t i = 0; i < step.problem.buffers().size(); ++i) {
    const oracle::Buffer &mine = step.problem.buffers()[i], &other = expected.problem.buffers()[i];
    INFO(mine.name);
    CHECK(std::memcmp(mine.data(), other.data(), mine.size_bytes()) == 0);
  }
}

TEST_CASE("a batch of several runs is what its launches are one by one") {
  const Set set = gdn::open_spec(kSpec);
  const Kernel kernel = set.open("decode", place());
  Step alone(kSpec, "decode", kSpec, 4), mixed(kSpec, "decode", kSpec, 4);
  alone.launch(kernel);
  std::vector<gdn_named_view> shared;
  for (std::size_t i = 0; i < mixed.views.size(); ++i) {
    const std::string& name = mixed.problem.buffers()[i].name;
    if (name != "slots") shared.push_back({name.c_str(), mixed.views[i].get()});
  }
  oracle::Buffer& slots = mixed.problem.buffer("slots");
  const Layout layout = gdn::layout_of_spec(kSpec, "decode", "slots");
  const auto dtype = static_cast<gdn_dtype>(slots.dtype);
  const View first = View::of(slots.row(0), dtype, {1}, {1}, layout),
             rest = View::of(slots.row(1), dtype, {3}, {1}, layout);
  const gdn_named_view own[2] = {{"slots", first.get()}, {"slots", rest.get()}};
  gdn_run runs[2] = {{sizeof(gdn_run), GDN_ROWS_DECODE, 1, own, 1}, {sizeof(gdn_run), GDN_ROWS_DECODE, 3, own + 1, 1}};
  const gdn_kernel* const kernels[] = {kernel.get()};
  const auto launch = [&] {
    return gdn_launch_mixed(kernels, 1, runs, 2, mixed.problem.slots(), shared.data(), shared.size(), nullptr);
  };
  REQUIRE(launch() == GDN_OK);
  for (const oracle::Buffer& buffer : alone.problem.buffers()) {
    INFO(buffer.name);
    CHECK(std::memcmp(buffer.data(), mixed.problem.buffer(buffer.name).data(), buffer.size_bytes()) == 0);
  }
  // The same through C++, from the states that the first launch left.
  alone.launch(kernel);
  gdn::NamedViews common;
  for (std::size_t i = 0; i < mixed.views.size(); ++i) {
    const std::string& name = mixed.problem.buffers()[i].name;
    if (name != "slots") common.emplace_back(name, &mixed.views[i]);
  }
  const std::vector<gdn::Run> batch = {{GDN_ROWS_DECODE, 1, {{"slots", &first}}},
                                       {GDN_ROWS_DECODE, 3, {{"slots", &rest}, {"workspace", nullptr}}}};
  gdn::launch_mixed({&kernel}, batch, mixed.problem.slots(), common);
  for (const oracle::Buffer& buffer : alone.problem.buffers()) {
    INFO(buffer.name);
    CHECK(std::memcmp(buffer.data(), mixed.problem.buffer(buffer.name).data(), buffer.size_bytes()) == 0);
  }
  CHECK_THROWS_AS(gdn::launch_mixed({}, batch, mixed.problem.slots(), common), gdn::Error);

  runs[1].kind = GDN_ROWS_PREFILL;
  CHECK(launch() == GDN_UNSUPPORTED);
  CHECK(std::string(gdn_last_error_text()).find("prefill rows: prefill: no kernel was given") != std::string::npos);
  runs[1].kind = static_cast<gdn_row_kind>(7);
  CHECK(launch() == GDN_BAD_ARGUMENT);
  runs[1] = {1, GDN_ROWS_DECODE, 3, own + 1, 1};
  CHECK(launch() == GDN_OTHER_VERSION);
  runs[1] = {sizeof(gdn_run), GDN_ROWS_DECODE, 3, nullptr, 0};
  CHECK(launch() == GDN_BAD_ARGUMENT);
  CHECK(std::string(gdn_last_error_text()).find("operand slots: no tensor of that name") != std::string::npos);
  runs[1] = {sizeof(gdn_run), GDN_ROWS_DECODE, 3, own, 1};  // the first run's slot again, and too few of them
  CHECK(launch() == GDN_SIZE_MISMATCH);
}

TEST_CASE("a prepared launch is right too, and a kernel outlives its set") {
  Kernel kernel;
  {
    kernel = gdn::open_spec(kSpec).open("decode", place());
  }
  Step step(kSpec, "decode", kSpec);
  const gdn::Prepared prepared = kernel.prepare(step.problem.rows(), step.problem.slots(), step.views);
  kernel = Kernel();
  const oracle::Expectation expectation = oracle::expect(step.problem);
  prepared.launch(step.problem.rows());
  CHECK(oracle::all_good(oracle::compare(expectation, step.problem)));
}

TEST_CASE("a warm-up call compiles, and touches neither states nor outputs") {
  const Set set = gdn::open_spec(kSpec);
  const Kernel kernel = set.open("decode", place());
  Step step(kSpec, "decode", kSpec);
  std::vector<std::vector<std::byte>> before;
  for (const oracle::Buffer& buffer : step.problem.buffers()) {
    before.emplace_back(buffer.data(), buffer.data() + buffer.size_bytes());
  }
  kernel.warm_up();
  kernel.warm_up(step.views);
  kernel.launch(0, step.problem.slots(), step.views);
  CHECK(set.supports("decode", place(), 0, 0, {}));
  for (std::size_t i = 0; i < before.size(); ++i) {
    const oracle::Buffer& buffer = step.problem.buffers()[i];
    INFO(buffer.name);
    CHECK(std::equal(before[i].begin(), before[i].end(), buffer.data()));
  }
  step.views[step.index("state")] = View::of(nullptr, GDN_FP32, {1, 1}, {}, gdn::Layout::from_text("fp32 [slot]"));
  CHECK_THROWS_WITH(kernel.warm_up(step.views), Catch::Contains("operand state"));
}

TEST_CASE("what a set says about itself") {
  const Set set = gdn::open_spec(kSpec, "sm_90a,gfx942,avx512bf16");
  // Kernels, then what there is none of: drafts, which the spec has not, and what a target can't hold.
  const std::size_t kernels = gdn_set_size(set.get()), absent = gdn_set_absent(set.get());
  CHECK(kernels > 20);
  CHECK(absent >= 6);
  CHECK((kernels + absent) % 3 == 0);
  for (std::size_t i = 0; i < kernels + absent; ++i) {
    const char *operation = nullptr, *target = nullptr, *symbol = nullptr, *reason = nullptr;
    REQUIRE(gdn_set_entry(set.get(), i, &operation, &target, &symbol, &reason) == GDN_OK);
    INFO(operation << " " << target);
    CHECK((reason == nullptr) == (i < kernels));
    CHECK(std::string(symbol).empty() == (i >= kernels));
    CHECK(static_cast<bool>(set.supports(operation, target)) == (i < kernels));
  }
  CHECK(gdn_set_entry(set.get(), kernels + absent, nullptr, nullptr, nullptr, nullptr) == GDN_BAD_ARGUMENT);
  CHECK_THAT(set.plan("decode", "sm_90a"), Catch::Contains("gdn_fuzz_gdn_decode_sm_90a"));
  CHECK(set.workspace("decode", "sm_90a", 4, 8) == 0);
  CHECK(set.supports("decode", "gfx942"));
  CHECK_FALSE(set.supports("decode", "sm_80"));
  CHECK_THAT(set.supports("prefilling", "sm_90a").reason, Catch::Contains("no operation prefilling"));
  const auto steps = set.dispatch("sm_90a", {{GDN_ROWS_DECODE, 5}});
  REQUIRE(steps.size() == 1);
  CHECK(std::string(steps[0].operation) == "decode");
  CHECK_THROWS_WITH(set.dispatch("sm_90a", {{GDN_ROWS_DECODE, 5}, {GDN_ROWS_SPECULATIVE, 1}}),
                    Catch::Contains("decode_spec"));
  CHECK_THROWS_AS(gdn::open_spec(kSpec, "sm_90a,sm_90a"), gdn::Error);
  CHECK_THROWS_WITH(gdn::open_spec(kSpec, "sm_99"), Catch::Contains("unknown target `sm_99`"));

  const Kernel kernel = gdn::open_spec(kSpec).open("decode", place());
  const auto operands = kernel.operands();
  CHECK(std::string(operands.front().name) == "qkvz");
  CHECK(std::string(operands.back().role) == "output");
  CHECK(operands.back().written == 1);
  CHECK(gdn_kernel_operand(kernel.get(), operands.size(), const_cast<gdn_operand*>(&operands[0])) == GDN_BAD_ARGUMENT);
  gdn_operand small = {};
  CHECK(gdn_kernel_operand(kernel.get(), 0, &small) == GDN_OTHER_VERSION);
}

TEST_CASE("layouts of a spec's tensors are what their owner states") {
  CHECK_THAT(gdn::layout_of_spec(kSpec, "decode", "state").text(), Catch::Contains("slot@launch, value_head:6"));
  CHECK(gdn::layout_of_spec(kSpec, "unpack", "handover.q").identity() !=
        gdn::layout_of_spec(kSpec, "conv_update", "handover.q").identity());
  CHECK_THROWS_WITH(gdn::layout_of_spec(kSpec, "decode", "qkv"), Catch::Contains("takes no tensor qkv"));
  CHECK_THROWS_WITH(gdn::layout_of_spec(kSpec, "prefilling", "state"), Catch::Contains("unknown operation"));
}

TEST_CASE("an engine's overlay changes what its tensors are") {
  const std::string spec = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  const Layout plain = gdn::layout_of_spec(spec, "decode", "conv_state");
  const Layout named = gdn::layout_of_spec(spec + "+vllm_ds", "decode", "conv_state");
  const Layout by_file =
      gdn::layout_of_spec(spec + "+" + GDN_SOURCE_DIR + "/specs/engines/vllm_ds.yaml", "decode", "conv_state");
  CHECK(plain.identity() != named.identity());
  CHECK(by_file.text() == named.text());
  CHECK_THAT(gdn::open_spec(spec + "+vllm_ds", "sm_90a").plan("decode", "sm_90a"), Catch::Contains(named.text()));
  gdn_layout* layout = nullptr;
  CHECK(gdn_jit_layout((spec + "+").c_str(), "decode", "conv_state", 1, &layout) == GDN_BAD_ARGUMENT);
  CHECK(gdn_jit_layout((spec + "+nobody").c_str(), "decode", "conv_state", 1, &layout) == GDN_BAD_SPEC);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("engines/nobody.yaml"));
}

TEST_CASE("specs that can't be opened") {
  const gdn::test::TemporaryFolder folder;
  const std::string bad = (folder.path() / "bad.yaml").string();
  gdn::test::append(bad, "gdn_gen: 1\nname: bad\nrule: gdn\nheads: {key: 2, value: 5, pairing: grouped}\n");
  gdn_set* set = nullptr;
  CHECK(gdn_jit_open(bad.c_str(), "auto", 1, nullptr, &set) == GDN_BAD_SPEC);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("bad.yaml:4") && Catch::Contains("error:"));
  CHECK(gdn_jit_open("/no/such.yaml", "auto", 1, nullptr, &set) == GDN_BAD_SPEC);
  CHECK(gdn_jit_open(nullptr, "auto", 1, nullptr, &set) == GDN_BAD_ARGUMENT);
  CHECK(gdn_jit_open(kSpec.c_str(), "auto", 5, nullptr, &set) == GDN_UNSUPPORTED);
  CHECK(gdn_jit_open(kSpec.c_str(), "auto", -1, nullptr, &set) == GDN_BAD_ARGUMENT);
  CHECK(set == nullptr);
  CHECK(gdn_jit_open(kSpec.c_str(), "auto", 1, nullptr, nullptr) == GDN_BAD_ARGUMENT);
}

struct Bad {
  const char* what;
  void (*change)(Step&);
  gdn_status status;
  const char* word;
};

const std::vector<Bad> kBad = {
    {"identity: a pool with another order",
     [](Step& step) {
       const std::size_t at = step.index("state");
       oracle::Buffer& buffer = step.problem.buffers()[at];
       const Layout other = Layout::from_text("fp32 [slot@launch, value_head:6, key_dim:32, value_dim:48, swapped]");
       step.views[at] = Pool::over(buffer.data(), static_cast<gdn_dtype>(buffer.dtype), buffer.rows, buffer.inner,
                                   buffer.stride, other)
                            .view();
     },
     GDN_LAYOUT_MISMATCH, "swapped"},
    {"identity: none stated",
     [](Step& step) { step.views[0] = View::of(step.views[0].data(), GDN_BF16, {3, 2, 128}, {}, Layout()); },
     GDN_LAYOUT_MISMATCH, "not stated"},
    {"dtype",
     [](Step& step) {
       oracle::Buffer& buffer = step.problem.buffers()[0];
       step.views[0] = View::of(buffer.data(), GDN_FP16, {buffer.rows, buffer.inner}, {buffer.stride, 1},
                                gdn::layout_of_spec(kSpec, "decode", "qkvz"));
     },
     GDN_DTYPE_MISMATCH, "bf16"},
    {"leading stride", [](Step& step) { step.views[0].set_leading(3, 7); }, GDN_STRIDE_MISMATCH, "qkvz"},
    {"rows", [](Step& step) { step.views[0].set_leading(2, 1024); }, GDN_SIZE_MISMATCH, "qkvz"},
    {"device", [](Step& step) { step.views[1].set_device(GDN_DEVICE_CUDA, 0); }, GDN_WRONG_DEVICE, "CUDA device 0"},
    {"null", [](Step& step) { step.views[1].set_data(nullptr); }, GDN_BAD_ARGUMENT, "null"},
    {"alignment", [](Step& step) { step.views[0].set_data(static_cast<char*>(step.views[0].data()) + 1); },
     GDN_ALIGNMENT, "qkvz"},
    {"overlap", [](Step& step) { step.views.back().set_data(step.views[0].data()); }, GDN_OVERLAP, "out"},
    {"slot out of range", [](Step& step) { std::memset(step.views[step.index("slots")].data(), 0x7f, 4); },
     GDN_SLOT_OUT_OF_RANGE, "row 0"},
    {"slot repeated",
     [](Step& step) {
       auto* const slots = static_cast<std::int32_t*>(step.views[step.index("slots")].data());
       slots[2] = slots[0];
     },
     GDN_SLOT_REPEATED, "rows 0 and 2"},
};

TEST_CASE("each bad input of a launch is its own error, launches nothing, and is known in advance") {
  const Set set = gdn::open_spec(kSpec);
  const Kernel kernel = set.open("decode", place());
  for (const Bad& bad : kBad) {
    INFO(bad.what);
    Step step(kSpec, "decode", kSpec);
    const std::size_t out = step.index("out");
    bad.change(step);
    const oracle::Buffer before = step.problem.buffers()[out];
    CHECK(step.launch(kernel) == bad.status);
    CHECK_THAT(gdn_last_error_text(), Catch::Contains(bad.word));
    CHECK(std::memcmp(before.data(), step.problem.buffers()[out].data(), before.size_bytes()) == 0);
    const gdn::Support support = set.supports("decode", place(), 3, step.problem.slots(), step.views);
    const bool contents = bad.status == GDN_SLOT_OUT_OF_RANGE || bad.status == GDN_SLOT_REPEATED;
    CHECK(support.status == (contents ? GDN_OK : bad.status));
  }
}

TEST_CASE("operands of another spec's layout are refused, whichever operand is looked at") {
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", place());
  for (const char* name : {"qkvz", "ba", "state"}) {
    INFO(name);
    Step mixed(kSpec, "decode", kSpec);
    const std::size_t at = mixed.index(name);
    oracle::Buffer& buffer = mixed.problem.buffers()[at];
    mixed.views[at] = View::of(buffer.data(), static_cast<gdn_dtype>(buffer.dtype), {buffer.rows, buffer.inner},
                               {buffer.stride, 1}, Layout::from_text("bf16 [token@launch, somebody else's]"));
    CHECK(mixed.launch(kernel) == GDN_LAYOUT_MISMATCH);
    CHECK_THAT(gdn_last_error_text(), Catch::Contains(name) && Catch::Contains("somebody else's"));
  }
}

TEST_CASE("devices and drivers that are not there are errors, not crashes") {
  gdn::Set set = gdn::open_spec(kSpec);
  gdn_kernel* kernel = nullptr;
  const gdn_status cuda = gdn_kernel_open(set.get(), "decode", "cuda:77", &kernel);
  INFO(gdn_last_error_text());
  CHECK((cuda == GDN_MISSING_LIBRARY || cuda == GDN_UNSUPPORTED));
  CHECK(kernel == nullptr);
  CHECK(set.supports("decode", "cuda:77").status == cuda);
  const gdn_status hip = gdn_kernel_open(set.get(), "decode", "hip:77", &kernel);
  CHECK((hip == GDN_MISSING_LIBRARY || hip == GDN_UNSUPPORTED));
  gdn_pool* pool = nullptr;
  const Layout layout = Layout::from_text("x");
  CHECK(gdn_pool_create(nullptr, GDN_FP32, 1, 1, 0, layout.get(), "cuda:77", &pool) == cuda);
  CHECK(gdn_kernel_open(set.get(), "decode", "simt:gfx1", &kernel) == GDN_UNSUPPORTED);
}

TEST_CASE("threads may open and launch one kernel at once") {
  const Set set = gdn::open_spec(kSpec);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const Kernel kernel = set.open("decode", place());
      Step step(kSpec, "decode", kSpec);
      const oracle::Expectation expectation = oracle::expect(step.problem);
      if (step.launch(kernel) == GDN_OK && oracle::all_good(oracle::compare(expectation, step.problem))) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8);
}

// The bytes that a decode step leaves in its operands.
std::vector<std::byte> decoded(const Kernel& kernel) {
  Step step(kSpec, "decode", kSpec);
  kernel.launch(step.problem.rows(), step.problem.slots(), step.views);
  std::vector<std::byte> bytes;
  for (const oracle::Buffer& buffer : step.problem.buffers()) {
    bytes.insert(bytes.end(), buffer.data(), buffer.data() + buffer.size_bytes());
  }
  return bytes;
}

TEST_CASE("threads of the caller and of OpenMP do what the library's own do") {
  if (place() != "cpu") {
    std::puts("[SKIP] this processor runs no CPU target");
    return;
  }
  const auto open = [](const gdn_set_options* options) {
    return gdn::open_spec(kSpec, "", 1, options).open("decode", "cpu");
  };
  const std::vector<std::byte> expected = decoded(open(nullptr));
  std::atomic<int> parts{0};
  gdn::SetOptions callers([&](std::int32_t count, const std::function<void(std::int32_t)>& body) {
    std::vector<std::thread> threads;
    for (std::int32_t i = 0; i < count; ++i) {
      threads.emplace_back([&body, &parts, i] {
        ++parts;
        body(i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  callers->threads = 3;
  CHECK(decoded(open(callers.get())) == expected);
  CHECK(parts == 3);
  gdn::SetOptions sleepy;
  sleepy->spin_us = -1;
  CHECK(decoded(open(sleepy.get())) == expected);
  gdn::SetOptions openmp;
  openmp->threading = GDN_THREADS_OPENMP;
  try {
    CHECK(decoded(open(openmp.get())) == expected);
  } catch (const gdn::Error& error) {
    CHECK(error.status() == GDN_MISSING_LIBRARY);
  }

  gdn::SetOptions lazy([](std::int32_t count, const std::function<void(std::int32_t)>& body) {
    for (std::int32_t i = 1; i < count; ++i) body(i);
  });
  lazy->threads = 2;
  CHECK_THROWS_WITH(decoded(open(lazy.get())), Catch::Contains("1 of 2 parts"));
  gdn::SetOptions nobody;
  nobody->threading = GDN_THREADS_CALLER;
  CHECK_THROWS_WITH(open(nobody.get()), Catch::Contains("parallel_for goes with"));
  gdn::SetOptions unknown;
  unknown->threading = static_cast<gdn_threading>(7);
  CHECK_THROWS_WITH(open(unknown.get()), Catch::Contains("threading = 7"));
  // A program that was compiled before these fields were.
  gdn_set_options old = {};
  old.struct_size = offsetof(gdn_set_options, threading);
  old.threading = static_cast<gdn_threading>(7);
  CHECK(decoded(open(&old)) == expected);
}

TEST_CASE("a child that is forked after a launch launches too") {
  if (place() != "cpu") {
    std::puts("[SKIP] this processor runs no CPU target");
    return;
  }
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", "cpu");
  const std::vector<std::byte> expected = decoded(kernel);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(120);
    const bool again = decoded(kernel) == expected;
    const bool fresh = decoded(gdn::open_spec(kSpec).open("decode", "cpu")) == expected;
    ::_exit(again && fresh ? 7 : 8);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
  CHECK(decoded(kernel) == expected);
}

TEST_CASE("checked mode through the interface: NaN in a state names operation, row and slot") {
  const gdn::test::Environment on("GDN_CHECK", "1");
  const Kernel kernel = gdn::open_spec(kSpec).open("decode", place());
  Step step(kSpec, "decode", kSpec);
  CHECK(step.launch(kernel) == GDN_OK);
  oracle::Buffer& state = step.problem.buffer("state");
  const auto slot = step.problem.row_slot(1);
  const std::size_t bytes = gdn_dtype_bytes(static_cast<gdn_dtype>(state.dtype));
  std::memset(state.data() + static_cast<std::size_t>(slot * state.stride) * bytes, 0xff, 4);
  CHECK(step.launch(kernel) == GDN_NAN_IN_STATE);
  CHECK_THAT(gdn_last_error_text(),
             Catch::Contains("operation decode") && Catch::Contains("row 1, slot " + std::to_string(slot)));
  const gdn::test::Environment garbage("GDN_CHECK", "maybe");
  CHECK_THROWS_AS(gdn::open_spec(kSpec).open("decode", place()), gdn::Error);
}

TEST_CASE("the probe accepts an engine that copies what the kernel reads and names what another one does") {
  const Set set = gdn::open_spec(kSpec);
  Step step(kSpec, "gating", kSpec, 2);
  const auto* const ba = static_cast<const std::uint16_t*>(step.views[0].data());
  const std::int64_t stride = step.problem.buffers()[0].stride;
  const auto read = [&](bool swapped) {
    return [&, swapped](const std::string& part, std::int32_t rows, std::vector<float>& values) {
      if (part != "a" && part != "b") return false;
      for (int row = 0; row < rows; ++row) {
        for (int head = 0; head < 6; ++head) {  // [key_head:2, {b: [group:3], a: [group:3]}]
          const int part_offset = (part == "a") != swapped ? 3 : 0;
          const std::uint32_t bits = std::uint32_t{ba[row * stride + head / 3 * 6 + part_offset + head % 3]} << 16;
          std::memcpy(&values[static_cast<std::size_t>(row * 6 + head)], &bits, 4);
        }
      }
      return true;
    };
  };
  set.probe("gating", "avx512bf16", 2, step.views, read(false));
  CHECK_THROWS_WITH(set.probe("gating", "avx512bf16", 2, step.views, read(true)),
                    Catch::Contains("differ first at b[row 0, value_head 0]") &&
                        Catch::Contains("which the kernel calls a[row 0, value_head 0]"));
  CHECK(gdn_last_error() == GDN_LAYOUT_MISMATCH);
  CHECK_THROWS_WITH(set.probe("gating", "avx512bf16", 2, step.views, [](auto&, auto, auto&) { return false; }),
                    Catch::Contains("read no part"));
  CHECK_THROWS_AS(set.probe("gating", "avx512bf16", 2, step.views,
                            [](auto&, auto, auto&) -> bool { throw std::logic_error("mine"); }),
                  std::logic_error);
  step.views[0].set_device(GDN_DEVICE_CUDA, 0);
  CHECK_THROWS_AS(set.probe("gating", "avx512bf16", 2, step.views, read(false)), gdn::Error);
  CHECK(gdn_last_error() == GDN_WRONG_DEVICE);
}

TEST_CASE("a set is held to its spec") {
  const Set set = gdn::open_spec(kSpec);
  gdn::expect_kernels_of(set, kSpec);
  CHECK_THROWS_WITH(gdn::expect_kernels_of(set, kOther), Catch::Contains("fuzz_gdn") && Catch::Contains("spec: "));
  CHECK(gdn_last_error() == GDN_LAYOUT_MISMATCH);
}

TEST_CASE("kernels from texts in a registry") {
  const Set from = gdn::open_spec(kSpec, "avx512bf16");
  static const std::string plan = from.plan("gating", "avx512bf16");
  static gdn_kernel_source source = {};
  source.struct_size = sizeof(source);
  source.plan = plan.c_str();
  REQUIRE(gdn_register_kernels(&source, 1) == GDN_OK);
  const Set set = Set::open_registry("fuzz_gdn");
  CHECK(gdn_set_size(set.get()) == 1);
  CHECK(set.supports("gating", "avx512bf16"));
  CHECK_THROWS_AS(Set::open_registry("other"), gdn::Error);
  gdn::expect_kernels_of(set, kSpec);
}

// A compiler that is a shell script.
struct Script {
  gdn::test::TemporaryFolder folder;
  std::string path = (folder.path() / "cxx").string();
  std::string cache = (folder.path() / "cache").string();
  explicit Script(const std::string& body) {
    gdn::test::append(path, "#!/bin/sh\n" + body);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
};

void count_call(void* calls, const char*, const char*, double seconds) {
  ++static_cast<int*>(calls)[seconds < 0 ? 0 : 1];
}

TEST_CASE("compilers that misbehave are each their own error") {
  struct Misbehaviour {
    const char* script;
    gdn_status status;
    const char* word;
  };
  const std::vector<Misbehaviour> table = {
      {"echo 'gating.cu:7: error: no'; exit 1", GDN_COMPILE_FAILED, "gating.cu:7: error: no"},
      {"kill -SEGV $$", GDN_COMPILE_FAILED, "signal"},
      {"while [ $# -gt 1 ]; do [ $1 = -o ] && echo garbage > $2; shift; done", GDN_COMPILE_FAILED, "no shared object"},
      {"exit 0", GDN_COMPILE_FAILED, ""},
      {"sleep 100", GDN_TIMED_OUT, "1"},
  };
  for (const Misbehaviour& bad : table) {
    INFO(bad.script);
    const Script script(bad.script);
    const gdn::test::Environment compiler("GDN_HOST_CXX", script.path), cache("GDN_CACHE_DIR", script.cache);
    int calls[2] = {};
    gdn_set_options options = {};
    options.struct_size = sizeof(options);
    options.compile_seconds = 1;
    options.progress = count_call;
    options.user = calls;
    const Set set = gdn::open_spec(kSpec, "sm_90a", 1, &options);
    gdn_kernel* kernel = nullptr;
    CHECK(gdn_kernel_open(set.get(), "gating", "simt", &kernel) == bad.status);
    CHECK_THAT(gdn_last_error_text(), Catch::Contains(bad.word));
    CHECK(kernel == nullptr);
    CHECK(calls[0] == 1);
  }
  const gdn::test::Environment compiler("GDN_HOST_CXX", "/no/such/compiler");
  const Set set = gdn::open_spec(kSpec);
  CHECK(set.supports("gating", "simt").status == GDN_MISSING_LIBRARY);
  CHECK_THROWS_AS(set.open("gating", "simt"), gdn::Error);
  CHECK(gdn_last_error() == GDN_MISSING_LIBRARY);
}

TEST_CASE("a set loads everything that it has for a place, and tries all before it fails") {
  const Set set = gdn::open_spec(kSpec);
  if (set.supports("decode", "cpu")) set.load("cpu");
  CHECK_THROWS_AS(set.load("moon"), gdn::Error);

  const Script script("case $* in *gating*) exit 1;; esac; sleep 100");
  const gdn::test::Environment compiler("GDN_HOST_CXX", script.path), cache("GDN_CACHE_DIR", script.cache);
  int calls[2] = {};
  gdn_set_options options = {};
  options.struct_size = sizeof(options);
  options.compile_seconds = 1;
  options.progress = count_call;
  options.user = calls;
  const Set broken = gdn::open_spec(kSpec, "sm_90a,avx512bf16", 1, &options);
  CHECK_THROWS_AS(broken.load("simt"), gdn::Error);
  CHECK((gdn_last_error() == GDN_TIMED_OUT || gdn_last_error() == GDN_COMPILE_FAILED));
  CHECK(calls[0] == 9);
  CHECK(calls[1] == 9);
  gdn::open_spec(kSpec, "gfx942").load("simt:sm_90a");  // the set has nothing there: nothing to do
}

TEST_CASE("GDN_JIT=off turns what was not built into an error that says so") {
  const gdn::test::TemporaryFolder folder;
  const gdn::test::Environment off("GDN_JIT", "off"), cache("GDN_CACHE_DIR", (folder.path() / "cache").string());
  const Set set = gdn::open_spec(kSpec);
  if (set.supports("gating", "simt").status == GDN_MISSING_LIBRARY) {
    std::puts("[SKIP] no C++ compiler on this machine");
    return;
  }
  gdn_kernel* kernel = nullptr;
  CHECK(gdn_kernel_open(set.get(), "gating", "simt", &kernel) == GDN_NOT_BUILT);
  CHECK_THAT(gdn_last_error_text(), Catch::Contains("gating"));
}

}  // namespace
