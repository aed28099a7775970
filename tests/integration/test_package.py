"""The installed package, used by a project outside of this tree: CMake with Ninja and with make, and pkg-config.

GDN_BUILD_DIR is the build folder to install from. The project is tests/integration/package.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("GDN_BUILD_DIR", "")
TOOLS = {"Ninja": "ninja", "Unix Makefiles": "make"}
GENERATORS = [name for name, tool in TOOLS.items() if shutil.which(tool)]
HAS_CLANG = any(shutil.which(f"clang++-{version}") for version in range(19, 25))
KERNELS_AND_NO_DRAFTS = r"\b[5-9] kernels, [2-6] absent\b"  # a spec without drafts lacks two operations at least
TARGETS = "avx512bf16;gfx942" if HAS_CLANG else "avx512bf16"


def run(*command, cwd=None, env=None):
    return subprocess.run([str(part) for part in command], cwd=cwd, env=dict(os.environ, **(env or {})),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        result = run("cmake", "--install", BUILD, "--prefix", cls.folder / "first")
        assert result.returncode == 0, result.stdout + result.stderr
        # Nothing in it may name the place that it was installed to.
        cls.prefix = cls.folder / "moved here"
        (cls.folder / "first").rename(cls.prefix)

    def good(self, *command, **options):
        result = run(*command, **options)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout + result.stderr

    def project(self, name):
        """A copy of the consumer, with a spec of its own."""
        source = self.folder / name
        shutil.copytree(ROOT / "tests/integration/package", source)
        specs = source / "my specs"
        specs.mkdir()
        text = (ROOT / "tests/fuzz/fuzz_gdn.yaml").read_text()
        (specs / "tiny_model.yaml").write_text(text.replace("name: fuzz_gdn", "name: tiny_model"))
        return source

    def configure(self, source, generator, *options):
        return ["cmake", "-S", source, "-B", source / "build", "-G", generator, f"-DCMAKE_PREFIX_PATH={self.prefix}",
                f"-DCONSUMER_TARGETS={TARGETS}", "-DCMAKE_BUILD_TYPE=Release", *options]


class Package(Installed):
    def test_nothing_of_the_source_tree_is_installed_by_name(self):
        for file in self.prefix.rglob("*"):
            if file.is_file() and file.suffix in {".cmake", ".pc", ".in", ".h", ".hpp", ".yaml"}:
                text = file.read_text()
                for place in [str(ROOT), str(pathlib.Path(BUILD).resolve()), str(self.folder)]:
                    self.assertNotIn(place, text, file)

    def test_a_project_builds_runs_and_rebuilds_only_what_changed(self):
        self.assertTrue(GENERATORS)
        for name in sorted(set(TOOLS) - set(GENERATORS)):
            print(f"[SKIP] the package with {name}: {TOOLS[name]} is not installed")
        for generator in GENERATORS:
            with self.subTest(generator):
                self.walk(generator)

    def walk(self, generator):
        source = self.project("project with " + generator)
        env = {"GDN_CACHE_DIR": str(self.folder / "cache")}
        self.good(*self.configure(source, generator))
        build = ["cmake", "--build", source / "build"]
        output = self.good(*build, env=env)
        self.assertIn("Building the kernels of model_kernels", output)
        before = self.good(source / "build/consumer")
        self.assertIn("gdn_tiny_model_decode_avx512bf16", before)
        self.assertIn("named: 1", before)
        self.assertEqual("gfx942" in before, HAS_CLANG)
        bundle, program = source / "build/model_kernels.gdnb", source / "build/consumer"
        bytes_before = bundle.read_bytes()

        # Nothing changed: nothing is built. make prints its targets whether or not it does something.
        output = self.good(*build, env=env)
        self.assertNotIn("Building", output)
        self.assertNotIn("Linking", output)

        # A comment: the tool runs, and nothing that uses the bundle does.
        spec = source / "my specs/tiny_model.yaml"
        time.sleep(1.1)
        spec.write_text(spec.read_text() + "# a comment\n")
        output = self.good(*build, env=env)
        self.assertIn("Building the kernels of model_kernels", output)
        self.assertNotIn("Building the kernels of named_kernels", output)
        self.assertNotIn("Linking", output)
        self.assertEqual(bundle.read_bytes(), bytes_before)
        output = self.good(*build, env=env)
        self.assertNotIn("Building", output)

        # A number: other kernels, another program.
        linked = program.stat().st_mtime_ns
        text = spec.read_text()
        self.assertIn("{key: 2, value: 6,", text)
        spec.write_text(text.replace("{key: 2, value: 6,", "{key: 3, value: 9,"))
        output = self.good(*build, env=env)
        self.assertIn("Building the kernels of model_kernels", output)
        self.assertNotEqual(program.stat().st_mtime_ns, linked)
        after = self.good(program)
        self.assertIn("gdn_tiny_model_decode_avx512bf16", after)
        self.assertNotEqual(after, before)
        output = self.good(*build, env=env)
        self.assertNotIn("Building", output)

        # A spec that breaks a rule stops the build with its place, and the next one starts over.
        spec.write_text(text.replace("{key: 2, value: 6,", "{key: 2, value: 7,"))
        result = run(*build, env=env)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("tiny_model.yaml:", result.stdout + result.stderr)
        self.assertIn("heads.group", result.stdout + result.stderr)
        spec.write_text(text)
        self.good(*build, env=env)
        self.assertEqual(self.good(program), before)
        self.assertRegex(self.good(source / "build/reads_specs", spec), KERNELS_AND_NO_DRAFTS)

    def test_bad_arguments_die_early_with_the_legal_ones(self):
        good = 'SPECS "my specs/tiny_model.yaml" TARGETS avx512bf16'
        cases = [
            ('k SPEC x.yaml TARGETS avx512bf16', ["unknown arguments: SPEC x.yaml", "SPECS, TARGETS, OPERATIONS"]),
            ('k TARGETS avx512bf16', ["SPECS is missing", "RANKS, BUNDLE"]),
            ('k SPECS "my specs/tiny_model.yaml"', ["TARGETS is missing"]),
            ("k " + good + " BUNDLE", ["no value for BUNDLE"]),
            ("k " + good + " RANKS two", ["RANKS takes a positive number, not two"]),
            ('k SPECS "my specs/tiny_model.yaml" TARGETS sm_20', ["unknown target sm_20", "sm_90a, ", "avx512bf16", "or all"]),
            ("k " + good + " OPERATIONS decoding", ["unknown operation decoding", "decode, decode_spec"]),
            ('k SPECS missing/a.yaml TARGETS avx512bf16', ["no spec", "missing/a.yaml"]),
            ('k-1 ' + good, ["letters, digits and _"]),
            ('consumer ' + good, ["there is a target of this name"]),
        ]
        source = self.project("bad")
        lists = source / "CMakeLists.txt"
        base = lists.read_text()
        for arguments, words in cases:
            with self.subTest(arguments):
                lists.write_text(base + f"gdn_gen_add_library({arguments})\n")
                result = run(*self.configure(source, GENERATORS[0]))
                self.assertNotEqual(result.returncode, 0)
                message = " ".join(result.stderr.split())
                for word in words + ["gdn_gen_add_library("]:
                    self.assertIn(word, message)

    def test_the_legal_targets_are_those_of_the_tool(self):
        config = (self.prefix / "lib/cmake/gdn_gen/gdn_gen-config.cmake")
        if not config.exists():
            config = next(self.prefix.rglob("gdn_gen-config.cmake"))
        lines = config.read_text().splitlines()
        for name, option in [("GDN_GEN_TARGETS", "--target"), ("GDN_GEN_OPERATIONS", "--operation")]:
            listed = next(line for line in lines if line.startswith(f"set({name} "))[len(name) + 5:-1].split(";")
            result = run(self.prefix / "bin/gdn-gen", "emit", "qwen3_next_80b", option, "no_such_thing",
                         cwd=self.prefix / "share/gdn_gen")
            self.assertEqual(result.returncode, 2)
            self.assertEqual(result.stderr.split(" are ")[1].split(), listed)

    def test_another_version_is_not_taken(self):
        source = self.project("versions")
        lists = source / "CMakeLists.txt"
        lists.write_text(lists.read_text().replace("gdn_gen 0.1 ", "gdn_gen 7.0 "))
        result = run(*self.configure(source, GENERATORS[0]))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("7.0", result.stderr)

    def test_a_tool_of_the_host_can_be_named_for_a_cross_build(self):
        source = self.project("cross")
        tool = self.folder / "host-gdn-gen"
        tool.write_text(f'#!/bin/sh\ntouch "{self.folder}/ran"\nexec "{self.prefix}/bin/gdn-gen" "$@"\n')
        tool.chmod(0o700)
        self.good(*self.configure(source, GENERATORS[0], f"-DGDN_GEN_EXECUTABLE={tool}"))
        self.good("cmake", "--build", source / "build", "--target", "consumer", env={"GDN_CACHE_DIR": str(self.folder / "cache")})
        self.assertTrue((self.folder / "ran").exists())

    def test_pkg_config_is_enough_to_compile_and_run(self):
        if shutil.which("pkg-config") is None:
            print("[SKIP] pkg-config: it is not installed")
            return
        pkgconfig = next(self.prefix.rglob("gdn.pc")).parent
        env = {"PKG_CONFIG_PATH": str(pkgconfig)}
        version = self.good("pkg-config", "--modversion", "gdn", env=env).strip()
        self.assertRegex(version, r"^\d+\.\d+\.\d+$")
        # A prefix with a space needs a shell that reads the escapes.
        program = self.folder / "reads_specs"
        source = ROOT / "tests/integration/package/reads_specs.c"
        command = f"cc '{source}' -o '{program}' $(pkg-config --cflags --libs gdn_jit)"
        self.good("sh", "-c", "eval \"" + command.replace('"', '\\"') + "\"", env=env)
        library = next(self.prefix.rglob("libgdn.so")).parent
        output = self.good(program, ROOT / "specs/qwen3_next_80b.yaml", env={"LD_LIBRARY_PATH": str(library)})
        self.assertRegex(output, KERNELS_AND_NO_DRAFTS)


if __name__ == "__main__":
    unittest.main()
