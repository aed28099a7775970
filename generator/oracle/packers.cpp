#include "oracle/packers.h"

#include <cstddef>

namespace gdn::oracle {
namespace {

double at(const std::vector<double>& values, int index) { return values[static_cast<std::size_t>(index)]; }

}  // namespace

std::vector<double> pack_qkvz_interleaved(const Shape& shape, const Token& token) {
  std::vector<double> row;
  for (int j = 0; j < shape.key_heads; ++j) {
    for (int c = 0; c < shape.key_dim; ++c) row.push_back(at(token.q, j * shape.key_dim + c));
    for (int c = 0; c < shape.key_dim; ++c) row.push_back(at(token.k, j * shape.key_dim + c));
    for (int g = 0; g < shape.group(); ++g) {
      const int h = shape.value_head(j, g);
      for (int c = 0; c < shape.value_dim; ++c) row.push_back(at(token.v, h * shape.value_dim + c));
    }
    for (int g = 0; g < shape.group(); ++g) {
      const int h = shape.value_head(j, g);
      for (int c = 0; c < shape.value_dim; ++c) row.push_back(at(token.z, h * shape.value_dim + c));
    }
  }
  return row;
}

std::vector<double> pack_ba_interleaved(const Shape& shape, const Token& token) {
  std::vector<double> row;
  for (int j = 0; j < shape.key_heads; ++j) {
    for (int g = 0; g < shape.group(); ++g) row.push_back(at(token.b, shape.value_head(j, g)));
    for (int g = 0; g < shape.group(); ++g) row.push_back(at(token.a, shape.value_head(j, g)));
  }
  return row;
}

std::vector<double> pack_qkv_flat(const Shape& shape, const Token& token) {
  std::vector<double> row;
  for (int j = 0; j < shape.key_heads; ++j) {
    for (int c = 0; c < shape.key_dim; ++c) row.push_back(at(token.q, j * shape.key_dim + c));
  }
  for (int j = 0; j < shape.key_heads; ++j) {
    for (int c = 0; c < shape.key_dim; ++c) row.push_back(at(token.k, j * shape.key_dim + c));
  }
  for (int h = 0; h < shape.value_heads; ++h) {
    for (int c = 0; c < shape.value_dim; ++c) row.push_back(at(token.v, h * shape.value_dim + c));
  }
  return row;
}

std::vector<double> pack_qkvz_flat(const Shape& shape, const Token& token) {
  std::vector<double> row = pack_qkv_flat(shape, token);
  for (int h = 0; h < shape.value_heads; ++h) {
    for (int c = 0; c < shape.value_dim; ++c) row.push_back(at(token.z, h * shape.value_dim + c));
  }
  return row;
}

std::vector<double> pack_ba_flat(const Shape& shape, const Token& token) {
  std::vector<double> row;
  for (int h = 0; h < shape.value_heads; ++h) row.push_back(at(token.b, h));
  for (int h = 0; h < shape.value_heads; ++h) row.push_back(at(token.a, h));
  return row;
}

std::vector<double> pack_window_sd(const Shape& shape, const Window& window) {
  std::vector<double> slot;
  for (int t = 0; t < window.taps; ++t) {
    for (int c = 0; c < shape.key_heads * shape.key_dim; ++c) slot.push_back(at(window.q, c * window.taps + t));
    for (int c = 0; c < shape.key_heads * shape.key_dim; ++c) slot.push_back(at(window.k, c * window.taps + t));
    for (int c = 0; c < shape.value_heads * shape.value_dim; ++c) slot.push_back(at(window.v, c * window.taps + t));
  }
  return slot;
}

std::vector<double> pack_window_ds(const Shape& shape, const Window& window) {
  std::vector<double> slot;
  for (int c = 0; c < shape.key_heads * shape.key_dim; ++c) {
    for (int t = 0; t < window.taps; ++t) slot.push_back(at(window.q, c * window.taps + t));
  }
  for (int c = 0; c < shape.key_heads * shape.key_dim; ++c) {
    for (int t = 0; t < window.taps; ++t) slot.push_back(at(window.k, c * window.taps + t));
  }
  for (int c = 0; c < shape.value_heads * shape.value_dim; ++c) {
    for (int t = 0; t < window.taps; ++t) slot.push_back(at(window.v, c * window.taps + t));
  }
  return slot;
}

std::vector<double> pack_state_vk(const Shape& shape, const std::vector<double>& state) {
  std::vector<double> slot;
  for (int h = 0; h < shape.value_heads; ++h) {
    for (int j = 0; j < shape.value_dim; ++j) {
      for (int i = 0; i < shape.key_dim; ++i) slot.push_back(at(state, (h * shape.key_dim + i) * shape.value_dim + j));
    }
  }
  return slot;
}

std::vector<double> pack_state_kv(const Shape& shape, const std::vector<double>& state) {
  std::vector<double> slot;
  for (int h = 0; h < shape.value_heads; ++h) {
    for (int i = 0; i < shape.key_dim; ++i) {
      for (int j = 0; j < shape.value_dim; ++j)
        slot.push_back(at(state, (h * shape.key_dim + i) * shape.value_dim + j));
    }
  }
  return slot;
}

}  // namespace gdn::oracle
