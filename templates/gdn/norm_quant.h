// norm_quant: the gated norm of o. Needs no slots: every row of the batch is computed. Grid: x = rows, y = key heads.
#pragma once

#include "gdn/norm.h"

namespace gdn {

template <class F>
GDN_DEVICE void norm_quant(const Args& args) {
  using Input = typename F::InputO;
  const int row = block_row();
  constexpr int kWaves = F::kThreads / kWaveSize;
  struct Shared {
    alignas(16) float o[kWaves][F::kValueDim];
    alignas(16) float gates[kWaves][F::kValueDim];
  };
  GDN_SHARED(Shared, shared);
  static_assert(sizeof(Shared) <= 48 * 1024, "static shared memory of a block");

  // A head per wave; all waves take every turn, for the barriers.
  for (int first = 0; first < F::kGroup; first += kWaves) {
    if (first > 0) barrier();
    Deal<F::kThreads> deal;
    for (int wave = 0; wave < smaller(kWaves, F::kGroup - first); ++wave) {
      fetch_gates<F>(args, row, value_head<F>(block_head(), first + wave), deal, shared.gates[wave]);
      fetch_head<F, Input>(part<Input>(args, row), value_head<F>(block_head(), first + wave), shared.o[wave]);
    }
    barrier();
    const int g = first + wave_id();
    if (g < F::kGroup)
      gated_norm<F>(args, row, value_head<F>(block_head(), g), shared.o[wave_id()], shared.gates[wave_id()]);
  }
}

}  // namespace gdn
