#include "spec/diagnostics.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "spec/utf8.h"

namespace gdn::spec {
namespace {

constexpr std::size_t kClipColumns = 100;  // of a source line
constexpr std::size_t kQuoteCharacters = 48;

// One code point as a terminal may see it.
struct Glyph {
  std::string text;
  int columns = 1;
  std::size_t byte = 0;  // offset in the source line
};

Glyph glyph_at(std::string_view line, std::size_t at, std::size_t& next) {
  const CodePoint point = decode_utf8(line, at);
  next = at + point.length;
  if (!point.valid) return {fmt::format("\\x{:02X}", point.value), 4, at};
  if (point.value == '\t') return {"\t", 1, at};
  if (is_control(point.value)) {
    std::string text =
        point.value < 0x80 ? fmt::format("\\x{:02X}", point.value) : fmt::format("\\u{:04X}", point.value);
    const int columns = static_cast<int>(text.size());
    return {std::move(text), columns, at};
  }
  return {std::string(line.substr(at, point.length)), display_width(point.value), at};
}

std::vector<Glyph> glyphs_of(std::string_view line) {
  std::vector<Glyph> glyphs;
  for (std::size_t at = 0; at < line.size();) {
    std::size_t next = at;
    glyphs.push_back(glyph_at(line, at, next));
    at = next;
  }
  return glyphs;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (true) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

// The source line and the caret line under it.
std::string excerpt(std::string_view line, Place place) {
  // Glyphs are made only for a window of bytes around the caret: a line may be as long as the file.
  std::size_t caret = std::min(static_cast<std::size_t>(std::max(place.column, 1) - 1), line.size());
  std::size_t from = 0;
  if (line.size() > kClipColumns && caret > kClipColumns / 2) from = caret - kClipColumns / 2;
  while (from > 0 && from < line.size() && (static_cast<unsigned char>(line[from]) & 0xc0) == 0x80) --from;
  std::string_view window = line.substr(from);
  bool clipped_right = false;
  std::vector<Glyph> glyphs = glyphs_of(window.substr(0, 4 * kClipColumns));
  std::size_t columns = 0;
  std::size_t kept = 0;
  while (kept < glyphs.size() && columns < kClipColumns) columns += static_cast<std::size_t>(glyphs[kept++].columns);
  clipped_right = kept < glyphs.size() || window.size() > 4 * kClipColumns;
  glyphs.resize(kept);

  std::string shown = from > 0 ? "..." : "";
  std::string marks = from > 0 ? "   " : "";
  const std::size_t first = caret - from;
  const std::size_t last = first + static_cast<std::size_t>(std::max(place.length, 1)) - 1;
  bool marked = false;
  for (const Glyph& glyph : glyphs) {
    shown += glyph.text;
    if (glyph.byte < first) {
      marks += glyph.text == "\t" ? "\t" : std::string(static_cast<std::size_t>(glyph.columns), ' ');
    } else if (glyph.byte <= last) {
      for (int i = 0; i < std::max(glyph.columns, marked ? 0 : 1); ++i) {
        marks += marked ? '~' : '^';
        marked = true;
      }
    }
  }
  if (!marked) marks += '^';  // at the end of the line
  if (clipped_right) shown += "...";
  return fmt::format("{:5} | {}\n{:5} | {}\n", place.line, shown, "", marks);
}

std::string where(std::string_view file, Place place) {
  if (place.line <= 0) return std::string(file);
  return fmt::format("{}:{}:{}", file, place.line, place.column);
}

}  // namespace

Diagnostic& Diagnostic::note(Place at, std::string text) {
  notes.push_back({at, std::move(text)});
  return *this;
}

Diagnostic& Diagnostics::add(Severity severity, Place place, std::string_view rule, std::string message) {
  if (severity == Severity::kError) ++errors_;
  if (all_.size() >= kMaxKept) {
    ++dropped_;
    discarded_ = {};
    return discarded_;
  }
  all_.push_back({severity, place, std::move(message), std::string(rule), {}});
  return all_.back();
}

Diagnostic& Diagnostics::error(Place place, std::string_view rule, std::string message) {
  return add(Severity::kError, place, rule, std::move(message));
}

Diagnostic& Diagnostics::warning(Place place, std::string_view rule, std::string message) {
  return add(Severity::kWarning, place, rule, std::move(message));
}

std::vector<Diagnostic> Diagnostics::sorted() const {
  std::vector<Diagnostic> result(all_.begin(), all_.end());
  std::stable_sort(result.begin(), result.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.place.source, a.place.line, a.place.column) <
           std::tie(b.place.source, b.place.line, b.place.column);
  });
  return result;
}

void Diagnostics::move_to_source(std::size_t kept, int source) {
  for (std::size_t i = kept; i < all_.size(); ++i) {
    all_[i].place.source = source;
    for (Note& note : all_[i].notes) note.place.source = source;
  }
}

std::string render(const Diagnostics& diagnostics, std::string_view file, std::string_view text) {
  return render(diagnostics, {{std::string(file), std::string(text)}});
}

std::string render(const Diagnostics& diagnostics, const std::vector<Source>& sources) {
  std::vector<std::vector<std::string_view>> all_lines;
  for (const Source& source : sources) all_lines.push_back(lines_of(source.text));
  const auto name = [&](Place place) -> std::string_view {
    return sources.at(static_cast<std::size_t>(place.source)).file;
  };
  std::string result;
  for (const Diagnostic& diagnostic : diagnostics.sorted()) {
    const std::vector<std::string_view>& lines = all_lines.at(static_cast<std::size_t>(diagnostic.place.source));
    const char* severity = diagnostic.severity == Severity::kError ? "error" : "warning";
    result += fmt::format("{}: {}: {} [{}]\n", where(name(diagnostic.place), diagnostic.place), severity,
                          diagnostic.message, diagnostic.rule);
    const auto line = static_cast<std::size_t>(diagnostic.place.line);
    if (diagnostic.place.line > 0 && line <= lines.size()) result += excerpt(lines[line - 1], diagnostic.place);
    for (const Note& note : diagnostic.notes) {
      result += fmt::format("{}: note: {}\n", where(name(note.place), note.place), note.message);
    }
  }
  if (diagnostics.dropped() > 0) {
    result += fmt::format("{}: note: {} more diagnostics are not shown\n", sources.front().file, diagnostics.dropped());
  }
  return result;
}

std::string quote(std::string_view text) {
  std::string result = "'";
  std::size_t characters = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (characters++ == kQuoteCharacters) {
      result += "...";
      break;
    }
    std::size_t next = at;
    const Glyph glyph = glyph_at(text, at, next);
    result += glyph.text == "\t" ? std::string("\\t") : glyph.text;
    at = next;
  }
  return result + "'";
}

}  // namespace gdn::spec
