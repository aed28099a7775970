// The reference of the spec language is what the parser reads by.
#include "review/language.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "spec/keys.h"
#include "spec/parser.h"
#include "spec/tensor_keys.h"
#include "support/catch.h"
#include "support/specs.h"

using namespace gdn;

namespace {

// Writes the file with GDN_UPDATE_GOLDENS=1.
void check_file(const std::string& name, const std::string& text) {
  const std::string file = std::string(GDN_SOURCE_DIR) + "/" + name;
  if (std::getenv("GDN_UPDATE_GOLDENS") != nullptr) std::ofstream(file) << text;
  INFO("GDN_UPDATE_GOLDENS=1 writes " << file << " anew");
  CHECK(test::read_text(file) == text);
}

std::set<std::string> paths() {
  std::set<std::string> all = {"speculative", "output_quant", "unverified"};
  for (const spec::Key& key : spec::keys()) all.insert(std::string(key.path));
  for (const spec::TensorKey& key : spec::tensor_keys()) {
    all.insert(std::string(key.section) + "." + std::string(key.name));
  }
  return all;
}

}  // namespace

TEST_CASE("specs/README.md holds the tables of the parser") {
  const std::string readme = test::read_text(std::string(GDN_SOURCE_DIR) + "/specs/README.md");
  const std::string mark = "<!-- keys -->\n";
  const std::size_t at = readme.find(mark);
  REQUIRE(at != std::string::npos);
  check_file("specs/README.md", readme.substr(0, at + mark.size()) + "\n" + review::language_markdown());
}

TEST_CASE("every axis of the README names keys that there are, and there are 31") {
  const std::string readme = test::read_text(std::string(GDN_SOURCE_DIR) + "/specs/README.md");
  const std::size_t from = readme.find("| axis |");
  std::istringstream lines(readme.substr(from, readme.find("\n\n", from) - from));
  const std::set<std::string> known = paths();
  std::string line;
  int rows = -2;
  while (std::getline(lines, line)) {
    ++rows;
    if (rows < 1) continue;
    const std::string says = line.substr(line.find(" | ") + 3);
    for (std::size_t open = says.find('`'); open != std::string::npos;) {
      const std::size_t close = says.find('`', open + 1);
      const std::string word = says.substr(open + 1, close - open - 1);
      open = says.find('`', close + 1);
      if (word == "inputs" || word == "parameters" || word == "--tp" || word == "none" || word == "gdn-gen match")
        continue;
      INFO(word);
      CHECK(known.count(word) == 1);
    }
  }
  CHECK(rows == 31);
}

TEST_CASE("each key says what it is and what it prevents") {
  for (const spec::Key& key : spec::keys()) {
    INFO(key.path);
    CHECK_FALSE(key.help.empty());
    CHECK_FALSE(key.prevents.empty());
    const std::string section(key.path.substr(0, key.path.find('.')));
    if (section == "rounding" || section == "slots" || section == "beta" || section == "qk_scale") {
      CHECK(key.engine == (key.path != "beta.factor"));
    }
    if (section == "dims" || section == "gdn_gen" || section == "name" || section == "rule") CHECK_FALSE(key.engine);
  }
}

TEST_CASE("the schema file is current and knows every key") {
  const std::string text = review::language_schema();
  check_file("specs/spec.schema.json", text);
  const nlohmann::json schema = nlohmann::json::parse(text);
  for (const spec::Key& key : spec::keys()) {
    INFO(key.path);
    const std::string path(key.path);
    const std::size_t dot = path.find('.');
    const nlohmann::json* home = &schema;
    if (dot != std::string::npos) home = &schema["properties"][path.substr(0, dot)];
    const std::string leaf = path.substr(dot == std::string::npos ? 0 : dot + 1);
    // A section that may be written as the word none.
    if (home->contains("anyOf")) {
      CHECK((*home)["anyOf"][0]["const"] == "none");
      home = &(*home)["anyOf"][1];
    }
    REQUIRE((*home)["properties"].contains(leaf));
    const nlohmann::json& required = (*home)["required"];
    const bool listed = std::find(required.begin(), required.end(), leaf) != required.end();
    CHECK(listed == (key.applies == nullptr));
    CHECK((*home)["additionalProperties"] == false);
  }
}
