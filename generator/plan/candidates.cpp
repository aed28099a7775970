#include "plan/candidates.h"

#include <algorithm>
#include <utility>

namespace gdn::plan {
namespace {

constexpr int kRegisters = 65536;    // of a multiprocessor
constexpr int kMostSplitBlocks = 3;  // blocks a multiprocessor beyond which nobody splits a value head
constexpr int kLeastRegisters = 64;  // that the bodies need without spilling

constexpr int kMostDraftBlocks = 4;  // blocks a multiprocessor beyond which value heads of drafts stay together

// Of decode_spec: threads that share a row, and rows that one has under way.
const std::vector<std::pair<int, int>> kDraftRows = {{32, 4}, {16, 2}, {16, 4}, {8, 2}, {8, 4}};

}  // namespace

std::vector<Choices> candidates(const Target& target, std::string_view operation, const core::Facts& facts, int rows) {
  std::vector<Choices> all;
  const auto add = [&](const Choices& choices) {
    if (!choices_fault(target, operation, facts, choices).empty()) return;
    if (std::find(all.begin(), all.end(), choices) == all.end()) all.push_back(choices);
  };
  for (const Band& band : model_bands(target, operation, facts)) {
    if (band.max_rows == 0 || rows <= band.max_rows) {
      add(band.choices);
      break;
    }
  }

  const bool by_rows = facts.state.inner_stride == 1;
  if (operation == "decode_spec") {
    // `rows` are tokens. Too many blocks to be worth another reading of q and k, or too few to do without.
    const int blocks = rows / facts.tokens * facts.key_heads;
    // What a row of the table leaves out is the model's: other bodies say that they are none of products, or without an
    // inbox.
    const bool products = choices_fault(target, operation, facts, {{"threads", 256}, {"products", 1}}).empty();
    const bool inbox = choices_fault(target, operation, facts, {{"threads", 512}, {"inbox", 1}}).empty();
    const auto add_inboxes = [&](const Choices& choices) {
      if (!inbox) return add(choices);
      for (const int asks : {0, 1, 2}) {
        Choices made = choices;
        made.insert(made.end(), {{"inbox", asks}, {"evict_first", asks > 0 ? 1 : 0}});
        add(made);
      }
    };
    for (const int heads : {1, facts.group}) {
      if (heads > 1 && blocks > kMostDraftBlocks * target.processors) continue;
      if (heads == 1 && facts.group > 1 && target.clusters && 2 * blocks < target.processors) continue;
      for (const int threads : by_rows ? std::vector<int>{128, 256, 512} : std::vector<int>{128, 256}) {
        for (const int resident :
             threads <= 256 && products ? std::vector<int>{512 / threads, 768 / threads} : std::vector<int>{}) {
          for (const int ahead : {0, 1}) {
            add({{"threads", threads},
                 {"head_parts", heads},
                 {"row_parts", 1},
                 {"resident", resident},
                 {"products", 1},
                 {"ahead", ahead}});
          }
        }
        // How many rows a thread has of columns follows from the state's order.
        for (const auto& [lanes, pass] : by_rows ? kDraftRows : std::vector<std::pair<int, int>>{{0, 4}}) {
          for (const int resident : by_rows ? std::vector<int>{512 / threads, 768 / threads}
                                            : std::vector<int>{0, 512 / threads, 768 / threads}) {
            Choices choices = {{"threads", threads},  {"rows_per_pass", pass}, {"row_lanes", lanes},
                               {"head_parts", heads}, {"row_parts", 1},        {"resident", resident}};
            if (products) choices.insert(choices.end(), {{"products", 0}, {"ahead", 0}});
            add_inboxes(choices);
            if (!by_rows || lanes == 32) continue;
            choices.emplace_back("interleave", 1);
            add_inboxes(choices);
          }
        }
      }
    }
    return all;
  }
  const int pairs = rows * facts.key_heads;
  // How many key channels a thread has of a slab follows from the state's order alone (delta.h).
  const std::vector<int> passes = by_rows ? std::vector<int>{4, 8} : std::vector<int>{16};
  std::vector<int> head_parts = {1};
  if (facts.group > 1) head_parts.push_back(facts.group);
  if (facts.group > 2) head_parts.push_back((facts.group + 1) / 2);
  for (const int heads : head_parts) {
    for (const int parts : {1, 2, 4, 8}) {
      const int blocks = pairs * heads * parts;
      if (parts > 1 && blocks > kMostSplitBlocks * target.processors) continue;
      if (heads == 1 && facts.group > 1 && blocks * 2 < target.processors) continue;
      for (const int threads : {128, 256, 512}) {
        const int most_resident = kRegisters / kLeastRegisters / threads;
        for (const int pass : passes) {
          // Rows need few registers, slabs many.
          for (const int resident :
               by_rows ? std::vector<int>{most_resident / 2, most_resident} : std::vector<int>{most_resident / 2}) {
            for (const int heads_first : by_rows || heads > 1 ? std::vector<int>{1} : std::vector<int>{1, 0}) {
              Choices choices = {{"threads", threads}, {"rows_per_pass", pass},      {"head_parts", heads},
                                 {"row_parts", parts}, {"heads_first", heads_first}, {"resident", resident}};
              // Beyond the parts of a cluster, and in place of one where there is a block for each multiprocessor,
              // parts may meet in memory: a launch without clusters has less to place.
              if (target.clusters && heads * parts > 1 && threads == 256 && blocks <= 2 * target.processors) {
                Choices in_memory = choices;
                in_memory.emplace_back("arrivals", 1);
                add(in_memory);
              }
              if (parts == 8) continue;
              add(choices);
              // Worth it where launches are so short that the convolution's start shows.
              if (parts == 4) {
                Choices more = choices;
                more.emplace_back("weights_ahead", 1);
                add(more);
              }
              if (by_rows) {
                // A pass of a thread has as many rows of 16 bits as its registers hold, whatever is wished for.
                const int rows_of_pass = threads * 8 / facts.key_dim * (threads > 256 ? 4 : pass);
                if (heads == facts.group && rows_of_pass >= facts.value_dim / parts) {
                  Choices at_once = choices;
                  at_once.emplace_back("at_once", 1);
                  add(at_once);
                }
                // Worth it where a block has more passes than one, which large ones of a split head have not.
                if (parts > 1 || pass != 4) continue;
                if (resident != most_resident) {
                  choices.emplace_back("in_turns", 1);
                  add(choices);
                  choices.emplace_back("norm_ahead", 1);
                  add(choices);
                  continue;
                }
                for (const auto& [name, value] :
                     {std::pair{"fixed_heads", 1}, std::pair{"in_turns", 1}, std::pair{"ahead", 2}}) {
                  Choices more = choices;
                  more.emplace_back(name, value);
                  add(more);
                }
                for (const int order : {1, 2, 3}) {
                  for (const int fixed : {0, 1}) {
                    Choices more = choices;
                    if (fixed != 0) more.emplace_back("fixed_heads", 1);
                    more.emplace_back("row_order", order);
                    add(more);
                  }
                }
                continue;
              }
              if (threads == 256 && parts == 1 && heads_first == 1) {
                for (const int blocks_each : {1, 2, 3, 4}) {
                  Choices inbox = choices;
                  inbox.back().second = blocks_each;
                  inbox.insert(inbox.end(), {{"weights_ahead", 1}, {"norm_ahead", 1}, {"inbox", 1}});
                  add(inbox);
                }
              }
              choices.emplace_back("skew", 1);
              add(choices);
            }
          }
        }
      }
    }
  }
  return all;
}

}  // namespace gdn::plan
