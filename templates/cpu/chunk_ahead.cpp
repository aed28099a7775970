#include "cpu/chunk_ahead.h"

#include "cpu/chunk_rows.h"
#include "cpu/item.h"

namespace gdn::cpu {
namespace {

using core::Map;

constexpr std::int64_t kLine = 64;

// Operands with a row a token that is dense within a head.
std::vector<const Map*> operands(const Context& c) {
  const core::Facts& f = c.facts;
  std::vector<const Map*> maps;
  for (const Map* const map : {&f.in_q, &f.in_k, &f.in_v, &f.in_z, &f.in_g, &f.in_a, &f.out_o, &f.out}) {
    // A number a head shares its line with those of other heads, which other threads fetch as well.
    const bool unread = c.points_at_columns && map == &f.in_z;
    if (map->present() && map->inner_stride == 1 && map->run > 1 && !unread) maps.push_back(map);
  }
  return maps;
}

int size_of(const Map& map) { return static_cast<int>(core::size_of(map.dtype)); }

Address variable(ChunkContext& cc, int base, std::size_t index) {
  return cc.c.e.at(reg::work, base + 8 * static_cast<int>(index));
}

}  // namespace

void emit_ahead_routine(ChunkContext& cc, int products_of_a_chunk) {
  Emitter& e = cc.c.e;
  const int rows = (kChunk + products_of_a_chunk - 1) / products_of_a_chunk;
  Mark& over = e.mark("over_ahead");
  Mark& none = e.mark("nothing_ahead");
  Mark& routine = e.mark("ahead");
  cc.ahead = &routine;
  e.jmp(over);
  e.bind(routine);
  for (int row = 0; row < rows; ++row) {
    e.mov(reg::eax, e.at(reg::work, cc.at.ahead_left));
    e.sub(reg::eax, 1);
    e.jb(none);
    e.mov(e.at(reg::work, cc.at.ahead_left), reg::eax);
    const auto maps = operands(cc.c);
    for (std::size_t i = 0; i < maps.size(); ++i) {
      const Map& map = *maps[i];
      const int heads = map.heads == core::HeadKind::kValue ? cc.heads_of_item() : 1;
      e.mov(reg::rax, variable(cc, cc.at.ahead, i));
      for (int head = 0; head < heads; ++head) {
        for (std::int64_t byte = 0; byte < map.run * size_of(map); byte += kLine) {
          e.prefetcht1(e.at(reg::rax, head * map.group_stride * size_of(map) + byte));
        }
      }
      e.add(reg::rax, variable(cc, cc.at.ahead_step, i));
      e.mov(variable(cc, cc.at.ahead, i), reg::rax);
    }
  }
  e.bind(none);
  e.ret();
  e.bind(over);
}

void emit_ahead_begin(ChunkContext& cc) {
  Emitter& e = cc.c.e;
  Mark& whole = e.mark("whole_ahead");
  e.mov(reg::rax, e.at(reg::work, cc.at.walk.left));
  e.sub(reg::rax, reg::tokens);
  e.cmp(reg::rax, kChunk);
  e.jle(whole);
  e.mov(reg::eax, kChunk);
  e.bind(whole);
  e.mov(e.at(reg::work, cc.at.ahead_left), reg::rax);
  const auto maps = operands(cc.c);
  const bool all_heads = cc.item_parts == 1;
  if (cc.c.points_at_columns) {
    e.mov(reg::group, e.at(reg::frame, cc.c.frame.part_head));
  } else if (!all_heads) {
    e.mov(reg::group, e.at(reg::work, cc.at.part));
  }
  for (std::size_t i = 0; i < maps.size(); ++i) {
    emit_pointer(cc.c, reg::r8, *maps[i], Row::kToken, {reg::row, reg::slot, reg::key_head, all_heads});
    emit_row_step(cc.c, reg::r9, *maps[i]);
    e.mov(variable(cc, cc.at.ahead_step, i), reg::r9);
    e.imul(reg::r9, reg::tokens);
    e.add(reg::r8, reg::r9);
    e.mov(variable(cc, cc.at.ahead, i), reg::r8);
  }
}

void emit_ahead(ChunkContext& cc) { cc.c.e.call(*cc.ahead); }

}  // namespace gdn::cpu
