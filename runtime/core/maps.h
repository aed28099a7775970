// The address maps of Facts by name, so that whoever walks over all of them (emit, text, address checks) walks over
// the same ones in the same order.
#pragma once

#include <string_view>

#include "core/facts.h"

namespace gdn::core {

struct NamedMap {
  std::string_view name;  // of the map's type in the emitted facts
  Map Facts::* map;
};

inline constexpr NamedMap kMaps[] = {
    {"InputQ", &Facts::in_q},
    {"InputK", &Facts::in_k},
    {"InputV", &Facts::in_v},
    {"InputZ", &Facts::in_z},
    {"InputB", &Facts::in_b},
    {"InputA", &Facts::in_a},
    {"InputG", &Facts::in_g},
    {"InputBeta", &Facts::in_beta},
    {"InputO", &Facts::in_o},
    {"OutputQ", &Facts::out_q},
    {"OutputK", &Facts::out_k},
    {"OutputV", &Facts::out_v},
    {"OutputZ", &Facts::out_z},
    {"OutputB", &Facts::out_b},
    {"OutputA", &Facts::out_a},
    {"OutputG", &Facts::out_g},
    {"OutputBeta", &Facts::out_beta},
    {"OutputO", &Facts::out_o},
    {"Out", &Facts::out},
    {"WeightQ", &Facts::weight_q},
    {"WeightK", &Facts::weight_k},
    {"WeightV", &Facts::weight_v},
    {"BiasQ", &Facts::bias_q},
    {"BiasK", &Facts::bias_k},
    {"BiasV", &Facts::bias_v},
    {"WindowQ", &Facts::window_q},
    {"WindowK", &Facts::window_k},
    {"WindowV", &Facts::window_v},
    {"State", &Facts::state},
    {"Intermediate", &Facts::intermediate},
    {"RecordK", &Facts::record_k},
    {"RecordU", &Facts::record_u},
    {"RecordDecay", &Facts::record_decay},
    {"ALog", &Facts::a_log},
    {"DtBias", &Facts::dt_bias},
    {"NormW", &Facts::norm_w},
    {"NormB", &Facts::norm_b},
    {"StateScale", &Facts::state_scale},
    {"OutScale", &Facts::out_scale},
};

}  // namespace gdn::core
