"""gdn-gen build and gdn-gen emit --standalone, as a person or a makefile calls them.

GDN_GEN is the program. The compilers are those of this machine: a missing nvcc is said and skipped, a missing clang is a
failure, as in the compile tests.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ.get("GDN_GEN", "gdn-gen")
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
CLANG = next(filter(None, map(shutil.which, ["clang++-19", "clang++-20", "clang++-21", "clang++-22"])), None)
UNVERIFIED = "specs/more/qwen3_5_2b.yaml"


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_gen(self, *arguments, status=0, **environment):
        env = dict(os.environ, GDN_CACHE_DIR=str(self.folder / "cache"), **environment)
        result = subprocess.run([GDN_GEN, *map(str, arguments)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result


class Build(InFolder):
    def test_a_bundle_is_reproducible_and_the_second_build_comes_from_the_cache(self):
        first, second = self.folder / "a.gdnb", self.folder / "b.gdnb"
        arguments = ["build", "qwen3_next_80b", "qwen3_5_27b", "--target", "gfx942,avx512bf16", "--operation", "decode,gating"]
        result = self.run_gen(*arguments, "--bundle", first)
        self.assertIn("8 kernels", result.stdout)
        self.assertIn("[4/4]", result.stderr)
        self.assertNotIn("cached", result.stderr)
        result = self.run_gen(*arguments, "--bundle", second, GDN_JIT="off")
        self.assertEqual(result.stderr.count("cached"), 4)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.assertEqual(first.read_bytes()[:8], b"GDNBNDL\n")
        self.assertNotIn(str(self.folder).encode(), first.read_bytes())
        result = self.run_gen(*arguments, "--bundle", second, "--no-cache", "--quiet")
        self.assertEqual((result.stdout, result.stderr), ("", ""))
        self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_a_current_bundle_is_not_written_again(self):
        bundle = self.folder / "a.gdnb"
        arguments = ["build", "qwen3_next_80b", "--target", "avx512bf16", "--bundle", bundle]
        self.run_gen(*arguments)
        os.utime(bundle, (1, 1))
        self.run_gen(*arguments)
        self.assertEqual(bundle.stat().st_mtime, 1)

    def test_the_depfile_names_specs_and_overlays(self):
        spec = self.folder / "a folder" / "qwen3_next_80b.yaml"
        spec.parent.mkdir()
        shutil.copy(ROOT / "specs/qwen3_next_80b.yaml", spec)
        bundle, depfile = self.folder / "a.gdnb", self.folder / "a.d"
        self.run_gen("build", spec, "--target", "avx512bf16", "--bundle", bundle, "--depfile", depfile)
        self.assertEqual(depfile.read_text(), f"{bundle}: \\\n  {str(spec).replace(' ', chr(92) + ' ')}\n")
        overlay = ROOT / "specs/engines/vllm_sd.yaml"
        self.run_gen("build", "qwen3_5_27b+vllm_sd", "--target", "avx512bf16", "--operation", "gating", "--bundle", bundle, "--depfile", depfile)
        self.assertIn(str(ROOT / "specs/qwen3_5_27b.yaml"), depfile.read_text())
        self.assertIn(str(overlay), depfile.read_text())

    def test_unverified_values_are_not_compiled_in_unasked(self):
        bundle = self.folder / "a.gdnb"
        arguments = ["build", UNVERIFIED, "--target", "avx512bf16", "--bundle", bundle]
        result = self.run_gen(*arguments, status=1)
        self.assertIn("--allow-unverified", result.stderr)
        self.assertIn("heads.key", result.stderr)
        self.assertFalse(bundle.exists())
        self.run_gen(*arguments, "--allow-unverified")
        self.assertTrue(bundle.exists())

    def test_what_cannot_be_built_leaves_no_bundle(self):
        bundle = self.folder / "a.gdnb"
        broken = self.folder / "clang++"
        broken.write_text("#!/bin/sh\ncase \"$*\" in *fsyntax-only*) exit 0;; esac\necho 'no luck today' >&2\nexit 1\n")
        broken.chmod(0o700)
        cases = [(["--target", "sm_20"], {}, 2, "unknown target sm_20"), (["--target", "gfx942", "--operation", "x"], {}, 2, "x"),
                 ([], {}, 2, "--target"), (["--target", "gfx942"], {"GDN_CLANG": str(broken)}, 1, "no luck today"),
                 (["--target", "sm_90a"], {"GDN_NVRTC": "/nonexistent/libnvrtc.so"}, 1, "/nonexistent/libnvrtc.so"),
                 (["--target", "gfx942"], {"GDN_CLANG": "/nonexistent/clang", "GDN_HIPRTC": "/nonexistent/hiprtc"}, 4,
                  "/nonexistent/clang"),
                 (["--target", "avx512bf16", "--jobs", "0"], {}, 2, "jobs")]
        for arguments, environment, status, words in cases:
            with self.subTest(arguments=arguments, environment=environment):
                result = self.run_gen("build", "qwen3_next_80b", "--bundle", bundle, *arguments, status=status, **environment)
                self.assertIn(words, result.stderr)
                self.assertFalse(bundle.exists())
        self.run_gen("build", "qwen3_next_80b", "--target", "avx512bf16", "--bundle", "/proc/nowhere/a.gdnb", status=1)
        self.run_gen("build", "qwen3_next_80b", "--target", "avx512bf16", status=2)


class Standalone(InFolder):
    def sources(self, target):
        out = self.folder / "out"
        self.run_gen("emit", "qwen3_next_80b", "qwen3_5_27b", "--standalone", "--target", target, "--out", out)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        self.assertEqual(len(files), 18)
        for file in files:
            # Nothing is left to be found on an include path, and no header stands there twice.
            lines = file.read_text().splitlines()
            self.assertEqual([line for line in lines if line.startswith(("#include", "#pragma once"))], [])
            begins = [line for line in lines if line.startswith("// ---- gdn/")]
            self.assertEqual(len(begins), len(set(begins)))
            self.assertIn("// ---- gdn/config.h", begins)
        return files

    def compile(self, command, file):
        result = subprocess.run([*command, str(file), "-o", str(self.folder / "kernel.o")], cwd=self.folder, capture_output=True,
                                text=True, timeout=300, check=False)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""), file.name)
        self.assertIn(file.stem.encode(), (self.folder / "kernel.o").read_bytes())

    def test_nvcc_compiles_each_file_alone(self):
        if NVCC is None:
            print("[SKIP] standalone sources with nvcc: no nvcc on PATH or in /usr/local/cuda")
            return
        for file in self.sources("sm_90a")[:6]:
            with self.subTest(file.name):
                self.compile([NVCC, "-std=c++17", "-arch=sm_90a", "-cubin"], file)

    def test_clang_compiles_each_file_alone(self):
        self.assertIsNotNone(CLANG, "no clang: see generator/setup.sh")
        for file in self.sources("gfx942"):
            with self.subTest(file.name):
                self.compile([CLANG, "-x", "hip", "--offload-device-only", "--no-gpu-bundle-output", "-nogpuinc", "-nogpulib",
                              "--offload-arch=gfx942", "-O2", "-std=c++17", "-Wall", "-Werror", "-c"], file)

    def test_a_cpu_kernel_cannot_stand_alone_and_all_means_the_gpus(self):
        result = self.run_gen("emit", "qwen3_next_80b", "--standalone", "--target", "avx512bf16", "--out", self.folder, status=1)
        self.assertIn("can't stand alone", result.stderr)
        result = self.run_gen("emit", "qwen3_next_80b", "--standalone", "--list")
        self.assertNotIn("cpu/", result.stdout)
        self.assertNotIn("manifest", result.stdout)
        self.assertIn("cuda/gdn_qwen3_next_80b_decode_sm_90a.cu", result.stdout)


if __name__ == "__main__":
    unittest.main()
