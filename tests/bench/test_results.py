"""The page of results shows what the files say, refuses what cannot be true, and notices that it is out of date."""

import collections
import contextlib
import copy
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import peers
import peers_cpu
import peers_prefill
import results
import side_by_side

GOOD = {
    "format": 2, "commit": "0123abc", "command": "gdn-gen bench qwen3_next_80b --on cuda", "device": "Some GPU",
    "date": "2026-01-02", "gb_per_s": 4000.0,
    "rows": [{
        "spec": "qwen3_next_80b", "operation": "decode", "target": "sm_90a", "on": "cuda", "edges": "plain", "batch": 64, "state_dtype": "fp32",
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

    def test_a_row_of_sequences_says_which_form_was_taken(self):
        file = copy.deepcopy(GOOD)
        row = file["rows"][0]
        for key in ("edges", "batch", "state_dtype"):
            del row[key]
        row.update(operation="prefill", lengths="8192x4", form="two", chain_estimate_us=60.0, prepare_estimate_us=30.0)
        self.write(file)
        self.assertEqual(self.run_tool(), 0)
        self.assertIn("| qwen3_next_80b | prefill | sm_90a on cuda | 8192x4 | two | 100 | 2000 | 50 | 2.00 |",
                      (self.folder / "RESULTS.md").read_text())
        del row["prepare_estimate_us"]
        self.write(file)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(self.run_tool(), 1)
        self.assertIn("no key 'prepare_estimate_us'", said.getvalue())

    def test_a_page_is_current_until_its_files_or_its_text_change(self):
        self.write(GOOD)
        self.assertEqual(self.run_tool("--check"), 1)
        self.assertEqual(self.run_tool(), 0)
        self.assertEqual(self.run_tool("--check"), 0)
        self.assertIn("| qwen3_next_80b | decode | sm_90a on cuda | plain | fp32 | 64 | 100 | 2000 | 50 | 2.00 |",
                      (self.folder / "RESULTS.md").read_text())
        self.write(changed("commit", "fedcba9", in_row=False))
        self.assertEqual(self.run_tool("--check"), 1)
        self.write(changed("scaling_us", 90.0))
        self.assertEqual(self.run_tool(), 0)
        self.assertIn("| 50 | 2.00 | 90 | 0.90 |", (self.folder / "RESULTS.md").read_text())
        self.write(changed("scaling_us", 0))
        self.assertEqual(self.run_tool(), 1)
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
            "other format": changed("format", 1, in_row=False),
            "no rows": changed("rows", [], in_row=False),
            "commit not given": changed("commit", "not given", in_row=False),
            "no commit": changed("commit", None, in_row=False),
        }
        for name, file in cases.items():
            with self.subTest(name):
                self.write(file)
                self.assertEqual(self.run_tool(), 1)
                self.assertFalse((self.folder / "RESULTS.md").exists())

    def test_launches_over_whole_sequences(self):
        row = {key: value for key, value in GOOD["rows"][0].items() if key not in ("edges", "batch", "state_dtype")}
        row.update(operation="chunk_delta", lengths="8192x4")
        self.write({**GOOD, "rows": [GOOD["rows"][0], row]})
        self.assertEqual(self.run_tool(), 0)
        page = (self.folder / "RESULTS.md").read_text()
        self.assertIn("| qwen3_next_80b | decode | sm_90a on cuda | plain | fp32 | 64 | 100 |", page)
        self.assertIn("| spec | operation | target | lengths | time, us |", page)
        self.assertIn("| qwen3_next_80b | chunk_delta | sm_90a on cuda | 8192x4 | 100 | 2000 | 50 | 2.00 |", page)
        for change in ({"batch": 4}, {"lengths": 8192}, {"edges": "plain"}):
            self.write({**GOOD, "rows": [{**row, **change}]})
            self.assertEqual(self.run_tool(), 1)

    def test_a_peer_on_the_cpu(self):
        Comparison = collections.namedtuple("Comparison", "operation kernel state_dtype")
        Kernel = collections.namedtuple("Kernel", "target")
        rows = [peers_cpu.row_of(Comparison("decode", Kernel("amx"), "fp32"), "qwen3_next_80b", 16, "", 118.0, 400.0, 467.0, 47200000),
                peers_cpu.row_of(Comparison("prefill", Kernel("amx"), "fp32"), "qwen3_next_80b", 2048, "2048", 118.0, 3000.0, 21500.0, 118000000)]
        self.write({**GOOD, "gb_per_s": 118.0, "peer": "vllm", "peer_commit": "0.26.0", "rows": rows})
        self.assertEqual(self.run_tool(), 0)
        page = (self.folder / "RESULTS.md").read_text()
        self.assertIn("Beside vllm at `0.26.0`", page)
        self.assertIn("| qwen3_next_80b | decode | fp32 | 16 | 467 | 400 | 400 | 1.17 | 1.00 | 1.17 |", page)
        self.assertIn("| qwen3_next_80b | prefill | 2048 | 2.15e+04 | 3000 | 1000 | 21.50 | 3.00 | 7.17 |", page)

    def test_a_peer_over_whole_sequences(self):
        row = peers_prefill.row_of("qwen3_next_80b", (4, 8192), 200000000, 4000.0, 500.0, 1900.0)
        self.write({**GOOD, "peer": "fla", "peer_commit": "0.6.0", "rows": [row]})
        self.assertEqual(self.run_tool(), 0)
        self.assertIn("| qwen3_next_80b | chunk_delta | 8192x4 | 1900 | 500 | 50 | 38.00 | 10.00 | 3.80 |", (self.folder / "RESULTS.md").read_text())

    def test_rows_of_drafts_and_what_one_read_and_many_writes_reach(self):
        file = changed("operation", "decode_spec")
        file["fan_gb_per_s"] = 3500.0
        self.write(file)
        self.assertEqual(self.run_tool(), 0)
        page = (self.folder / "RESULTS.md").read_text()
        self.assertIn("| qwen3_next_80b | decode_spec | sm_90a on cuda | plain | fp32 | 64 |", page)
        self.assertIn("as many writes as a sequence has tokens: 3500 GB/s", page)
        file["fan_gb_per_s"] = 0
        self.write(file)
        self.assertEqual(self.run_tool(), 1)

    def test_layouts_stand_beside_the_best_of_their_states_type(self):
        good = GOOD["rows"][0]
        rows = [{**good, "spec": "best", "time_us": 60.0, "gb_per_s": 3333.0, "ratio": 1.2},
                {**good, "spec": "near", "time_us": 61.0, "gb_per_s": 3279.0, "ratio": 1.22},
                {**good, "spec": "far", "time_us": 75.0, "gb_per_s": 2667.0, "ratio": 1.5},
                {**good, "spec": "other", "state_dtype": "bf16"}]
        (self.folder / "results" / "a_layouts.json").write_text(json.dumps({**GOOD, "rows": rows}))
        self.assertEqual(self.run_tool(), 0)
        page = (self.folder / "RESULTS.md").read_text()
        for line in ("| best | fp32 | 64 | 200000000 | 1.200 | 0.0% | yes |", "| near | fp32 | 64 | 200000000 | 1.220 | 1.7% | yes |",
                     "| far | fp32 | 64 | 200000000 | 1.500 | 25.0% | no |", "| other | bf16 | 64 | 200000000 | 2.000 | 0.0% | yes |"):
            self.assertIn(line, page)
        (self.folder / "results" / "a_layouts.json").unlink()
        self.write({**GOOD, "rows": rows})
        self.assertEqual(self.run_tool(), 0)
        self.assertNotIn("behind the best", (self.folder / "RESULTS.md").read_text())

    def test_a_peer_stands_beside_ours(self):
        row = peers.row_of("qwen3_next_80b", 64, "fp32", 200000000, 4000.0, 60.0, 96.0, 5.0)
        file = {**GOOD, "peer": "aiter", "peer_commit": "e4048607a535ace3a2b51ded31b1c8c2d45c0879", "rows": [row]}
        self.write(file)
        self.assertEqual(self.run_tool(), 0)
        page = (self.folder / "RESULTS.md").read_text()
        self.assertIn("| qwen3_next_80b | decode | fp32 | 64 | 96 | 5 | 60 | 50 | 1.92 | 1.20 | 1.60 |", page)
        self.assertIn("Beside aiter at `e4048607", page)
        for name, change in {"peer_ratio is": {"peer_ratio": 1.5}, "peer_over_ours is": {"peer_over_ours": 3.0}, "no time": {"peer_us": 0},
                             "text": {"peer_norm_us": "5"}, "unknown": {"peer_speed": 1.0}}.items():
            with self.subTest(name):
                self.write({**file, "rows": [{**row, **change}]})
                self.assertEqual(self.run_tool(), 1)
        for change in ({"peer_commit": "not given"}, {"peer": "somebody"}):
            self.write({**file, **change})
            self.assertEqual(self.run_tool(), 1)
        self.write({**GOOD, "rows": [row]})  # a peer's figures in a file that names none
        self.assertEqual(self.run_tool(), 1)

    def test_a_file_that_is_not_json_is_refused(self):
        (self.folder / "results" / "one.json").write_text("{")
        self.assertEqual(self.run_tool(), 1)


PLAN = """identity: 0 decode rule=gdn heads=16/32 dims=128/192 conv(width=4 activation=1 bias=false window=5) norm(eps=1e-06 weight=0)
operands: 10
  operand: qkvz
    role: input
    layout: 7e147990e9ff7900 bf16 [token@launch, key_head:16, {q:[key_dim:128], k:[key_dim:128]}]
  operand: ba
    layout: 0 bf16 [token@launch, {b:[value_head:32]}]
"""


class Peers(unittest.TestCase):
    def test_bytes_of_the_floor(self):
        Operand = collections.namedtuple("Operand", "name role dtype leading inner")
        operands = [Operand("qkvz", "input", "bf16", "row", 12288), Operand("conv_weight", "parameter", "bf16", None, 32768),
                    Operand("conv_state", "pool", "bf16", "slot", 8192 * 5), Operand("state", "pool", "fp32", "slot", 524288),
                    Operand("slots", "slots", "int32", "row", 1)]
        # Of a window of 5 the 3 inputs that count, read and written; the state read and written.
        self.assertEqual(peers.floor_bytes(operands, 7, 4, 5), 7 * (2 * 12288 + 2 * 6 * 8192 + 2 * 4 * 524288 + 4) + 2 * 32768)

    def test_names_of_specs_with_overlays(self):
        self.assertEqual(side_by_side.name_of("specs/qwen3_next_80b.yaml+vllm_sd+tests/bench/layouts/vk_bf16.yaml"), "qwen3_next_80b+vllm_sd+vk_bf16")

    def test_states_leave_the_cache_between_visits(self):
        for slot, rows in [(2 << 20, 1), (2 << 20, 64), (1 << 20, 16), (4 << 20, 256)]:
            layers = peers.layers_for(slot, rows)
            self.assertTrue(layers == 128 or layers * slot * rows >= 256 << 20)
            self.assertGreaterEqual(layers, 36)

    def test_sizes_of_a_plan(self):
        shape = peers.Shape(PLAN, 3)
        self.assertEqual((shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim, shape.width, shape.window, shape.eps, shape.layout, shape.slots),
                         (16, 32, 128, 192, 4, 5, 1e-6, "interleaved", 7))
        self.assertEqual(peers.Shape(PLAN.replace("[token@launch, key_head:16, {q", "[token@launch, {q"), 1).layout, "flat")

    def test_bytes_of_whole_sequences(self):
        Operand = collections.namedtuple("Operand", "name role dtype leading inner")
        operands = [Operand("q", "input", "bf16", "row", 2048), Operand("state", "pool", "fp32", "slot", 524288), Operand("slots", "slots", "int32", "slot", 1),
                    Operand("cu_seqlens", "offsets", "int32", "sequence", 1), Operand("workspace", "workspace", "fp32", None, 1)]
        self.assertEqual(side_by_side.sequence_bytes(operands, 8192, 4, 4, 3), 2 * 2048 * 8192 + 4 * (2 * 4 * 524288 + 4 + 4))
        self.assertEqual([peers_prefill.parse_lengths(text) for text in ("8192", "1024x8")], [(1, 8192), (8, 1024)])

    def test_the_command_of_a_page_names_no_folder_of_one_machine(self):
        for arguments in (["--peer", "fla=/tmp/x", "--spec", "s.yaml", "--json", "/tmp/f.json"], ["--peer=fla=/tmp/x", "--json=/tmp/f.json", "--spec", "s.yaml"]):
            self.assertEqual(side_by_side.command_of("peers", arguments), "tests/bench/peers.py --peer fla=FOLDER --spec s.yaml")

    def test_a_title_says_what_was_timed(self):
        for name, extra, title in (("a.json", {}, "decode: Some GPU, 2026-01-02"), ("a_layouts.json", {}, "decode by layout: Some GPU, 2026-01-02"),
                                   ("a.json", {"peer": "fla"}, "decode beside fla: Some GPU, 2026-01-02")):
            self.assertEqual(results.title(name, {**GOOD, **extra}), title)

    def test_what_is_missing_is_named_over_whole_sequences(self):
        self.missing(peers_prefill, [([], 2, "--peer"), (["--peer", "vllm=/tmp"], 2, "NAME one of fla"), (["--peer", "fla=/tmp", "--lengths", "8x"], 2, "--lengths"),
                                     (["--peer", "fla=/no/such"], 4, "/no/such is not here"), (["--peer", "fla=/tmp"], 4, "peers_prefill: error: ")])

    def test_what_is_missing_is_named_on_the_cpu(self):
        self.missing(peers_cpu, [([], 2, "--peer"), (["--peer", "aiter=/tmp"], 2, "NAME one of vllm"), (["--peer", "vllm=/tmp", "--batch", "x"], 2, "--batch"),
                                 (["--peer", "vllm=/tmp", "--lengths", "0"], 2, "--lengths"), (["--peer", "vllm=/tmp", "--operation", "unpack"], 2, "--operation"),
                                 (["--peer", "vllm=/tmp", "--threads", "-1"], 2, "--threads"), (["--peer", "vllm=/no/such"], 4, "/no/such is not here"),
                                 (["--peer", "vllm=/tmp", "--spec", "/no/spec.yaml+vllm_sd"], 4, "/no/spec.yaml is not here"),
                                 (["--peer", "vllm=/tmp"], 4, "peers_cpu: error: ")])

    def test_what_is_missing_is_named(self):
        self.missing(peers, [([], 2, "--peer"), (["--peer", "aiter"], 2, "NAME=FOLDER"), (["--peer", "nobody=/tmp"], 2, "aiter"),
                             (["--peer", "aiter=/tmp", "--batch", "0"], 2, "--batch"), (["--peer", "aiter=/no/such"], 4, "/no/such is not here"),
                             (["--peer", "aiter=/tmp", "--spec", "/no/spec.yaml"], 4, "/no/spec.yaml is not here"), (["--peer", "aiter=/tmp"], 4, "peers: error: ")])

    def missing(self, script, cases):
        def run(*arguments):
            return subprocess.run([sys.executable, str(pathlib.Path(script.__file__)), *arguments], capture_output=True, text=True, timeout=120, check=False)
        for arguments, code, words in cases:
            with self.subTest(arguments):
                result = run(*arguments)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(words, result.stderr)
                self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    unittest.main()
