// Prefill in parts of items, a value head or some columns of one each: the bytes of whole items, in any order and for
// any number of threads.
#include <memory>
#include <thread>

#include "harness.h"
#include "kernel.h"
#include "support/amx_emulator.h"
#include "support/catch.h"
#include "verify/executor.h"

using namespace gdn;

namespace {

std::vector<std::vector<std::byte>> bytes_of(const oracle::Problem& problem) {
  std::vector<std::vector<std::byte>> all;
  for (const oracle::Buffer& buffer : problem.buffers()) {
    all.emplace_back(buffer.data(), buffer.data() + buffer.size_bytes());
  }
  return all;
}

std::string fuzz_file(const std::string& name) { return std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml"; }

oracle::Problem problem_of(const spec::Spec& spec, std::string_view operation, bool snapshots) {
  oracle::Options options;
  options.lengths = {2, 67, 0, 1};
  options.slots = snapshots ? 0 : 5;
  if (*spec.slots.padding != core::Padding::kNone) options.padding_rows = 1;
  return oracle::make_problem(spec, operation, options);
}

// Whole items in one launch of one thread, then `parts` and what comes `after` them backwards, and from two threads.
void check_parts(const core::KernelPlan& plan, const char* target, const cpu::Kernel& kernel, const cpu::Kernel& parts,
                 const cpu::Kernel& after, const oracle::Problem& fresh) {
  std::unique_ptr<test::AmxEmulator> emulator;
  if (!cpu::cpu_supports(target)) emulator = std::make_unique<test::AmxEmulator>();
  const auto call = [&](const cpu::Kernel& code, const Args& args, std::int64_t begin, std::int64_t end) {
    if (emulator != nullptr) {
      emulator->run([&] { test::call(code, args, begin, end); });
    } else {
      test::call(code, args, begin, end);
    }
  };
  oracle::Problem whole = fresh;
  const Args all = test::args_of(whole, plan);
  const std::int64_t items = test::items_of(all, plan), count = items * parts.parts().count;
  const std::int64_t count_after = items * after.parts().count;
  call(kernel, all, 0, items);
  CHECK(bytes_of(whole) != bytes_of(fresh));

  oracle::Problem backwards = fresh;
  const Args one = test::args_of(backwards, plan);
  for (std::int64_t part = count; part-- > 0;) call(parts, one, part, part + 1);
  if (after) call(after, one, 0, count_after);
  CHECK(bytes_of(backwards) == bytes_of(whole));

  if (emulator != nullptr) return;  // of one thread
  oracle::Problem split = fresh;
  const Args two = test::args_of(split, plan);
  const std::int64_t middle = count / 2 + 1;
  std::thread other([&] { call(parts, two, middle, count); });
  call(parts, two, 0, middle);
  other.join();
  if (after) {
    for (std::int64_t part = count_after; part-- > 0;) call(after, two, part, part + 1);
  }
  CHECK(bytes_of(split) == bytes_of(whole));
}

void check(const std::string& file, std::string_view operation, const char* target) {
  const spec::Spec spec = spec::load_or_throw(file);
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const core::Facts& f = plan.facts;
  const cpu::Kernel kernel = cpu::generate(plan), heads = cpu::generate_parts(plan),
                    columns = cpu::generate_column_parts(plan, 64);
  const oracle::Problem fresh = problem_of(spec, operation, f.snapshots);
  INFO(file << " " << operation << " on " << target);
  CHECK(bool(heads) == (f.group > 1));
  if (heads) {
    REQUIRE(heads.parts().count == f.group);
    check_parts(plan, target, kernel, heads, cpu::generate_after_parts(plan), fresh);
  }
  const bool holds_o = operation == "chunk_delta" ||
                       (f.quant_group == 0 && (f.out.dtype == core::DType::kFp32 || f.out.dtype == f.round_o));
  CHECK(bool(columns) == (holds_o && f.value_dim > 16));
  CHECK_FALSE(cpu::generate_column_parts(plan, f.value_heads));
  if (columns) {
    const int width = f.value_dim * f.group / columns.parts().count;
    REQUIRE(columns.parts().count == f.group * (f.value_dim / width));
    REQUIRE(columns.parts().count > f.group);
    check_parts(plan, target, kernel, columns, cpu::generate_after_column_parts(plan, 64), fresh);
  }
}

// A caller's parallel_for with as many threads as it says, and none.
void backwards(void*, std::int32_t parts, void (*body)(void* context, std::int32_t part), void* context) {
  while (parts-- > 0) body(context, parts);
}

}  // namespace

TEST_CASE("parts of items in any order, and from two threads at once, give the bytes of whole items") {
  if (!test::runs_here()) return;
  for (const std::string& file : test::held_specs()) {
    if (file.find("/tests/fuzz/") == std::string::npos) continue;
    for (const char* target : {test::kCpuTarget, "avx2", "amx"}) {
      if (std::string_view(target) == "amx" && file.find("fuzz_gdn") == std::string::npos &&
          file.find("fuzz_kda.") == std::string::npos && file.find("fuzz_snapshots") == std::string::npos) {
        continue;  // the emulator takes its time
      }
      const auto known = plan::operations_on(layout::resolve(spec::load_or_throw(file)), *plan::find_target(target));
      for (const std::string_view operation : {"chunk_delta", "prefill"}) {
        if (std::find(known.begin(), known.end(), operation) != known.end()) check(file, operation, target);
      }
    }
  }
}

TEST_CASE("any number of threads gives the bytes of one") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_gdn", "fuzz_kda", "fuzz_snapshots", "fuzz_separate_tiled_kv_fp32_fp32"}) {
    for (const auto& [group, operation] :
         {std::pair<int, const char*>{3, "chunk_delta"}, {3, "prefill"}, {1, "prefill"}}) {
      spec::Spec spec = spec::load_or_throw(fuzz_file(name));
      spec.heads.value.value = *spec.heads.key * group;
      const layout::Layout layout = layout::resolve(spec);
      const core::KernelPlan plan = test::plan_of(spec, operation);
      oracle::Options options;
      options.lengths = {130};
      options.slots = plan.facts.snapshots ? 0 : 3;
      const oracle::Problem fresh = oracle::make_problem(spec, operation, options);
      std::vector<std::vector<std::byte>> of_one;
      for (const int threads : {1, 2, 3, 4, 6, 8}) {
        oracle::Problem problem = fresh;
        const oracle::Expectation expectation = oracle::expect(problem);
        const Args args = test::args_of(problem, plan);
        const runtime::Threading threading{runtime::Threading::Kind::kCaller, threads, 0, backwards};
        runtime::load_cpu(plan, threading)->launch(problem.rows(), args.slots, verify::views_of(problem, layout));
        INFO(name << " " << operation << " of group " << group << " with " << threads << " threads");
        if (of_one.empty()) of_one = bytes_of(problem);
        CHECK(bytes_of(problem) == of_one);
        CHECK(oracle::all_good(oracle::compare(expectation, problem)));
      }
    }
  }
}
