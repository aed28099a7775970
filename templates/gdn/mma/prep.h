// The part of the chunked delta rule that needs no state (sm90/prep.h says what it is), by a block of four warps.
#pragma once

#include "gdn/mma/products.h"
#include "gdn/sm90/prep_channels.h"

namespace gdn::mma {

struct WarpPrep {
  GDN_DEVICE static void written() {}
  GDN_DEVICE static void send(Global<char> to, unsigned from, int bytes) {
    for (int at = thread_id() * 16; at < bytes; at += 128 * 16) {
      unsigned x[4];
      load_shared_16(x, from + static_cast<unsigned>(at));
      store_16(to + at, x);
    }
  }
  GDN_DEVICE static void sent() {}
  GDN_DEVICE static void wait_sent() {}

  // A warp 16 rows, their columns up to the diagonal: nobody reads what lies above it.
  template <int kTiles>
  GDN_DEVICE static void multiply(float (&kk)[32], float (&qk)[32], unsigned keys, unsigned queries) {
    const int warp = thread_id() / 32;
    const unsigned own = static_cast<unsigned>(warp) * 16 * 128;
    const Operand k = Operand::k_along_rows(keys);
    // A's words of a k-step lie as an operand's whose rows are k: row % 16, columns of lanes 16 and above 8 further.
    const Operand k_own = Operand::n_along_rows(keys + own), q_own = Operand::n_along_rows(queries + own);
    GDN_UNROLL
    for (int i = 0; i < 32; ++i) kk[i] = qk[i] = 0.0f;
    GDN_UNROLL
    for (int s = 0; s < 4 * kTiles; ++s) {
      unsigned of_k[4], of_q[4];
      k_own.load(of_k, 0, 16 * s);
      q_own.load(of_q, 0, 16 * s);
      GDN_UNROLL
      for (int n = 0; n < 4; ++n) {
        if (n > warp) continue;
        unsigned b[4];
        k.load(b, 16 * n, 16 * s);
        add_product(kk, 8 * n, of_k, b[0], b[1]);
        add_product(kk, 8 * n + 4, of_k, b[2], b[3]);
        add_product(qk, 8 * n, of_q, b[0], b[1]);
        add_product(qk, 8 * n + 4, of_q, b[2], b[3]);
      }
    }
  }
};

}  // namespace gdn::mma
