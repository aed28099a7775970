"""The commands of specs/TUTORIAL.md do what the tutorial says.

Its ```sh blocks run one after the other, each in a shell of its own, in a folder that holds a copy of specs/, with
gdn-gen on the PATH. A block must succeed; one that starts with the comment "# fails" must not, and then its message
counts as its output. When a ```text block follows, the output must hold its lines in their order; a line "..." there
stands for any lines between.

GDN_GEN names the program to test.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "specs/TUTORIAL.md"


def fenced_blocks(text):
    """(kind, first line's number, contents) of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match.group(1), text.count("\n", 0, match.start()) + 2, match.group(2)


def lines_missing(expected, output):
    """The first expected line that the output lacks, or None. Expected lines are looked for in order."""
    rest = [line.rstrip() for line in output.splitlines()]
    adjacent = False
    for line in expected.splitlines():
        line = line.rstrip()
        if line == "...":
            adjacent = False
            continue
        if line not in rest or (adjacent and rest[0] != line):
            return line
        rest = rest[rest.index(line) + 1:]
        adjacent = True
    return None


class Tutorial(unittest.TestCase):
    def test_expected_lines_must_be_there_in_order(self):
        self.assertIsNone(lines_missing("b\nc\n...\ne\n", "a\nb\nc\nd\ne\n"))
        self.assertEqual(lines_missing("b\nd\n", "a\nb\nc\nd\n"), "d")
        self.assertEqual(lines_missing("c\n...\nb\n", "a\nb\nc\n"), "b")
        self.assertEqual(lines_missing("x\n", ""), "x")

    def test_every_command_does_what_the_text_says(self):
        program = pathlib.Path(os.environ["GDN_GEN"])
        blocks = list(fenced_blocks(TUTORIAL.read_text(encoding="utf-8")))
        commands = [block for block in blocks if block[0] == "sh"]
        self.assertGreaterEqual(len(commands), 5, "the tutorial has lost its commands")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "specs", pathlib.Path(folder) / "specs")
            path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
            output = ""
            for kind, line, text in blocks:
                with self.subTest(f"TUTORIAL.md:{line}"):
                    if kind == "sh":
                        result = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env={**os.environ, "PATH": path},
                                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                                text=True, timeout=300, check=False)
                        output = result.stdout
                        self.assertEqual(result.returncode != 0, text.startswith("# fails"), output)
                    elif kind == "text":
                        self.assertIsNone(lines_missing(text, output), f"not in the output, which is:\n{output}")


if __name__ == "__main__":
    unittest.main()
