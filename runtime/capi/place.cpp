#include "capi/place.h"

#include <fmt/format.h>

#include "error.h"

namespace gdn::runtime {
namespace {

struct Split {
  std::string_view word, rest;
  bool colon;
};

Split split(std::string_view text) {
  const std::size_t at = text.find(':');
  if (at == std::string_view::npos) return {text, {}, false};
  return {text.substr(0, at), text.substr(at + 1), true};
}

[[noreturn]] void refuse(std::string_view text) {
  throw Error(Code::kBadArgument,
              fmt::format("`{}` is no place: cpu, cuda, cuda:1, hip, hip:1, simt and simt:gfx942 are", text));
}

}  // namespace

DeviceKind Place::memory() const {
  return kind == Kind::kCuda ? DeviceKind::kCuda : kind == Kind::kHip ? DeviceKind::kHip : DeviceKind::kCpu;
}

bool is_place(std::string_view text) {
  const std::string_view word = split(text).word;
  return word == "cpu" || word == "cuda" || word == "hip" || word == "simt";
}

Place parse_place(std::string_view text) {
  const Split parts = split(text);
  Place place;
  if (parts.word == "cpu") {
    if (parts.colon) refuse(text);
    return place;
  }
  if (parts.word == "simt") {
    place.kind = Place::Kind::kSimt;
    place.target = parts.colon ? std::string(parts.rest) : "sm_90a";
    if (place.target.substr(0, 3) != "sm_" && place.target.substr(0, 3) != "gfx") refuse(text);
    return place;
  }
  if (parts.word != "cuda" && parts.word != "hip") refuse(text);
  place.kind = parts.word == "cuda" ? Place::Kind::kCuda : Place::Kind::kHip;
  if (parts.colon && (parts.rest.empty() || parts.rest.size() > 3)) refuse(text);
  for (const char digit : parts.rest) {
    if (digit < '0' || digit > '9') refuse(text);
    place.ordinal = place.ordinal * 10 + (digit - '0');
  }
  return place;
}

std::string to_string(const Place& place) {
  switch (place.kind) {
    case Place::Kind::kCpu:
      return "cpu";
    case Place::Kind::kCuda:
      return fmt::format("cuda:{}", place.ordinal);
    case Place::Kind::kHip:
      return fmt::format("hip:{}", place.ordinal);
    case Place::Kind::kSimt:
      return "simt:" + place.target;
  }
  return "?";
}

}  // namespace gdn::runtime
