// Bundles: what goes in comes out, and whatever else the bytes may be is refused by its own error.
#include "bundle/bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>

#include "bundle/checksum.h"
#include "bundle/format.h"
#include "compile/private_dir.h"
#include "layout/resolve.h"
#include "plan/operation.h"
#include "plan/plan.h"
#include "support/catch.h"
#include "support/specs.h"
#include "support/thrown.h"

namespace {

using namespace gdn;
using namespace gdn::runtime;
using test::thrown_by;

std::vector<std::uint8_t> noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bytes(size);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// Every operation of a model on these targets; machine code is noise.
std::vector<BundleKernel> kernels_of(const std::string& model, const std::vector<std::string>& targets,
                                     std::size_t size) {
  layout::Layout layout = layout::resolve(test::released(model));
  layout.spec_file = "specs/" + model + ".yaml";
  std::vector<BundleKernel> kernels;
  for (const std::string& target : targets) {
    for (const std::string_view operation : plan::operations_on(layout, *plan::find_target(target))) {
      BundleKernel kernel;
      kernel.plan = plan::make(layout, operation, *plan::find_target(target)).kernel;
      if (target != "avx512bf16") {
        kernel.binary = noise(size + kernels.size(), static_cast<unsigned>(kernels.size()));
        kernel.compiler = "noise 1.0";
      }
      kernels.push_back(std::move(kernel));
    }
  }
  return kernels;
}

Bundle view(const std::string& bytes) { return Bundle::view(bytes.data(), bytes.size(), "test.gdnb"); }

// Both checksums made right again: what a writer of nonsense would do.
void seal(std::string& bytes) {
  using namespace bundle_format;
  FileHeader header;
  std::memcpy(&header, bytes.data(), sizeof(FileHeader));
  header.file_bytes = bytes.size();
  header.body_checksum = checksum(std::string_view(bytes).substr(sizeof(FileHeader)));
  std::memcpy(bytes.data(), &header, sizeof(FileHeader));
  header.header_checksum = checksum(std::string_view(bytes).substr(0, sizeof(FileHeader) - 8));
  std::memcpy(bytes.data(), &header, sizeof(FileHeader));
}

TEST_CASE("what went in comes out") {
  std::vector<BundleKernel> kernels = kernels_of("qwen3_next_80b", {"sm_90a", "avx512bf16"}, 1000);
  for (BundleKernel& kernel : kernels_of("qwen3_5_27b", {"gfx942"}, 500)) kernels.push_back(std::move(kernel));
  const PrivateDir dir;
  const std::string bytes = make_bundle(kernels);
  CHECK(bytes == make_bundle(kernels));
  const Bundle bundle = Bundle::open(dir.write("model.gdnb", bytes).string());
  REQUIRE(bundle.entries().size() == kernels.size());
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const Bundle::Entry& entry = bundle.entries()[i];
    const core::KernelPlan& plan = kernels[i].plan;
    INFO(plan.symbol);
    CHECK(entry.spec == plan.spec);
    CHECK(entry.operation == plan.operation);
    CHECK(entry.target == plan.target);
    CHECK(entry.symbol == plan.symbol);
    CHECK(entry.compiler == kernels[i].compiler);
    CHECK(entry.identity == plan.identity.id);
    CHECK(core::to_text(bundle.plan(entry)) == core::to_text(plan));
    CHECK(std::equal(entry.binary.begin(), entry.binary.end(), kernels[i].binary.begin(), kernels[i].binary.end(),
                     [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; }));
    CHECK(reinterpret_cast<std::uintptr_t>(entry.binary.data()) % 64 == 0);
    CHECK(bundle.find(plan.operation, plan.target, plan.spec) == &entry);
    if (kernels[i].binary.empty()) {
      CHECK(thrown_by([&] { bundle.binary(entry); }).code == Code::kBadArgument);
    } else {
      CHECK(bundle.binary(entry).bytes == kernels[i].binary);
    }
  }
  CHECK(bundle.find("decode", "sm_80") == nullptr);
  CHECK(bundle.find("train", "sm_90a") == nullptr);
  CHECK(bundle.find("decode", "gfx942")->spec == "qwen3_5_27b");
  // A moved bundle keeps its entries.
  Bundle moved = Bundle::open((dir.path() / "model.gdnb").string());
  const Bundle target = std::move(moved);
  CHECK(target.find("decode", "sm_90a")->symbol == "gdn_qwen3_next_80b_decode_sm_90a");
}

TEST_CASE("a kernel of two specs needs the spec's name, and no kernel stands twice") {
  std::vector<BundleKernel> kernels = kernels_of("qwen3_next_80b", {"sm_90a"}, 10);
  for (BundleKernel& kernel : kernels_of("qwen3_5_27b", {"sm_90a"}, 10)) kernels.push_back(std::move(kernel));
  const std::string bytes = make_bundle(kernels);
  const Bundle bundle = view(bytes);
  CHECK(bundle.find("decode", "sm_90a") == nullptr);
  CHECK(bundle.find("decode", "sm_90a", "qwen3_5_27b")->symbol == "gdn_qwen3_5_27b_decode_sm_90a");
  kernels.push_back(kernels[0]);
  CHECK(thrown_by([&] { make_bundle(kernels); }).has(kernels[0].plan.symbol));
}

TEST_CASE("an empty bundle is a bundle") { CHECK(view(make_bundle({})).entries().empty()); }

TEST_CASE("each refusal is its own error") {
  const std::string whole = make_bundle(kernels_of("qwen3_next_80b", {"sm_90a"}, 300));
  using bundle_format::FileHeader;
  const auto number = [](std::string& bytes, std::size_t at, std::uint32_t value) {
    std::memcpy(bytes.data() + at, &value, sizeof(value));
  };
  const auto reseal_header = [](std::string& bytes) {
    const std::uint64_t sum = checksum(std::string_view(bytes).substr(0, sizeof(FileHeader) - 8));
    std::memcpy(bytes.data() + sizeof(FileHeader) - 8, &sum, 8);
  };
  const struct {
    const char* what;
    std::function<void(std::string&)> change;
    Code code;
    const char* words;
  } cases[] = {
      {"nothing", [](std::string& b) { b.clear(); }, Code::kTruncated, "ends after 0"},
      {"a piece of the magic", [](std::string& b) { b.resize(5); }, Code::kTruncated, "ends after 5"},
      {"a piece of the header", [](std::string& b) { b.resize(40); }, Code::kTruncated, "ends after 40"},
      {"the header alone", [](std::string& b) { b.resize(64); }, Code::kTruncated, "ends after 64"},
      {"one byte less", [](std::string& b) { b.pop_back(); }, Code::kTruncated, "ends after"},
      {"one byte more", [](std::string& b) { b += '\0'; }, Code::kAltered, "1 bytes follow"},
      {"another kind of file", [](std::string& b) { b = "\177ELF and more" + b; }, Code::kAltered, "no bundle"},
      {"another format", [&](std::string& b) { number(b, 8, 2); }, Code::kOtherVersion, "bundle format has version 2"},
      {"other templates",
       [&](std::string& b) {
         number(b, 12, 77);
         reseal_header(b);
       },
       Code::kOtherVersion, "templates has version 77"},
      {"other plans",
       [&](std::string& b) {
         number(b, 16, 9);
         reseal_header(b);
       },
       Code::kOtherVersion, "plan format has version 9"},
      {"a changed header", [&](std::string& b) { number(b, 20, 3); }, Code::kAltered, "header"},
      {"a changed body", [](std::string& b) { b[b.size() / 2] = static_cast<char>(b[b.size() / 2] + 1); },
       Code::kAltered, "content"},
      {"a table longer than the file",
       [&](std::string& b) {
         number(b, 20, 1u << 30);
         reseal_header(b);
       },
       Code::kAltered, "table is too long"},
      {"a text behind the end",
       [](std::string& b) {
         const std::uint64_t far = b.size() + 1;
         std::memcpy(b.data() + sizeof(FileHeader) + 8, &far, 8);
         seal(b);
       },
       Code::kAltered, "behind its end"},
      {"a text of endless length",
       [](std::string& b) {
         const std::uint64_t endless = ~std::uint64_t{0};
         std::memcpy(b.data() + sizeof(FileHeader) + 16, &endless, 8);
         seal(b);
       },
       Code::kAltered, "behind its end"},
  };
  for (const auto& test : cases) {
    INFO(test.what);
    std::string bytes = whole;
    test.change(bytes);
    const auto thrown = thrown_by([&] { view(bytes); });
    CHECK(thrown.code == test.code);
    INFO(thrown.text);
    CHECK(thrown.has(test.words));
    CHECK(thrown.has("test.gdnb"));
    CHECK(thrown.has("gdn-gen build"));
  }
  view(whole);
}

TEST_CASE("a file that can't be read is an error with its name") {
  const PrivateDir dir;
  dir.write("empty.gdnb", "");
  const struct {
    std::string path;
    Code code;
  } cases[] = {{(dir.path() / "missing.gdnb").string(), Code::kSystem},
               {dir.path().string(), Code::kSystem},
               {"/dev/null", Code::kSystem},
               {(dir.path() / "empty.gdnb").string(), Code::kTruncated}};
  for (const auto& test : cases) {
    const auto thrown = thrown_by([&] { Bundle::open(test.path); });
    CHECK(thrown.code == test.code);
    CHECK(thrown.has(test.path));
  }
}

TEST_CASE("no flipped bit and no cut goes unnoticed") {
  const std::string whole = make_bundle(kernels_of("qwen3_5_27b", {"gfx942", "avx512bf16"}, 700));
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = whole;
    // The first 800 go through every bit of header and the table's begin.
    const std::size_t bit = i < 800 ? static_cast<std::size_t>(i) : random() % (bytes.size() * 8);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    const auto code = thrown_by([&] { view(bytes); }).code;
    INFO("bit " << bit);
    REQUIRE(code.has_value());
    REQUIRE((code == Code::kAltered || code == Code::kOtherVersion));
  }
  for (int i = 0; i < 300; ++i) {
    const std::string bytes = whole.substr(0, random() % whole.size());
    REQUIRE(thrown_by([&] { view(bytes); }).code == Code::kTruncated);
  }
}

TEST_CASE("nonsense with the right checksums throws and harms nothing") {
  const std::string whole = make_bundle(kernels_of("qwen3_5_27b", {"gfx942"}, 100));
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string bytes = whole;
    for (int change = 0; change < 3; ++change) bytes[64 + random() % (bytes.size() - 64)] = static_cast<char>(random());
    seal(bytes);
    const auto thrown = thrown_by([&] {
      const Bundle bundle = view(bytes);
      for (const Bundle::Entry& entry : bundle.entries()) bundle.plan(entry);
    });
    refused += thrown.code.has_value();
    if (thrown.code) REQUIRE(thrown.code == Code::kAltered);
  }
  CHECK(refused > 100);
}

TEST_CASE("a spec that differs from the bundle's is refused, with the line that differs") {
  const std::string bytes = make_bundle(kernels_of("qwen3_next_80b", {"sm_90a"}, 10));
  const Bundle bundle = view(bytes);
  const Bundle::Entry& entry = *bundle.find("decode", "sm_90a");
  const auto decode_of = [](const spec::Spec& spec) {
    return plan::make(layout::resolve(spec), "decode", *plan::find_target("sm_90a")).kernel.identity;
  };
  const std::string file = std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml";
  bundle.require(entry, decode_of(test::load_spec(file)));
  const core::Identity other = decode_of(test::released("qwen3_5_35b_a3b"));
  const auto thrown = thrown_by([&] { bundle.require(entry, other); });
  CHECK(thrown.code == Code::kLayoutMismatch);
  INFO(thrown.text);
  CHECK(thrown.has("another spec"));
  CHECK(thrown.has(core::id_text(other.id)));
  CHECK(thrown.has(core::id_text(entry.identity)));
}

TEST_CASE("opening a bundle of one model takes less than 5 ms") {
  const PrivateDir dir;
  const std::string path =
      dir.write("model.gdnb",
                make_bundle(kernels_of("qwen3_next_80b",
                                       {"sm_80", "sm_90a", "gfx90a", "gfx942", "gfx950", "avx512bf16"}, 150000)))
          .string();
  std::vector<double> times;
  for (int i = 0; i < 21; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Bundle bundle = Bundle::open(path);
    const core::KernelPlan plan = bundle.plan(*bundle.find("decode", "sm_90a"));
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    REQUIRE(plan.operation == "decode");
  }
  std::sort(times.begin(), times.end());
  fmt::print("opening a bundle of {:.1f} MB and reading a plan: {:.2f} ms (median of {})\n",
             static_cast<double>(std::filesystem::file_size(path)) * 1e-6, times[times.size() / 2], times.size());
  CHECK(times[times.size() / 2] < 5);
}

}  // namespace
