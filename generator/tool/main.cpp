// gdn-gen: the command line. This folder is the only code that prints or exits.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "tool/command.h"

int main(int argc, char** argv) {
  using namespace gdn::tool;
  CLI::App program(
      "gdn-gen turns a YAML spec of a Gated DeltaNet layer into kernels that can run on no other layout.\n"
      "Exit codes: 0 good; 1 a finding or a bad spec; 2 bad usage; 3 a silent difference (diff);\n4 can't judge "
      "(unreadable input, no device).",
      "gdn-gen");
  program.require_subcommand(1);
  program.set_version_flag("--version", GDN_VERSION);
  int exit_code = kGood;
  add_lint(program, exit_code);
  add_dump(program, exit_code);
  add_emit(program, exit_code);
  add_build(program, exit_code);
  add_check(program, exit_code);
  add_list(program, exit_code);
  add_verify(program, exit_code);
  add_bench(program, exit_code);
  add_tune(program, exit_code);
  add_demo(program, exit_code);
  add_diff(program, exit_code);
  add_explain(program, exit_code);
  add_match(program, exit_code);
  add_import(program, exit_code);
  add_probe(program, exit_code);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? kGood : kBadUsage;
  } catch (const Failure& failure) {
    fmt::print(stderr, "gdn-gen: {}\n", failure.what());
    return failure.code();
  } catch (const std::exception& error) {
    fmt::print(stderr, "gdn-gen: {}\n", error.what());
    return kFinding;
  }
  return exit_code;
}
