#include "cpu/conv_rows.h"

#include <string>

#include "cpu/item.h"
#include "cpu/math.h"
#include "cpu/memory.h"
#include "cpu/taps.h"

namespace gdn::cpu {
namespace {

using core::Map;

int vectors_of(const Map& map) { return static_cast<int>(map.run) / kLanes; }

std::int64_t bytes_of(const Map& map, std::int64_t elements) {
  return elements * static_cast<std::int64_t>(core::size_of(map.dtype));
}

std::int64_t vector_bytes(const Map& map) {
  return static_cast<std::int64_t>(kLanes) * stride_bytes(map, map.inner_stride);
}

// What a window keeps of an input, or fp32 where there is none.
core::DType kept(const ConvPart& part) { return part.window.present() ? part.window.dtype : core::DType::kFp32; }

// Rows of a window up to the newest input.
int window_rows(const core::Facts& f) { return f.anchor == core::Anchor::kLast ? f.window : f.conv_width - 1; }

void point_at(Context& c, const Reg64& target, const HeadPlace& place) {
  if (place.group_bytes == 0) {
    c.e.lea(target, c.e.at(reg::work, place.buffer));
    return;
  }
  c.e.imul(target, reg::group, place.group_bytes);
  c.e.lea(target, c.e.indexed(reg::work, target, 1, place.buffer));
}

// rdx times a row of `vectors` pieces, with r8 and r9 at the row's place in two things that are `from` and `to` bytes
// a row; r10 and r11 say where they begin.
void for_rows(Context& c, const char* name, std::int64_t from, std::int64_t to, int vectors, std::int64_t from_piece,
              std::int64_t to_piece, const std::function<void()>& piece) {
  Mark& again = c.e.mark(name);
  c.e.bind(again);
  c.e.mov(reg::r8, reg::r10);
  c.e.mov(reg::r9, reg::r11);
  emit_repeat(c, vectors, name, [&] {
    piece();
    emit_advance(c, reg::r8, from_piece);
    emit_advance(c, reg::r9, to_piece);
  });
  emit_advance(c, reg::r10, from);
  emit_advance(c, reg::r11, to);
  c.e.dec(reg::rdx);
  c.e.jnz(again);
}

// Registers of the pass over rows.
const Reg64 kInput = reg::rsi, kOutput = reg::rdx, kInputStep = reg::r10, kOutputStep = reg::r11, kHistory = reg::r8;

// A pass over the chunk's rows with one or two vectors of channels.
class Pass {
 public:
  // Two vectors where their weights and inputs leave enough registers free.
  static int most_vectors(const core::Facts& f) { return f.conv_width <= 6 ? 2 : 1; }

  Pass(Context& c, const ConvPart& part, const RowPlace& to, int vectors)
      : c_(c), part_(part), to_(to), n_(vectors), width_(c.facts.conv_width), inputs_(width_ - 1) {}

  // r9 at the weights, rax at the bias.
  void load_parameters() const {
    if (part_.bias.present()) {
      c_.e.mov(kInput, reg::rax);
      for (int v = 0; v < n_; ++v)
        load(c_, bias(v), {kInput, v * vector_bytes(part_.bias), part_.bias.dtype, part_.bias.inner_stride});
    }
    if (TapBlock::fits(c_, part_.weight, width_)) {
      const TapBlock block(c_, part_.weight, kT1);
      block.prepare();
      for (int v = 0; v < n_; ++v) {
        if (v > 0) c_.e.add(reg::r9, static_cast<int>(vector_bytes(part_.weight)));
        block.load(reg::r9);
        for (int i = 0; i < width_; ++i) block.tap(weight(v, i), tap(i));
      }
      return;
    }
    for (int v = 0; v < n_; ++v) {
      for (int i = 0; i < width_; ++i) {
        load(c_, weight(v, i),
             {reg::r9, v * vector_bytes(part_.weight) + bytes_of(part_.weight, tap(i) * part_.weight.tap_stride),
              part_.weight.dtype, part_.weight.inner_stride});
      }
    }
  }

  void emit() const {
    for (int v = 0; v < n_; ++v) {
      for (int i = 0; i < inputs_; ++i) c_.e.vmovups(zmm(input(v, i)), history(v, i));
    }
    // Inputs turn by the names of their registers: after width - 1 tokens the names are where they began.
    Mark& again = c_.e.mark("conv_row");
    Mark& over = c_.e.mark("conv_rows_over");
    std::vector<Mark*> last;
    for (int i = 0; i < inputs_; ++i) last.push_back(&c_.e.mark("last_row"));
    c_.e.mov(reg::rcx, reg::tokens);
    c_.e.bind(again);
    for (int turn = 0; turn < inputs_; ++turn) {
      for (int v = 0; v < n_; ++v) convolve(v, turn);
      leave();
      c_.e.add(kInput, kInputStep);
      c_.e.add(kOutput, kOutputStep);
      c_.e.dec(reg::ecx);
      c_.e.jz(*last[static_cast<std::size_t>(turn)]);
    }
    c_.e.jmp(again);
    for (int turn = 0; turn < inputs_; ++turn) {
      c_.e.bind(*last[static_cast<std::size_t>(turn)]);
      for (int v = 0; v < n_; ++v) {
        for (int i = 0; i < inputs_; ++i) c_.e.vmovups(history(v, i), zmm(input(v, (turn + 1 + i) % inputs_)));
      }
      if (turn + 1 < inputs_) c_.e.jmp(over);
    }
    c_.e.bind(over);
  }

 private:
  static constexpr int kSum = 0, kT1 = 2, kT2 = 3, kT3 = 4, kFirst = 5;

  int weight(int v, int i) const { return kFirst + v * width_ + i; }
  int input(int v, int i) const { return kFirst + n_ * width_ + v * inputs_ + i; }
  int bias(int v) const { return kFirst + n_ * (width_ + inputs_) + v; }
  int tap(int i) const { return c_.facts.taps_oldest_first ? i : width_ - 1 - i; }
  Address history(int v, int i) const {
    return c_.e.at(kHistory, i * 4 * part_.input.run + 64 * static_cast<std::int64_t>(v));
  }

  void convolve(int v, int turn) const {
    const int sum = kSum + v;
    const auto product = [&](int i, int x) { c_.e.vfmadd231ps(zmm(sum), zmm(weight(v, i)), zmm(x)); };
    if (part_.bias.present()) {
      c_.e.vmovaps(zmm(sum), zmm(bias(v)));
      product(0, input(v, turn));
    } else {
      c_.e.vmulps(zmm(sum), zmm(weight(v, 0)), zmm(input(v, turn)));
    }
    for (int i = 1; i < inputs_; ++i) product(i, input(v, (turn + i) % inputs_));
    const int newest = input(v, turn);
    load(c_, newest, {kInput, v * vector_bytes(part_.input), part_.input.dtype, part_.input.inner_stride});
    product(inputs_, newest);
    if (kept(part_) != part_.input.dtype) round_to(c_, newest, kept(part_));
    emit_activation_for(c_, c_.facts.conv_activation, c_.facts.round_conv, sum, kT1, kT2, kT3);
    if (c_.facts.round_conv != to_.dtype) round_to(c_, sum, c_.facts.round_conv);
  }

  void leave() const {
    const std::int64_t stride = to_.stride();
    if (n_ == 2 && to_.dtype == core::DType::kBf16 && stride == 1) {
      c_.e.vcvtne2ps2bf16(zmm(kT1), zmm(kSum + 1), zmm(kSum));
      c_.e.vmovups(c_.e.at(kOutput), zmm(kT1));
      return;
    }
    for (int v = 0; v < n_; ++v) {
      const auto size = static_cast<std::int64_t>(core::size_of(to_.dtype));
      store(c_, {kOutput, v * kLanes * stride * size, to_.dtype, stride}, kSum + v);
    }
  }

  Context& c_;
  const ConvPart& part_;
  const RowPlace& to_;
  int n_;
  int width_;
  int inputs_;  // that a token needs of those before it
};

// What a pass begins with, in the frame.
enum Pointer : std::uint8_t { kInputs, kOutputs, kWeights, kBiases, kHistories, kPasses };

Address pointer(Context& c, Pointer which) { return c.e.at(reg::frame, c.frame.rows + 8 * which); }

void advance(Context& c, Pointer which, std::int64_t bytes) {
  c.e.mov(reg::r9, pointer(c, which));
  emit_advance(c, reg::r9, bytes);
  c.e.mov(pointer(c, which), reg::r9);
}

}  // namespace

int history_bytes(const core::Facts& facts, const Map& input) {
  return 4 * (facts.conv_width - 1) * static_cast<int>(input.run);
}

void emit_begin_history(Context& c, const SequenceWalk& walk, const ConvPart& part, const HeadPlace& history) {
  Emitter& e = c.e;
  e.comment(std::string("the inputs in front of the sequence, of ") + part.name);
  const core::Facts& f = c.facts;
  const int inputs = f.conv_width - 1;
  Mark& none = e.mark("no_window");
  Mark& ready = e.mark("history_ready");
  if (part.window.present() && f.initial_states != core::InitialStates::kNone) {
    walk.unless_initial(part.window, none);
    emit_pointer(c, reg::r10, part.window, Row::kSlot);
    emit_advance(c, reg::r10, bytes_of(part.window, (window_rows(f) - inputs) * part.window.tap_stride));
    point_at(c, reg::r11, history);
    e.mov(reg::rdx, inputs);
    for_rows(c, "window_row", bytes_of(part.window, part.window.tap_stride), 4 * part.input.run, vectors_of(part.input),
             vector_bytes(part.window), 64, [&] {
               load(c, 0, {reg::r8, 0, part.window.dtype, part.window.inner_stride});
               e.vmovups(e.at(reg::r9), zmm(0));
             });
    e.jmp(ready);
  }
  e.bind(none);
  point_at(c, reg::r9, history);
  e.vpxord(zmm(0), zmm(0), zmm(0));
  emit_repeat(c, inputs * vectors_of(part.input), "no_history", [&] {
    e.vmovups(e.at(reg::r9), zmm(0));
    e.add(reg::r9, 64);
  });
  e.bind(ready);
}

void emit_conv_rows(Context& c, const ConvPart& part, const HeadPlace& history, const RowPlace& to) {
  Emitter& e = c.e;
  e.comment(std::string("conv of ") + part.name);
  const auto keep = [&](Pointer which, const Reg64& from) { e.mov(pointer(c, which), from); };
  emit_pointer(c, reg::r8, part.input, Row::kToken);
  keep(kInputs, reg::r8);
  emit_point_at_rows(c, reg::r8, kOutputStep, to);
  keep(kOutputs, reg::r8);
  emit_pointer(c, reg::r8, part.weight, Row::kNone);
  keep(kWeights, reg::r8);
  if (part.bias.present()) {
    emit_pointer(c, reg::r8, part.bias, Row::kNone);
    keep(kBiases, reg::r8);
  }
  point_at(c, reg::r8, history);
  keep(kHistories, reg::r8);
  emit_row_step(c, kInputStep, part.input);

  const int most = Pass::most_vectors(c.facts), vectors = vectors_of(part.input);
  const std::int64_t piece = kLanes * to.stride() * static_cast<std::int64_t>(core::size_of(to.dtype));
  const auto passes = [&](int n, int count) {
    if (count == 0) return;
    const Pass pass(c, part, to, n);
    Mark& again = e.mark("conv_pass");
    e.mov(reg::rax, count);
    keep(kPasses, reg::rax);
    e.bind(again);
    e.mov(reg::r9, pointer(c, kWeights));
    if (part.bias.present()) e.mov(reg::rax, pointer(c, kBiases));
    pass.load_parameters();
    e.mov(kInput, pointer(c, kInputs));
    e.mov(kOutput, pointer(c, kOutputs));
    e.mov(kHistory, pointer(c, kHistories));
    pass.emit();
    advance(c, kInputs, n * vector_bytes(part.input));
    advance(c, kOutputs, n * piece);
    advance(c, kWeights, n * vector_bytes(part.weight));
    if (part.bias.present()) advance(c, kBiases, n * vector_bytes(part.bias));
    advance(c, kHistories, n * std::int64_t{64});
    e.mov(reg::rax, pointer(c, kPasses));
    e.dec(reg::rax);
    keep(kPasses, reg::rax);
    e.jnz(again);
  };
  passes(most, vectors / most);
  passes(1, vectors % most);
}

void emit_leave_window(Context& c, const SequenceWalk& walk, const ConvPart& part) {
  const core::Facts& f = c.facts;
  if (!part.window.present()) return;
  Emitter& e = c.e;
  e.comment(std::string("the window of ") + part.name);
  const int rows = window_rows(f);
  const int vectors = vectors_of(part.input);
  const std::int64_t tap = bytes_of(part.window, part.window.tap_stride);
  Mark& done = e.mark("window_done");
  Mark& fresh = e.mark("window_fresh");
  Mark& zeros = e.mark("window_zeros");
  walk.unless_pooled(part.window, done);
  emit_pointer(c, reg::r11, part.window, Row::kSlot);
  // Rows that lie before the sequence come first: moved up, each read before it is overwritten, or zeros.
  const auto tokens = [&](const Reg64& target) {
    e.mov(target, reg::row);
    e.sub(target, walk.variable(walk.places().first));
  };
  tokens(reg::rax);
  e.mov(reg::rdx, rows);
  e.sub(reg::rdx, reg::rax);
  e.jle(fresh);
  walk.unless_initial(part.window, zeros);
  walk.own_slot(reg::rcx);
  emit_pointer(c, reg::r10, part.window, Row::kSlot, {reg::row, reg::rcx, reg::key_head, false});
  tokens(reg::rcx);
  e.mov(reg::rax, static_cast<std::uint64_t>(tap));
  e.imul(reg::rcx, reg::rax);
  e.add(reg::r10, reg::rcx);
  for_rows(c, "moved_row", tap, tap, vectors, vector_bytes(part.window), vector_bytes(part.window), [&] {
    load_raw(c, 0, {reg::r8, 0, part.window.dtype, part.window.inner_stride});
    store_raw(c, {reg::r9, 0, part.window.dtype, part.window.inner_stride}, 0);
  });
  e.jmp(fresh);
  e.bind(zeros);
  e.vpxord(zmm(0), zmm(0), zmm(0));
  e.mov(reg::r10, reg::r11);
  for_rows(c, "zero_row", tap, tap, vectors, vector_bytes(part.window), vector_bytes(part.window),
           [&] { store_raw(c, {reg::r9, 0, part.window.dtype, part.window.inner_stride}, 0); });
  e.bind(fresh);
  // The newest rows are inputs: as many as the sequence has, at most all.
  Mark& all = e.mark("window_all");
  tokens(reg::rdx);
  e.cmp(reg::rdx, rows);
  e.jle(all);
  e.mov(reg::rdx, rows);
  e.bind(all);
  emit_pointer(c, reg::r10, part.input, Row::kToken);
  emit_row_step(c, reg::rsi, part.input);
  e.mov(reg::rax, reg::rsi);
  e.imul(reg::rax, reg::rdx);
  e.sub(reg::r10, reg::rax);
  Mark& again = e.mark("window_row");
  e.bind(again);
  e.mov(reg::r8, reg::r10);
  e.mov(reg::r9, reg::r11);
  emit_repeat(c, vectors, "window_input", [&] {
    const Vector16 from{reg::r8, 0, part.input.dtype, part.input.inner_stride};
    const Vector16 to{reg::r9, 0, part.window.dtype, part.window.inner_stride};
    if (part.input.dtype == part.window.dtype) {
      load_raw(c, 0, from);
      store_raw(c, to, 0);
    } else {
      load(c, 0, from);
      store(c, to, 0);
    }
    emit_advance(c, reg::r8, vector_bytes(part.input));
    emit_advance(c, reg::r9, vector_bytes(part.window));
  });
  e.add(reg::r10, reg::rsi);
  emit_advance(c, reg::r11, tap);
  e.dec(reg::rdx);
  e.jnz(again);
  e.bind(done);
}

}  // namespace gdn::cpu
