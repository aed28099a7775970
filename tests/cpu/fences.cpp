// Memory that ends right behind an operand, or begins right at it: whatever kernels read or write beyond what they were
// given is a fault. Of whole items and of parts of them, and of the memory that they work in.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <utility>

#include "harness.h"
#include "support/amx_emulator.h"
#include "support/catch.h"

using namespace gdn;

namespace {

// Bytes in pages of their own between two pages that nobody may touch, flush with one of them.
class Fenced {
 public:
  // Holds 0xff, NaN in every floating-point type.
  Fenced(std::size_t size, bool at_end) : size_(size) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t inside = (size_ + page - 1) / page * page;
    mapped_ = inside + 2 * page;
    void* const pages = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::runtime_error("no pages for a fenced operand");
    all_ = static_cast<std::byte*>(pages);
    if (::mprotect(all_ + page, inside, PROT_READ | PROT_WRITE) != 0) throw std::runtime_error("no fence");
    data_ = all_ + page + (at_end ? inside - size_ : 0);
    if (size_ > 0) std::memset(data_, 0xff, size_);
  }
  Fenced(const oracle::Buffer& buffer, bool at_end) : Fenced(buffer.size_bytes(), at_end) {
    if (size_ > 0) std::memcpy(data_, buffer.data(), size_);
  }
  Fenced(Fenced&& other) noexcept
      : all_(std::exchange(other.all_, nullptr)), data_(other.data_), size_(other.size_), mapped_(other.mapped_) {}
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  ~Fenced() {
    if (all_ != nullptr) ::munmap(all_, mapped_);
  }

  std::byte* data() const { return data_; }
  void copy_to(oracle::Buffer& buffer) const {
    if (size_ > 0) std::memcpy(buffer.data(), data_, size_);
  }

 private:
  std::byte* all_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0, mapped_ = 0;
};

// Kernels that do a launch one after the other.
using Way = std::vector<cpu::Kernel>;

// All ways that the runtime has: whole items, parts of them, and parts of value heads' columns for 64 threads.
std::vector<Way> ways_of(const core::KernelPlan& plan) {
  std::vector<Way> ways;
  const auto add = [&](cpu::Kernel kernel, cpu::Kernel after) {
    if (!kernel) return;
    ways.emplace_back();
    ways.back().push_back(std::move(kernel));
    if (after) ways.back().push_back(std::move(after));
  };
  add(cpu::generate(plan), {});
  add(cpu::generate_parts(plan), cpu::generate_after_parts(plan));
  add(cpu::generate_column_parts(plan, 64), cpu::generate_after_column_parts(plan, 64));
  return ways;
}

// All items of a launch, in fenced memory that holds NaN where the kernel doesn't ask for zeros.
void call_fenced(const cpu::Kernel& kernel, const Args& args, std::int64_t items, bool at_end) {
  constexpr std::int64_t kAlignment = 64;
  const cpu::ItemParts& parts = kernel.parts();
  const std::int64_t bytes = kernel.scratch_bytes() + items * parts.exchange_bytes;
  const Fenced memory(static_cast<std::size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment), at_end);
  for (std::int64_t item = 0; item < items && parts.counter_bytes > 0; ++item) {
    std::memset(memory.data() + item * parts.exchange_bytes, 0, static_cast<std::size_t>(parts.counter_bytes));
  }
  kernel.function()(&args, 0, items * parts.count, bytes == 0 ? nullptr : memory.data());
}

// Launches in every way, every operand flush with a page that nobody may touch; the number of ways.
std::size_t check_fenced(const std::string& file, std::string_view operation, const char* target) {
  const spec::Spec spec = spec::load_or_throw(file);
  const core::KernelPlan plan = test::plan_of(spec, operation, target);
  const std::vector<Way> ways = ways_of(plan);
  std::unique_ptr<test::AmxEmulator> emulator;
  if (!cpu::cpu_supports(target)) emulator = std::make_unique<test::AmxEmulator>();
  oracle::Options options;
  options.rows = 2;
  options.slots = plan::drafts(operation) || plan.facts.snapshots ? 0 : 3;
  if (plan::prefills(operation)) options.lengths = {3, 70};
  oracle::Problem fresh = oracle::make_problem(spec, operation, options);
  const oracle::Expectation expectation = oracle::expect(fresh);
  for (std::size_t way = 0; way < ways.size(); ++way) {
    for (const bool at_end : {false, true}) {
      oracle::Problem problem = fresh;
      Args args = test::args_of(problem, plan);
      std::vector<Fenced> operands;
      for (std::size_t i = 0; i < problem.buffers().size(); ++i) {
        operands.emplace_back(problem.buffers()[i], at_end);
        args.operand[i] = operands.back().data();
      }
      const auto launch = [&] {
        for (const cpu::Kernel& kernel : ways[way]) call_fenced(kernel, args, test::items_of(args, plan), at_end);
      };
      if (emulator != nullptr) {
        emulator->run(launch);
      } else {
        launch();
      }
      test::zero_excess(plan, args, problem);
      for (std::size_t i = 0; i < operands.size(); ++i) operands[i].copy_to(problem.buffers()[i]);
      const auto deviations = oracle::compare(expectation, problem);
      INFO(file << " " << operation << " " << target << " way " << way << "\n" << oracle::describe(deviations));
      CHECK(oracle::all_good(deviations));
    }
  }
  return ways.size();
}

}  // namespace

TEST_CASE("nothing is read before the first or behind the last element of an operand") {
  if (!test::runs_here()) return;
  std::size_t ways = 0, kernels = 0;
  for (const std::string& file : test::held_specs()) {
    for (const auto& [target, operation] : test::kernels_of(spec::load_or_throw(file))) {
      ways += check_fenced(file, operation, target);
      ++kernels;
    }
  }
  CHECK(ways > kernels + 100);
  // Scales that other heads have a part in: of all operations only this one knows all heads of a row.
  for (const char* const name : {"fuzz_quant_token", "fuzz_quant_straddle"}) {
    const std::string file = std::string(GDN_SOURCE_DIR) + "/tests/fuzz/" + name + ".yaml";
    for (const char* const target : {test::kCpuTarget, "avx2"}) check_fenced(file, "norm_quant", target);
  }
}

TEST_CASE("by tiles, emulated where there are none, nothing is read outside of an operand either") {
  if (!test::runs_here()) return;
  std::size_t ways = 0, kernels = 0;
  for (const std::string& file : test::held_specs()) {
    if (file.find("fuzz_") == std::string::npos) continue;  // true sizes take the emulator minutes
    for (const std::string_view operation : {"chunk_delta", "prefill"}) {
      const auto all = plan::operations_on(layout::resolve(spec::load_or_throw(file)), *plan::find_target("amx"));
      if (std::find(all.begin(), all.end(), operation) == all.end()) continue;
      ways += check_fenced(file, operation, "amx");
      ++kernels;
    }
  }
  CHECK(ways > kernels + 10);
}

TEST_CASE("the fences stand: a byte before and a byte behind is a fault") {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  // The system refuses an address that nobody may touch to a call where it kills for a load.
  const auto readable = [](const std::byte* address) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const bool taken = ::write(ends[1], address, 1) == 1;
    ::close(ends[0]);
    ::close(ends[1]);
    return taken;
  };
  const Fenced at_start(page + 3, false), at_end(page + 3, true);
  CHECK(readable(at_start.data()));
  CHECK_FALSE(readable(at_start.data() - 1));
  CHECK(readable(at_end.data() + page + 2));
  CHECK_FALSE(readable(at_end.data() + page + 3));
}
