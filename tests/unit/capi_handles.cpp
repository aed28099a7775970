// Handles of the C interface that need no kernel: layouts, views, pools, sets of texts, errors.
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "gdn/gdn.h"
#include "gdn/gdn.hpp"
#include "support/catch.h"

namespace {

using gdn::Layout;
using gdn::Pool;
using gdn::Set;
using gdn::View;

std::string last() { return gdn_last_error_text(); }

TEST_CASE("the library says which interface it has and names every status") {
  CHECK(gdn_abi_version() == GDN_ABI_VERSION);
  std::vector<std::string> names;
  for (int status = GDN_OK; status <= GDN_INTERNAL; ++status) {
    const std::string name = gdn_status_name(static_cast<gdn_status>(status));
    CHECK(name != "?");
    for (const std::string& other : names) CHECK(name != other);
    names.push_back(name);
  }
  CHECK(std::string(gdn_status_name(static_cast<gdn_status>(GDN_INTERNAL + 1))) == "?");
}

TEST_CASE("errors belong to their thread and stay until the next one") {
  gdn_layout* layout = nullptr;
  REQUIRE(gdn_layout_from_text(nullptr, &layout) == GDN_BAD_ARGUMENT);
  CHECK_THAT(last(), Catch::Contains("text is null"));
  CHECK(gdn_layout_from_text("bf16 [token]", &layout) == GDN_OK);
  CHECK(gdn_last_error() == GDN_BAD_ARGUMENT);  // a success leaves it
  gdn_layout_close(layout);
  std::thread([] {
    CHECK(gdn_last_error() == GDN_OK);
    CHECK(std::string(gdn_last_error_text()).empty());
    CHECK(gdn_set_last_error(GDN_SYSTEM, "mine") == GDN_SYSTEM);
  }).join();
  CHECK(gdn_last_error() == GDN_BAD_ARGUMENT);
}

TEST_CASE("a layout is its text") {
  const Layout one = Layout::from_text("fp32 [slot, value_dim:8]"),
               same = Layout::from_text("fp32 [slot, value_dim:8]");
  const Layout other = Layout::from_text("fp32 [slot, value_dim:9]");
  CHECK(one.identity() == same.identity());
  CHECK(one.identity() != other.identity());
  CHECK(one.text() == "fp32 [slot, value_dim:8]");
  CHECK(Layout::from_text("a").identity() == 0xaf63dc4c8601ec8cull);  // FNV-1a's published value for "a"
  CHECK_THROWS_AS(Layout::from_text(""), gdn::Error);
}

TEST_CASE("views that can't be") {
  const Layout layout = Layout::from_text("x");
  float data[4] = {};
  const std::int64_t sizes[] = {2, 2}, huge[] = {std::int64_t{1} << 48, std::int64_t{1} << 48}, negative[] = {-1, 2};
  gdn_view* view = reinterpret_cast<gdn_view*>(data);
  CHECK(gdn_view_create(data, GDN_FP32, 2, nullptr, nullptr, layout.get(), &view) == GDN_BAD_ARGUMENT);
  CHECK(view == nullptr);  // set to null on failure
  CHECK(gdn_view_create(data, GDN_FP32, 9, sizes, nullptr, layout.get(), &view) == GDN_BAD_ARGUMENT);
  CHECK(gdn_view_create(data, GDN_FP32, -1, sizes, nullptr, layout.get(), &view) == GDN_BAD_ARGUMENT);
  CHECK(gdn_view_create(data, static_cast<gdn_dtype>(99), 2, sizes, nullptr, layout.get(), &view) == GDN_BAD_ARGUMENT);
  CHECK(gdn_view_create(data, GDN_FP32, 2, huge, nullptr, layout.get(), &view) == GDN_SIZE_MISMATCH);
  CHECK(gdn_view_create(data, GDN_FP32, 2, negative, nullptr, layout.get(), &view) == GDN_SIZE_MISMATCH);
  CHECK(gdn_view_create(data, GDN_FP32, 2, sizes, nullptr, layout.get(), nullptr) == GDN_BAD_ARGUMENT);
  CHECK(gdn_view_set_data(nullptr, data) == GDN_BAD_ARGUMENT);
  View good = View::of(data, GDN_FP32, {2, 2}, {}, layout);
  CHECK(good.data() == data);
  CHECK(gdn_view_set_device(good.get(), static_cast<gdn_device_kind>(5), 0) == GDN_BAD_ARGUMENT);
  View scalar = View::of(data, GDN_FP32, {}, {}, layout);
  CHECK(gdn_view_set_leading(scalar.get(), 2, 2) == GDN_BAD_ARGUMENT);
  gdn_view_close(nullptr);
  gdn_layout_close(nullptr);
  gdn_pool_close(nullptr);
  gdn_set_close(nullptr);
  gdn_kernel_close(nullptr);
  gdn_prepared_close(nullptr);
}

TEST_CASE("DLPack tensors: what kernels take becomes a view, the rest is named") {
  const Layout layout = Layout::from_text("x");
  std::uint8_t memory[256] = {};
  std::int64_t shape[] = {2, 8}, strides[] = {16, 1};
  GdnDLTensor tensor = {memory, {GDN_DL_CPU, 0}, 2, {GDN_DL_BFLOAT, 16, 1}, shape, strides, 32};
  CHECK(View::of(tensor, layout).data() == memory + 32);
  tensor.strides = nullptr;  // dense
  CHECK(View::of(tensor, layout));

  const GdnDLDataType taken[] = {{GDN_DL_FLOAT, 32, 1}, {GDN_DL_FLOAT, 16, 1}, {GDN_DL_BFLOAT, 16, 1},
                                 {GDN_DL_INT, 32, 1},   {GDN_DL_INT, 64, 1},   {GDN_DL_FLOAT8_E4M3FN, 8, 1},
                                 {GDN_DL_UINT, 8, 1},   {GDN_DL_BOOL, 8, 1}};
  for (const GdnDLDataType& type : taken) {
    tensor.dtype = type;
    CHECK(View::of(tensor, layout));
  }
  gdn_view* view = nullptr;
  const GdnDLDataType refused[] = {{GDN_DL_FLOAT, 64, 1}, {GDN_DL_UINT, 16, 1}, {GDN_DL_FLOAT, 32, 4}, {5, 64, 1}};
  for (const GdnDLDataType& type : refused) {
    tensor.dtype = type;
    CHECK(gdn_view_from_dlpack(&tensor, layout.get(), &view) == GDN_BAD_ARGUMENT);
    CHECK_THAT(last(), Catch::Contains("element type"));
  }
  tensor.dtype = taken[0];
  tensor.device = {7, 0};  // Vulkan
  CHECK(gdn_view_from_dlpack(&tensor, layout.get(), &view) == GDN_BAD_ARGUMENT);
  CHECK_THAT(last(), Catch::Contains("device type 7"));
  CHECK(gdn_view_from_dlpack(nullptr, layout.get(), &view) == GDN_BAD_ARGUMENT);
}

TEST_CASE("a pool allocates or wraps, and outlives its handle through its views") {
  const Layout layout = Layout::from_text("fp32 [slot, x:16]");
  View view;
  {
    const Pool pool = Pool::allocate(GDN_FP32, 4, 16, layout, "cpu");
    const auto* const numbers = static_cast<const float*>(pool.data());
    for (int i = 0; i < 4 * 16; ++i) CHECK(numbers[i] == 0.0f);
    view = pool.view();
  }
  static_cast<float*>(view.data())[63] = 1;  // a sanitizer speaks up if the memory went with the pool

  std::vector<float> mine(4 * 20);
  CHECK(Pool::over(mine.data(), GDN_FP32, 4, 16, 20, layout).view().data() == mine.data());

  gdn_pool* pool = nullptr;
  const auto create = [&](std::int64_t slots, std::int64_t inner, std::int64_t stride, const char* place) {
    return gdn_pool_create(nullptr, GDN_FP32, slots, inner, stride, layout.get(), place, &pool);
  };
  CHECK(create(0, 16, 0, "cpu") == GDN_BAD_ARGUMENT);
  CHECK(create(4, 16, 15, "cpu") == GDN_BAD_ARGUMENT);
  CHECK(create(4, 16, 0, nullptr) == GDN_BAD_ARGUMENT);
  CHECK(create(4, 16, 0, "nowhere") == GDN_BAD_ARGUMENT);
  CHECK(create(std::int64_t{1} << 40, std::int64_t{1} << 20, 0, "cpu") == GDN_OUT_OF_MEMORY);
  CHECK(create(std::int64_t{1} << 62, 16, 0, "cpu") == GDN_OUT_OF_MEMORY);
  CHECK(gdn_pool_create(mine.data(), GDN_FP32, 4, 16, 0, nullptr, "cpu", &pool) == GDN_BAD_ARGUMENT);
  CHECK_THAT(last(), Catch::Contains("layout is null"));
}

TEST_CASE("sets of kernels that can't be") {
  gdn_set* set = nullptr;
  gdn_kernel_source source = {};
  CHECK(gdn_set_open_kernels(&source, 1, nullptr, &set) == GDN_OTHER_VERSION);
  source.struct_size = sizeof(source);
  CHECK(gdn_set_open_kernels(&source, 1, nullptr, &set) == GDN_BAD_ARGUMENT);  // neither plan nor reason
  source.plan = "no plan at all";
  CHECK(gdn_set_open_kernels(&source, 1, nullptr, &set) == GDN_BAD_ARGUMENT);
  CHECK_THAT(last(), Catch::Contains("a plan that can't be read"));
  CHECK(gdn_set_open_kernels(nullptr, 1, nullptr, &set) == GDN_BAD_ARGUMENT);
  gdn_set_options options = {};
  CHECK(gdn_set_open_kernels(nullptr, 0, &options, &set) == GDN_OTHER_VERSION);
  options.struct_size = sizeof(options);
  options.threads = -1;
  CHECK(gdn_set_open_kernels(nullptr, 0, &options, &set) == GDN_BAD_ARGUMENT);
  CHECK(gdn_set_open_registry("no_such_spec", nullptr, &set) == GDN_UNSUPPORTED);
  CHECK(set == nullptr);
}

gdn_kernel_source unavailable(const char* operation, const char* target, const char* why) {
  gdn_kernel_source source = {};
  source.struct_size = sizeof(source);
  source.operation = operation;
  source.target = target;
  source.unavailable = why;
  return source;
}

void keep_line(void* lines, const char* text) { static_cast<std::vector<std::string>*>(lines)->emplace_back(text); }

TEST_CASE("what is unavailable is so with its reason, and logged once") {
  const Set set = Set::open_kernels(
      {unavailable("decode", "sm_80", "48 KB are not enough"), unavailable("gating", "sm_80", "no gates today")});
  const char *operation = nullptr, *target = nullptr, *symbol = nullptr, *reason = nullptr;
  CHECK(gdn_set_size(set.get()) == 0);
  REQUIRE(gdn_set_absent(set.get()) == 2);
  CHECK(gdn_set_entry(set.get(), 1, &operation, &target, &symbol, &reason) == GDN_OK);
  CHECK(std::string(operation) == "gating");
  CHECK(std::string(reason) == "no gates today");
  CHECK(gdn_set_entry(set.get(), 2, nullptr, nullptr, nullptr, nullptr) == GDN_BAD_ARGUMENT);

  CHECK(set.supports("decode", "sm_80").reason == "48 KB are not enough");
  CHECK(set.supports("decode", "sm_80").status == GDN_UNSUPPORTED);
  CHECK_THAT(set.supports("decode", "sm_90a").reason, Catch::Contains("sm_80"));
  CHECK_THAT(set.supports("prefill", "sm_80").reason, Catch::Contains("it has decode, gating"));
  CHECK(set.supports("decode", "cpu:1").status == GDN_BAD_ARGUMENT);

  std::vector<std::string> lines;
  gdn_set_log(keep_line, &lines);
  for (int i = 0; i < 3; ++i) {
    try {
      set.dispatch("sm_80", {{GDN_ROWS_DECODE, 2}});
      FAIL("dispatched");
    } catch (const gdn::Error& error) {
      CHECK(error.status() == GDN_UNSUPPORTED);
      CHECK_THAT(error.what(), Catch::Contains("48 KB") && Catch::Contains("conv_update"));
    }
  }
  CHECK(lines.size() == 1);
  CHECK_THROWS_AS(set.dispatch("sm_80", {{GDN_ROWS_SPECULATIVE, 2}}), gdn::Error);
  CHECK(lines.size() == 2);
  gdn_set_log(nullptr, nullptr);
  CHECK_THROWS_AS(set.dispatch("sm_80", {{static_cast<gdn_row_kind>(7), 2}}), gdn::Error);
}

TEST_CASE("two kernels of one operation and target, and a set without any") {
  CHECK_THROWS_AS(Set::open_kernels({unavailable("decode", "sm_80", "a"), unavailable("decode", "sm_80", "b")}),
                  gdn::Error);
  const Set none = Set::open_kernels({});
  CHECK_THAT(none.supports("decode", "sm_80").reason, Catch::Contains("none at all"));
  CHECK_THROWS_AS(none.open("decode", "mars"), gdn::Error);
  CHECK(gdn_last_error() == GDN_BAD_ARGUMENT);
}

}  // namespace
