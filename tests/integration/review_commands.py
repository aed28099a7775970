"""What a reviewer runs: diff with its exit codes, names with overlays and ranks, lint's formats, the review script."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ["GDN_GEN"]


# What the standard (OASIS SARIF 2.1.0, and its JSON schema) asks of the parts of a log that gdn-gen writes: the type, the
# members that must be there ("!"), and no others. A text may be a pattern; a list holds any number of one kind.
MESSAGE = {"text!": ".+"}
PLACE = {"physicalLocation!": {"artifactLocation!": {"uri!": r"[A-Za-z0-9._~:/%+-]+"}, "region": {"startLine!": int, "startColumn": int, "endColumn": int}},
         "message": MESSAGE}
SARIF = {"$schema": "https://.*sarif.*2.1.0.json", "version!": r"2\.1\.0",
         "runs!": [{"tool!": {"driver!": {"name!": ".+", "version": ".+", "rules": [{"id!": ".+", "shortDescription": MESSAGE}]}},
                    "columnKind": "utf16CodeUnits|unicodeCodePoints",
                    "results": [{"ruleId": ".+", "level": "none|note|warning|error", "message!": MESSAGE, "locations": [PLACE], "relatedLocations": [PLACE]}]}]}


def misfits(value, shape, path="log"):
    """Where a value of JSON is not of a shape such as SARIF."""
    if shape is int:
        return [] if isinstance(value, int) and value >= 1 else [f"{path} is no number from 1"]
    if isinstance(shape, str):
        return [] if isinstance(value, str) and re.fullmatch(shape, value, re.DOTALL) else [f"{path} is not {shape}: {value!r}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path} is no list"]
        return [misfit for i, item in enumerate(value) for misfit in misfits(item, shape[0], f"{path}[{i}]")]
    if not isinstance(value, dict):
        return [f"{path} is no object"]
    known = {name.rstrip("!"): inner for name, inner in shape.items()}
    found = [f"{path} has no {name[:-1]}" for name in shape if name.endswith("!") and name[:-1] not in value]
    found += [f"{path} has a member {name}" for name in value if name not in known]
    return found + [misfit for name, inner in known.items() if name in value for misfit in misfits(value[name], inner, f"{path}.{name}")]


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
                 ("a_log: {dtype: fp32", "a_log: {dtype: bf16", 1),
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
                 ("minimax_m1", 1, "no delta rule"), ("kimi_k3", 0, "spec: kimi_k3\n"),
                 ("kimi_k3+vllm_sd", 0, "spec: kimi_k3_vllm_sd\n"), ("kimi_linear_48b_gguf", 0, "spec: kimi_linear_48b_llama_cpp_kda\n"),
                 ("berrylm_os+llama_cpp", 1, "for: {models: [qwen3_5_*]}"),
                 # accidents of the field: a converter that leaves heads in place, windows that differ by rule, K = V asserted
                 ("qwen3_next_80b+llama_cpp", 1, "llama_cpp is for qwen3_5_*, and qwen3_next_80b isn't one of them"),
                 ("qwen3_5_27b+llama_cpp_grouped", 1, "[overlay.for]"), ("olmo_hybrid_7b+llama_cpp_grouped", 1, "[overlay.for]"),
                 ("berrylm_os+llama_cpp_kda", 1, "[overlay.for]"), ("kimi_linear_48b+sglang", 1, "sglang is for layers with rule: gdn"),
                 ("qwen3_next_80b+sglang_kda", 1, "[overlay.for]"),
                 ("nothing", 4, "no spec nothing"), ("qwen3_5_27b+nothing", 4, "there are flashinfer fp8_aiter"),
                 ("qwen3_5_27b+", 2, "ends in '+'")]
        for name, code, words in cases:
            with self.subTest(name):
                result = gdn_gen("dump", name)
                self.assertEqual(result.returncode, code)
                self.assertIn(words, result.stdout if code == 0 else result.stderr)

    def test_scripts_name_specs_that_there_are(self):
        text = (ROOT / "tests/device.sh").read_text()
        names = sorted(set(re.findall(r"\b\w+(?:\+\w+)+\b(?!/)", text)))
        self.assertGreater(len(names), 15)
        result = gdn_gen("lint", *names)
        self.assertEqual(result.returncode, 0, result.stderr)

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
        # A quantised model's in_proj_ba is whole on every rank, which reads its own heads out of it.
        result = gdn_gen("dump", "qwen3_5_27b+vllm_sd+vllm_quantised", "--tp", "4")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("  b: every rank has all 48 elements of a row and reads elements 12r to 12r+11; the row stride", result.stdout)
        self.assertIn("replicated: b, a, norm_weight, slots", result.stdout)
        # Every command that resolves a layout takes --tp, and names the numbers that there are.
        with tempfile.TemporaryDirectory() as folder:
            out = str(pathlib.Path(folder) / "out")
            olmo = "olmo_hybrid_7b"
            commands = [["lint", olmo], ["dump", olmo], ["emit", olmo, "--list"], ["explain", olmo], ["explain", olmo, "--html", out],
                        ["verify", olmo], ["verify", olmo, "--on", "simt"], ["bench", olmo, "--on", "cpu"], ["probe", olmo, "--out", out],
                        ["build", olmo, "--target", "sm_90a", "--bundle", out], ["check", "specs", "generated"], ["diff", olmo, olmo],
                        ["match", olmo, "--config", out], ["tune", olmo, "--on", "cuda", "--out", out]]
            helped = set()
            for line in gdn_gen("--help").stdout.split("Subcommands:")[1].splitlines():
                name = line.split()[0] if line.strip() else None
                if name and "--tp" in gdn_gen(name, "--help").stdout:
                    helped.add(name)
            self.assertEqual(helped, {command[0] for command in commands})
            for command in commands:
                with self.subTest(command):
                    result = gdn_gen(*command, "--tp", "4")
                    self.assertEqual(result.returncode, 4 if command[0] in ("diff", "match") else 1, result.stderr)
                    self.assertIn("heads.key = 30 and heads.value = 30: --tp can be 1, 2, 3, 5, 6, 10, 15, 30 [heads.ranks]", result.stderr)
                    self.assertIn("olmo_hybrid_7b.yaml:", result.stderr)
                    self.assertFalse(pathlib.Path(out).exists())
        result = gdn_gen("lint", "olmo_hybrid_7b", "qwen3_5_27b", "--tp", "4", "--format", "github")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, "::error file=specs/olmo_hybrid_7b.yaml,line=[0-9]+,col=[0-9]+,endColumn=[0-9]+,title=heads.ranks::4 ranks")

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

    def test_sarif_has_the_structure_of_the_standard(self):
        # A spec, an overlay, a missing file, notes, warnings, a name with blanks, letters of two bytes before the place.
        text = (ROOT / "specs" / "qwen3_next_80b.yaml").read_text()
        letters = self.bad.with_name("qwen3_next_80b.yaml")
        letters.write_text(text.replace("qk_norm: {kind: l2, eps: 1e-6,", "qk_norm: {kind: l2, \"\u00e9\u00e9\": 1, eps: 2,", 1))
        overlay = self.bad.with_name("slow.yaml")
        overlay.write_text("gdn_gen: 1\noverlay: slow\nengine: x\nconv: {window: 1, width: 3}\n")
        result = gdn_gen("lint", "--format", "sarif", str(self.bad), str(letters), "qwen3_5_2b", f"qwen3_next_80b+{overlay}", "no/such file.yaml")
        self.assertEqual(result.returncode, 1)
        log = json.loads(result.stdout)
        self.assertEqual(misfits(log, SARIF), [])
        run = log["runs"][0]
        known = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        self.assertEqual(len(known), len(set(known)))
        self.assertLessEqual({"heads.group", "name.file", "eps.range", "unverified", "overlay.model", "conv.window", "file.read"},
                             {entry["ruleId"] for entry in run["results"]})
        for entry in run["results"]:
            self.assertIn(entry["ruleId"], known)
            for place in entry["locations"] + entry.get("relatedLocations", []):
                region = place["physicalLocation"].get("region")
                self.assertTrue(region is None or region["endColumn"] > region["startColumn"], entry)
                path = pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(place["physicalLocation"]["artifactLocation"]["uri"]).path))
                self.assertEqual((ROOT / path).exists(), entry["ruleId"] != "file.read", path)
        eps = next(entry for entry in run["results"] if entry["ruleId"] == "eps.range")
        region = eps["locations"][0]["physicalLocation"]["region"]
        line = letters.read_text().splitlines()[region["startLine"] - 1]
        self.assertEqual(line[region["startColumn"] - 1:region["endColumn"] - 1], "2")

    def test_the_structure_is_one_that_a_log_can_miss(self):
        log = json.loads(gdn_gen("lint", "--format", "sarif", str(self.bad)).stdout)
        def broken(change):
            copy = json.loads(json.dumps(log))
            change(copy, copy["runs"][0], copy["runs"][0]["results"][0])
            return misfits(copy, SARIF)
        for change in (lambda log, run, result: log.pop("version"), lambda log, run, result: run.pop("tool"), lambda log, run, result: result.pop("message"),
                       lambda log, run, result: result.update(level="fatal"), lambda log, run, result: result.update(rule="x"),
                       lambda log, run, result: result["locations"][0]["physicalLocation"]["region"].update(startLine=0),
                       lambda log, run, result: result["locations"][0]["physicalLocation"]["artifactLocation"].update(uri="a b"),
                       lambda log, run, result: run["tool"]["driver"]["rules"][0].pop("id"), lambda log, run, result: run.update(columnKind="bytes")):
            self.assertNotEqual(broken(change), [])

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


if __name__ == "__main__":
    unittest.main()
