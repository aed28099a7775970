// gdn_set_open_bundle.
#include "capi/handles.h"

using gdn::capi::created;
using gdn::capi::need;
using gdn::runtime::Code;
using gdn::runtime::Error;

extern "C" {

gdn_status gdn_set_open_bundle(const char* path, const gdn_set_options* options, gdn_set** set) {
  return created(set, "set", [&]() -> std::unique_ptr<gdn_set> {
    need(path, "path");
    static_cast<void>(options);
    throw Error(Code::kUnsupported, "this library was built without bundles");
  });
}

}  // extern "C"
