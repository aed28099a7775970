// Status codes, the last error of each thread, and the log.
#include <cstddef>
#include <mutex>
#include <string>

#include "capi/handles.h"

namespace gdn::capi {
namespace {

struct LastError {
  gdn_status status = GDN_OK;
  std::string text;
  const char* literal = "";  // where there was no memory for a text
};

LastError& last_error() {
  thread_local LastError error;
  return error;
}

struct Log {
  std::mutex mutex;
  gdn_log_function function = nullptr;
  void* user = nullptr;
};

Log& the_log() {
  static Log log;
  return log;
}

struct Name {
  gdn_status status;
  const char* name;
};

// In the order of gdn_status; those that the runtime has carry the runtime's names.
constexpr Name kNames[] = {
    {GDN_OK, "ok"},
    {GDN_BAD_ARGUMENT, "bad_argument"},
    {GDN_DTYPE_MISMATCH, "dtype_mismatch"},
    {GDN_LAYOUT_MISMATCH, "layout_mismatch"},
    {GDN_SIZE_MISMATCH, "size_mismatch"},
    {GDN_STRIDE_MISMATCH, "stride_mismatch"},
    {GDN_ALIGNMENT, "alignment"},
    {GDN_OVERLAP, "overlap"},
    {GDN_SLOT_OUT_OF_RANGE, "slot_out_of_range"},
    {GDN_SLOT_REPEATED, "slot_repeated"},
    {GDN_MISSING_LIBRARY, "missing_library"},
    {GDN_UNSUPPORTED, "unsupported"},
    {GDN_COMPILE_FAILED, "compile_failed"},
    {GDN_TIMED_OUT, "timed_out"},
    {GDN_DEVICE_ERROR, "device_error"},
    {GDN_SYSTEM, "system"},
    {GDN_NOT_BUILT, "not_built"},
    {GDN_TRUNCATED, "truncated"},
    {GDN_ALTERED, "altered"},
    {GDN_OTHER_VERSION, "other_version"},
    {GDN_OUT_OF_MEMORY, "out_of_memory"},
    {GDN_WRONG_DEVICE, "wrong_device"},
    {GDN_NAN_IN_STATE, "nan_in_state"},
    {GDN_BAD_SPEC, "bad_spec"},
    {GDN_INTERNAL, "internal"},
};

}  // namespace

gdn_status fail(gdn_status status, const char* text) noexcept {
  LastError& error = last_error();
  error.status = status;
  error.literal = nullptr;
  try {
    error.text = text == nullptr ? "" : text;
  } catch (...) {
    error.literal = "out of memory, even for the text of this error";
  }
  return status;
}

gdn_status status_of(runtime::Code code) {
  const std::string_view name = runtime::to_string(code);
  for (const Name& known : kNames) {
    if (name == known.name) return known.status;
  }
  return GDN_INTERNAL;
}

void log(const std::string& text) {
  Log& log = the_log();
  const std::lock_guard<std::mutex> lock(log.mutex);
  if (log.function != nullptr) log.function(log.user, text.c_str());
}

}  // namespace gdn::capi

extern "C" {

int gdn_abi_version(void) { return GDN_ABI_VERSION; }

const char* gdn_status_name(gdn_status status) {
  for (const gdn::capi::Name& known : gdn::capi::kNames) {
    if (known.status == status) return known.name;
  }
  return "?";
}

gdn_status gdn_last_error(void) { return gdn::capi::last_error().status; }

const char* gdn_last_error_text(void) {
  const gdn::capi::LastError& error = gdn::capi::last_error();
  return error.literal != nullptr ? error.literal : error.text.c_str();
}

gdn_status gdn_set_last_error(gdn_status status, const char* text) { return gdn::capi::fail(status, text); }

void gdn_set_log(gdn_log_function log, void* user) {
  gdn::capi::Log& the = gdn::capi::the_log();
  const std::lock_guard<std::mutex> lock(the.mutex);
  the.function = log;
  the.user = user;
}

}  // extern "C"
