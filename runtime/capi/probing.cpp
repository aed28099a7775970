// gdn_probe.
#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "capi/handles.h"
#include "check.h"
#include "probe/probe.h"

using gdn::capi::guarded;
using gdn::capi::need;
using gdn::runtime::Code;
using gdn::runtime::Error;

namespace {

// Where the operands lie. A target alone says nothing about that: then it is the host.
gdn::runtime::Place place_of(const char* where) {
  return gdn::runtime::is_place(where) ? gdn::runtime::parse_place(where) : gdn::runtime::Place();
}

// Writes through the device whose memory it is.
gdn::runtime::Probe::Write writer(const gdn_set& set, const gdn::runtime::Place& place) {
  if (place.gpu()) {
    return [device = set.set->device(place)](void* to, const void* from, std::size_t bytes) {
      device.copy_in(to, from, bytes);
    };
  }
  return [](void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); };
}

}  // namespace

extern "C" {

gdn_status gdn_probe(const gdn_set* set, const char* operation, const char* where, int32_t rows,
                     const gdn_view* const* views, size_t count, gdn_probe_function read, void* user) {
  return guarded([&] {
    need(set, "set");
    need(operation, "operation");
    need(where, "where");
    if (read == nullptr) throw Error(Code::kBadArgument, "read is null");
    const gdn::capi::ViewArray array(views, count);
    const gdn::core::KernelPlan& plan = set->set->find(operation, where).plan;
    gdn::runtime::Probe probe(plan, rows, array);
    const gdn::runtime::Place place = place_of(where);
    gdn::runtime::check_devices(plan, array, place.memory(), place.ordinal);
    const gdn::runtime::Probe::Write write = writer(*set, place);
    std::vector<bool> left_out(probe.parts().size());
    std::vector<float> values;
    bool any = false;
    for (int pass = 0; pass < probe.passes(); ++pass) {
      probe.fill(pass, write);
      for (std::size_t i = 0; i < probe.parts().size(); ++i) {
        if (left_out[i]) continue;
        const gdn::runtime::Part& part = probe.parts()[i];
        values.assign(probe.size_of(part), 0.0f);
        const int answer = read(user, part.name.c_str(), rows, values.data(), values.size());
        if (answer != 0 && answer != 1) {
          throw Error(Code::kBadArgument, fmt::format("the engine failed to read part {} ({})", part.name, answer));
        }
        if (answer == 1) {
          left_out[i] = true;
        } else {
          probe.read(i, pass, values.data());
          any = true;
        }
      }
    }
    if (!any) throw Error(Code::kBadArgument, "the engine read no part: there is nothing to compare");
    const std::string difference = probe.difference();
    if (!difference.empty()) throw Error(Code::kLayoutMismatch, difference);
  });
}

}  // extern "C"
