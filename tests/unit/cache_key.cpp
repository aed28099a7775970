// Cache keys: whatever can change a binary changes the key, and no two lists of fields run into one.
#include "cache/key.h"

#include <functional>
#include <set>

#include "compile/compiler.h"
#include "support/cache.h"
#include "support/catch.h"

namespace {

using namespace gdn::runtime;
using gdn::test::cache_source;
using gdn::test::CountingCompiler;

struct Inputs {
  Source source = cache_source();
  std::string target = "sm_90a";
  Options options;
  std::string fingerprint = "counting 1";

  CacheKey key() const {
    CountingCompiler compiler("/nonexistent");
    compiler.set_fingerprint(fingerprint);
    return make_key(compiler, source, target, options);
  }
};

TEST_CASE("everything that can change a binary changes the key") {
  const struct {
    const char* what;
    std::function<void(Inputs&)> change;
  } cases[] = {
      {"source", [](Inputs& in) { in.source.text += " "; }},
      {"source's name", [](Inputs& in) { in.source.name = "other/gdn_model_decode_sm_90a.cu"; }},
      {"a header's bytes", [](Inputs& in) { in.source.headers[1].second = "Second"; }},
      {"a header's name", [](Inputs& in) { in.source.headers[1].first = "gdn/c.h"; }},
      {"one header less", [](Inputs& in) { in.source.headers.pop_back(); }},
      {"headers in another order", [](Inputs& in) { std::swap(in.source.headers[0], in.source.headers[1]); }},
      {"a byte moves between headers",
       [](Inputs& in) {
         in.source.headers[0].second = "firs";
         in.source.headers[1].second = "tsecond";
       }},
      {"a header that looks like the key",
       [](Inputs& in) {
         in.source.headers[0].second = "first\nheader-name 7\ngdn/b.h\nheader 6\nsecond";
         in.source.headers.pop_back();
       }},
      {"target", [](Inputs& in) { in.target = "sm_90"; }},
      {"option", [](Inputs& in) { in.options.extra = {"-DA"}; }},
      {"options", [](Inputs& in) { in.options.extra = {"-DA", "-DB"}; }},
      {"options in another order", [](Inputs& in) { in.options.extra = {"-DB", "-DA"}; }},
      {"options joined", [](Inputs& in) { in.options.extra = {"-DA-DB"}; }},
      {"assembly", [](Inputs& in) { in.options.assembly = true; }},
      {"compiler", [](Inputs& in) { in.fingerprint = "counting 2"; }},
  };
  std::set<std::string> texts = {Inputs().key().text}, names = {Inputs().key().name};
  for (const auto& test : cases) {
    INFO(test.what);
    Inputs inputs;
    test.change(inputs);
    CHECK(texts.insert(inputs.key().text).second);
    CHECK(names.insert(inputs.key().name).second);
  }
}

TEST_CASE("what can't change a binary leaves the key alone") {
  Inputs inputs;
  inputs.options.time_limit = std::chrono::seconds(1);
  inputs.options.no_cache = true;
  CHECK(inputs.key().text == Inputs().key().text);
  CHECK(inputs.key().name == Inputs().key().name);
}

TEST_CASE("an entry's name is a readable symbol and safe as a file name") {
  CHECK(Inputs().key().name.substr(0, 24) == "gdn_model_decode_sm_90a.");
  CHECK(Inputs().key().name.size() == 24 + 16);
  const std::string names[] = {"", "..", "a/../..", "x y\n.cu", std::string(400, 'k') + ".cu", ".hidden.cu"};
  for (const std::string& name : names) {
    INFO(name);
    Inputs inputs;
    inputs.source.name = name;
    const std::string entry = inputs.key().name;
    CHECK(entry.size() > 17);
    CHECK(entry.size() < 255);
    CHECK(entry[0] != '.');
    CHECK(entry.find_first_of("/ \n") == std::string::npos);
  }
}

TEST_CASE("a replaced compiler has another fingerprint, and asking for it starts no process") {
  const PrivateDir dir;
  // The script would say so if it were run.
  const std::string script = "#!/bin/sh\ntouch " + (dir.path() / "ran").string() + "\n";
  const auto place = [&](const std::string& text) {
    std::filesystem::permissions(dir.write("compiler", text), std::filesystem::perms::owner_all);
  };
  for (const auto make : {make_clang, make_host_compiler}) {
    place(script);
    const auto compiler = make({(dir.path() / "compiler").string()});
    const std::string before = compiler->fingerprint();
    CHECK(before == compiler->fingerprint());
    CHECK_THAT(before, Catch::Contains((dir.path() / "compiler").string()));
    place(script + "# newer\n");
    CHECK(before != compiler->fingerprint());
    CHECK_FALSE(dir.has("ran"));
  }
}

}  // namespace
