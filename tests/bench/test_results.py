"""The page of results shows what the files say, refuses what cannot be true, and notices that it is out of date."""

import copy
import json
import pathlib
import tempfile
import unittest

import results

GOOD = {
    "format": 1, "commit": "0123abc", "command": "gdn-gen bench qwen3_next_80b --on cuda", "device": "Some GPU",
    "date": "2026-01-02", "gb_per_s": 4000.0,
    "rows": [{
        "spec": "qwen3_next_80b", "operation": "decode", "target": "sm_90a", "on": "cuda", "batch": 64, "state_dtype": "fp32",
        "time_us": 100.0, "bytes": 200000000, "gb_per_s": 2000.0, "floor_us": 50.0, "ratio": 2.0,
    }],
}


def changed(key, value, in_row=True):
    file = copy.deepcopy(GOOD)
    target = file["rows"][0] if in_row else file
    if value is None:
        del target[key]
    else:
        target[key] = value
    return file


class Results(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "results").mkdir()

    def write(self, file):
        (self.folder / "results" / "one.json").write_text(json.dumps(file))

    def run_tool(self, *arguments):
        return results.main([*arguments, "--folder", str(self.folder)])

    def test_a_page_is_current_until_its_files_or_its_text_change(self):
        self.write(GOOD)
        self.assertEqual(self.run_tool("--check"), 1)
        self.assertEqual(self.run_tool(), 0)
        self.assertEqual(self.run_tool("--check"), 0)
        self.assertIn("| qwen3_next_80b | decode | sm_90a on cuda | fp32 | 64 | 100 | 2000 | 50 | 2.00 |",
                      (self.folder / "RESULTS.md").read_text())
        self.write(changed("commit", "fedcba9", in_row=False))
        self.assertEqual(self.run_tool("--check"), 1)
        self.write(GOOD)
        (self.folder / "RESULTS.md").write_text("better numbers\n")
        self.assertEqual(self.run_tool("--check"), 1)

    def test_what_cannot_be_true_is_refused_and_leaves_the_page_alone(self):
        cases = {
            "ratio is": changed("ratio", 1.1),
            "gb_per_s is": changed("gb_per_s", 3000.0),
            "floor_us is": changed("floor_us", 90.0),
            "zero time": changed("time_us", 0),
            "text for a number": changed("time_us", "100"),
            "true for a number": changed("batch", True),
            "missing key": changed("state_dtype", None),
            "unknown key": changed("speedup", 9.0),
            "other format": changed("format", 2, in_row=False),
            "no rows": changed("rows", [], in_row=False),
            "commit not given": changed("commit", "not given", in_row=False),
            "no commit": changed("commit", None, in_row=False),
        }
        for name, file in cases.items():
            with self.subTest(name):
                self.write(file)
                self.assertEqual(self.run_tool(), 1)
                self.assertFalse((self.folder / "RESULTS.md").exists())

    def test_a_file_that_is_not_json_is_refused(self):
        (self.folder / "results" / "one.json").write_text("{")
        self.assertEqual(self.run_tool(), 1)


if __name__ == "__main__":
    unittest.main()
