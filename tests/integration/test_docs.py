"""What the README quotes is what the project has: links, a line of a spec, lines of an emitted file, [SKIP] texts."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "specs/TUTORIAL.md", "tests/bench/RESULTS.md", "tests/bench/NOTES.md"]
PAGES += [str(page.relative_to(ROOT)) for page in sorted((ROOT / "tests/bench/notes").glob("*.md"))]


def squeezed(text):
    return {re.sub(r"\s+", " ", line).strip() for line in text.splitlines()}


class Docs(unittest.TestCase):
    def setUp(self):
        self.readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_links_lead_somewhere(self):
        for page in PAGES:
            text = (ROOT / page).read_text(encoding="utf-8")
            for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
                if "://" not in target:
                    with self.subTest(page=page, target=target):
                        self.assertTrue(((ROOT / page).parent / target).exists())

    def test_the_quoted_spec_and_emitted_file_say_so(self):
        spec = (ROOT / "specs/qwen3_next_80b.yaml").read_text(encoding="utf-8")
        quoted = re.search(r"^```yaml\n(.*?)^```$", self.readme, re.MULTILINE | re.DOTALL).group(1)
        self.assertIn(quoted.strip(), spec)
        emitted = squeezed((ROOT / "generated/cuda/gdn_qwen3_next_80b_decode_sm_90a.cu").read_text(encoding="utf-8"))
        quoted = re.search(r"^```cpp\n(struct InputV.*?)^```$", self.readme, re.MULTILINE | re.DOTALL).group(1)
        lines = {line for line in squeezed(quoted) if line and "..." not in line}  # "..." stands for the rest of a line
        self.assertGreater(len(lines), 6)
        self.assertEqual(lines - emitted, set())

    def test_every_skip_is_explained(self):
        # A reason is fixed text up to the first inserted value.
        pattern = re.compile(r"\[SKIP\] ([^\"{%\\]+)")
        skips = set()
        for path in sorted((ROOT / "tests").rglob("*")):
            if path.suffix in (".cpp", ".h"):
                for line in path.read_text(encoding="utf-8").splitlines():
                    if not line.lstrip().startswith("//"):
                        skips.update(reason.strip() for reason in pattern.findall(line))
        self.assertGreaterEqual(len(skips), 3)
        for reason in sorted(skips):
            with self.subTest(reason):
                self.assertIn(f"[SKIP] {reason}", self.readme)


if __name__ == "__main__":
    unittest.main()
