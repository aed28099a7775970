// Every rule's message, word for word. A case is a broken spec, its golden the rendered text:
//
//   cases/<rule>.yaml, cases/<rule>--<variant>.yaml    the text as it is
//   cases/<rule>.edit, cases/<rule>--<variant>.edit    base.yaml with lines replaced: a line `-x` names the line x of
//                                                      base.yaml, the lines `+y` after it stand in its place
//   cases/<rule>.overlay, cases/<rule>--<variant>.overlay   an overlay, engines/test.yaml, that is laid over base.yaml
//   golden/<case>.txt                                  what render() says
//
// GDN_UPDATE_GOLDENS=1 writes the goldens instead of comparing them.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "spec/diagnostics.h"
#include "spec/document.h"
#include "spec/parser.h"
#include "spec/ranks.h"
#include "spec/rules.h"
#include "support/catch.h"

namespace gdn::spec {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(GDN_SOURCE_DIR) / "tests" / "error";

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  REQUIRE(stream);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// base.yaml with a case's edits. Fails the test where an edit names no line, or more than one.
std::string edited(const std::vector<std::string>& edit) {
  std::vector<std::string> lines = lines_of(read(kFolder / "base.yaml"));
  std::size_t at = lines.size();  // where `+` lines go
  for (const std::string& line : edit) {
    if (line.empty() || line[0] == '#') continue;
    const std::string rest = line.substr(1);
    if (line[0] == '-') {
      INFO("an edit names the line: " << rest);
      REQUIRE(std::count(lines.begin(), lines.end(), rest) == 1);
      at = static_cast<std::size_t>(std::find(lines.begin(), lines.end(), rest) - lines.begin());
      lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      REQUIRE(line[0] == '+');
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(at), rest);
      ++at;
    }
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// The rendered diagnostics of every case, by the case's name. Empty text: the case is no error at all.
using Rendered = std::map<std::string, std::string>;

std::string checked(const std::string& file, const std::string& text) {
  Diagnostics diagnostics;
  const std::optional<Spec> spec = check(file, text, diagnostics);
  CHECK(spec.has_value() == !diagnostics.has_errors());
  return render(diagnostics, file, text);
}

std::string checked_overlay(const std::string& text) {
  const std::vector<Source> sources = {{"base.yaml", read(kFolder / "base.yaml")}, {"engines/test.yaml", text}};
  Diagnostics diagnostics;
  const std::optional<Spec> spec = check(sources, diagnostics);
  CHECK(spec.has_value() == !diagnostics.has_errors());
  return render(diagnostics, sources);
}

// Cases that are no text file of their own.
void add_files(Rendered& rendered) {
  const auto loaded = [](const std::string& file, const std::string& shown) {
    Diagnostics diagnostics;
    std::string text;
    CHECK_FALSE(load(file, diagnostics, &text));
    return render(diagnostics, shown, text);
  };
  const fs::path folder = fs::temp_directory_path() / ("gdn_error_goldens." + std::to_string(::getpid()));
  fs::create_directories(folder);
  rendered["file.read"] = loaded((folder / "no_such_spec.yaml").string(), "no_such_spec.yaml");
  rendered["file.read--directory"] = loaded(folder.string(), "specs");
  rendered["file.read--device"] = loaded("/dev/zero", "/dev/zero");
  const fs::path large = folder / "large.yaml";
  std::ofstream(large) << "gdn_gen: 1\n";
  fs::resize_file(large, 100 << 20);
  rendered["file.size"] = loaded(large.string(), "large.yaml");
  fs::remove_all(folder);

  Diagnostics ranks;
  const std::string base = read(kFolder / "base.yaml");
  const std::optional<Spec> whole = check("base.yaml", base, ranks);
  REQUIRE(whole);
  check_ranks(*whole, 4, ranks);
  rendered["heads.ranks"] = render(ranks, "base.yaml", base);

  rendered["file.size--text"] = checked("large.yaml", std::string(kMaxSpecBytes + 1, '#'));
  rendered["file.text"] = checked("binary.yaml", std::string("gdn_gen: 1\nname: a\0b\n", 22));
  rendered["file.text--elf"] = checked("gdn-gen", std::string("\x7f"
                                                              "ELF\x02\x01\x01\0\0",
                                                              9));
  rendered["file.text--latin1"] = checked("latin1.yaml", "model: caf\xe9\n");
  rendered["file.text--bom"] = checked("bom.yaml", "\xef\xbb\xbfgdn_gen: 1\n");
  rendered["file.text--utf16"] = checked("utf16.yaml", std::string("\xff\xfeg\0d\0n\0", 8));
  rendered["file.text--bidi"] = checked("bidi.yaml", "gdn_gen: 1\nname: a\xe2\x80\xae#b\n");
  rendered["file.text--return"] = checked("return.yaml", "gdn_gen: 1\rname: a\n");
}

Rendered render_all() {
  Rendered rendered;
  for (const auto& entry : fs::directory_iterator(kFolder / "cases")) {
    const std::string name = entry.path().stem().string();
    const std::string text = read(entry.path());
    const bool edit = entry.path().extension() == ".edit";
    INFO("case " << name);
    if (entry.path().extension() == ".overlay") {
      rendered[name] = checked_overlay(text);
      continue;
    }
    rendered[name] = edit ? checked("base.yaml", edited(lines_of(text))) : checked(name + ".yaml", text);
  }
  add_files(rendered);
  return rendered;
}

// The rule ids at the ends of messages.
std::set<std::string> ids_in(const std::string& rendered) {
  std::set<std::string> ids;
  for (const std::string& line : lines_of(rendered)) {
    const std::size_t open = line.rfind(" [");
    const bool message = line.find(": error: ") != std::string::npos || line.find(": warning: ") != std::string::npos;
    if (message && open != std::string::npos && line.back() == ']') {
      ids.insert(line.substr(open + 2, line.size() - open - 3));
    }
  }
  return ids;
}

}  // namespace

TEST_CASE("the base of the cases is a correct spec") {
  const std::string text = read(kFolder / "base.yaml");
  CHECK(checked("base.yaml", text) == "");
}

TEST_CASE("messages are as their goldens say") {
  const Rendered rendered = render_all();
  const fs::path goldens = kFolder / "golden";
  if (std::getenv("GDN_UPDATE_GOLDENS")) {
    fs::remove_all(goldens);
    fs::create_directories(goldens);
    for (const auto& [name, text] : rendered) std::ofstream(goldens / (name + ".txt"), std::ios::binary) << text;
  }
  for (const auto& [name, text] : rendered) {
    INFO("case " << name << "; GDN_UPDATE_GOLDENS=1 writes the goldens anew");
    REQUIRE(fs::exists(goldens / (name + ".txt")));
    CHECK(text == read(goldens / (name + ".txt")));
  }
  for (const auto& entry : fs::directory_iterator(goldens)) {
    INFO("golden " << entry.path().filename() << " belongs to no case");
    CHECK(rendered.count(entry.path().stem().string()) == 1);
  }
}

TEST_CASE("every rule has a golden text, and no message has a rule that is not one") {
  const Rendered rendered = render_all();
  std::set<std::string> known, shown;
  for (const RuleText& rule : rules()) known.insert(std::string(rule.id));
  REQUIRE(known.size() == static_cast<std::size_t>(RuleId::kCount));
  for (const auto& [name, text] : rendered) {
    INFO("case " << name);
    const std::set<std::string> ids = ids_in(text);
    CHECK_FALSE(ids.empty());
    for (const std::string& id : ids) {
      INFO("rule " << id);
      CHECK(known.count(id) == 1);
    }
    const std::string rule = name.substr(0, name.find("--"));
    if (known.count(rule) == 1) {
      CHECK(ids.count(rule) == 1);  // a case shows the rule that it is named after
      shown.insert(rule);
    }
  }
  for (const std::string& id : known) {
    INFO("rule " << id << " has no case under tests/error/cases");
    CHECK(shown.count(id) == 1);
  }
}

}  // namespace gdn::spec
