// Layers without an output norm on the CPU: o is stored where the norm's result would be.
#include "harness.h"
#include "support/catch.h"
#include "support/norm_apart.h"

using namespace gdn;

namespace {

void run(const spec::Spec& spec, const std::string& operation, oracle::Problem& problem, const char* target) {
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const Args args = test::args_of(problem, plan);
  test::call(cpu::generate(plan), args, 0, test::items_of(args, plan));
}

// What no-norm kernels leave out shows in their own text.
bool mentions(const cpu::Kernel& kernel, const char* text) { return kernel.listing().find(text) != std::string::npos; }

}  // namespace

TEST_CASE("without a norm, and the norm behind it: the bits of the whole layer") {
  if (!test::runs_here()) return;
  for (const char* target : {test::kCpuTarget, "avx2"}) {
    for (const char* name : {"fuzz_gdn", "fuzz_kda", "fuzz_separate_grouped_kv_fp32_fp32"}) {
      for (const char* operation : {"decode", "prefill"}) {
        INFO(name << " " << operation << " on " << target);
        test::check_norm_apart(test::fuzz_file(name), operation,
                               [&](const spec::Spec& spec, const std::string& kernel, oracle::Problem& problem) {
                                 run(spec, kernel, problem, target);
                               });
      }
    }
  }
}

TEST_CASE("parts of decode without a norm hand nothing over, and give the bits of whole items in any order") {
  if (!test::runs_here()) return;
  for (const char* name : {"fuzz_no_norm", "fuzz_kda_no_norm"}) {
    const spec::Spec spec = test::fuzz(name);
    for (const char* target : {test::kCpuTarget, "avx2"}) {
      const core::KernelPlan plan = test::plan_of(spec, "decode", target);
      const cpu::Kernel kernel = cpu::generate(plan), parts = cpu::generate_parts(plan);
      REQUIRE(parts);
      const cpu::ItemParts& cut = parts.parts();
      CHECK(cut.exchange_bytes == cut.counter_bytes);
      CHECK_FALSE(mentions(kernel, "gated norm"));
      CHECK_FALSE(mentions(parts, "gated norm"));
      oracle::Options options;
      options.rows = 4;
      options.padding_rows = 1;
      const oracle::Problem fresh = oracle::make_problem(spec, "decode", options);
      oracle::Problem whole = fresh, split = fresh;
      const Args all = test::args_of(whole, plan), some = test::args_of(split, plan);
      const std::int64_t items = test::items_of(all, plan);
      test::call(kernel, all, 0, items);
      std::vector<std::byte> exchange(static_cast<std::size_t>(items * cut.exchange_bytes) + 64);
      const auto address = reinterpret_cast<std::uintptr_t>(exchange.data());
      std::byte* const memory = exchange.data() + (64 - address % 64) % 64;
      for (std::int64_t part = items * cut.count; part-- > 0;) parts.function()(&some, part, part + 1, memory);
      INFO(name << " on " << target);
      for (std::size_t i = 0; i < whole.buffers().size(); ++i) {
        const oracle::Buffer& a = whole.buffers()[i];
        INFO(a.name);
        CHECK(std::memcmp(a.data(), split.buffers()[i].data(), a.size_bytes()) == 0);
      }
    }
  }
}
