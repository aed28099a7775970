#include "cpu/delta.h"

#include <algorithm>
#include <functional>

#include "cpu/chance.h"
#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/state_store.h"

namespace gdn::cpu {
namespace {

using core::DType;
using core::Map;

// General registers of both orientations.
const Reg64 kState = reg::r8;
const Reg64 kAhead = reg::r9;     // what is asked for while kState streams through
const Reg64 kChannel = reg::rdx;  // frame + 4 * channel of the outer loop
const Reg64 kColumns = reg::r10;  // frame + 4 * first value channel, where a head is cut into parts
const Reg64 kScales = reg::r11;   // the scale of the first value channel at hand, of an 8-bit state
const Reg64 kBlock = reg::r11;    // number of the row's first block of random bits, of a state rounded by chance

// How far ahead of the state's rows that are at hand others are asked for, where rows are swept once. Measured on Zen
// 5: tests/bench/NOTES.md.
constexpr std::int64_t kAheadBytes = 8192;

// The same where they are swept twice, as the first sweep ends.
constexpr std::int64_t kAheadAtEndBytes = 4096;

std::int64_t element_bytes(const Map& map) { return static_cast<std::int64_t>(core::size_of(map.dtype)); }

// Where the rule works, and what it leaves behind.
struct Rule {
  const Map& state;     // strides and type of what kState points at
  bool ahead = true;    // frame.following points at the next head's state, to be asked for
  bool keep_u = false;  // u takes the place of v

  bool scaled() const { return is_scaled(state); }
  bool by_chance(const Context& c) const { return is_by_chance(c, state); }
};

// Where the frame's vectors of a value head begin for who works on it.
Reg64 columns_base(const Context& c) { return c.column_parts == 1 ? reg::frame : kColumns; }

// The vectors of one contiguous row (or of one with a constant stride) of the state, and of one to come.
class Row16 {
 public:
  Row16(Context& c, const Rule& rule, std::int64_t stride)
      : c_(c), map_(rule.state), stride_(stride), ahead_(rule.ahead) {}

  void load_vector(int target, int index) const { load(c_, target, place(index)); }

  // Vectors [begin, end) of the row from the registers that follow `source`. Two neighbours of a bf16 row are narrowed
  // by one instruction. Changes zmm29.
  void store_vectors(int begin, int end, int source) const {
    int index = begin;
    if (map_.dtype == DType::kBf16 && stride_ == 1) {
      for (; index + 1 < end; index += 2, source += 2) {
        c_.e.vcvtne2ps2bf16(zmm(kScratch), zmm(source + 1), zmm(source));
        c_.e.vmovups(c_.e.at(kState, place(index).displacement), zmm(kScratch));
      }
    }
    for (; index < end; ++index, ++source) store(c_, place(index), source);
  }

  // Lines that hold vectors [begin, end) of the row at kAhead; a row with strides is too far apart to gain.
  void prefetch(int begin, int end) const {
    if (stride_ != 1 || !ahead_) return;
    constexpr std::int64_t kLine = 64;
    const std::int64_t vector = kLanes * element_bytes(map_);
    for (std::int64_t byte = begin * vector / kLine * kLine; byte < end * vector; byte += kLine) {
      c_.e.prefetcht1(c_.e.at(kAhead, byte));
    }
  }

 private:
  Vector16 place(int index) const {
    return {kState, static_cast<std::int64_t>(index) * kLanes * stride_ * element_bytes(map_), map_.dtype, stride_};
  }

  Context& c_;
  const Map& map_;
  std::int64_t stride_;
  bool ahead_;
};

// The state's rows run along the key channels: a row stays in registers between the two dot products and the update.
// zmm0-15 the row, zmm16-23 sums and scalars, or k and q where both fit.
class RowsOfKeys {
 public:
  RowsOfKeys(Context& c, const Rule& rule)
      : c_(c), rule_(rule), n_(c.key_vectors()), row_(c, rule, rule.state.inner_stride) {}

  void emit() {
    if (held()) {
      for (int i = 0; i < n_; ++i) {
        c_.e.vmovaps(zmm(kKeys + i), c_.e.at(reg::frame, keys() + 64 * i));
        c_.e.vmovaps(zmm(kQueries + i), c_.e.at(reg::frame, queries() + 64 * i));
      }
    }
    if (!c_.by_channel()) {
      c_.e.vbroadcastss(zmm(kDecay), c_.e.indexed(reg::frame, reg::group, 4, c_.frame.decay));
    }
    if (scratch_free()) {
      c_.e.vbroadcastss(zmm(kBeta), beta());
      c_.e.vbroadcastss(zmm(kKeyQuery), c_.e.at(reg::frame, c_.frame.key_query));
    }
    c_.e.mov(kChannel, columns_base(c_));
    if (rule_.ahead) {
      c_.e.mov(kAhead, kState);
      emit_advance(c_, kAhead, rows_ahead() * row_bytes());
    }
    emit_repeat(c_, rows(), "state_row", [&] { row(); });
  }

 private:
  static constexpr int kKeys = 8, kQueries = 16;  // where n_ <= 8
  static constexpr int kP = 24, kR = 25, kP2 = 26, kR2 = 27, kDecay = 28;
  static constexpr int kKeyQuery = 30, kBeta = 31;  // where rows need no scratch registers

  bool held() const { return n_ <= 8; }
  bool scratch_free() const { return rule_.state.inner_stride == 1 && !rule_.scaled() && !rule_.by_chance(c_); }
  Address beta() const { return c_.e.indexed(reg::frame, reg::group, 4, c_.frame.beta); }
  int rows() const { return c_.facts.value_dim / c_.column_parts; }
  std::int64_t row_bytes() const { return rule_.state.outer_stride * element_bytes(rule_.state); }

  // Whole rows, at least one and at most those that there are.
  int rows_ahead() const {
    const std::int64_t bytes = c_.facts.key_dim * element_bytes(rule_.state);
    return static_cast<int>(std::clamp<std::int64_t>(kAheadBytes / bytes, 1, rows()));
  }

  // What the sums multiply the state with.
  int keys() const { return c_.by_channel() ? c_.frame.decayed_k : c_.frame.k; }
  int queries() const { return c_.by_channel() ? c_.frame.decayed_q : c_.frame.q; }

  void multiply_add(int sum, int state, int held_at, int frame_offset, int index) const {
    if (held()) {
      c_.e.vfmadd231ps(zmm(sum), zmm(state), zmm(held_at + index));
    } else {
      c_.e.vfmadd231ps(zmm(sum), zmm(state), c_.e.at(reg::frame, frame_offset + 64 * index));
    }
  }

  // The same for a sum's first product.
  void multiply(int sum, int state, int held_at, int frame_offset, int index) const {
    if (held()) {
      c_.e.vmulps(zmm(sum), zmm(state), zmm(held_at + index));
    } else {
      c_.e.vmulps(zmm(sum), zmm(state), c_.e.at(reg::frame, frame_offset + 64 * index));
    }
  }

  void row() const {
    if (rule_.by_chance(c_)) emit_chances(c_, kBlock, 0, c_.facts.key_dim, 0);
    // Two chains a sum: an FMA has a latency of four cycles.
    for (int i = 0; i < n_; ++i) {
      row_.load_vector(i, i);
      const auto add = [&](int sum, int held_at, int frame_offset) {
        if (i < 2) {
          multiply(sum, i, held_at, frame_offset, i);
        } else {
          multiply_add(sum, i, held_at, frame_offset, i);
        }
      };
      add(i % 2 == 0 ? kP : kP2, kKeys, keys());
      add(i % 2 == 0 ? kR : kR2, kQueries, queries());
    }
    if (n_ > 1) {
      c_.e.vaddps(zmm(kP), zmm(kP), zmm(kP2));
      c_.e.vaddps(zmm(kR), zmm(kR), zmm(kR2));
    }
    emit_sum_pair(c_, kR, kR, kP, kP2);
    if (rule_.scaled()) c_.e.vmulps(zmm(kR), zmm(kR), c_.e.broadcast(kScales, 0));
    // u in every lane; o in the lanes of the low half, where r is.
    c_.e.vshuff64x2(zmm(kP), zmm(kR), zmm(kR), imm8(0xff));
    c_.e.vbroadcastss(zmm(kP2), c_.e.at(kChannel, c_.frame.v));
    if (c_.by_channel()) {
      c_.e.vsubps(zmm(kP2), zmm(kP2), zmm(kP));
    } else {
      c_.e.vfnmadd231ps(zmm(kP2), zmm(kP), zmm(kDecay));
      c_.e.vmulps(zmm(kR), zmm(kR), zmm(kDecay));
    }
    if (!scratch_free()) c_.e.vbroadcastss(zmm(kR2), beta());
    c_.e.vmulps(zmm(kP2), zmm(kP2), zmm(scratch_free() ? kBeta : kR2));
    if (rule_.keep_u) c_.e.vmovss(c_.e.at(kChannel, c_.frame.v), xmm(kP2));
    if (scratch_free()) {
      c_.e.vfmadd231ps(zmm(kR), zmm(kP2), zmm(kKeyQuery));
    } else {
      c_.e.vfmadd231ps(zmm(kR), zmm(kP2), c_.e.broadcast(reg::frame, c_.frame.key_query));
    }
    c_.e.vmovss(c_.e.at(kChannel, c_.frame.o), xmm(kR));
    row_.prefetch(0, n_);
    int decay = kDecay;
    if (rule_.scaled()) {
      decay = kP;
      c_.e.vbroadcastss(zmm(kP), c_.e.at(kScales));
      if (!c_.by_channel()) c_.e.vmulps(zmm(kP), zmm(kP), zmm(kDecay));
    }
    for (int i = 0; i < n_; ++i) {
      if (c_.by_channel()) {
        c_.e.vmulps(zmm(i), zmm(i), c_.e.at(reg::frame, c_.frame.decays + 64 * i));
        if (rule_.scaled()) c_.e.vmulps(zmm(i), zmm(i), zmm(decay));
        c_.e.vfmadd231ps(zmm(i), zmm(kP2), c_.e.at(reg::frame, c_.frame.k + 64 * i));
      } else {
        c_.e.vmulps(zmm(i), zmm(i), zmm(decay));
        multiply_add(i, kP2, kKeys, c_.frame.k, i);
      }
      if (rule_.by_chance(c_)) emit_round_by_chance(c_, i, rule_.state.dtype, i);
    }
    if (rule_.scaled()) rescale();
    row_.store_vectors(0, n_, 0);
    if (rule_.scaled()) emit_advance(c_, kScales, scale_step(c_));
    if (rule_.by_chance(c_)) emit_advance(c_, kBlock, rule_.state.outer_stride / 8);
    emit_advance(c_, kState, row_bytes());
    if (rule_.ahead) {
      // Behind the last row comes the first of what follows: rows_ahead() rows before the loop's end.
      emit_advance(c_, kAhead, row_bytes());
      c_.e.cmp(reg::ecx, rows_ahead() + 1);
      c_.e.cmovz(kAhead, c_.e.at(reg::frame, c_.frame.following));
    }
    c_.e.add(kChannel, 4);
  }

  // The row by a new scale of its own.
  void rescale() const {
    c_.e.vpxord(zmm(kR), zmm(kR), zmm(kR));
    for (int i = 0; i < n_; ++i) emit_take_magnitude(c_, kR, i);
    emit_max_lanes(c_, kR, kR2);
    emit_new_scale(c_, rule_.state.dtype, kP, kR);
    c_.e.vmovss(c_.e.at(kScales), xmm(kP));
    for (int i = 0; i < n_; ++i) c_.e.vmulps(zmm(i), zmm(i), zmm(kR));
  }

  Context& c_;
  Rule rule_;
  int n_;
  Row16 row_;
};

// The state's rows run along the value channels: one sweep accumulates p and r for a strip of columns, a second one
// updates it, from the cache. zmm0-11 p, then u; zmm12-23 r, then o; behind it random bits, or the largest magnitudes
// of the columns of an 8-bit state, which a third sweep makes codes of.
class RowsOfValues {
 public:
  RowsOfValues(Context& c, const Rule& rule) : c_(c), rule_(rule), row_(c, rule, 1) {}

  void emit() {
    const auto first = [&](int strip) { return vectors() * strip / strips(); };
    for (int strip = 0; strip < strips(); ++strip) {
      const bool last = strip + 1 == strips();
      columns(first(strip), first(strip + 1), {last, last ? 0 : first(strip + 1), last ? first(1) : first(strip + 2)});
    }
  }

 private:
  static constexpr int kMaxStrip = 12;
  static constexpr int kP = 0, kR = 12, kValue = 24, kValues = 4, kDecay = 28;
  static constexpr int kKey = 30, kQuery = 31;  // of the row, where its numbers need no scratch registers

  bool holds_key() const { return !rule_.scaled() && !rule_.by_chance(c_); }  // during the update
  int vectors() const { return c_.value_vectors() / c_.column_parts; }
  int strips() const { return (vectors() + kMaxStrip - 1) / kMaxStrip; }
  int rows() const { return c_.facts.key_dim; }
  std::int64_t row_bytes() const { return rule_.state.inner_stride * element_bytes(rule_.state); }

  // Of a strip, as its sums begin.
  int rows_ahead() const {
    const std::int64_t bytes = vectors() * kLanes / strips() * element_bytes(rule_.state);
    return rows() / 2 + static_cast<int>(std::clamp<std::int64_t>(kAheadAtEndBytes / bytes, 0, rows() / 2));
  }

  // The columns that come next: of this head, or of what follows it.
  struct Next {
    bool follows;
    int begin, end;
  };

  // Every two rows of either sweep one row to come is asked for, so that neither leaves the memory idle. The first
  // rows_ahead() of a strip are asked for before its sums begin. Half of them all would last until the sums' sweep,
  // which reads two rows where one is asked for, has caught up at its very end; so it would wait for each of the last.
  void columns(int begin, int end, const Next& next) const {
    const int n = end - begin;
    const Reg64 base = columns_base(c_);
    for (int i = 0; i < n; ++i) {
      c_.e.vpxord(zmm(kP + i), zmm(kP + i), zmm(kP + i));
      c_.e.vpxord(zmm(kR + i), zmm(kR + i), zmm(kR + i));
    }
    c_.e.mov(reg::rsi, kState);
    c_.e.mov(kChannel, reg::frame);
    const int keys = c_.by_channel() ? c_.frame.decayed_k : c_.frame.k;
    const int queries = c_.by_channel() ? c_.frame.decayed_q : c_.frame.q;
    const auto sum = [&] {
      if (!rule_.scaled()) {
        c_.e.vbroadcastss(zmm(kKey), c_.e.at(kChannel, keys));
        c_.e.vbroadcastss(zmm(kQuery), c_.e.at(kChannel, queries));
      }
      for (int i = 0; i < n; ++i) {
        const int value = kValue + i % kValues;
        row_.load_vector(value, begin + i);
        if (rule_.scaled()) {
          c_.e.vfmadd231ps(zmm(kP + i), zmm(value), c_.e.broadcast(kChannel, keys));
          c_.e.vfmadd231ps(zmm(kR + i), zmm(value), c_.e.broadcast(kChannel, queries));
        } else {
          c_.e.vfmadd231ps(zmm(kP + i), zmm(value), zmm(kKey));
          c_.e.vfmadd231ps(zmm(kR + i), zmm(value), zmm(kQuery));
        }
      }
    };
    // Rows of this sweep with which more of the strip at hand is asked for.
    const int own = rule_.ahead ? 2 * (rows() - rows_ahead()) : rows();
    if (rule_.ahead) {
      c_.e.mov(kAhead, kState);
      emit_advance(c_, kAhead, row_bytes() * rows_ahead());
    }
    for_rows("state_sums", own, begin, end, sum);
    if (rule_.ahead) {
      if (next.follows) {
        c_.e.mov(kAhead, c_.e.at(reg::frame, c_.frame.following));
      } else {
        c_.e.mov(kAhead, reg::rsi);
      }
    }
    for_rows("state_sums_to_next", rows() - own, next.begin, next.end, sum);
    to_first_row();

    // By channel the sums have the decay already.
    if (c_.by_channel()) {
      c_.e.vbroadcastss(zmm(kDecay), c_.e.scalar(1.0f));
    } else {
      c_.e.vbroadcastss(zmm(kDecay), c_.e.indexed(reg::frame, reg::group, 4, c_.frame.decay));
    }
    c_.e.vbroadcastss(zmm(kValue), c_.e.indexed(reg::frame, reg::group, 4, c_.frame.beta));
    for (int i = 0; i < n; ++i) {
      const int offset = 64 * (begin + i);
      if (rule_.scaled()) {
        load(c_, kValue + 1,
             {kScales, scale_step(c_) * kLanes * (begin + i), DType::kFp32, c_.facts.state_scale.inner_stride});
        c_.e.vmulps(zmm(kP + i), zmm(kP + i), zmm(kValue + 1));
        c_.e.vmulps(zmm(kR + i), zmm(kR + i), zmm(kValue + 1));
        if (!c_.by_channel()) c_.e.vmulps(zmm(kValue + 1), zmm(kValue + 1), zmm(kDecay));
        c_.e.vmovaps(c_.e.at(reg::frame, c_.frame.scales + offset), zmm(kValue + 1));
      }
      c_.e.vfnmadd213ps(zmm(kP + i), zmm(kDecay), c_.e.at(base, c_.frame.v + offset));
      c_.e.vmulps(zmm(kP + i), zmm(kP + i), zmm(kValue));
      if (rule_.keep_u) c_.e.vmovaps(c_.e.at(base, c_.frame.v + offset), zmm(kP + i));
      if (!c_.by_channel()) c_.e.vmulps(zmm(kR + i), zmm(kR + i), zmm(kDecay));
      c_.e.vfmadd231ps(zmm(kR + i), zmm(kP + i), c_.e.broadcast(reg::frame, c_.frame.key_query));
      c_.e.vmovaps(c_.e.at(base, c_.frame.o + offset), zmm(kR + i));
    }

    if (rule_.scaled()) {
      for (int i = 0; i < n; ++i) c_.e.vpxord(zmm(kR + i), zmm(kR + i), zmm(kR + i));
      for_rows("state_magnitudes", rows(), 0, 0, [&] {
        begin_update();
        updated(begin, begin, end, [&](int i, int value) { emit_take_magnitude(c_, kR + i, value); });
      });
      to_first_row();
      for (int i = 0; i < n; ++i) {
        emit_new_scale(c_, rule_.state.dtype, kValue, kR + i);
        store(c_, {kScales, scale_step(c_) * kLanes * (begin + i), DType::kFp32, c_.facts.state_scale.inner_stride},
              kValue);
      }
    }
    for_rows("state_update", rows(), next.begin, next.end, [&] {
      begin_update();
      if (rule_.by_chance(c_)) emit_chances(c_, kBlock, 2 * begin, kLanes * n, kR);
      for (int first = begin; first < end; first += kValues) {
        const int last = std::min(end, first + kValues);
        updated(begin, first, last, [&](int i, int value) {
          if (rule_.scaled()) c_.e.vmulps(zmm(value), zmm(value), zmm(kR + i));
          if (rule_.by_chance(c_)) emit_round_by_chance(c_, value, rule_.state.dtype, i);
        });
        row_.store_vectors(first, last, kValue);
      }
      if (rule_.by_chance(c_)) emit_advance(c_, kBlock, rule_.state.inner_stride / 8);
    });
    to_first_row();
    if (rule_.by_chance(c_)) emit_advance(c_, kBlock, -rule_.state.inner_stride / 8 * c_.facts.key_dim);
  }

  // `row` for each of the next `count` rows of the state, which kState and kChannel follow; with every two of them
  // vectors [ahead_begin, ahead_end) of the row at kAhead are asked for.
  void for_rows(const char* name, int count, int ahead_begin, int ahead_end, const std::function<void()>& row) const {
    if (count == 0) return;
    const bool asks = rule_.ahead && ahead_begin < ahead_end;
    const int middle = (ahead_begin + ahead_end + 1) / 2;
    emit_repeat(c_, count / 2, name, [&] {
      for (int half = 0; half < 2; ++half) {
        row();
        if (asks) row_.prefetch(half == 0 ? ahead_begin : middle, half == 0 ? middle : ahead_end);
        emit_advance(c_, kState, row_bytes());
        c_.e.add(kChannel, 4);
      }
      if (asks) emit_advance(c_, kAhead, row_bytes());
    });
  }

  void to_first_row() const {
    c_.e.mov(kState, reg::rsi);
    c_.e.mov(kChannel, reg::frame);
  }

  // What all of a row is updated by.
  void begin_update() const {
    if (c_.by_channel()) c_.e.vbroadcastss(zmm(kDecay), c_.e.at(kChannel, c_.frame.decays));
    if (holds_key()) c_.e.vbroadcastss(zmm(kKey), c_.e.at(kChannel, c_.frame.k));
  }

  // `use`s vectors [first, last) of the row as the rule leaves them, each in a register of its own of four; a vector's
  // number counts from `begin`.
  void updated(int begin, int first, int last, const std::function<void(int i, int value)>& use) const {
    for (int at = first; at < last; ++at) {
      const int i = at - begin, value = kValue + (at - first) % kValues;
      row_.load_vector(value, at);
      if (c_.by_channel() || !rule_.scaled()) c_.e.vmulps(zmm(value), zmm(value), zmm(kDecay));
      if (rule_.scaled()) c_.e.vmulps(zmm(value), zmm(value), c_.e.at(reg::frame, c_.frame.scales + 64 * at));
      if (holds_key()) {
        c_.e.vfmadd231ps(zmm(value), zmm(kP + i), zmm(kKey));
      } else {
        c_.e.vfmadd231ps(zmm(value), zmm(kP + i), c_.e.broadcast(kChannel, c_.frame.k));
      }
      use(i, value);
    }
  }

  Context& c_;
  Rule rule_;
  Row16 row_;
};

// By channel, the sums take k and q times the decay.
void decay_keys_and_queries(Context& c) {
  if (!c.by_channel()) return;
  for (int i = 0; i < c.key_vectors(); ++i) {
    c.e.vmovaps(zmm(0), c.e.at(reg::frame, c.frame.decays + 64 * i));
    c.e.vmulps(zmm(1), zmm(0), c.e.at(reg::frame, c.frame.k + 64 * i));
    c.e.vmovaps(c.e.at(reg::frame, c.frame.decayed_k + 64 * i), zmm(1));
    c.e.vmulps(zmm(1), zmm(0), c.e.at(reg::frame, c.frame.q + 64 * i));
    c.e.vmovaps(c.e.at(reg::frame, c.frame.decayed_q + 64 * i), zmm(1));
  }
}

// kScales or kBlock, for the value channels that kState is at.
void point_at_store(Context& c, const Rule& rule) {
  if (rule.scaled()) {
    emit_point_at_scales(c, kScales);
    if (c.column_parts == 1) return;
    const std::int64_t columns = c.facts.value_dim / c.column_parts;
    c.e.imul(reg::rax, c.e.at(reg::frame, c.frame.column_part), static_cast<int>(columns * scale_step(c)));
    c.e.add(kScales, reg::rax);
  } else if (rule.by_chance(c)) {
    emit_block_number(c, kBlock, kState);
  }
}

void apply(Context& c, const Rule& rule) {
  point_at_store(c, rule);
  if (state_runs_along_values(rule.state)) {
    RowsOfValues(c, rule).emit();
  } else {
    RowsOfKeys(c, rule).emit();
  }
  if (c.facts.round_o == DType::kFp32) return;
  const Reg64 base = columns_base(c);
  for (int i = 0; i < c.value_vectors() / c.column_parts; ++i) {
    c.e.vmovaps(zmm(0), c.e.at(base, c.frame.o + 64 * i));
    round_to(c, 0, c.facts.round_o);
    c.e.vmovaps(c.e.at(base, c.frame.o + 64 * i), zmm(0));
  }
}

}  // namespace

void emit_key_query(Context& c) {
  c.e.vpxord(zmm(0), zmm(0), zmm(0));
  for (int i = 0; i < c.key_vectors(); ++i) {
    c.e.vmovaps(zmm(1), c.e.at(reg::frame, c.frame.k + 64 * i));
    c.e.vfmadd231ps(zmm(0), zmm(1), c.e.at(reg::frame, c.frame.q + 64 * i));
  }
  emit_sum_pair(c, 0, 0, 0, 1);
  c.e.vmovss(c.e.at(reg::frame, c.frame.key_query), xmm(0));
}

bool state_runs_along_values(const Map& state) { return state.inner_stride != 1 && state.outer_stride == 1; }

void emit_delta(Context& c) {
  c.e.comment("delta rule");
  const Map& state = c.facts.state;
  decay_keys_and_queries(c);
  emit_pointer(c, kState, state, Row::kSlot);
  Mark& last = c.e.mark("last_head");
  c.e.mov(kAhead, c.e.at(reg::frame, c.frame.next_state));
  c.e.lea(reg::rax, c.e.at(reg::group, 1));
  c.e.cmp(reg::rax, c.facts.group);
  c.e.jae(last);
  c.e.mov(kAhead, kState);
  emit_advance(c, kAhead, state.group_stride * element_bytes(state));
  c.e.bind(last);
  c.e.mov(c.e.at(reg::frame, c.frame.following), kAhead);
  apply(c, {state});
}

void emit_delta_columns(Context& c) {
  c.e.comment("delta rule of some columns");
  const Map& state = c.facts.state;
  decay_keys_and_queries(c);
  emit_pointer(c, kState, state, Row::kSlot);
  const int columns = c.facts.value_dim / c.column_parts;
  const std::int64_t step = columns * state.outer_stride * element_bytes(state);
  // Behind the last columns of a head come those of the next: only a hint, which may point anywhere.
  Mark& inside = c.e.mark("next_columns");
  c.e.mov(kAhead, kState);
  emit_advance(c, kAhead, state.group_stride * element_bytes(state));
  c.e.mov(reg::rcx, c.e.at(reg::frame, c.frame.column_part));
  c.e.mov(reg::rax, static_cast<std::uint64_t>(step));
  c.e.imul(reg::rax, reg::rcx);
  c.e.add(kState, reg::rax);
  c.e.cmp(reg::rcx, c.column_parts - 1);
  c.e.jge(inside);
  c.e.mov(kAhead, kState);
  emit_advance(c, kAhead, step);
  c.e.bind(inside);
  c.e.mov(c.e.at(reg::frame, c.frame.following), kAhead);
  c.e.imul(kColumns, reg::rcx, 4 * columns);
  c.e.add(kColumns, reg::frame);
  apply(c, {state});
}

void emit_delta_in_place(Context& c, const Map& state) {
  c.e.comment("delta rule");
  decay_keys_and_queries(c);
  apply(c, {state, false, true});
}

}  // namespace gdn::cpu
