// Layouts, views and pools of gdn.h.
#include <fmt/format.h>

#include <cstring>
#include <limits>

#include "capi/handles.h"
#include "capi/place.h"
#include "core/dtype.h"

namespace gdn::capi {
namespace {

using runtime::Code;
using runtime::DeviceKind;
using runtime::Error;
using runtime::View;

std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& sizes) {
  std::vector<std::int64_t> strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  return strides;
}

void set_shape(View& view, int rank, const std::int64_t* sizes, const std::int64_t* strides) {
  if (rank < 0 || rank > GDN_MAX_RANK) {
    throw Error(Code::kBadArgument, fmt::format("a rank of {}: it is 0 to {}", rank, int{GDN_MAX_RANK}));
  }
  if (rank > 0) need(sizes, "sizes");
  view.sizes.assign(sizes, sizes + rank);
  for (const std::int64_t size : view.sizes) {
    // Beyond this no tensor of this rank is addressable, and the products of dense_strides() stay in range.
    if (size < 0 || size > std::int64_t{1} << 48) {
      throw Error(Code::kSizeMismatch, fmt::format("a size of {}: it is 0 to 2^48", size));
    }
  }
  if (strides != nullptr) {
    view.strides.assign(strides, strides + rank);
    return;
  }
  double elements = 1;
  for (const std::int64_t size : view.sizes) elements *= static_cast<double>(size);
  if (elements > 1e18) throw Error(Code::kSizeMismatch, "more elements than any memory holds");
  view.strides = dense_strides(view.sizes);
}

core::DType dtype_of(const GdnDLDataType& type) {
  struct Known {
    int code, bits;
    core::DType dtype;
  };
  constexpr Known kKnown[] = {{GDN_DL_FLOAT, 32, core::DType::kFp32},
                              {GDN_DL_FLOAT, 16, core::DType::kFp16},
                              {GDN_DL_BFLOAT, 16, core::DType::kBf16},
                              {GDN_DL_INT, 32, core::DType::kInt32},
                              {GDN_DL_INT, 64, core::DType::kInt64},
                              {GDN_DL_FLOAT8_E4M3FN, 8, core::DType::kE4m3fn},
                              {GDN_DL_FLOAT8_E4M3FNUZ, 8, core::DType::kE4m3fnuz},
                              {GDN_DL_UINT, 8, core::DType::kUint8},
                              {GDN_DL_BOOL, 8, core::DType::kUint8}};
  for (const Known& known : kKnown) {
    if (type.code == known.code && type.bits == known.bits && type.lanes == 1) return known.dtype;
  }
  throw Error(Code::kBadArgument,
              fmt::format("no kernel takes DLPack's element type (code {}, {} bits, {} lanes): fp32, "
                          "bf16, fp16, int32, int64, uint8, bool and fp8 e4m3 are known",
                          type.code, type.bits, type.lanes));
}

void set_device(View& view, const GdnDLDevice& device) {
  view.ordinal = device.device_id;
  switch (device.device_type) {
    case GDN_DL_CPU:
      view.device = DeviceKind::kCpu;
      return;
    case GDN_DL_CUDA:
      view.device = DeviceKind::kCuda;
      return;
    case GDN_DL_ROCM:
      view.device = DeviceKind::kHip;
      return;
    case GDN_DL_CUDA_HOST:
    case GDN_DL_ROCM_HOST:
    case GDN_DL_CUDA_MANAGED:
      view.device = DeviceKind::kUnstated;  // the CPU and the devices reach it
      return;
    default:
      throw Error(Code::kBadArgument, fmt::format("no kernel runs on DLPack's device type {}", device.device_type));
  }
}

std::unique_ptr<gdn_view> view_of(const GdnDLTensor& tensor, const gdn_layout* layout) {
  auto handle = std::make_unique<gdn_view>();
  View& view = handle->view;
  view.dtype = dtype_of(tensor.dtype);
  set_device(view, tensor.device);
  if (tensor.data != nullptr) view.data = static_cast<std::uint8_t*>(tensor.data) + tensor.byte_offset;
  set_shape(view, tensor.ndim, tensor.shape, tensor.strides);
  if (layout != nullptr) view.layout = layout->identity;
  return handle;
}

// Zeroed memory of the pool's own.
void allocate(PoolMemory& memory, std::uint64_t bytes, const char* place_text) {
  need(place_text, "place");
  const runtime::Place place = runtime::parse_place(place_text);
  if (!place.gpu()) {
    memory.host.reset(new (std::nothrow) std::uint8_t[bytes]);
    if (memory.host == nullptr) {
      throw Error(Code::kOutOfMemory, fmt::format("{} bytes of host memory could not be had for a pool", bytes));
    }
    std::memset(memory.host.get(), 0, bytes);
    memory.view.data = memory.host.get();
    return;
  }
  const runtime::Device device =
      place.kind == runtime::Place::Kind::kCuda ? runtime::open_cuda(place.ordinal) : runtime::open_hip(place.ordinal);
  memory.device = device.alloc(bytes);
  memory.view.data = memory.device.data();
  device.fill(memory.view.data, 0, bytes);
  device.synchronize();
}

}  // namespace

core::DType dtype_of(gdn_dtype dtype) {
  if (dtype < GDN_FP32 || dtype > GDN_UINT8) {
    throw Error(Code::kBadArgument, fmt::format("{} is no gdn_dtype", static_cast<int>(dtype)));
  }
  return static_cast<core::DType>(dtype);
}

static_assert(static_cast<int>(core::DType::kE4m3fnuz) == GDN_E4M3FNUZ &&
                  static_cast<int>(core::DType::kUint8) == GDN_UINT8 &&
                  static_cast<int>(core::DType::kBf16) == GDN_BF16,
              "gdn_dtype and core::DType count alike");
static_assert(static_cast<int>(DeviceKind::kHip) == GDN_DEVICE_HIP, "gdn_device_kind and DeviceKind count alike");

ViewArray::ViewArray(const gdn_view* const* views, std::size_t count) : count_(count) {
  static const View absent;
  if (count > GDN_MAX_OPERANDS) {
    throw Error(Code::kBadArgument, fmt::format("{} views: a kernel takes at most {}", count, int{GDN_MAX_OPERANDS}));
  }
  if (count > 0) need(views, "views");
  for (std::size_t i = 0; i < count; ++i) views_[i] = views[i] == nullptr ? &absent : &views[i]->view;
}

}  // namespace gdn::capi

using gdn::capi::created;
using gdn::capi::guarded;
using gdn::capi::need;
using gdn::runtime::Code;
using gdn::runtime::DeviceKind;
using gdn::runtime::Error;

extern "C" {

const char* gdn_dtype_name(gdn_dtype dtype) {
  if (dtype < GDN_FP32 || dtype > GDN_UINT8) return nullptr;
  return gdn::core::to_string(static_cast<gdn::core::DType>(dtype)).data();
}

size_t gdn_dtype_bytes(gdn_dtype dtype) {
  if (dtype < GDN_FP32 || dtype > GDN_UINT8) return 0;
  return gdn::core::size_of(static_cast<gdn::core::DType>(dtype));
}

gdn_status gdn_layout_from_text(const char* text, gdn_layout** layout) {
  return created(layout, "layout", [&] {
    need(text, "text");
    if (*text == 0) throw Error(Code::kBadArgument, "a layout's text is empty: state what the tensor is");
    auto handle = std::make_unique<gdn_layout>();
    handle->identity = gdn::core::make_identity(text);
    return handle;
  });
}

void gdn_layout_close(gdn_layout* layout) { delete layout; }

uint64_t gdn_layout_identity(const gdn_layout* layout) { return layout == nullptr ? 0 : layout->identity.id; }

const char* gdn_layout_text(const gdn_layout* layout) { return layout == nullptr ? "" : layout->identity.text.c_str(); }

gdn_status gdn_view_create(void* data, gdn_dtype dtype, int32_t rank, const int64_t* sizes, const int64_t* strides,
                           const gdn_layout* layout, gdn_view** view) {
  return created(view, "view", [&] {
    auto handle = std::make_unique<gdn_view>();
    handle->view.data = data;
    handle->view.dtype = gdn::capi::dtype_of(dtype);
    gdn::capi::set_shape(handle->view, rank, sizes, strides);
    if (layout != nullptr) handle->view.layout = layout->identity;
    return handle;
  });
}

gdn_status gdn_view_from_dlpack(const GdnDLTensor* tensor, const gdn_layout* layout, gdn_view** view) {
  return created(view, "view", [&] {
    need(tensor, "tensor");
    return gdn::capi::view_of(*tensor, layout);
  });
}

void gdn_view_close(gdn_view* view) { delete view; }

gdn_status gdn_view_set_data(gdn_view* view, void* data) {
  return guarded([&] {
    need(view, "view");
    view->view.data = data;
  });
}

gdn_status gdn_view_set_leading(gdn_view* view, int64_t size, int64_t stride) {
  return guarded([&] {
    need(view, "view");
    if (view->view.sizes.empty()) throw Error(Code::kBadArgument, "a view without dimensions has no leading one");
    view->view.sizes[0] = size;
    view->view.strides[0] = stride;
  });
}

gdn_status gdn_view_set_device(gdn_view* view, gdn_device_kind device, int32_t ordinal) {
  return guarded([&] {
    need(view, "view");
    if (device != GDN_DEVICE_UNSTATED && device != GDN_DEVICE_CPU && device != GDN_DEVICE_CUDA &&
        device != GDN_DEVICE_HIP) {
      throw Error(Code::kBadArgument, fmt::format("{} is no gdn_device_kind", static_cast<int>(device)));
    }
    view->view.device = static_cast<DeviceKind>(device);
    view->view.ordinal = ordinal;
  });
}

void* gdn_view_data(const gdn_view* view) { return view == nullptr ? nullptr : view->view.data; }

gdn_status gdn_pool_create(void* data, gdn_dtype dtype, int64_t slots, int64_t inner, int64_t slot_stride,
                           const gdn_layout* layout, const char* place, gdn_pool** pool) {
  return created(pool, "pool", [&] {
    need(layout, "layout");
    if (slots < 1 || inner < 1 || (slot_stride != 0 && slot_stride < inner)) {
      throw Error(
          Code::kBadArgument,
          fmt::format("a pool of {} slots of {} elements, {} apart: there must be at least one of each, and slots "
                      "must not overlap",
                      slots, inner, slot_stride));
    }
    const std::int64_t stride = slot_stride == 0 ? inner : slot_stride;
    auto memory = std::make_shared<gdn::capi::PoolMemory>();
    gdn::runtime::View& view = memory->view;
    view.dtype = gdn::capi::dtype_of(dtype);
    view.sizes = {slots, inner};
    view.strides = {stride, 1};
    view.layout = layout->identity;
    const auto element = static_cast<std::int64_t>(gdn::core::size_of(view.dtype));
    if (stride > std::numeric_limits<std::int64_t>::max() / element / slots) {
      throw Error(Code::kOutOfMemory,
                  fmt::format("a pool of {} slots of {} elements is beyond any memory", slots, stride));
    }
    if (data != nullptr) {
      view.data = data;
    } else {
      gdn::capi::allocate(*memory, static_cast<std::uint64_t>(stride * slots * element), place);
    }
    if (place != nullptr) {
      const gdn::runtime::Place where = gdn::runtime::parse_place(place);
      view.device = where.memory();
      view.ordinal = where.ordinal;
    }
    auto handle = std::make_unique<gdn_pool>();
    handle->memory = std::move(memory);
    return handle;
  });
}

void gdn_pool_close(gdn_pool* pool) { delete pool; }

void* gdn_pool_data(const gdn_pool* pool) { return pool == nullptr ? nullptr : pool->memory->view.data; }

gdn_status gdn_pool_view(const gdn_pool* pool, gdn_view** view) {
  return created(view, "view", [&] {
    need(pool, "pool");
    auto handle = std::make_unique<gdn_view>();
    handle->view = pool->memory->view;
    handle->pool = pool->memory;
    return handle;
  });
}

}  // extern "C"
