// gdn.h for C++17: handles that close themselves, errors as exceptions, vectors in place of pointers and counts.
//
// Header only; nothing but C crosses the library's border. Every class is movable and not copyable, and may be empty
// after a move. What gdn.h says about threads, lifetimes and units holds here.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gdn/gdn.h"

namespace gdn {

class Error : public std::runtime_error {
 public:
  Error(gdn_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  gdn_status status() const { return status_; }

 private:
  gdn_status status_;
};

// Throws the thread's last error unless `status` is GDN_OK.
inline void expect(gdn_status status) {
  if (status != GDN_OK) throw Error(status, gdn_last_error_text());
}

namespace detail {

template <class Handle, void (*Close)(Handle*)>
struct Closer {
  void operator()(Handle* handle) const { Close(handle); }
};

template <class Handle, void (*Close)(Handle*)>
class Owner {
 public:
  Owner() = default;
  // Takes the handle over.
  explicit Owner(Handle* handle) : handle_(handle) {}
  Handle* get() const { return handle_.get(); }
  Handle* release() { return handle_.release(); }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  std::unique_ptr<Handle, Closer<Handle, Close>> handle_;
};

template <class Wrapper, class Handle, class Make>
Wrapper made(const Make& make) {
  Handle* handle = nullptr;
  expect(make(&handle));
  return Wrapper(handle);
}

}  // namespace detail

class Layout : public detail::Owner<gdn_layout, gdn_layout_close> {
 public:
  using Owner::Owner;
  static Layout from_text(const std::string& text) {
    return detail::made<Layout, gdn_layout>([&](gdn_layout** out) { return gdn_layout_from_text(text.c_str(), out); });
  }
  std::uint64_t identity() const { return gdn_layout_identity(get()); }
  std::string text() const { return gdn_layout_text(get()); }
};

class View : public detail::Owner<gdn_view, gdn_view_close> {
 public:
  using Owner::Owner;
  // Empty strides: dense.
  static View of(void* data, gdn_dtype dtype, const std::vector<std::int64_t>& sizes,
                 const std::vector<std::int64_t>& strides, const Layout& layout) {
    if (!strides.empty() && strides.size() != sizes.size()) {
      throw Error(GDN_BAD_ARGUMENT, "a view needs one stride for each size");
    }
    return detail::made<View, gdn_view>([&](gdn_view** out) {
      return gdn_view_create(data, dtype, static_cast<std::int32_t>(sizes.size()), sizes.data(),
                             strides.empty() ? nullptr : strides.data(), layout.get(), out);
    });
  }
  static View of(const GdnDLTensor& tensor, const Layout& layout) {
    return detail::made<View, gdn_view>(
        [&](gdn_view** out) { return gdn_view_from_dlpack(&tensor, layout.get(), out); });
  }
  View& set_data(void* data) {
    expect(gdn_view_set_data(get(), data));
    return *this;
  }
  View& set_leading(std::int64_t size, std::int64_t stride) {
    expect(gdn_view_set_leading(get(), size, stride));
    return *this;
  }
  View& set_device(gdn_device_kind device, std::int32_t ordinal = 0) {
    expect(gdn_view_set_device(get(), device, ordinal));
    return *this;
  }
  void* data() const { return gdn_view_data(get()); }
};

class Pool : public detail::Owner<gdn_pool, gdn_pool_close> {
 public:
  using Owner::Owner;
  // Memory of its own.
  static Pool allocate(gdn_dtype dtype, std::int64_t slots, std::int64_t inner, const Layout& layout,
                       const std::string& place) {
    return detail::made<Pool, gdn_pool>([&](gdn_pool** out) {
      return gdn_pool_create(nullptr, dtype, slots, inner, 0, layout.get(), place.c_str(), out);
    });
  }
  // The caller's memory.
  static Pool over(void* data, gdn_dtype dtype, std::int64_t slots, std::int64_t inner, std::int64_t slot_stride,
                   const Layout& layout) {
    return detail::made<Pool, gdn_pool>([&](gdn_pool** out) {
      return gdn_pool_create(data, dtype, slots, inner, slot_stride, layout.get(), nullptr, out);
    });
  }
  void* data() const { return gdn_pool_data(get()); }
  View view() const {
    return detail::made<View, gdn_view>([&](gdn_view** out) { return gdn_pool_view(get(), out); });
  }
};

// The handles of views, in the order of a kernel's operands. Borrows: the views must outlive it.
class ViewList {
 public:
  ViewList(const std::vector<View>& views) {  // NOLINT: stands for it
    for (const View& view : views) handles_.push_back(view.get());
  }
  ViewList(std::initializer_list<const View*> views) {
    for (const View* view : views) handles_.push_back(view == nullptr ? nullptr : view->get());
  }
  const gdn_view* const* data() const { return handles_.data(); }
  std::size_t size() const { return handles_.size(); }

 private:
  std::vector<const gdn_view*> handles_;
};

class Prepared : public detail::Owner<gdn_prepared, gdn_prepared_close> {
 public:
  using Owner::Owner;
  void launch(std::int32_t rows, void* stream = nullptr, const gdn_launch_options* options = nullptr) const {
    expect(gdn_prepared_launch_with(get(), rows, stream, options));
  }
};

// For a launch on a programmatic edge; gdn.h says what is promised to whom.
inline gdn_launch_options programmatic(std::uint32_t promises = 0) {
  gdn_launch_options options = {};
  options.struct_size = sizeof(options);
  options.edge = GDN_EDGE_PROGRAMMATIC;
  options.promises = promises;
  return options;
}

class Kernel : public detail::Owner<gdn_kernel, gdn_kernel_close> {
 public:
  using Owner::Owner;
  std::string symbol() const { return gdn_kernel_symbol(get()); }
  std::string target() const { return gdn_kernel_target(get()); }
  std::uint64_t identity() const { return gdn_kernel_identity(get()); }
  // The names and layouts in them live as long as the kernel.
  std::vector<gdn_operand> operands() const {
    std::vector<gdn_operand> all(gdn_kernel_operands(get()));
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].struct_size = sizeof(gdn_operand);
      expect(gdn_kernel_operand(get(), i, &all[i]));
    }
    return all;
  }
  void launch(std::int32_t rows, std::int32_t slots, const ViewList& views, void* stream = nullptr,
              const gdn_launch_options* options = nullptr) const {
    expect(gdn_launch_with(get(), rows, slots, views.data(), views.size(), stream, options));
  }
  // A launch of 0 rows: touches no memory; the views that there are have their dtypes and layouts compared.
  void warm_up(const ViewList& views = {}) const { launch(0, 0, views); }
  Prepared prepare(std::int32_t rows, std::int32_t slots, const ViewList& views) const {
    return detail::made<Prepared, gdn_prepared>(
        [&](gdn_prepared** out) { return gdn_prepare(get(), rows, slots, views.data(), views.size(), out); });
  }
};

// Tensors under the names of the operands that they are given for; null: left out. Borrows the views.
using NamedViews = std::vector<std::pair<std::string, const View*>>;

// A run of rows of one kind in a mixed batch, and what only its kernels take.
struct Run {
  gdn_row_kind kind = GDN_ROWS_DECODE;
  std::int32_t rows = 0;  // tokens
  NamedViews own;         // slots, cu_seqlens (from 0, within the run), has_initial_state, accepted, ...
};

// A batch of prefill, decode and speculative rows in one call; gdn_launch_mixed says what is whose.
inline void launch_mixed(const std::vector<const Kernel*>& kernels, const std::vector<Run>& runs, std::int32_t slots,
                         const NamedViews& shared, void* stream = nullptr) {
  const auto named = [](const NamedViews& views) {
    std::vector<gdn_named_view> list;
    for (const auto& [name, view] : views) list.push_back({name.c_str(), view == nullptr ? nullptr : view->get()});
    return list;
  };
  std::vector<const gdn_kernel*> handles;
  for (const Kernel* kernel : kernels) handles.push_back(kernel->get());
  std::vector<std::vector<gdn_named_view>> own;
  for (const Run& run : runs) own.push_back(named(run.own));
  std::vector<gdn_run> batch;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    batch.push_back({sizeof(gdn_run), runs[i].kind, runs[i].rows, own[i].data(), own[i].size()});
  }
  const std::vector<gdn_named_view> common = named(shared);
  expect(gdn_launch_mixed(handles.data(), handles.size(), batch.data(), batch.size(), slots, common.data(),
                          common.size(), stream));
}

// Whether a launch would be taken, and if not, why.
struct Support {
  gdn_status status = GDN_OK;
  std::string reason;
  explicit operator bool() const { return status == GDN_OK; }
};

// Returns whether the engine reads this part; fills `values` if it does.
// The options of a set with a parallel_for that is a function object. Must live as long as the kernels of the set.
class SetOptions {
 public:
  // Calls body(part) once for each part from 0 to parts - 1, and returns when all have returned. Must not throw.
  using ParallelFor = std::function<void(std::int32_t parts, const std::function<void(std::int32_t part)>& body)>;

  SetOptions() { options_.struct_size = sizeof(options_); }
  explicit SetOptions(ParallelFor parallel_for) : SetOptions() {
    options_.threading = GDN_THREADS_CALLER;
    options_.parallel_user = this;
    options_.parallel_for = [](void* user, std::int32_t parts, void (*body)(void*, std::int32_t), void* context) {
      static_cast<SetOptions*>(user)->parallel_for_(parts, [&](std::int32_t part) { body(context, part); });
    };
    parallel_for_ = std::move(parallel_for);
  }
  SetOptions(const SetOptions&) = delete;
  SetOptions& operator=(const SetOptions&) = delete;

  gdn_set_options* operator->() { return &options_; }
  const gdn_set_options* get() const { return &options_; }

 private:
  gdn_set_options options_ = {};
  ParallelFor parallel_for_;
};

using ProbeReader = std::function<bool(const std::string& part, std::int32_t rows, std::vector<float>& values)>;

class Set : public detail::Owner<gdn_set, gdn_set_close> {
 public:
  using Owner::Owner;
  // An empty spec: the only one of the bundle.
  static Set open_bundle(const std::string& path, const std::string& spec = {},
                         const gdn_set_options* options = nullptr) {
    return detail::made<Set, gdn_set>([&](gdn_set** out) {
      return gdn_set_open_bundle(path.c_str(), spec.empty() ? nullptr : spec.c_str(), options, out);
    });
  }
  static Set open_registry(const std::string& spec, const gdn_set_options* options = nullptr) {
    return detail::made<Set, gdn_set>([&](gdn_set** out) { return gdn_set_open_registry(spec.c_str(), options, out); });
  }
  static Set open_kernels(const std::vector<gdn_kernel_source>& kernels, const gdn_set_options* options = nullptr) {
    return detail::made<Set, gdn_set>(
        [&](gdn_set** out) { return gdn_set_open_kernels(kernels.data(), kernels.size(), options, out); });
  }
  Kernel open(const std::string& operation, const std::string& place) const {
    return detail::made<Kernel, gdn_kernel>(
        [&](gdn_kernel** out) { return gdn_kernel_open(get(), operation.c_str(), place.c_str(), out); });
  }
  void load(const std::string& place) const { expect(gdn_set_load(get(), place.c_str())); }
  std::string plan(const std::string& operation, const std::string& target) const {
    const char* text = nullptr;
    expect(gdn_set_plan(get(), operation.c_str(), target.c_str(), &text));
    return text;
  }
  std::uint64_t workspace(const std::string& operation, const std::string& where, std::int32_t rows,
                          std::int32_t slots) const {
    std::uint64_t bytes = 0;
    expect(gdn_set_workspace(get(), operation.c_str(), where.c_str(), rows, slots, &bytes));
    return bytes;
  }
  Support supports(const std::string& operation, const std::string& where) const {
    return support(gdn_supported(get(), operation.c_str(), where.c_str(), 0, 0, nullptr, 0));
  }
  Support supports(const std::string& operation, const std::string& where, std::int32_t rows, std::int32_t slots,
                   const ViewList& views) const {
    return support(gdn_supported(get(), operation.c_str(), where.c_str(), rows, slots, views.data(), views.size()));
  }
  std::vector<gdn_step> dispatch(const std::string& where, const std::vector<gdn_rows>& batch) const {
    constexpr std::size_t kStepsOfRun = 8;  // no operation has more parts
    std::vector<gdn_step> steps(batch.size() * kStepsOfRun);
    std::size_t count = 0;
    expect(gdn_dispatch(get(), where.c_str(), batch.data(), batch.size(), steps.data(), steps.size(), &count));
    steps.resize(count);
    return steps;
  }
  // Throws GDN_LAYOUT_MISMATCH where engine and kernel differ. Overwrites the operands. What `read` throws passes.
  void probe(const std::string& operation, const std::string& where, std::int32_t rows, const ViewList& views,
             const ProbeReader& read) const {
    struct Call {
      const ProbeReader& read;
      std::exception_ptr thrown;
    } call{read, nullptr};
    const gdn_probe_function through = [](void* user, const char* part, std::int32_t count, float* values,
                                          std::size_t size) -> int {
      Call& mine = *static_cast<Call*>(user);
      try {
        std::vector<float> read_values(size);
        if (!mine.read(part, count, read_values)) return 1;
        for (std::size_t i = 0; i < size && i < read_values.size(); ++i) values[i] = read_values[i];
        return read_values.size() == size ? 0 : 2;
      } catch (...) {
        mine.thrown = std::current_exception();
        return 3;
      }
    };
    const gdn_status status =
        gdn_probe(get(), operation.c_str(), where.c_str(), rows, views.data(), views.size(), through, &call);
    if (call.thrown) std::rethrow_exception(call.thrown);
    expect(status);
  }

 private:
  static Support support(gdn_status status) {
    return {status, status == GDN_OK ? std::string() : gdn_last_error_text()};
  }
};

}  // namespace gdn
