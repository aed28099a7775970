// Whatever the bytes, a reading ends, in bounded time, with a spec or with a reason.
#include <algorithm>
#include <ctime>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/document.h"
#include "spec/parser.h"
#include "support/catch.h"
#include "support/pace.h"

namespace gdn::spec {
namespace {

std::string valid_spec() {
  std::ifstream stream(std::string(GDN_SOURCE_DIR) + "/tests/fuzz/fuzz_gdn.yaml", std::ios::binary);
  REQUIRE(stream);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// A spec or a rendered reason, never neither.
bool ends_well(const std::string& text) {
  Diagnostics diagnostics;
  const std::optional<Spec> spec = check("fuzz_gdn.yaml", text, diagnostics);
  const std::string rendered = render(diagnostics, "fuzz_gdn.yaml", text);
  for (const char c : rendered) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') return false;  // a terminal must not see it
  }
  return spec.has_value() != diagnostics.has_errors() && diagnostics.has_errors() != rendered.empty();
}

double seconds_of(const std::string& text) {
  const std::clock_t start = std::clock();  // of the processor: other tests may run beside this one
  CHECK(ends_well(text));
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

std::string repeated(const std::string& piece, std::size_t bytes = kMaxSpecBytes) {
  std::string text;
  while (text.size() + piece.size() <= bytes) text += piece;
  return text;
}

}  // namespace

TEST_CASE("a spec truncated at every byte") {
  const std::string text = valid_spec();
  std::size_t good = 0;
  for (std::size_t length = 0; length <= text.size(); ++length) {
    Diagnostics diagnostics;
    good += check("fuzz_gdn.yaml", text.substr(0, length), diagnostics).has_value() ? 1 : 0;
    if (!ends_well(text.substr(0, length))) FAIL("truncated after " << length << " bytes");
  }
  CHECK(good == 2);  // the whole text, with and without its last line end
}

TEST_CASE("a spec with flipped bits, and with pieces of YAML thrown in") {
  const std::string text = valid_spec();
  const std::vector<std::string> pieces = {"[",  "]",   "{",     "}",     ":",      ": ",      "- ",   "? ", "&a ",
                                           "*a", "!!x", "<<: ",  "\n",    "\r\n",   "\t",      "\"",   "'",  "|",
                                           ">",  "#",   "---\n", "...\n", "%TAG\n", "@launch", "null", "~",  "\xff"};
  std::mt19937 random(42880);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 4000; ++round) {
    std::string broken = text;
    for (std::size_t change = 0; change <= below(4); ++change) {
      const std::size_t at = below(broken.size());
      if (random() % 2 == 0) {
        broken[at] = static_cast<char>(static_cast<unsigned char>(broken[at]) ^ (1U << below(8)));
      } else {
        broken.insert(at, pieces[below(pieces.size())]);
      }
    }
    if (!ends_well(broken)) FAIL("round " << round << ":\n" << broken);
  }
}

TEST_CASE("random bytes") {
  std::mt19937 random(17);
  for (int round = 0; round < 500; ++round) {
    std::string text(random() % 300, '\0');
    for (char& c : text) c = static_cast<char>(random() % (round % 2 == 0 ? 256 : 128));
    if (!ends_well(text)) FAIL("round " << round);
  }
}

TEST_CASE("a mebibyte of trouble is refused within a second") {
  std::string keys, nested;
  for (int i = 0; keys.size() < kMaxSpecBytes - 20; ++i) keys += "key_" + std::to_string(i) + ": 1\n";
  for (std::size_t depth = 0; nested.size() + depth + 3 < kMaxSpecBytes; ++depth) {
    nested += std::string(depth, ' ') + "a:\n";
  }
  const std::string text = valid_spec();
  const std::vector<std::pair<std::string, std::string>> hostile = {
      {"open brackets", repeated("[")},
      {"open braces", repeated("{")},
      {"open braces with keys", repeated("{a: ")},
      {"alternating brackets", repeated("[{")},
      {"lists in lists", repeated("- ")},
      {"complex keys", repeated("? ")},
      {"colons", repeated(": ")},
      {"keys on one line", repeated("a: ")},
      {"nested maps", nested},
      {"unknown keys", keys},
      {"one key many times", repeated("a: 1\n")},
      {"one long word", "name: " + repeated("x", kMaxSpecBytes - 6)},
      {"one long line of unknown keys", "{" + repeated("a b c: [], ", kMaxSpecBytes - 3) + "z: 1}"},
      {"an open quote", "name: \"" + repeated("x ", kMaxSpecBytes - 7)},
      {"line ends", repeated("\n")},
      {"comments", repeated("#\n")},
      {"tabs", repeated("\t")},
      {"anchors", repeated("&a ")},
      {"tags", repeated("!a ")},
      {"documents", repeated("---\n")},
      {"directives", repeated("%YAML 1.2\n")},
      {"dimensions", "inputs: {q: {dtype: bf16, dims: [" + repeated("token, ", kMaxSpecBytes - 60) + "token]}}"},
      {"parts",
       "inputs: {q: {dtype: bf16, dims: [token, {" + repeated("q: [key_dim], ", kMaxSpecBytes - 60) + "k: [tap]}]}}"},
      {"a valid spec and comments", text + repeated("# x\n", kMaxSpecBytes - text.size())},
  };
  const test::Pace pace;
  for (const auto& [name, bytes] : hostile) {
    INFO(name);
    REQUIRE(bytes.size() <= kMaxSpecBytes);
    CHECK(seconds_of(bytes) < pace.allow(1.0));
  }
}

TEST_CASE("a spec is read in under ten milliseconds") {
  const std::string text = valid_spec();
  const test::Pace pace;
  double best = 1;
  for (int i = 0; i < 10; ++i) best = std::min(best, seconds_of(text));
  CHECK(best < pace.allow(0.010));
}

}  // namespace gdn::spec
