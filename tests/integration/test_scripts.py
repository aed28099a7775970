"""The scripts that people start: their options, and what the set-up does on machines that lack things.

The set-up runs with a PATH that holds only what every Debian has and stand-ins for apt-get, dpkg-query and the like, so
each machine is made up here and nothing is installed.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ["generator/quickstart.sh", "tests/run.sh", "tests/lint.sh", "tests/device.sh"]
EVERY_DEBIAN_HAS = ["awk", "bash", "cat", "dirname", "env", "grep", "head", "mktemp", "rm", "sed", "sort", "tail"]
QUICKSTART_PACKAGES = ["g++", "cmake", "ninja-build", "libyaml-cpp-dev", "libxbyak-dev", "libfmt-dev", "nlohmann-json3-dev",
                       "libcli11-dev"]
TEST_PACKAGES = ["catch2", "git", "make", "pkg-config", "python3", "python3-jsonschema", "python3-yaml", "clang-19",
                 "lld-19", "llvm-19", "clang-format-19", "clang-tidy-19", "libamdhip64-5", "libamdhip64-dev", "clang-22",
                 "lld-22"]
if "ID=ubuntu" not in pathlib.Path("/etc/os-release").read_text().splitlines():
    TEST_PACKAGES.insert(0, "chromium-headless-shell")


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, **options)


class Options(unittest.TestCase):
    def test_help_is_printed_and_does_nothing_else(self):
        for script in SCRIPTS + ["generator/setup.sh"]:
            with self.subTest(script):
                result = run("bash", str(ROOT / script), "--help")
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertIn("usage: " + script.split("/")[1], result.stdout)
                self.assertNotIn("set -e", result.stdout)

    def test_bad_usage_is_refused_by_name(self):
        cases = [(script, ["--bogus"], "--bogus") for script in SCRIPTS]
        cases += [(script, ["--build"], "--build needs a value") for script in SCRIPTS]
        cases += [(script, ["--jobs", "many"], "'many'") for script in SCRIPTS]
        cases += [("tests/device.sh", ["--only", "tests,benches"], "'benches'"), ("tests/device.sh", ["--only", "bench"], "--bench DIR"),
                  ("tests/device.sh", ["--seed", "x"], "'x'")]
        cases += [("tests/run.sh", ["--label", "golde"], "'golde'"), ("generator/setup.sh", ["everything"], "'everything'"),
                  ("generator/setup.sh", [], "quickstart or tests"), ("generator/setup.sh", ["tests", "now"], "not 2")]
        for script, arguments, words in cases:
            with self.subTest(script=script, arguments=arguments):
                result = run("bash", str(ROOT / script), *arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(words, result.stderr)


class Machine:
    """A made-up Debian: what is installed, what apt offers, who the user is. Calls of apt-get are kept in `calls`."""

    def __init__(self, folder, installed=(), offered=(), user=0, nvrtc=True, sudo=None, install_works=True):
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.toolchain = folder / "toolchain"
        self.log = folder / "calls"
        self.log.touch()
        database = folder / "installed"
        database.write_text("".join(name + "\n" for name in installed))
        for tool in EVERY_DEBIAN_HAS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        # The machine of the test may have a CUDA toolkit and must not be looked at: NVRTC, where given, is the first place.
        if nvrtc:
            library = self.toolchain / "nvidia/cu13/lib/libnvrtc.so.13"
            library.parent.mkdir(parents=True)
            library.touch()
        self.stand_in("uname", "echo Linux x86_64")
        self.stand_in("id", f"echo {user}")
        self.stand_in("dpkg-query", f'while read -r name; do echo "ii  $name"; done < "{database}"')
        offers = " ".join(offered)
        self.stand_in("apt-cache", f'for name in {offers}; do echo "$name:"; echo "  Candidate: 1"; done')
        install = f'shift; for name in "$@"; do case "$name" in -*) ;; *) echo "$name" >> "{database}" ;; esac; done'
        self.stand_in("apt-get", f'echo "apt-get $*" >> "{self.log}"\n'
                      'while [ "$1" = -o ]; do shift 2; done\n'
                      f'[ "$1" = install ] || exit 0\n{install if install_works else "echo E: no space left; exit 100"}')
        if sudo is not None:
            self.stand_in("sudo", f'echo "sudo $*" >> "{self.log}"\n{sudo}')

    def stand_in(self, name, text):
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)

    def set_up(self, profile):
        result = run("bash", str(ROOT / "generator/setup.sh"), profile,
                     env={"PATH": str(self.bin), "GDN_TOOLCHAIN_DIR": str(self.toolchain)})
        self.calls = self.log.read_text()
        return result


class OnADevice(unittest.TestCase):
    """tests/device.sh over stand-ins for the GPU, the tool, a test and the sanitizer: what it starts, and what it makes of it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.calls = self.folder / "calls"
        self.calls.touch()
        self.stand_in("bin/nvidia-smi", "echo 'GPU 0: made up'")
        self.stand_in("bin/compute-sanitizer", 'shift 4; exec "$@"')
        self.device_test("one case", "another, with a comma")
        self.tool()

    def stand_in(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)

    def device_test(self, *cases):
        """A test of Catch2 2.x: how many cases it lists is its exit status."""
        listed = "; ".join(f"echo '{case}'" for case in cases)
        known = "|".join(f"'\"{case}\"'" for case in cases)
        self.stand_in("build/tests/device/device_made_up", f'echo "device_made_up $1" >> "{self.calls}"\ncase "$1" in --help) echo '
                      f'"--list-test-names-only" ;; --list-test-names-only) {listed or ":"}; exit {len(cases)} ;; {known or "none"}) ;; *) exit 2 ;; esac')

    def tool(self, text=""):
        self.stand_in("build/generator/tool/gdn-gen", f'echo "$@" >> "{self.calls}"\n{text}')

    def device(self, *arguments):
        return run("bash", str(ROOT / "tests/device.sh"), "--no-build", "--build", str(self.folder / "build"), "--jobs", "2", *arguments,
                   env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})

    def started(self):
        return self.calls.read_text().splitlines()

    def test_every_spec_is_verified_and_every_device_test_runs(self):
        result = self.device()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("everything was right", result.stdout)
        started = self.started()
        self.assertLessEqual({'device_made_up "one case"', 'device_made_up "another, with a comma"'}, set(started))
        verified = {line.split()[1] for line in started if line.startswith("verify ")}
        for folder in ("specs", "specs/more", "tests/fuzz"):
            self.assertLessEqual({str(path) for path in (ROOT / folder).glob("*.yaml")}, verified)
        self.assertGreater(sum("+" in spec for spec in verified), 10)

    def test_each_operation_meets_each_tool_of_the_sanitizer(self):
        result = self.device("--only", "sanitize")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        started = self.started()
        for operation in ("decode", "decode_spec", "state_commit", "unpack", "conv_update", "gating", "delta_update", "norm_quant",
                          "conv_prefill", "chunk_delta", "prefill"):
            mine = [line for line in started if line.endswith(f"--operation {operation}")]
            self.assertEqual((len(mine) > 0, len(mine) % 3), (True, 0), operation)
        for name in {line.split()[1] for line in started}:
            self.assertTrue((ROOT / name).is_file(), name)

    def test_what_fails_is_named_and_decides(self):
        self.tool('case "$*" in *fuzz_kda*) echo "decode out WRONG"; exit 1 ;; *fuzz_orders*) echo "gdn-gen: no driver"; exit 4 ;; esac')
        result = self.device("--only", "verify", "--specs", "tests/fuzz/fuzz_gdn.yaml,tests/fuzz/fuzz_kda.yaml,tests/fuzz/fuzz_orders.yaml")
        self.assertEqual(result.returncode, 1)
        self.assertIn("decode out WRONG", result.stdout)
        self.assertRegex(result.stdout, r"fuzz_kda.yaml .* FAILED: exit status 1")
        self.assertRegex(result.stdout, r"fuzz_orders.yaml .* FAILED: gdn-gen: no driver")
        self.assertRegex(result.stdout, r"fuzz_gdn.yaml .* good")
        self.assertIn("verify       3 run, 2 failed", result.stdout)
        self.assertNotIn("everything was right", result.stdout)

    def test_a_test_that_lists_no_case_fails(self):
        self.device_test()
        result = self.device("--only", "tests")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"device_made_up: no case is listed .* FAILED: exit status 1")

    def test_timings_are_written_one_file_each(self):
        result = self.device("--bench", str(self.folder / "json"), "--only", "bench", "--commit", "0123abc")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        files = [line.split("--json ")[1] for line in self.started() if line.startswith("bench ")]
        self.assertEqual(len(files), len(set(files)))
        self.assertTrue(all(file.startswith(str(self.folder / "json")) for file in files))
        self.assertTrue(any("--operation decode_spec" in line for line in self.started()))


class SetUp(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def machine(self, **facts):
        return Machine(self.folder, **facts)

    def test_nothing_is_called_where_all_is_there(self):
        machine = self.machine(installed=QUICKSTART_PACKAGES + TEST_PACKAGES, user=1000)
        result = machine.set_up("tests")
        self.assertEqual((result.returncode, machine.calls), (0, ""), result.stderr)

    def test_without_root_and_sudo_each_missing_package_is_named(self):
        machine = self.machine(installed=["cmake", "g++", "catch2"], user=1000)
        result = machine.set_up("tests")
        self.assertEqual((result.returncode, machine.calls), (1, ""))
        named = next(line for line in result.stderr.splitlines() if "missing:" in line).split()
        expected = set(QUICKSTART_PACKAGES + TEST_PACKAGES) - {"cmake", "g++", "catch2"}
        self.assertEqual(set(named) - {"setup:", "missing:"}, expected)

    def test_nvrtc_is_named_with_the_packages(self):
        machine = self.machine(installed=["cmake"], user=1000, nvrtc=False)
        machine.stand_in("python3", "exit 1")
        result = machine.set_up("quickstart")
        if "NVRTC" not in result.stderr:  # a CUDA toolkit of the machine that the test runs on
            self.assertTrue(list(pathlib.Path("/usr/local").glob("cuda*/lib64/libnvrtc.so.1*")), result.stderr)
        self.assertEqual(result.returncode, 1)

    def test_without_a_terminal_nobody_is_asked_for_a_password(self):
        machine = self.machine(user=1000, sudo="exit 1")
        result = machine.set_up("quickstart")
        self.assertEqual((result.returncode, machine.calls), (1, "sudo -n true\n"))
        self.assertIn("libyaml-cpp-dev", result.stderr)

    def test_sudo_is_used_where_it_asks_nothing(self):
        machine = self.machine(user=1000, sudo='[ "$1" = -n ] && exit 0; exec "$@"', offered=QUICKSTART_PACKAGES)
        result = machine.set_up("quickstart")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("sudo env", machine.calls)

    def test_only_what_is_missing_is_installed(self):
        there = [name for name in QUICKSTART_PACKAGES if name not in ("libfmt-dev", "cmake")]
        machine = self.machine(installed=there, offered=QUICKSTART_PACKAGES)
        result = machine.set_up("quickstart")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(machine.calls, r"install -y --no-install-recommends cmake libfmt-dev\n$")

    def test_the_newest_clang_that_is_offered_is_taken(self):
        machine = self.machine(installed=QUICKSTART_PACKAGES + TEST_PACKAGES[:-2],
                               offered=["clang-20", "lld-20", "clang-21", "lld-21", "clang-22"])  # clang-22 without its lld
        result = machine.set_up("tests")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(machine.calls, r"recommends clang-21 lld-21\n$")

    def test_hiprtcs_headers_come_along_where_they_are_a_package(self):
        there = [name for name in QUICKSTART_PACKAGES + TEST_PACKAGES if name != "libamdhip64-5"]
        machine = self.machine(installed=there, offered=["libamdhip64-5", "libhiprtc-builtins5"])
        result = machine.set_up("tests")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(machine.calls, r"recommends libamdhip64-5 libhiprtc-builtins5\n$")

    def test_without_a_network_what_cannot_be_had_is_named(self):
        machine = self.machine(installed=["g++"], offered=["cmake"])
        result = machine.set_up("quickstart")
        self.assertEqual(result.returncode, 1)
        self.assertNotIn(" install ", machine.calls)
        first = result.stderr.splitlines()[0]
        self.assertIn("libxbyak-dev", first)
        self.assertNotIn("cmake", first)

    def test_a_failed_installation_says_why_and_names_what_is_still_missing(self):
        machine = self.machine(offered=QUICKSTART_PACKAGES, install_works=False)
        result = machine.set_up("quickstart")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no space left", result.stderr)
        self.assertIn("libcli11-dev", result.stderr)

    def test_another_system_is_told_what_to_install(self):
        machine = self.machine()
        (machine.bin / "apt-get").unlink()
        result = machine.set_up("quickstart")
        self.assertEqual(result.returncode, 1)
        self.assertIn("yaml-cpp", result.stderr)
        machine.stand_in("uname", "echo Darwin arm64")
        self.assertIn("Darwin arm64", machine.set_up("quickstart").stderr)


if __name__ == "__main__":
    unittest.main()
