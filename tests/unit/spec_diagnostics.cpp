// What people read when a spec is wrong: places, carets, and text that a terminal survives.
#include "spec/diagnostics.h"

#include <string>

#include "spec/scalars.h"
#include "spec/utf8.h"
#include "support/catch.h"

namespace gdn::spec {
namespace {

std::string rendered(Place place, const std::string& text) {
  Diagnostics diagnostics;
  diagnostics.error(place, "a.rule", "broken");
  return render(diagnostics, "f.yaml", text);
}

// The caret line of the only diagnostic, after its " | ".
std::string carets(Place place, const std::string& text) {
  const std::string all = rendered(place, text);
  const std::size_t last = all.rfind(" | ");
  return all.substr(last + 3, all.size() - last - 4);
}

}  // namespace

TEST_CASE("a diagnostic with a note") {
  Diagnostics diagnostics;
  diagnostics.error({3, 10, 2}, "heads.group", "heads.value = 33 is not a multiple of heads.key = 16")
      .note({2, 8, 2}, "heads.key is set here");
  CHECK(render(diagnostics, "specs/a.yaml", "heads:\n  key: 16\n  value: 33\n") ==
        "specs/a.yaml:3:10: error: heads.value = 33 is not a multiple of heads.key = 16 [heads.group]\n"
        "    3 |   value: 33\n"
        "      |          ^~\n"
        "specs/a.yaml:2:8: note: heads.key is set here\n");
}

TEST_CASE("diagnostics are sorted by place, and those of one place keep their order") {
  Diagnostics diagnostics;
  diagnostics.error({2, 1, 1}, "r", "third");
  diagnostics.warning({1, 5, 1}, "r", "second");
  diagnostics.error({2, 1, 1}, "r", "fourth");
  diagnostics.error({}, "r", "first");
  const auto sorted = diagnostics.sorted();
  REQUIRE(sorted.size() == 4);
  CHECK(sorted[0].message == "first");
  CHECK(sorted[1].message == "second");
  CHECK(sorted[2].message == "third");
  CHECK(sorted[3].message == "fourth");
  CHECK(diagnostics.errors() == 3);
}

TEST_CASE("warnings are not errors") {
  Diagnostics diagnostics;
  diagnostics.warning({1, 1, 1}, "r", "odd");
  CHECK_FALSE(diagnostics.has_errors());
  CHECK_FALSE(diagnostics.empty());
  CHECK(render(diagnostics, "f", "x") == "f:1:1: warning: odd [r]\n    1 | x\n      | ^\n");
}

TEST_CASE("a diagnostic of the whole file, or beyond its end, has no excerpt") {
  CHECK(rendered({}, "x") == "f.yaml: error: broken [a.rule]\n");
  CHECK(rendered({9, 1, 1}, "x") == "f.yaml:9:1: error: broken [a.rule]\n");
}

TEST_CASE("carets stand under what they mean") {
  CHECK(carets({1, 3, 2}, "a: bc") == "  ^~");
  CHECK(carets({1, 2, 1}, "\tb") == "\t^");              // a tab stays a tab in both lines
  CHECK(carets({1, 4, 1}, "\xc3\xa9 b") == "  ^");       // two bytes, one column
  CHECK(carets({1, 5, 1}, "\xe6\xbc\xa2 b") == "   ^");  // three bytes, two columns
  CHECK(carets({1, 1, 3}, "\xe6\xbc\xa2 b") == "^~");    // as wide as what it marks
  CHECK(carets({1, 3, 1}, "\x01 b") == "     ^");        // shown as \x01
  CHECK(carets({1, 6, 4}, "a: bc") == "     ^");         // at the end of the line
  CHECK(carets({1, 600, 4}, "a") == " ^");               // beyond it
  CHECK(carets({1, 1, 99}, "abc") == "^~~");
}

TEST_CASE("line ends of either kind") { CHECK(rendered({2, 1, 1}, "a\r\nb\r\n") == rendered({2, 1, 1}, "a\nb\n")); }

TEST_CASE("bytes that a terminal must not see are escaped") {
  CHECK_THAT(rendered({1, 1, 1}, "a\x1b[31m"), Catch::Contains("a\\x1B[31m\n"));
  CHECK_THAT(rendered({1, 1, 1}, "a\xff"), Catch::Contains("a\\xFF\n"));
  CHECK_THAT(rendered({1, 1, 1}, "a\xe2\x80\xae"), Catch::Contains("a\\u202E\n"));
  CHECK(quote("a\tb\x07") == "'a\\tb\\x07'");
  CHECK(quote(std::string(1000, 'x')) == "'" + std::string(48, 'x') + "...'");
}

TEST_CASE("a long line is clipped around the caret") {
  const std::string line = std::string(5000, 'a') + "HERE" + std::string(5000, 'b');
  const std::string all = rendered({1, 5001, 4}, line);
  CHECK(all.size() < 400);
  CHECK_THAT(all, Catch::Contains("..." + std::string(50, 'a') + "HERE"));
  CHECK_THAT(all, Catch::Contains("bbb...\n"));
  CHECK(carets({1, 5001, 4}, line) == std::string(53, ' ') + "^~~~");
  CHECK(rendered({1, 3, 1}, std::string(100, 'a')).find("...") == std::string::npos);
}

TEST_CASE("a clipped line is not cut inside a code point") {
  std::string line;
  for (int i = 0; i < 200; ++i) line += "\xc3\xa9";
  for (int column = 101; column < 400; ++column) {
    CHECK(rendered({1, column, 1}, line).find("\\x") == std::string::npos);
  }
}

TEST_CASE("beyond a number, diagnostics are counted and not kept") {
  Diagnostics diagnostics;
  for (std::size_t i = 0; i < Diagnostics::kMaxKept + 7; ++i)
    diagnostics.error({1, 1, 1}, "r", "x").note({1, 1, 1}, "y");
  CHECK(diagnostics.errors() == Diagnostics::kMaxKept + 7);
  CHECK(diagnostics.sorted().size() == Diagnostics::kMaxKept);
  CHECK_THAT(render(diagnostics, "f", "x"), Catch::Contains("7 more diagnostics are not shown"));
}

TEST_CASE("UTF-8 that is none") {
  for (const char* bad : {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xe2\x82"}) {
    INFO(quote(bad));
    CHECK_FALSE(decode_utf8(bad, 0).valid);
    CHECK(decode_utf8(bad, 0).length == 1);
  }
  CHECK(decode_utf8("\xe2\x82\xac", 0).value == 0x20ac);
  CHECK(decode_utf8("\xf0\x9f\x98\x80", 0).value == 0x1f600);
}

TEST_CASE("decimal numbers, and what only looks like one") {
  for (const auto& [text, value] : std::initializer_list<std::pair<const char*, double>>{
           {"0", 0}, {"-5", -5}, {"128", 128}, {"1e-6", 1e-6}, {"1E+3", 1000}, {"0.5", 0.5}, {"-0.25e1", -2.5}}) {
    INFO(text);
    REQUIRE(decimal(text));
    CHECK(*decimal(text) == value);
  }
  for (const char* text : {"", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x10", "1_000", ".inf", "nan", "1e999", "1 ",
                           " 1", "1:30", "--1", "1e5.0", "Infinity"}) {
    INFO(text);
    CHECK_FALSE(decimal(text));
  }
}

TEST_CASE("the nearest word") {
  CHECK(nearest("vlaue", {"key", "value", "pairing"}) == "value");
  CHECK(nearest("windw", {"width", "window"}) == "window");
  CHECK(nearest("dim", {"dtype", "dims"}) == "dims");
  CHECK(nearest("xyz", {"key", "value", "pairing"}) == "");
  CHECK(nearest("b", {"a", "q"}) == "a");  // one letter off
  CHECK(nearest(std::string(100000, 'a'), {"value"}) == "");
}

}  // namespace gdn::spec
