"""The page of explain in a real browser: what lies under the pointer, at a phone's width, light and dark."""

import os
import pathlib
import random
import re
import subprocess
import tempfile
import unittest

import browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ["GDN_GEN"]
PHONE = {"width": 390, "height": 844, "phone": True}
DESK = {"width": 1200, "height": 900}


def gdn_gen(*arguments):
    result = subprocess.run([GDN_GEN, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        raise AssertionError(result.stderr)
    return result.stdout


class Strides:
    """Where the elements of a spec's tensors lie, by the strides that dump prints; written without the page's code."""

    def __init__(self, spec):
        text = gdn_gen("dump", spec)
        pairing = re.search(r"pairing: (\w+)", gdn_gen("dump", spec, "--stage", "spec"))[1]
        self.key_heads = int(re.search(r"heads:\n  key: (\d+)", gdn_gen("dump", spec, "--stage", "spec"))[1])
        self.group = int(re.search(r"heads:\n  key: \d+\n  value: (\d+)", gdn_gen("dump", spec, "--stage", "spec"))[1]) // self.key_heads
        self.grouped = pairing == "grouped"
        self.tensors, parts = {}, None
        for line in text.splitlines():
            if found := re.match(r"([\w.]+): (?:bf16|fp16|fp32) ", line):
                parts = self.tensors.setdefault(found[1], {})
            elif found := re.match(r"  part (\w+): offset (\d+)(.*)", line):
                axes = {name: (int(size), int(stride)) for name, size, stride in re.findall(r"(\w+)\[(\d+)\] \* (\d+)", found[3])}
                parts[found[1]] = (int(found[2]), axes)

    def address(self, path, says):
        """The offset of the element that a text such as "v value head 2 (reads key head 1) value channel 76" names."""
        section, name = path.split(".", 1)
        parts = self.tensors[path if section == "handover" else name]
        words = says.split()[0]
        offset, axes = parts[words]
        at = {}
        for axis, pattern in (("key_head", r"^\w+ key head (\d+)"), ("value_head", r"value head (\d+)"), ("key_dim", r"key channel (\d+)"),
                              ("value_dim", r"value channel (\d+)"), ("tap", r"tap (\d+)")):
            if found := re.search(pattern, says):
                at[axis] = int(found[1])
        if "value_head" in at:
            head = at["value_head"]
            key = head // self.group if self.grouped else head % self.key_heads
            if f"(reads key head {key})" not in says:
                raise AssertionError(f"value head {head} reads key head {key}: {says}")
            if "group" in axes:
                at["key_head"], at["group"] = key, head % self.group if self.grouped else head // self.key_heads
        for axis, (size, stride) in axes.items():
            if not 0 <= at[axis] < size:
                raise AssertionError(f"{axis} has {size} entries: {says}")
            offset += at[axis] * stride
        return offset


def contrast(first, second):
    """WCAG's ratio of two colours "rgb(r, g, b)"."""
    def luminance(color):
        linear = []
        for part in re.findall(r"[\d.]+", color)[:3]:
            value = float(part) / 255
            linear.append(value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if browser.PROGRAM is None:
            print("[SKIP] no chromium here: the page of explain is not opened")
            raise unittest.SkipTest("no chromium")
        folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        cls.addClassCleanup(folder.cleanup)
        cls.home = pathlib.Path(folder.name)
        cls.browser = browser.Browser(folder.name)
        cls.addClassCleanup(cls.browser.__exit__, None, None, None)

    def open(self, spec, fragment="", **window):
        path = self.home / (re.sub(r"\W", "_", spec) + ".html")
        if not path.exists():
            gdn_gen("explain", spec, "--html", path)
        page = self.browser.open(f"file://{path}{fragment}", **window)
        self.addCleanup(page.close)
        self.assertEqual(page.errors(), [])
        return page

    def says(self, page, tensor):
        return page.evaluate(f"document.querySelector('[data-tensor=\"{tensor}\"] output').textContent")

    def strips(self, page, tensor):
        """[left, top, width, height, first element, elements] of each strip of a tensor, scrolled into the window."""
        return page.evaluate(f"""(() => {{
            const home = document.querySelector('[data-tensor="{tensor}"]'); home.scrollIntoView();
            return [...home.querySelectorAll('svg')].map(svg => {{
              const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
              return [box.left, box.top, box.width, box.height, view.x, view.width]; }}); }})()""")

    def point_at(self, page, tensor, element, by=None):
        """Points at an element, strip by strip; each but the last is clicked (or tapped), so that the next holds still."""
        for level in range(len(self.strips(page, tensor))):
            strips = self.strips(page, tensor)
            left, top, width, height, first, size = strips[level]
            self.assertTrue(first <= element < first + size, f"{tensor}[{element}] is not in strip {level}: {first} and {size} more")
            x, y = min(left + (element - first + 0.5) / size * width, left + width - 0.6), top + height / 2
            if by is None and level + 1 == len(strips):
                page.move(x, y)
            else:
                (by or page.click)(x, y)

    def test_it_names_the_element_of_a_link(self):
        # Elements of interleaved, flat, strided and state tensors, by hand.
        cases = [("qwen3_next_80b", "inputs.qkvz", 1100, "v value head 2 (reads key head 1) value channel 76 (byte 2200)"),
                 ("qwen3_5_27b", "inputs.qkvz", 10239, "v value head 47 (reads key head 15) value channel 127 (byte 20478)"),
                 ("qwen3_next_80b", "pools.conv_state", 8193, "q key head 0 key channel 1 tap 1 (byte 16386)"),
                 ("qwen3_5_27b", "pools.state", 16385, "state value head 1 (reads key head 0) key channel 1 value channel 0 (byte 32770)"),
                 ("qwen3_5_27b+llama_cpp", "inputs.b", 17, "b value head 17 (reads key head 1) (byte 68)")]
        for spec, tensor, element, says in cases:
            with self.subTest(f"{tensor}[{element}]"):
                page = self.open(spec, f"#{tensor}:{element}", **DESK)
                self.assertEqual(self.says(page, tensor), says)
                self.point_at(page, tensor, element)
                self.assertEqual(self.says(page, tensor), says)

    def test_any_element_of_any_tensor_can_be_pointed_at(self):
        chance = random.Random(42880)
        for spec, window in [("qwen3_next_80b", PHONE), ("qwen3_5_27b+vllm_ds", DESK), ("qwen3_5_27b+llama_cpp", PHONE), ("olmo_hybrid_7b", PHONE)]:
            strides, page = Strides(spec), self.open(spec, **window)
            for tensor, elements, size in page.evaluate("layer.tensors.map(t => [t.path, t.inner, t.bytes])"):
                for element in {0, elements - 1, chance.randrange(elements), chance.randrange(elements)}:
                    with self.subTest(f"{spec} {tensor}[{element}]"):
                        self.point_at(page, tensor, element)
                        says = self.says(page, tensor)
                        self.assertEqual(strides.address(tensor, says), element, says)
                        self.assertTrue(says.endswith(f"(byte {element * size})"), says)
            self.assertEqual(page.errors(), [])

    def test_fingers_and_typing(self):
        page = self.open("qwen3_next_80b", **PHONE)
        self.point_at(page, "inputs.qkvz", 1100, by=page.tap)
        self.assertIn("v value head 2 (reads key head 1) value channel 76", self.says(page, "inputs.qkvz"))
        for typed, says in [("524287", "state value head 31 (reads key head 15) key channel 127 value channel 127 (byte 2097148)"),
                            ("524288", "offsets are 0 to 524287"), ("", "offsets are 0 to 524287")]:
            with self.subTest(typed):
                page.evaluate("(() => { const input = document.querySelector('[data-tensor=\"pools.state\"] input');"
                              f"input.value = '{typed}'; input.dispatchEvent(new Event('input')); }})()")
                self.assertEqual(self.says(page, "pools.state"), says)

    def test_a_strip_is_to_scale(self):
        page = self.open("qwen3_next_80b", **DESK)
        drawn = page.evaluate("""[...document.querySelectorAll('[data-tensor="inputs.qkvz"] svg')[0].querySelectorAll('g rect')].map(r => r.getBoundingClientRect().width)""")
        whole = sum(drawn)
        self.assertEqual(len(drawn), 16 * 6)
        for width, elements in zip(drawn, [128, 128, 128, 128, 128, 128] * 16):
            self.assertAlmostEqual(width / whole, elements / 12288, delta=0.002)
        # q and k of 96 channels, v and z of 192.
        page = self.open("olmo_hybrid_7b", **DESK)
        widths = page.evaluate("""[...document.querySelectorAll('[data-tensor="pools.conv_state"] svg')].length""")
        self.assertGreaterEqual(widths, 2)

    def test_nothing_is_wider_than_a_phone(self):
        for spec in ("qwen3_next_80b", "qwen3_5_27b", "olmo_hybrid_7b", "qwen3_5_122b_a10b+llama_cpp", "tests/fuzz/fuzz_orders.yaml"):
            with self.subTest(spec):
                page = self.open(spec, **PHONE)
                self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), PHONE["width"])
                wide = page.evaluate("[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + .5"
                                     " || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display === 'block').map(e => e.outerHTML.slice(0, 80))")
                self.assertEqual(wide, [])
                small = page.evaluate("[...document.querySelectorAll('p, li, code, output, h3')].filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length")
                self.assertEqual(small, 0)

    def test_light_and_dark(self):
        backgrounds = []
        for dark in (False, True):
            page = self.open("qwen3_next_80b", "#inputs.qkvz:1100", dark=dark, **PHONE)
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            backgrounds.append(background)
            texts = page.evaluate("""[...document.querySelectorAll('h1, h2, h3, p, li, code, .legend span, output, input, label')].map(e => {
                let behind = e; while (behind && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
                return [e.tagName, getComputedStyle(e).color, getComputedStyle(behind).backgroundColor]; })""")
            self.assertGreater(len(texts), 100)
            for tag, color, behind in {tuple(text) for text in texts}:
                with self.subTest(dark=dark, tag=tag):
                    self.assertGreater(contrast(color, behind), 4.5, f"{color} on {behind}")
            parts = set(page.evaluate("[...document.querySelectorAll('[data-tensor=\"inputs.qkvz\"] g rect')].map(r => getComputedStyle(r).fill)"))
            self.assertEqual(len(parts), 4)
            for fill in parts:
                with self.subTest(dark=dark, fill=fill):
                    self.assertGreater(contrast(fill, background), 1.6)
        self.assertGreater(contrast("rgb(255, 255, 255)", backgrounds[1]), 12)
        self.assertLess(contrast("rgb(255, 255, 255)", backgrounds[0]), 1.1)


if __name__ == "__main__":
    unittest.main()
