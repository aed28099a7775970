"""What a reviewer runs: diff with its exit codes, names with overlays and ranks, and the page of explain in a browser."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ["GDN_GEN"]
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def gdn_gen(*arguments, cwd=ROOT):
    return subprocess.run([GDN_GEN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


class Diff(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.spec = ROOT / "specs" / "qwen3_next_80b.yaml"

    def changed(self, old, new):
        text = self.spec.read_text()
        self.assertIn(old, text)
        path = pathlib.Path(self.folder.name) / self.spec.name
        path.write_text(text.replace(old, new, 1))
        return str(path)

    def test_exit_codes(self):
        cases = [("# [E] vLLM SD", "# another comment", 0),
                 ("state: {dtype: fp32", "state: {dtype: bf16", 1),
                 ("value_dim, key_dim]", "key_dim, value_dim]", 3),
                 ("gate: silu", "gate: sigmoid", 3),
                 ("value: 32 ", "value: 33 ", 4)]
        for old, new, code in cases:
            with self.subTest(new):
                result = gdn_gen("diff", str(self.spec), self.changed(old, new))
                self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertEqual(gdn_gen("diff", str(self.spec), "no/such.yaml").returncode, 4)
        self.assertEqual(gdn_gen("diff", str(self.spec)).returncode, 2)

    def test_a_bad_spec_is_told_with_its_place(self):
        result = gdn_gen("diff", str(self.spec), self.changed("value: 32 ", "value: 33 "))
        self.assertIn("qwen3_next_80b.yaml:14:10: error: heads.value = 33 is not a multiple", result.stderr)

    def test_it_is_fast(self):
        started = time.monotonic()
        result = gdn_gen("diff", "qwen3_5_27b", "qwen3_5_35b_a3b")
        self.assertEqual(result.returncode, 3)
        self.assertLess(time.monotonic() - started, 1)  # 20 ms on an idle machine


class Names(unittest.TestCase):
    def test_aliases_overlays_and_refusals(self):
        cases = [("qwen3_6_27b", 0, "spec: qwen3_5_27b\n"), ("qwen3_5_9b", 0, "spec: qwen3_5_35b_a3b\n"),
                 ("qwen3_8_flash_next", 0, "spec: qwen3_8_flash_next\n"),
                 ("qwen3_5_27b+vllm_ds", 0, "spec: qwen3_5_27b_vllm_ds\n"),
                 ("qwen3_5_27b+vllm_ds+vllm_lora", 0, "spec: qwen3_5_27b_vllm_ds_vllm_lora\n"),
                 ("qwen3_8_flash_next+specs/engines/sglang.yaml", 0, "spec: qwen3_8_flash_next_sglang\n"),
                 ("jet_nemotron_2b", 1, "a conv with fixed weights is another function"),
                 ("minimax_m1", 1, "no delta rule"), ("kimi_k3", 1, "a decay per key channel"),
                 ("nothing", 4, "no spec nothing"), ("qwen3_5_27b+nothing", 4, "there are flashinfer llama_cpp"),
                 ("qwen3_5_27b+", 2, "ends in '+'")]
        for name, code, words in cases:
            with self.subTest(name):
                result = gdn_gen("dump", name)
                self.assertEqual(result.returncode, code)
                self.assertIn(words, result.stdout if code == 0 else result.stderr)

    def test_other_names_have_layers_of_their_own(self):
        for name, count, linear in [("qwen3_5_4b", 32, 24), ("qwen3_5_9b", 32, 24), ("qwen3_5_397b_a17b+vllm_ds", 60, 45), ("qwen3_6_27b", 64, 48)]:
            with self.subTest(name):
                text = gdn_gen("dump", name, "--stage", "spec").stdout
                self.assertIn(f"  count: {count}\n", text)
                self.assertEqual(len(re.search(r"  list: \[([^]]*)\]", text)[1].split(",")), linear)

    def test_names_of_ggufs(self):
        for name, pairing in [("qwen3_5_35b_a3b_gguf", "tiled"), ("qwen3_5_27b_gguf", "tiled"), ("qwen3_next_80b_gguf", "grouped"),
                              ("gigachat3_5_432b_a28b_gguf", "grouped")]:
            with self.subTest(name):
                text = gdn_gen("dump", name, "--stage", "spec").stdout
                self.assertIn(f"  pairing: {pairing}\n", text)
                self.assertIn("  a_log: negative_exp\n", text)

    def test_rows_of_names_that_say_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            specs = pathlib.Path(folder) / "specs"
            shutil.copytree(ROOT / "specs", specs)
            for row in ("alias a", "alias a qwen3_5_27b of 4", "alias a qwen3_5_27b layers of 4: 0 4", "alias a qwen3_5_27b layers of 4: 1 1",
                        "alias a qwen3_5_27b layers of 4:", "alias a qwen3_5_27b layers of 4: 0 x", "refuse a", "name a b"):
                with self.subTest(row):
                    (specs / "names.txt").write_text(row + "\n")
                    result = gdn_gen("dump", "b", cwd=folder)
                    self.assertEqual(result.returncode, 1)
                    self.assertIn("specs/names.txt:1: write `alias NAME SPEC`", result.stderr)

    def test_every_alias_has_a_spec_and_no_refused_name_has_one(self):
        for line in (ROOT / "specs" / "names.txt").read_text().splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            with self.subTest(line):
                self.assertIn(words[0], ("alias", "refuse"))
                self.assertFalse(any((ROOT / "specs" / sub / (words[1] + ".yaml")).exists() for sub in (".", "more")))
                self.assertEqual(gdn_gen("lint", words[1]).returncode, 0 if words[0] == "alias" else 1)

    def test_ranks(self):
        result = gdn_gen("dump", "qwen3_5_27b", "--tp", "4")
        self.assertEqual(result.returncode, 0)
        self.assertIn("replicated: norm_weight, slots", result.stdout)
        self.assertIn("spec: qwen3_5_27b_tp4", result.stdout)
        for command in (["dump", "olmo_hybrid_7b"], ["emit", "olmo_hybrid_7b", "--list"], ["explain", "olmo_hybrid_7b"],
                        ["verify", "olmo_hybrid_7b"], ["diff", "olmo_hybrid_7b", "olmo_hybrid_7b"]):
            with self.subTest(command):
                result = gdn_gen(*command, "--tp", "4")
                self.assertEqual(result.returncode, 4 if command[0] == "diff" else 1)
                self.assertIn("--tp can be 1, 2, 3, 5, 6, 10, 15, 30", result.stderr)

    def test_a_rank_is_emitted_under_its_own_name(self):
        with tempfile.TemporaryDirectory() as folder:
            result = gdn_gen("emit", "qwen3_5_27b", "--tp", "4", "--target", "sm_90a", "--operation", "decode", "--out", folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            text = (pathlib.Path(folder) / "cuda" / "gdn_qwen3_5_27b_tp4_decode_sm_90a.cu").read_text()
        self.assertIn("from specs/qwen3_5_27b.yaml --tp 4.", text)
        self.assertRegex(text, r"kValueHeads = 12;")


class Verify(unittest.TestCase):
    def test_overlays_and_ranks_against_the_oracle(self):
        for arguments in (["qwen3_5_27b+transformers"], ["qwen3_5_27b+llama_cpp", "--tp", "8"], ["qwen3_5_0_8b+vllm_ds+mtp1"],
                          ["gigachat3_5_432b_a28b"], ["qwen3_8_flash_next+vllm_sd+vllm_quantised", "--tp", "16"]):
            with self.subTest(arguments):
                result = gdn_gen("verify", *arguments, "--steps", "2")
                if "AVX512-BF16" in result.stderr or result.returncode == 4:
                    print("[SKIP]", result.stderr.strip().splitlines()[-1])
                    continue
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                self.assertNotIn("WRONG", result.stdout)


class Lint(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.bad = pathlib.Path(self.folder.name) / "bad, name.yaml"
        text = (ROOT / "specs" / "qwen3_next_80b.yaml").read_text()
        self.bad.write_text(text.replace("value: 32 ", "value: 33 ", 1))

    def test_github_annotations(self):
        result = gdn_gen("lint", "--format", "github", str(self.bad), "qwen3_5_2b")
        self.assertEqual(result.returncode, 1)
        lines = result.stdout.splitlines()
        self.assertTrue(lines[0].startswith("::error file="), lines[0])
        self.assertIn("/bad%2C name.yaml,line=8,col=7,endColumn=21,title=name.file::name = qwen3_next_80b but", lines[0])
        self.assertIn("/bad%2C name.yaml,line=14,col=10,endColumn=12,title=heads.group::heads.value = 33 is not a multiple", lines[1])
        self.assertIn("%0A", lines[1])  # the note, on a line of its own
        self.assertTrue(any(line.startswith("::warning file=specs/more/qwen3_5_2b.yaml,line=12") for line in lines))

    def test_sarif(self):
        result = gdn_gen("lint", "--format", "sarif", str(self.bad), "qwen3_next_80b+vllm_ds")
        self.assertEqual(result.returncode, 1)
        log = json.loads(result.stdout)
        self.assertEqual(log["version"], "2.1.0")
        run = log["runs"][0]
        known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
        found = {entry["ruleId"]: entry for entry in run["results"]}
        self.assertEqual(set(found), {"heads.group", "name.file"})
        self.assertLessEqual(set(found), known)
        region = found["heads.group"]["locations"][0]["physicalLocation"]["region"]
        self.assertEqual(region, {"startLine": 14, "startColumn": 10, "endColumn": 12})
        self.assertEqual(found["heads.group"]["relatedLocations"][0]["physicalLocation"]["region"]["startLine"], 13)

    def test_bytes_of_a_broken_file_do_not_break_the_log(self):
        self.bad.write_bytes(b"gdn_gen: 1\nname: caf\xe9\n")
        for format in ("sarif", "github"):
            with self.subTest(format):
                result = subprocess.run([GDN_GEN, "lint", "--format", format, self.bad], capture_output=True, timeout=60, check=False)
                self.assertEqual(result.returncode, 1)
                text = result.stdout.decode()
                self.assertIn("file.text", text)
                if format == "sarif":
                    json.loads(text)

    def test_a_folder_of_specs_is_fast(self):
        started = time.monotonic()
        self.assertEqual(gdn_gen("lint", "specs", "specs/more").returncode, 0)
        self.assertLess(time.monotonic() - started, 2)  # 20 ms on an idle machine


class SpecReview(unittest.TestCase):
    """The script on a repository made up here: the specs and their tree, and one change."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name)
        for name in ("specs", "generated"):
            shutil.copytree(ROOT / name, self.home / name)
        (self.home / "generator" / "review").mkdir(parents=True)
        shutil.copy(ROOT / "generator/review/spec-review.sh", self.home / "generator/review")
        # The tree as this gdn-gen makes it: whether the checked-in one is current is another test's question.
        gdn_gen("emit", "specs", "--out", "generated", cwd=self.home)
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "base")

    def git(self, *arguments):
        subprocess.run(["git", *arguments], cwd=self.home, check=True, timeout=60)

    def change(self, name, old, new):
        path = self.home / "specs" / name
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))

    def review(self, *arguments):
        environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(self.home / "summary.md")}
        environment.pop("GITHUB_ACTIONS", None)
        return subprocess.run(["bash", str(self.home / "generator/review/spec-review.sh"), "--base", "main", "--gdn-gen", GDN_GEN,
                               *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)

    def test_no_change(self):
        result = self.review()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("Nothing to object to.", result.stdout)

    def test_a_silent_change_has_to_be_looked_at(self):
        self.change("qwen3_next_80b.yaml", "value_dim, key_dim]", "key_dim, value_dim]")
        gdn_gen("emit", "specs", "--out", "generated", cwd=self.home)
        result = self.review()
        self.assertEqual(result.returncode, 3, result.stdout + result.stderr)
        self.assertIn("| **silent** | `pools.state` (moved) |", result.stdout)
        self.assertEqual((self.home / "summary.md").read_text(), result.stdout)
        self.assertEqual(self.review("--allow-silent").returncode, 0)

    def test_a_stale_tree_is_an_error(self):
        self.change("qwen3_next_80b.yaml", "gate: silu", "gate: sigmoid")
        result = self.review()
        self.assertEqual(result.returncode, 1)
        self.assertIn("**generated/ is not what the specs say**", result.stdout)
        self.assertIn("out_norm.gate", result.stdout)  # the difference is shown all the same

    def test_an_overlay_is_compared_on_every_model(self):
        self.change("engines/sglang.yaml", "value_dim, key_dim]", "key_dim, value_dim]")
        result = self.review()
        self.assertEqual(result.returncode, 3, result.stdout + result.stderr)
        for model in ("qwen3_5_27b_sglang", "qwen3_8_flash_next_sglang"):
            self.assertIn(f"### {model}: 1 silent change, 0 visible changes", result.stdout)
        self.assertIn("### olmo_hybrid_7b_sglang: 0 silent changes, 1 visible change", result.stdout)

    def test_a_broken_spec(self):
        self.change("qwen3_next_80b.yaml", "value: 32 ", "value: 33 ")
        result = self.review()
        self.assertEqual(result.returncode, 4, result.stdout + result.stderr)
        self.assertIn("heads.value = 33 is not a multiple", result.stderr)

    def test_usage(self):
        self.assertEqual(self.review("--bogus").returncode, 2)
        self.assertEqual(self.review("--help").returncode, 0)
        self.assertEqual(self.review("--gdn-gen", "no-such-program").returncode, 4)


class Schema(unittest.TestCase):
    def setUp(self):
        try:
            import jsonschema
            import yaml
        except ImportError as missing:
            print("[SKIP]", missing, "(python3-jsonschema, python3-yaml): the schema is not tried on specs")
            self.skipTest(str(missing))

        class Loader(yaml.SafeLoader):
            """YAML 1.2's numbers, as editors read them: 1e-6 is one."""

        Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"), list("-0123456789"))
        self.load = lambda text: yaml.load(text, Loader)
        self.validator = jsonschema.Draft7Validator(json.loads((ROOT / "specs" / "spec.schema.json").read_text()))

    def test_every_spec_fits(self):
        for path in [*ROOT.glob("specs/*.yaml"), *ROOT.glob("specs/more/*.yaml"), *ROOT.glob("tests/fuzz/*.yaml")]:
            with self.subTest(path.name):
                self.assertEqual([error.message for error in self.validator.iter_errors(self.load(path.read_text()))], [])

    def test_mistakes_are_marked(self):
        text = (ROOT / "specs" / "qwen3_next_80b.yaml").read_text()
        for old, new in [("  anchor: first", "  ancor: first"), ("gate: silu", "gate: swish"), ("width: 4", "width: four"),
                         ("dtype: int32", "dtype: int16"), ("{b: [group], a: [group]}", "{b: [group], c: [group]}"),
                         ("tap, channel]", "taps, channel]"), ("rule: gdn\n", "")]:
            with self.subTest(new):
                self.assertIn(old, text)
                self.assertFalse(self.validator.is_valid(self.load(text.replace(old, new, 1))))


class Page(unittest.TestCase):
    def setUp(self):
        if BROWSER is None:
            print("[SKIP] no chromium here: the page of explain is not opened")
            self.skipTest("no chromium")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.home = pathlib.Path(self.folder.name)

    def browse(self, address):
        result = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
                                 "--virtual-time-budget=3000", f"--user-data-dir={self.home}/profile", "--dump-dom", address],
                                capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def page(self, spec):
        path = self.home / "page.html"
        result = gdn_gen("explain", spec, "--html", str(path))
        self.assertEqual(result.returncode, 0, result.stderr)
        return path

    def test_it_names_the_element_at_an_offset(self):
        # Elements of interleaved, flat, strided and state tensors, by hand.
        cases = [("qwen3_next_80b", "inputs.qkvz:1100", "v value head 2 (reads key head 1) value channel 76 (byte 2200)"),
                 ("qwen3_5_27b", "inputs.qkvz:10239", "v value head 47 (reads key head 15) value channel 127 (byte 20478)"),
                 ("qwen3_next_80b", "pools.conv_state:8193", "q key head 0 key channel 1 tap 1 (byte 16386)"),
                 ("qwen3_5_27b", "pools.state:16385", "state value head 1 (reads key head 0) key channel 1 value channel 0 (byte 32770)"),
                 ("qwen3_5_27b+llama_cpp", "inputs.b:17", "b value head 17 (reads key head 1) (byte 68)")]
        for spec, element, says in cases:
            with self.subTest(element):
                dom = self.browse(f"file://{self.page(spec)}#{element}")
                self.assertIn(says, re.sub(r"<[^>]*>", "", dom))

    def test_nothing_is_wider_than_a_phone(self):
        self.page("qwen3_next_80b")
        (self.home / "frame.html").write_text(
            "<iframe id=f src=page.html width=375 height=800></iframe><script>f.onload = () => { const d = f.contentDocument;"
            "document.title = 'wide ' + d.documentElement.scrollWidth + ' drawn ' + d.querySelectorAll('rect').length; };</script>")
        dom = self.browse(f"file://{self.home}/frame.html")
        found = re.search(r"<title>wide (\d+) drawn (\d+)</title>", dom)
        self.assertIsNotNone(found, dom[:500])
        self.assertLessEqual(int(found[1]), 375)
        self.assertGreater(int(found[2]), 500)


if __name__ == "__main__":
    unittest.main()
