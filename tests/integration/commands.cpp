// The command line: help everywhere, unknown options refused, exit codes, errors with file, line, column and rule.
#include <filesystem>

#include "support/catch.h"
#include "support/command_line.h"

using gdn::test::append;
using gdn::test::CommandLine;
using gdn::test::TemporaryFolder;

namespace {

// Each command with the least that it must be given.
const std::vector<std::vector<std::string>> kCommands = {{"lint", "specs"},
                                                         {"dump", "qwen3_5_27b"},
                                                         {"emit", "qwen3_5_27b"},
                                                         {"check", "specs", "generated"},
                                                         {"verify", "qwen3_5_27b"},
                                                         {"bench", "qwen3_5_27b"},
                                                         {"tune", "qwen3_5_27b"},
                                                         {"list"},
                                                         {"demo"}};

CommandLine gdn_gen(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GDN_PROGRAM);
  return CommandLine::run(arguments);
}

void check_bench(const std::vector<std::string>& arguments, const std::vector<std::string>& texts) {
  const CommandLine bench = gdn_gen(arguments);
  INFO(bench.output);
  if (bench.status == 4) return;  // this processor runs no CPU target
  CHECK(bench.status == 0);
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(bench.has(text));
  }
}

}  // namespace

TEST_CASE("every command explains itself and refuses unknown options") {
  CHECK(gdn_gen({"--help"}).status == 0);
  for (const std::vector<std::string>& command : kCommands) {
    INFO(command[0]);
    const CommandLine help = gdn_gen({command[0], "--help"});
    CHECK(help.status == 0);
    CHECK(help.has("--help"));
    CHECK(gdn_gen({"--help"}).has(command[0]));
    std::vector<std::string> misspelt = command;
    misspelt.push_back("--no-such-option");
    const CommandLine wrong = gdn_gen(misspelt);
    INFO(wrong.output);
    CHECK(wrong.status == 2);
    CHECK(wrong.has("--no-such-option"));
  }
  CHECK(gdn_gen({}).status == 2);
  CHECK(gdn_gen({"no-such-command"}).status == 2);
}

TEST_CASE("what is not there or not known is named with what is") {
  struct Case {
    std::vector<std::string> arguments;
    int status;
    const char* says;
  };
  const Case cases[] = {
      {{"lint", "no/such/file.yaml"}, 1, "no/such/file.yaml"},
      {{"dump", "no_such_model"}, 4, "specs/no_such_model.yaml"},
      {{"emit", "qwen3_5_27b", "--target", "sm_99"}, 2, "the targets are sm_80 sm_90a"},
      {{"emit", "qwen3_5_27b", "--operation", "encode"}, 2, "the operations are decode decode_spec"},
      {{"check", "no/folder", "generated"}, 4, "no/folder"},
      {{"check", "specs", "no/folder"}, 4, "no/folder"},
      {{"verify", "qwen3_5_27b", "--on", "abacus"}, 2, "abacus"},
      {{"verify", "qwen3_5_27b", "--on", "simt", "--target", "avx512bf16"}, 4, "--on cpu"},
      {{"verify", "qwen3_5_27b", "--rows", "0"}, 2, "--rows"},
      {{"bench", "qwen3_5_27b", "--batch", "0"}, 2, "--batch"},
      {{"dump", "qwen3_5_27b", "--stage", "machine"}, 2, "--stage"},
  };
  for (const Case& c : cases) {
    const CommandLine result = gdn_gen(c.arguments);
    INFO(c.arguments[0] << " " << c.arguments[1] << ": " << result.output);
    CHECK(result.status == c.status);
    CHECK(result.has(c.says));
  }
}

TEST_CASE("a bad spec fails every command with its place and writes nothing") {
  const TemporaryFolder folder;
  const std::string spec = (folder.path() / "qwen3_next_80b.yaml").string();
  std::filesystem::copy_file(std::string(GDN_SOURCE_DIR) + "/specs/qwen3_next_80b.yaml", spec);
  append(spec, "no_such_key: 1\n");
  const std::string out = (folder.path() / "out").string();
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"lint", spec}, {"dump", spec}, {"emit", spec, "--out", out}, {"verify", spec, "--on", "simt"}}) {
    const CommandLine result = gdn_gen(arguments);
    INFO(result.output);
    CHECK(result.status == 1);
    CHECK(result.has(spec + ":"));
    CHECK(result.has("no_such_key"));
  }
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("a failed emit leaves no half-written file") {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string();
  // A folder stands where one of the files should go.
  std::filesystem::create_directories(out + "/cuda/gdn_qwen3_5_27b_decode_sm_90a.cu/in_the_way");
  const CommandLine result = gdn_gen({"emit", "qwen3_5_27b", "--target", "sm_90a", "--out", out});
  INFO(result.output);
  CHECK(result.status == 1);
  CHECK(result.has("gdn_qwen3_5_27b_decode_sm_90a.cu"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out))
    CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("dump prints each stage") {
  CHECK(gdn_gen({"dump", "qwen3_next_80b", "--stage", "spec"}).has("pairing: grouped"));
  CHECK(gdn_gen({"dump", "qwen3_next_80b", "--stage", "layout"})
            .has("part v: offset 256, key_head[16] * 768, group[2] * 128"));
  CHECK(gdn_gen({"dump", "qwen3_next_80b", "--stage", "plan", "--target", "sm_90a", "--operation", "decode"})
            .has("gdn_qwen3_next_80b_decode_sm_90a"));
}

TEST_CASE("bench times decode on the CPU, beside the floor and scaling, whatever target the CPU runs") {
  check_bench({"bench", "qwen3_5_27b", "--on", "cpu", "--batch", "1"},
              {"qwen3_5_27b", "floor us", "ratio", "scaling us"});
}

TEST_CASE("bench times whole sequences on the CPU, beside the floor") {
  check_bench({"bench", "qwen3_5_27b", "--on", "cpu", "--operation", "prefill", "--lengths", "70,8x3"},
              {"prefill", "floor us", "ratio", "8x3"});
}

TEST_CASE("list names specs, operations and targets") {
  const CommandLine result = gdn_gen({"list"});
  CHECK(result.status == 0);
  for (const char* word : {"qwen3_5_27b", "heads 16/48", "norm_quant", "gfx950", "avx512bf16"}) CHECK(result.has(word));
}

TEST_CASE("the newer GPUs' sources run on the host shim") {
  for (const char* target : {"sm_100a", "sm_120a", "gfx1100", "gfx1200"}) {
    const CommandLine result = gdn_gen({"verify", "tests/fuzz/fuzz_gdn.yaml", "--on", "simt", "--target", target,
                                        "--operation", "decode,norm_quant,delta_update", "--steps", "2"});
    INFO(result.output);
    CHECK(result.status == 0);
    CHECK(result.has(std::string("(") + target + ")"));
    CHECK_FALSE(result.has("WRONG"));
  }
}

TEST_CASE("verify reports each operand that an operation writes") {
  const CommandLine result = gdn_gen({"verify", "tests/fuzz/fuzz_gdn.yaml", "--on", "simt", "--operation", "decode"});
  INFO(result.output);
  CHECK(result.status == 0);
  for (const char* word : {"conv_state", "state", "out", "good"}) CHECK(result.has(word));
  CHECK_FALSE(result.has("WRONG"));
}
