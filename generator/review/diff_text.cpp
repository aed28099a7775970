#include <fmt/format.h>

#include "review/diff.h"

namespace gdn::review {
namespace {

std::string counted(std::size_t number, std::string_view what) {
  return fmt::format("{} {} change{}", number, what, number == 1 ? "" : "s");
}

std::string heading(const Difference& d) {
  return d.before == d.after ? d.after : fmt::format("{} -> {}", d.before, d.after);
}

std::string summary(const Difference& d) {
  if (!d.any()) return "no difference in meaning";
  return fmt::format("{}, {}", counted(d.silent(), "silent"), counted(d.changes.size() - d.silent(), "visible"));
}

std::string kernels(const Difference& d) {
  if (d.rebuild.empty()) return "none";
  return fmt::format("{}", fmt::join(d.rebuild, ", "));
}

// Text in a cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string code(std::string_view text) { return text.empty() ? "" : fmt::format("`{}`", cell(text)); }

}  // namespace

std::string to_text(const Difference& d) {
  std::string text = fmt::format("{}: {}\n", heading(d), summary(d));
  for (const Change& change : d.changes) {
    text += fmt::format("\n{} {} ({})\n", change.silent ? "SILENT " : "visible", change.what, change.how);
    if (!change.before.empty()) text += fmt::format("    before: {}\n", change.before);
    if (!change.after.empty()) text += fmt::format("    after:  {}\n", change.after);
    if (!change.note.empty()) text += fmt::format("    {}\n", change.note);
  }
  text += "\n";
  for (const PoolVerdict& pool : d.pools) {
    text += fmt::format("pool {}: {}\n", pool.name, pool.readable ? "stays readable" : "not readable: " + pool.why);
  }
  text += fmt::format("kernels to rebuild: {}\n", kernels(d));
  return text;
}

std::string to_markdown(const Difference& d) {
  std::string text = fmt::format("### {}: {}\n\n", heading(d), summary(d));
  if (d.silent() != 0) {
    text += "**Silent** changes keep every shape and dtype: no check of an engine can see them.\n\n";
  }
  if (d.any()) {
    text += "| | what | before | after | |\n|---|---|---|---|---|\n";
    for (const Change& change : d.changes) {
      text += fmt::format("| {} | {} ({}) | {} | {} | {} |\n", change.silent ? "**silent**" : "visible",
                          code(change.what), change.how, code(change.before), code(change.after), cell(change.note));
    }
    text += "\n";
  }
  for (const PoolVerdict& pool : d.pools) {
    text += fmt::format("- pool `{}`: {}\n", pool.name,
                        pool.readable ? "stays readable" : "**not readable**: " + cell(pool.why));
  }
  return text + fmt::format("- kernels to rebuild: {}\n", kernels(d));
}

}  // namespace gdn::review
