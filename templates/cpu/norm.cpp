#include "cpu/norm.h"

#include "cpu/copy.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/quantise.h"

namespace gdn::cpu {
namespace {

using core::Map;

// All vectors of a head stay in zmm0-15; the rest is free.
constexpr int kSquares = 16, kTemporary = 17, kFactor = 18, kGate = 19, kT1 = 20, kT2 = 21, kT3 = 22;

void sum_of_squares(Context& c, int vectors) {
  c.e.vpxord(zmm(kSquares), zmm(kSquares), zmm(kSquares));
  for (int i = 0; i < vectors; ++i) c.e.vfmadd231ps(zmm(kSquares), zmm(i), zmm(i));
  emit_sum_pair(c, kSquares, kSquares, kSquares, kTemporary);
}

// kFactor, every lane <- numerator / xmm(kSquares)
void divide(Context& c, double numerator) {
  c.e.vmovss(xmm(kFactor), c.e.scalar(static_cast<float>(numerator)));
  c.e.vdivss(xmm(kFactor), xmm(kFactor), xmm(kSquares));
  c.e.vbroadcastss(zmm(kFactor), xmm(kFactor));
}

void square_root(Context& c) { c.e.vsqrtss(xmm(kSquares), xmm(kSquares), xmm(kSquares)); }

void add_scalar(Context& c, double value) {
  c.e.vaddss(xmm(kSquares), xmm(kSquares), c.e.scalar(static_cast<float>(value)));
}

void multiply_scalar(Context& c, double value) {
  c.e.vmulss(xmm(kSquares), xmm(kSquares), c.e.scalar(static_cast<float>(value)));
}

Vector16 vector_of(const Reg64& base, const Map& map, int index) {
  return {base, static_cast<std::int64_t>(index) * kLanes * stride_bytes(map, map.inner_stride), map.dtype,
          map.inner_stride};
}

// zmm(kGate) <- act(z) of vector `index`; r8 points at z.
void load_gate(Context& c, int index) {
  load(c, kGate, vector_of(reg::r8, c.facts.in_z, index));
  // Between the gate and the output nothing but products, and a norm where it stands behind the gate.
  emit_activation_for(c, c.facts.norm_gate, c.facts.out.dtype, kGate, kT1, kT2, kT3);
}

// zmm(kGate) <- w' of vector `index`; r10 points at the weight.
void load_weight(Context& c, int index) {
  load(c, kGate, vector_of(reg::r10, c.facts.norm_w, index));
  if (c.facts.norm_weight == core::NormWeight::kW) return;
  c.e.vaddps(zmm(kGate), zmm(kGate), c.e.constant(1.0f));
  if (c.facts.norm_weight == core::NormWeight::kTwiceOnePlusW) c.e.vaddps(zmm(kGate), zmm(kGate), zmm(kGate));
}

}  // namespace

void emit_qk_norm_vectors(Context& c, double scale) {
  const core::Facts& f = c.facts;
  const int n = c.key_vectors();
  if (f.qk_norm) {
    sum_of_squares(c, n);
    switch (f.qk_eps_at) {
      case core::EpsAt::kSum:
        add_scalar(c, f.qk_eps);
        square_root(c);
        break;
      case core::EpsAt::kMean:  // sqrt(mean + eps) * sqrt(n) = sqrt(sum + n * eps)
        add_scalar(c, f.qk_eps * f.key_dim);
        square_root(c);
        break;
      case core::EpsAt::kMax:
        square_root(c);
        // The bound is the first source, so that a NaN passes.
        c.e.vmovss(xmm(kTemporary), c.e.scalar(static_cast<float>(f.qk_eps)));
        c.e.vmaxss(xmm(kSquares), xmm(kTemporary), xmm(kSquares));
        break;
    }
    divide(c, scale);
  } else if (scale != 1) {
    c.e.vbroadcastss(zmm(kFactor), c.e.scalar(static_cast<float>(scale)));
  }
  for (int i = 0; i < n; ++i) {
    if (f.qk_norm || scale != 1) c.e.vmulps(zmm(i), zmm(i), zmm(kFactor));
    round_to(c, i, f.round_qk);
  }
}

void emit_qk_norm(Context& c, int frame_offset, double scale) {
  const core::Facts& f = c.facts;
  if (!f.qk_norm && scale == 1 && f.round_qk == core::DType::kFp32) return;
  c.e.comment("norm and scale of q or k");
  const int n = c.key_vectors();
  for (int i = 0; i < n; ++i) c.e.vmovaps(zmm(i), c.e.at(reg::frame, frame_offset + 64 * i));
  emit_qk_norm_vectors(c, scale);
  for (int i = 0; i < n; ++i) c.e.vmovaps(c.e.at(reg::frame, frame_offset + 64 * i), zmm(i));
}

void emit_gated_norm(Context& c) {
  c.e.comment("gated norm");
  const core::Facts& f = c.facts;
  emit_point_at_norm(c);
  emit_pointer(c, reg::r9, f.out, Row::kToken);
  if (quantises(f)) emit_scale_pointer(c, reg::rdx);
  for (int i = 0; i < c.value_vectors(); ++i) c.e.vmovaps(zmm(i), c.e.at(reg::frame, c.frame.o + 64 * i));
  emit_gated_norm_vectors(c);
  emit_leave_normed(c);
}

void emit_output(Context& c) {
  if (c.facts.norm_w.present()) {
    emit_gated_norm(c);
  } else {
    emit_store_part(c, c.facts.out, c.frame.o);
  }
}

void emit_output_columns(Context& c) {
  const core::Facts& f = c.facts;
  const int columns = f.value_dim / c.column_parts;
  emit_pointer(c, reg::r9, f.out, Row::kToken);
  c.e.imul(reg::rax, c.e.at(reg::frame, c.frame.column_part), columns * stride_bytes(f.out, f.out.inner_stride));
  c.e.add(reg::r9, reg::rax);
  c.e.imul(reg::rax, c.e.at(reg::frame, c.frame.column_part), 4 * columns);
  c.e.lea(reg::rdx, c.e.indexed(reg::frame, reg::rax, 1));
  for (int i = 0; i < columns / kLanes; ++i) {
    c.e.vmovaps(zmm(0), c.e.at(reg::rdx, c.frame.o + 64 * i));
    store(c, vector_of(reg::r9, f.out, i), 0);
  }
}

void emit_point_at_norm(Context& c) {
  const core::Facts& f = c.facts;
  if (f.norm_gate != core::Activation::kNone) emit_pointer(c, reg::r8, f.in_z, Row::kToken);
  emit_pointer(c, reg::r10, f.norm_w, Row::kNone);
  if (f.norm_b.present()) emit_pointer(c, reg::rsi, f.norm_b, Row::kNone);
}

void emit_leave_normed(Context& c) {
  const core::Facts& f = c.facts;
  const int n = c.value_vectors();
  if (!quantises(f)) {
    const bool pairs = f.out.dtype == core::DType::kBf16 && f.out.inner_stride == 1;
    for (int i = 0; i < n; ++i) {
      const Vector16 to = vector_of(reg::r9, f.out, i);
      if (pairs && i + 1 < n) {
        // As dear as to narrow one of them, on processors where that is dear.
        c.e.vcvtne2ps2bf16(zmm(kScratch), zmm(i + 1), zmm(i));
        c.e.vmovups(c.e.at(to.base, to.displacement), zmm(kScratch));
        ++i;
      } else {
        store(c, to, i);
      }
    }
    return;
  }
  for (int i = 0; i < n; ++i) c.e.vmovaps(c.e.at(reg::frame, c.frame.o + 64 * i), zmm(i));
  c.e.lea(reg::rax, c.e.at(reg::frame, c.frame.o));
  emit_quantised(c, f.value_dim);
}

void emit_gated_norm_vectors(Context& c) {
  const core::Facts& f = c.facts;
  const int n = c.value_vectors();
  const bool gated = f.norm_gate != core::Activation::kNone;
  for (int i = 0; i < n && gated && !f.norm_before_gate; ++i) {
    load_gate(c, i);
    c.e.vmulps(zmm(i), zmm(i), zmm(kGate));
  }
  sum_of_squares(c, n);
  multiply_scalar(c, 1.0 / f.value_dim);
  add_scalar(c, f.norm_eps);
  square_root(c);
  divide(c, 1);
  for (int i = 0; i < n; ++i) {
    c.e.vmulps(zmm(i), zmm(i), zmm(kFactor));
    round_to(c, i, f.round_norm);
    load_weight(c, i);
    c.e.vmulps(zmm(i), zmm(i), zmm(kGate));
    if (f.norm_b.present()) {
      load(c, kGate, vector_of(reg::rsi, f.norm_b, i));
      c.e.vaddps(zmm(i), zmm(i), zmm(kGate));
    }
    if (f.norm_before_gate && gated) {
      load_gate(c, i);
      c.e.vmulps(zmm(i), zmm(i), zmm(kGate));
    }
    if (quantises(f)) round_to(c, i, f.quant_from);
  }
}

}  // namespace gdn::cpu
