"""How long the tools take: lint of one spec under 10 ms, of all under 200 ms; explain, diff and match under 100 ms each.

Counted is the processor time of the whole process, the best of some runs: other tests run beside this one. A machine
that is slower than the figures' has more. The table is printed, wall-clock time included.
"""

import json
import os
import pathlib
import tempfile
import time
import unittest

from measure import Run, allow
from review_checkpoints import NEXT, gdn_config, interleaved, safetensors

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ["GDN_GEN"]
RUNS = 9


def models():
    return sorted(path.stem for folder in ("specs", "specs/more") for path in (ROOT / folder).glob("*.yaml"))


def everything():
    """Every checked-in spec, and every model with every overlay that fits it."""
    names = []
    for model in models():
        names.append(model)
        for overlay in sorted((ROOT / "specs" / "engines").glob("*.yaml")):
            if Run([GDN_GEN, "lint", f"{model}+{overlay.stem}"], cwd=ROOT).returncode == 0:
                names.append(f"{model}+{overlay.stem}")
    return names


class Figures(unittest.TestCase):
    def best(self, what, milliseconds, *arguments, code=0):
        seconds, wall = [], []
        for _ in range(RUNS):
            started = time.monotonic()
            run = Run([GDN_GEN, *arguments], cwd=ROOT)
            wall.append(time.monotonic() - started)
            self.assertEqual(run.returncode, code, run.stderr)
            seconds.append(run.seconds)
        allowed = allow(milliseconds)
        print(f"{what:<40} {min(seconds) * 1000:6.1f} ms, by the clock {min(wall) * 1000:6.1f} ms, at most {milliseconds} ms, here {allowed:.0f} ms")
        self.assertLess(min(seconds) * 1000, allowed, what)

    def test_lint(self):
        for model in models():
            self.best(f"lint of {model}", 10, "lint", model)
        names = everything()
        self.assertGreater(len(names), 40)
        self.best(f"lint of all {len(names)}", 200, "lint", *names)

    def test_explain(self):
        with tempfile.TemporaryDirectory() as folder:
            for model in ("qwen3_next_80b", "qwen3_5_122b_a10b+llama_cpp"):
                self.best(f"explain {model}", 100, "explain", model)
                self.best(f"explain {model} as a page", 100, "explain", model, "--html", f"{folder}/page.html")

    def test_diff(self):
        self.best("diff of two models", 100, "diff", "qwen3_next_80b", "qwen3_5_35b_a3b", code=3)
        self.best("diff of the largest, by engine", 100, "diff", "qwen3_5_122b_a10b+vllm_sd", "qwen3_5_122b_a10b+sglang", code=3)

    def test_match(self):
        with tempfile.TemporaryDirectory() as folder:
            config, file = pathlib.Path(folder) / "config.json", pathlib.Path(folder) / "model.safetensors"
            config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32, num_hidden_layers=48, full_attention_interval=4)))
            # A shard as large as those of released models: every layer, and the experts of one.
            tensors = {}
            for layer in range(48):
                if (layer + 1) % 4:
                    tensors.update({name.replace(".0.", f".{layer}."): value for name, value in interleaved(NEXT, 16, 32).items()})
            for expert in range(512):
                for name in ("gate", "up", "down"):
                    tensors[f"model.layers.0.mlp.experts.{expert}.{name}_proj.weight"] = ("BF16", [1, 1])
            safetensors(file, tensors)
            self.best(f"match of {len(tensors)} tensors", 100, "match", "qwen3_next_80b", "--config", str(config), "--safetensors", str(file))


if __name__ == "__main__":
    unittest.main()
