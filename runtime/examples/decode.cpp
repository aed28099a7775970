// One decode step and a second one through a prepared launch, in C++.
//
//   example_decode_cpp SPEC [PLACE]        PLACE: cpu (the default) or simt
//
// Does what decode.c does, and prints the same.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "gdn/jit.hpp"

namespace {

constexpr int kRows = 3, kSlots = 5;

// -8/16 to 8/16 in steps of 1/16, in the bits of a dtype.
void store(std::uint8_t* to, gdn_dtype dtype, std::size_t i, std::size_t operand) {
  const float number = static_cast<float>(static_cast<int>((i * 7 + operand * 13) % 17) - 8) / 16.0f;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &number, sizeof(bits));
  if (dtype == GDN_FP32) {
    std::memcpy(to, &bits, 4);
    return;
  }
  std::uint32_t half = bits >> 16;
  if (dtype == GDN_FP16) {
    half &= 0x8000u;
    if ((bits & 0x7fffffffu) != 0) half |= ((bits >> 23 & 255u) - 112) << 10 | (bits >> 13 & 1023u);
  }
  std::memcpy(to, &half, 2);
}

// FNV-1a.
unsigned long long checksum(const void* data, std::size_t bytes) {
  unsigned long long hash = 0xcbf29ce484222325ull;
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const std::uint8_t*>(data)[i]) * 0x100000001b3ull;
  return hash;
}

void fill(std::uint8_t* memory, const gdn_operand& operand, std::size_t index, std::size_t elements) {
  const std::size_t bytes = gdn_dtype_bytes(operand.dtype);
  for (std::size_t i = 0; i < elements; ++i) {
    if (std::string(operand.role) == "slots") {
      const auto slot = static_cast<std::int64_t>(i) + 1;
      std::memcpy(memory + i * bytes, &slot, bytes);
    } else {
      store(memory + i * bytes, operand.dtype, i, index);
    }
  }
}

void run(const std::string& spec, const std::string& place) {
  const gdn::Kernel kernel = gdn::open_spec(spec).open("decode", place);

  // Each operand: memory, the layout that this engine says it has (here: what the spec says), a view.
  const std::vector<gdn_operand> operands = kernel.operands();
  std::vector<std::vector<std::uint8_t>> memory(operands.size());
  std::vector<gdn::View> views;
  gdn::Pool state;
  std::size_t out = 0, at = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const gdn_operand& operand = operands[i];
    const std::string role = operand.role, name = operand.name;
    const gdn::Layout layout = gdn::layout_of_spec(spec, "decode", name);
    if (role == "pool") {
      gdn::Pool pool = gdn::Pool::allocate(operand.dtype, kSlots, operand.inner, layout, place);
      fill(static_cast<std::uint8_t*>(pool.data()), operand, i, static_cast<std::size_t>(kSlots * operand.inner));
      views.push_back(pool.view());
      if (name == "state") {
        at = i;
        state = std::move(pool);
      }
      continue;
    }
    const std::int64_t rows = operand.leading == 1 ? kRows : 1;
    const auto elements = static_cast<std::size_t>(rows * operand.inner);
    memory[i].resize(elements * gdn_dtype_bytes(operand.dtype));
    fill(memory[i].data(), operand, i, elements);
    std::vector<std::int64_t> sizes;
    if (operand.leading == 1) sizes.push_back(rows);
    if (role != "slots") sizes.push_back(operand.inner);
    views.push_back(gdn::View::of(memory[i].data(), operand.dtype, sizes, {}, layout));
    if (name == "out") out = i;
  }

  kernel.launch(kRows, kSlots, views);
  kernel.prepare(kRows, kSlots, views).launch(kRows);
  std::printf("%s\n", kernel.symbol().c_str());
  std::printf("out   %016llx\n", checksum(memory[out].data(), memory[out].size()));
  const std::size_t bytes = gdn_dtype_bytes(operands[at].dtype);
  std::printf("state %016llx\n", checksum(state.data(), static_cast<std::size_t>(kSlots * operands[at].inner) * bytes));

  // The same memory, stated to be something else.
  const gdn::Layout other = gdn::Layout::from_text("fp32 [slot@launch, key first]");
  views[at] = gdn::Pool::over(state.data(), operands[at].dtype, kSlots, operands[at].inner, 0, other).view();
  try {
    kernel.launch(kRows, kSlots, views);
    std::printf("another layout: ok\n");
  } catch (const gdn::Error& error) {
    std::printf("another layout: %s\n", gdn_status_name(error.status()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s SPEC [cpu|simt]\n", argv[0]);
    return 2;
  }
  try {
    run(argv[1], argc > 2 ? argv[2] : "cpu");
  } catch (const gdn::Error& error) {
    std::printf("%s: %s\n", gdn_status_name(error.status()), error.what());
    return error.status() == GDN_UNSUPPORTED ? 4 : 1;
  }
  return 0;
}
