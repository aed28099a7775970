"""The examples in C, C++ and Python do the same and print the same.

GDN_LIBRARY, GDN_JIT_LIBRARY, GDN_EXAMPLE_C and GDN_EXAMPLE_CPP name what was built.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {
    "c": [os.environ["GDN_EXAMPLE_C"]],
    "c++": [os.environ["GDN_EXAMPLE_CPP"]],
    "python": [sys.executable, "-B", str(ROOT / "runtime/examples/decode.py")],
}
UNSUPPORTED = 4


def run(language, *arguments):
    with tempfile.TemporaryDirectory() as folder:  # an example must not need the source folder
        return subprocess.run(PROGRAMS[language] + list(arguments), cwd=folder, capture_output=True, text=True, timeout=240,
                              check=False)


class Examples(unittest.TestCase):

    def test_examples_agree(self):
        spec = str(ROOT / "tests/fuzz/fuzz_gdn.yaml")
        place = "simt" if run("c", spec, "cpu").returncode == UNSUPPORTED else "cpu"
        outputs = {}
        for language in PROGRAMS:
            result = run(language, spec, place)
            self.assertEqual(result.returncode, 0, f"{language}: {result.stdout}{result.stderr}")
            outputs[language] = result.stdout.splitlines()
        lines = outputs["c"]
        self.assertEqual([line.split()[0] for line in lines[1:3]], ["out", "state"])
        self.assertTrue(lines[0].startswith("gdn_fuzz_gdn_decode_"))
        self.assertEqual(lines[3], "another layout: layout_mismatch")
        self.assertNotEqual(lines[1].split()[1], lines[2].split()[1])
        for language, output in outputs.items():
            self.assertEqual(output, lines, language)

    def test_fp16_and_other_orders(self):
        spec = str(ROOT / "tests/fuzz/fuzz_interleaved_tiled_kv_fp16_fp16.yaml")
        first = run("c", spec, "cpu")
        if first.returncode == UNSUPPORTED:
            self.skipTest("[SKIP] this processor runs no CPU target")
        self.assertEqual(first.returncode, 0, first.stderr)
        for language in PROGRAMS:
            self.assertEqual(run(language, spec, "cpu").stdout, first.stdout, language)

    def test_what_is_missing_is_said(self):
        spec = str(ROOT / "tests/fuzz/fuzz_gdn.yaml")
        for language in PROGRAMS:
            self.assertNotEqual(run(language).returncode, 0)
            missing = run(language, "no_such.yaml")
            self.assertEqual(missing.returncode, 1, language)
            self.assertIn("no_such.yaml", missing.stdout + missing.stderr)
            self.assertNotEqual(run(language, spec, "moon").returncode, 0, language)


if __name__ == "__main__":
    unittest.main()
