"""match, import and probe. The checkpoints are small and written here: the layouts of released models, their traps, and
files that lie. Hidden sizes are 1: no layout depends on them.
"""

import json
import os
import pathlib
import re
import struct
import subprocess
import tempfile
import unittest

from measure import Run, allow

ROOT = pathlib.Path(__file__).resolve().parents[2]
GDN_GEN = os.environ["GDN_GEN"]
BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "I8": 1}


def gdn_gen(*arguments):
    return subprocess.run([GDN_GEN, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def safetensors(path, tensors):
    """Writes name -> (dtype, shape) with zeros as data."""
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw(path, json.dumps(header).encode(), at)


def raw(path, header, data=0, length=None):
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header) if length is None else length) + header)
        file.truncate(8 + len(header) + data)


def linear_layers(count, every=4):
    return [layer for layer in range(count) if (layer + 1) % every]


def gdn_config(model_type, key_heads, value_heads, **more):
    return {"model_type": model_type, "linear_num_key_heads": key_heads, "linear_num_value_heads": value_heads,
            "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "rms_norm_eps": 1e-6, **more}


def common(prefix, key_heads, value_heads, k=128, v=128):
    return {prefix + "conv1d.weight": ("BF16", [2 * key_heads * k + value_heads * v, 1, 4]), prefix + "A_log": ("F32", [value_heads]),
            prefix + "dt_bias": ("BF16", [value_heads]), prefix + "norm.weight": ("F32", [v])}


def interleaved(prefix, key_heads, value_heads):
    return {prefix + "in_proj_qkvz.weight": ("BF16", [256 * key_heads + 256 * value_heads, 1]),
            prefix + "in_proj_ba.weight": ("BF16", [2 * value_heads, 1]), **common(prefix, key_heads, value_heads)}


def flat(prefix, key_heads, value_heads):
    return {prefix + "in_proj_qkv.weight": ("BF16", [256 * key_heads + 128 * value_heads, 1]),
            prefix + "in_proj_z.weight": ("BF16", [128 * value_heads, 1]), prefix + "in_proj_b.weight": ("BF16", [value_heads, 1]),
            prefix + "in_proj_a.weight": ("BF16", [value_heads, 1]), **common(prefix, key_heads, value_heads)}


def olmo(prefix):
    tensors = {prefix + name + ".weight": ("BF16", [rows, 1]) for name, rows in
               [("q_proj", 2880), ("k_proj", 2880), ("v_proj", 5760), ("g_proj", 5760), ("a_proj", 30), ("b_proj", 30)]}
    tensors.update({prefix + name + ".weight": ("BF16", [rows, 1, 4]) for name, rows in
                    [("q_conv1d", 2880), ("k_conv1d", 2880), ("v_conv1d", 5760)]})
    return {**tensors, prefix + "A_log": ("F32", [30]), prefix + "dt_bias": ("F32", [30]), prefix + "o_norm.weight": ("BF16", [192])}


def kda(prefix, heads, a_log):
    tensors = {prefix + name + "_proj.weight": ("BF16", [128 * heads, 1]) for name in ("q", "k", "v", "g")}
    tensors.update({prefix + name + "_conv1d.weight": ("F32", [128 * heads, 1, 4]) for name in ("q", "k", "v")})
    return {**tensors, prefix + "f_a_proj.weight": ("BF16", [128, 1]), prefix + "b_proj.weight": ("BF16", [heads, 1]),
            prefix + "A_log": ("F32", a_log), prefix + "dt_bias": ("F32", [128 * heads]), prefix + "o_norm.weight": ("F32", [128])}


def of_kda(prefix, heads, hidden, a, z, conv="BF16", a_log=None, norm="BF16"):
    """The tensors of a kda layer whose gates have the matrices a and z: names and shapes."""
    tensors = {prefix + name + "_proj.weight": ("BF16", [128 * heads, 1]) for name in ("q", "k", "v")}
    tensors.update({prefix + name + "_conv1d.weight": (conv, [128 * heads, 1, 4]) for name in ("q", "k", "v")})
    tensors.update({prefix + name + ".weight": ("BF16", shape) for name, shape in {**a, **z}.items()})
    return {**tensors, prefix + "b_proj.weight": ("BF16", [heads, 1]), prefix + "A_log": ("F32", a_log or [heads]),
            prefix + "dt_bias": ("F32", [128 * heads]), prefix + "o_norm.weight": (norm, [128])}


def low_rank(first, second, rows):
    return {first: [128, 1], second: [rows, 128]}


def linear_config(model_type, heads, layers, kda_layers=None, eps=1e-5, **more):
    linear = {"num_heads": heads, "head_dim": 128, "short_conv_kernel_size": 4, **more}
    if kda_layers:
        linear["kda_layers"] = kda_layers
    return {"model_type": model_type, "num_hidden_layers": layers, "rms_norm_eps": eps, "head_dim": 72, "linear_attn_config": linear}


KIMI = linear_config("kimi_linear", 32, 27, [layer for layer in range(1, 27) if layer % 4 != 0])
KIMI_TENSORS = of_kda("model.layers.0.self_attn.", 32, 2304, low_rank("f_a_proj", "f_b_proj", 4096), low_rank("g_a_proj", "g_b_proj", 4096), a_log=[1, 1, 32, 1])
K3 = {"model_type": "kimi_k3", "text_config": linear_config("kimi_linear", 96, 93, [layer for layer in range(1, 93) if layer % 4 != 0], gate_lower_bound=-5.0, use_full_rank_gate=True)}
K3_LAYER = "language_model.model.layers.0.self_attn."
K3_TENSORS = of_kda(K3_LAYER, 96, 7168, low_rank("f_a_proj", "f_b_proj", 12288), {"g_proj": [12288, 1]}, conv="F32", a_log=[128], norm="F32")
GLM = linear_config("glm5_next", 64, 45, gate_lower_bound=-5.0)
GLM_TENSORS = of_kda("model.language_model.layers.0.self_attn.", 64, 4096, low_rank("f_a_proj", "f_b_proj", 8192), low_rank("g_a_proj", "g_b_proj", 8192))
LING = {"model_type": "bailing_hybrid", "num_hidden_layers": 24, "layer_group_size": 4, "rms_norm_eps": 1e-6, "head_dim": 128, "num_attention_heads": 16,
        "short_conv_kernel_size": 4, "kda_safe_gate": True, "kda_lower_bound": -5.0, "no_kda_lora": True}
LING_TENSORS = of_kda("model.layers.0.attention.", 16, 1536, {"f_a_proj": [2048, 1]}, {"g_a_proj": [2048, 1]})
BERRY_LAYER = "model.language_model.layers.0.linear_attn."
BERRY_TENSORS = {BERRY_LAYER + name: ("BF16", shape) for name, shape in {
    "in_proj_qkv.weight": [8192, 1], "in_proj_z.weight": [4096, 1], "in_proj_b.weight": [32, 1], "f_down_proj.weight": [128, 1], "f_up_proj.weight": [4096, 128],
    "conv1d.weight": [8192, 1, 4], "dt_bias": [4096], "A_log": [32], "norm.weight": [128]}.items()}

NEXT = "model.layers.0.linear_attn."
FLAT = "model.language_model.layers.0.linear_attn."
OLMO = {"model_type": "olmo_hybrid", "linear_num_key_heads": 30, "linear_num_value_heads": 30, "linear_key_head_dim": 96,
        "linear_value_head_dim": 192, "linear_conv_kernel_dim": 4, "rms_norm_eps": 1e-6}
GIGACHAT = gdn_config("gigachat3_5", 32, 64, linear_gating_type="gated_rmsnorm_sigmoid_zero_centered", linear_sigmoid_gate_scale=2.0,
                      linear_attn_o_norm_eps=1e-6)


class Checkpoints(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name)
        self.config = self.home / "config.json"
        self.file = self.home / "model.safetensors"

    def write(self, config, tensors):
        self.config.write_text(json.dumps(config))
        safetensors(self.file, tensors)

    def match(self, spec, *more):
        return gdn_gen("match", spec, "--config", self.config, "--safetensors", self.file, *more)

    def fits(self, spec, config, tensors):
        self.write(config, tensors)
        result = self.match(spec)
        self.assertEqual((result.returncode, result.stdout.splitlines()[1:]), (0, []), result.stdout + result.stderr)

    def disagrees(self, spec, config, tensors, *wanted):
        self.write(config, tensors)
        result = self.match(spec)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        lines = result.stdout.splitlines()
        for words in wanted:
            self.assertTrue(any(words in line for line in lines), f"{words!r} is not in\n{result.stdout}")
        return lines


class Match(Checkpoints):
    def test_released_models_fit_their_specs(self):
        for spec, config, tensors in [
                ("qwen3_next_80b", gdn_config("qwen3_next", 16, 32), interleaved(NEXT, 16, 32)),
                ("qwen3_5_27b", {"model_type": "qwen3_5", "text_config": gdn_config("qwen3_5_text", 16, 48, output_gate_type="swish")},
                 flat(FLAT, 16, 48)),
                ("qwen3_5_397b_a17b", {"text_config": gdn_config("qwen3_5_moe_text", 16, 64)}, flat(FLAT, 16, 64)),
                ("qwen3_8_flash_next", {"text_config": gdn_config("qwen4_exp", 16, 48, output_gate_type="sigmoid")}, flat(FLAT, 16, 48)),
                ("olmo_hybrid_7b", OLMO, olmo(NEXT)),
                ("gigachat3_5_432b_a28b", GIGACHAT, interleaved("model.layers.0.self_attn.", 32, 64))]:
            with self.subTest(spec):
                self.fits(spec, config, tensors)

    def test_kda_models_fit_their_specs(self):
        flash = {**LING, "num_hidden_layers": 42, "num_attention_heads": 32}
        for spec, config, tensors in [
                ("kimi_linear_48b", KIMI, KIMI_TENSORS), ("kimi_k3", K3, K3_TENSORS), ("glm_5_3_flash", GLM, GLM_TENSORS), ("ling_3_0_tiny", LING, LING_TENSORS),
                ("ling_3_0_flash", flash, of_kda("model.layers.0.attention.", 32, 2560, {"f_proj": [4096, 1]}, {"g_proj": [4096, 1]})),
                ("berrylm_os", gdn_config("berrylm", 16, 32, num_hidden_layers=40, full_attention_interval=4), BERRY_TENSORS)]:
            with self.subTest(spec):
                self.fits(spec, config, tensors)

    def test_forms_of_the_decay(self):
        # A config without a bound is of the softplus form; a bound under another key is another reader's.
        softplus = linear_config("kimi_linear", 64, 45)
        self.disagrees("glm_5_3_flash", softplus, GLM_TENSORS, "decay.form: linear_attn_config.*: no key of a bound: the spec says bounded, the model softplus")
        self.disagrees("kimi_linear_48b", linear_config("kimi_linear", 32, 27, gate_lower_bound=-5.0), KIMI_TENSORS,
                       "decay.form: linear_attn_config.gate_lower_bound: the spec says softplus, the model bounded")
        self.disagrees("glm_5_3_flash", linear_config("glm5_next", 64, 45, gate_lower_bound=-4.0), GLM_TENSORS, "decay.bound: linear_attn_config.gate_lower_bound: the spec says -5, the config -4")
        self.disagrees("glm_5_3_flash", linear_config("glm5_next", 64, 45, lower_bound=-5.0), GLM_TENSORS,
                       "decay.bound_key: linear_attn_config.lower_bound: the spec says gate_lower_bound, the config has lower_bound")
        self.disagrees("ling_3_0_tiny", {**LING, "kda_safe_gate": False}, LING_TENSORS, "decay.form: kda_safe_gate: the spec says bounded, the model softplus")

    def test_padding_of_a_padded_decay(self):
        self.fits("kimi_k3", K3, K3_TENSORS)
        # The data of the padding are read: a number there belongs to a head.
        offset = 0
        for name, (dtype, shape) in K3_TENSORS.items():
            if name.endswith("A_log"):
                break
            count = 1
            for size in shape:
                count *= size
            offset += count * {"BF16": 2, "F32": 4}[dtype]
        with open(self.file, "r+b") as file:
            header = struct.unpack("<Q", file.read(8))[0]
            file.seek(8 + header + offset + 4 * 127)
            file.write(struct.pack("<f", 0.5))
        result = self.match("kimi_k3")
        self.assertEqual(result.returncode, 1)
        self.assertIn("decay.a_log_entries: " + K3_LAYER + "A_log: entry 127 is not zero: the 32 entries behind those of 96 heads are no padding", result.stdout)
        self.disagrees("kimi_k3", K3, {**K3_TENSORS, K3_LAYER + "A_log": ("F32", [96])}, "decay.a_log_entries: " + K3_LAYER + "A_log: the spec says 128, it is [96]")
        self.disagrees("glm_5_3_flash", GLM, {name: ("F32", [128]) if name.endswith("A_log") else value for name, value in GLM_TENSORS.items()},
                       "A_log: it has 128 elements for 64 heads: padding at its end (a_log: log_padded, a_log_entries: 128), or another number of heads")
        without = {name: value for name, value in GLM_TENSORS.items() if not name.endswith("A_log")}
        self.disagrees("glm_5_3_flash", GLM, without, "decay.a_log: model.language_model.layers.0.self_attn.A_log: the checkpoint has none")

    def test_matrices_of_the_gates(self):
        prefix = "model.language_model.layers.0.self_attn."
        single = {name: value for name, value in GLM_TENSORS.items() if "f_b_proj" not in name}
        self.disagrees("glm_5_3_flash", GLM, single, "projections.a: " + prefix + "f_a_proj.weight: the spec says low_rank, the checkpoint has no second matrix")
        self.disagrees("glm_5_3_flash", GLM, {**GLM_TENSORS, prefix + "f_a_proj.weight": ("BF16", [64, 1]), prefix + "f_b_proj.weight": ("BF16", [8192, 64])},
                       "projections.a_rank: " + prefix + "f_a_proj.weight: the spec makes it [128, hidden], it is [64, 1]")
        self.disagrees("ling_3_0_tiny", LING, {**LING_TENSORS, "model.layers.0.attention.g_b_proj.weight": ("BF16", [2048, 2048])},
                       "projections.z: model.layers.0.attention.g_b_proj.weight: the spec says single, the checkpoint has two matrices")

    def test_matrices_that_the_config_tells(self):
        self.disagrees("ling_3_0_tiny", {**LING, "no_kda_lora": False}, LING_TENSORS, "projections.a: no_kda_lora: the spec says single, the config a low-rank gate",
                       "projections.z: no_kda_lora: the spec says single, the config a low-rank gate")
        self.disagrees("glm_5_3_flash", linear_config("glm5_next", 64, 45, gate_lower_bound=-5.0, use_full_rank_gate=True), GLM_TENSORS,
                       "projections.z: linear_attn_config.use_full_rank_gate: the spec says low_rank, the config a single matrix")

    def test_the_same_name_in_softmax_layers(self):
        # K3's MLA layers have a g_proj too: there it is no kda layer's, whatever its shape.
        mla = K3_LAYER.replace(".0.", ".3.")
        self.fits("kimi_k3", K3, {**K3_TENSORS, mla + "g_proj.weight": ("BF16", [99, 1]), mla + "q_proj.weight": ("BF16", [5, 1])})

    def test_gates_by_head_for_gates_by_channel(self):
        self.disagrees("kimi_linear_48b", KIMI, {**KIMI_TENSORS, "model.layers.0.self_attn.dt_bias": ("F32", [32])}, "dt_bias: the spec makes it 4096 elements, it has 32")

    def test_flat_rows_are_not_interleaved_rows_of_the_same_shape(self):
        lines = self.disagrees("qwen3_next_80b", gdn_config("qwen3_5", 16, 32), flat(FLAT, 16, 32),
                               "inputs.qkvz: " + FLAT + "in_proj_qkv.weight: the spec's rows are interleaved, the checkpoint's are flat")
        self.assertEqual(len(lines), 2)  # qkvz and ba
        self.disagrees("qwen3_5_35b_a3b", gdn_config("qwen3_next", 16, 32), interleaved(NEXT, 16, 32), "the spec's rows are flat")

    def test_as_many_rows_as_another_model(self):
        # in_proj_qkv of 397B has 12288 rows, as in_proj_qkvz of Qwen3-Next.
        self.assertEqual(flat(FLAT, 16, 64)[FLAT + "in_proj_qkv.weight"][1][0], interleaved(NEXT, 16, 32)[NEXT + "in_proj_qkvz.weight"][1][0])
        self.disagrees("qwen3_next_80b", gdn_config("qwen3_5_moe", 16, 64), flat(FLAT, 16, 64),
                       "heads.value: linear_num_value_heads: the spec says 32, the config 64", "rows are interleaved")

    def test_the_difference_of_qkv_and_z_tells_the_key_heads(self):
        tensors = flat(FLAT, 16, 48)
        tensors[FLAT + "in_proj_qkv.weight"] = ("BF16", [2048 + 6144, 1])
        self.disagrees("qwen3_5_27b", gdn_config("qwen3_5", 16, 48), tensors, "its rows less those of in_proj_z are 2048, the spec's q and k have 4096")

    def test_padded_decays(self):
        text = (ROOT / "specs" / "qwen3_next_80b.yaml").read_text()
        spec = self.home / "qwen3_next_80b.yaml"
        spec.write_text(text.replace("key: 16 ", "key: 96 ", 1).replace("value: 32 ", "value: 96 ", 1))
        config = {"model_type": "kimi_k3", "text_config": {"model_type": "kimi_linear", "rms_norm_eps": 1e-6, "head_dim": 72, "linear_attn_config": {
            "num_heads": 96, "head_dim": 128, "short_conv_kernel_size": 4, "gate_lower_bound": -5.0}}}
        lines = self.disagrees(spec, config, kda("language_model.model.layers.0.self_attn.", 96, [128]),
                               "rule: config.json: the spec says gdn, the config is one of kda layers",
                               "A_log: it has 128 elements for 96 heads: padding at its end")
        self.assertFalse(any("dims." in line for line in lines), lines)  # head_dim 72 of the top is another layer's

    def test_shaped_decays_are_the_same_decays(self):
        tensors = interleaved(NEXT, 16, 32)
        tensors[NEXT + "A_log"] = ("F32", [1, 1, 32, 1])
        self.fits("qwen3_next_80b", gdn_config("qwen3_next", 16, 32), tensors)

    def test_gates_and_norms_of_gigachat(self):
        self.disagrees("qwen3_next_80b", GIGACHAT, interleaved(NEXT, 32, 64),
                       "out_norm.gate: linear_gating_type: the spec says silu, the model sigmoid",
                       "out_norm.weight: linear_gating_type: the spec says w, the model 2*(1+w)")
        legacy = {**GIGACHAT, "linear_use_legacy_qkvz_layout": True}
        self.disagrees("gigachat3_5_432b_a28b", legacy, interleaved(NEXT, 32, 64), "the spec's rows are interleaved, the checkpoint's are flat")
        self.disagrees("gigachat3_5_432b_a28b", {**GIGACHAT, "linear_gating_type": "sigmoid_gate"}, interleaved(NEXT, 32, 64),
                       "no spec can say what this config asks for")

    def test_the_eps_that_the_class_hard_codes(self):
        text = (ROOT / "specs" / "olmo_hybrid_7b.yaml").read_text()
        spec = self.home / "olmo_hybrid_7b.yaml"
        spec.write_text(text.replace("eps: 1e-5 ", "eps: 1e-6 ", 1))
        self.disagrees(spec, OLMO, olmo(NEXT), "out_norm.eps: hard-coded in the class of olmo_hybrid")

    def test_negative_eigenvalues(self):
        self.disagrees("olmo_hybrid_7b", {**OLMO, "linear_allow_neg_eigval": False}, olmo(NEXT), "beta.factor: linear_allow_neg_eigval")

    def test_a_silent_gate(self):
        self.disagrees("qwen3_5_27b", {"text_config": gdn_config("qwen4_exp", 16, 48, output_gate_type="sigmoid")}, flat(FLAT, 16, 48),
                       "out_norm.gate: output_gate_type: the spec says silu, the model sigmoid")

    def test_every_layer_that_differs_is_told_once(self):
        tensors = {**flat(FLAT, 16, 48), **flat(FLAT.replace(".0.", ".1."), 16, 48)}
        tensors[FLAT.replace(".0.", ".1.") + "A_log"] = ("F32", [47])
        lines = self.disagrees("qwen3_5_27b", gdn_config("qwen3_5", 16, 48), tensors, "layers.1.linear_attn.A_log: the spec makes it 48 elements, it has 47")
        self.assertEqual(len(lines), 1)

    def test_softmax_layers_are_left_alone(self):
        tensors = olmo(NEXT)
        tensors["model.layers.3.self_attn.q_proj.weight"] = ("BF16", [3840, 1])
        self.fits("olmo_hybrid_7b", OLMO, tensors)

    def test_listed_layers(self):
        kinds = ["full_attention" if (layer + 1) % 4 == 0 else "linear_attention" for layer in range(48)]
        tensors = interleaved(NEXT, 16, 32)
        self.fits("qwen3_next_80b", gdn_config("qwen3_next", 16, 32, layer_types=kinds), tensors)
        for more in ({"full_attention_interval": 4}, {"layer_group_size": 4}, {"full_attention_layers": list(range(3, 48, 4))}):
            self.fits("qwen3_next_80b", gdn_config("qwen3_next", 16, 32, num_hidden_layers=48, **more), tensors)
        lines = self.disagrees("qwen3_next_80b", gdn_config("qwen3_next", 16, 32, num_hidden_layers=44, full_attention_interval=4), tensors,
                               "layers.count: num_hidden_layers: the spec says 48, the config 44",
                               "layers.list: full_attention_interval = 4: counted from 0, the spec says [0, 1, 2, 4,")
        self.assertEqual(len(lines), 2)
        # The last layer is of another kind than the rule says.
        self.disagrees("qwen3_next_80b", gdn_config("qwen3_next", 16, 32, layer_types=kinds[:-2] + ["full_attention"] * 2), tensors, "layers.list: layer_types")
        other = {name.replace(".0.", ".7."): value for name, value in tensors.items()}
        self.disagrees("qwen3_next_80b", gdn_config("qwen3_next", 16, 32), other, "layers.list: names of the tensors: layers that have linear-attention")

    def of_layers(self, layers):
        return {name.replace(".0.", f".{layer}."): value for layer in layers for name, value in interleaved(NEXT, 16, 32).items()}

    def test_layers_counted_from_one(self):
        # The list is where a family that counts from 1 keeps it; the other keys are a gdn layer's, so that one spec serves.
        def config(layers, model_type="kimi_linear"):
            return gdn_config(model_type, 16, 32, num_hidden_layers=48, linear_attn_config={"kda_layers": layers})
        from_zero, from_one = linear_layers(48), [layer + 1 for layer in linear_layers(48)]
        text = (ROOT / "specs" / "qwen3_next_80b.yaml").read_text()
        spec = self.home / "qwen3_next_80b.yaml"

        def layers_of(*arguments):
            lines = self.match(spec, *arguments).stdout.splitlines()
            return [line for line in lines if line.startswith("layers.")]

        def spec_says(base, layers):
            spec.write_text(re.sub(r"  base: 0[^\n]*\n  list: .*?\nprojections:", f"  base: {base}\n  list: {layers}\nprojections:", text, flags=re.DOTALL))
            self.assertNotEqual(spec.read_text(), text)

        some = self.of_layers([0, 1, 2, 44, 46])
        for base, layers in ((0, from_zero), (1, from_one)):
            spec_says(base, layers)
            self.write(config(from_one), some)
            self.assertEqual(layers_of(), [])
            self.write(config(from_zero, "glm5_next"), some)  # this family counts from 0
            self.assertEqual(layers_of(), [])
            self.write(config(from_zero), some)  # and the tensors have the last word
            self.assertEqual(layers_of(), [])
        # The config's list, copied as if it counted from 0: shifted by one, and the last layer is off the end.
        spec_says(0, [layer for layer in from_one if layer < 48])
        self.write(config(from_one), some)
        self.assertEqual(len(layers_of()), 2)
        self.assertIn("are not on the spec's list, which counts from 0; all of them would be if it counted from 1", layers_of()[0])
        self.assertIn("the config's list counts from 1, the spec has it as one that counts from 0", layers_of()[1])

    def test_quantised_projections(self):
        fp8 = {NEXT + "in_proj_qkvz.weight": ("F8_E4M3", [12288, 1])}
        self.fits("qwen3_next_80b", gdn_config("qwen3_next", 16, 32), {**interleaved(NEXT, 16, 32), **fp8})
        lines = self.disagrees("qwen3_next_80b", gdn_config("qwen3_next", 16, 32),
                               {**interleaved(NEXT, 16, 32), **fp8, NEXT + "in_proj_ba.weight": ("F8_E4M3", [64, 1]), NEXT + "dt_bias": ("I8", [32])},
                               "projections.unquantised: " + NEXT + "in_proj_ba: the spec keeps b in 16 bits or more, the checkpoint stores F8_E4M3",
                               "the spec keeps a in 16 bits or more", "dt_bias: it is stored as I8")
        self.assertEqual(len(lines), 3)


class BadFiles(Checkpoints):
    """A clear error within a second and in bounded memory, whatever the bytes; import and match read alike."""

    def refused(self, words):
        for command in (["match", "qwen3_next_80b"], ["import"]):
            run = Run([GDN_GEN, *command, "--config", self.config, "--safetensors", self.file], cwd=ROOT, limit=512)
            self.assertEqual(run.returncode, 4, run.stdout + run.stderr)
            self.assertIn(words, run.stderr)
            self.assertLess(run.seconds, allow(1))
            self.assertLess(run.mebibytes, 400)
            self.assertLess(len(run.stderr), 2000)
            self.assertEqual([c for c in run.stderr if ord(c) < 32 and c != "\n"], [])

    def test_configs(self):
        safetensors(self.file, interleaved(NEXT, 16, 32))
        self.refused("config.json: can't be opened")
        for text, words in [("", "not JSON"), ("{", "not JSON"), ("[1]", "not a JSON object"), ("\x7fELF\x00", "not JSON"),
                            ('{"model_type": "llama", "hidden_size": 4096}', "no linear-attention layer in it (model_type 'llama')"),
                            ("[" * 1000000, "nested more than"), ('{"a":' * 700000, "nested more than"), ('{"a": 1, "a": 2}', "'a' stands twice"),
                            ('{"text_config": {"b": 1, "b": 1}}', "'b' stands twice"), ('{"a": [{}, {"c": 0, "c": 1}]}', "'c' stands twice"),
                            ("{}", "no linear-attention layer in it (model_type not given)"), ("null", "not a JSON object"),
                            ('{"text_config": null, "linear_attn_config": null}', "no linear-attention layer"),
                            ('{"model_type": "qwen3_next", "text_config": {"model_type": "qwen3_next_text"}}', "no linear-attention layer in it (model_type 'qwen3_next_text')"),
                            ('{"model_type": "\\u001b[31mred", "linear_num_key_heads": }', "not JSON"), ('{"model_type": "\\u001b[31mred"}', "no linear-attention layer"),
                            ("[" + "0," * 2000000 + "0]", "not a JSON object"), (json.dumps({str(i): i for i in range(200000)}), "no linear-attention layer")]:
            with self.subTest(text[:20]):
                self.config.write_text(text)
                self.refused(words)

    def test_a_hundred_megabytes(self):
        safetensors(self.file, interleaved(NEXT, 16, 32))
        with open(self.config, "wb") as file:
            file.truncate(100 << 20)
        self.refused("104857600 bytes are no config.json")

    def test_what_is_no_regular_file(self):
        safetensors(self.file, interleaved(NEXT, 16, 32))
        os.mkfifo(self.config)
        self.refused("not a regular file")  # and does not wait for somebody to write into it
        self.config.unlink()
        self.config.mkdir()
        self.refused("not a regular file")
        self.config.rmdir()
        self.config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32)))
        self.file.unlink()
        self.file.symlink_to("/dev/zero")
        self.refused("not a regular file")
        self.file.unlink()
        self.refused("model.safetensors: can't be opened")

    def test_headers(self):
        self.config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32)))
        name = NEXT + "A_log"

        def entry(**change):
            return json.dumps({name: {"dtype": "F32", "shape": [32], "data_offsets": [0, 128], **change}}).encode()

        cases = [("truncated", b"", 0, None, None), ("a length beyond the file", entry(), 128, 1 << 40, "its header says 1099511627776 bytes"),
                 ("a negative length", entry(), 128, (1 << 64) - 1, "its header says"),
                 ("a length too short", entry(), 128, 20, "not JSON"),
                 ("offsets beyond the file", entry(data_offsets=[0, 1 << 50]), 128, None, "lie outside the file's 128 bytes"),
                 ("negative offsets", entry(data_offsets=[-4, 124]), 128, None, "lie outside"),
                 ("offsets the wrong way round", entry(data_offsets=[128, 0]), 128, None, "its shape needs 128 bytes"),
                 ("a shape that does not fill its data", entry(shape=[33]), 132, None, "its shape needs 132 bytes, its data_offsets span 128"),
                 ("an overflowing shape", entry(shape=[1 << 40, 1 << 40]), 128, None, "impossibly large"),
                 ("a negative size", entry(shape=[-32]), 128, None, "a shape holds sizes"),
                 ("an unknown dtype", entry(dtype="F17"), 128, None, "unknown dtype 'F17'"),
                 ("no dtype", json.dumps({name: {"shape": [32]}}).encode(), 128, None, "has dtype, shape and data_offsets"),
                 ("twice", b'{"x": {"dtype":"F32","shape":[],"data_offsets":[0,4]}, "x": {"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4, None, "'x' stands twice"),
                 ("deep", b'{"x": ' + b"[" * 100000 + b"]" * 100000 + b"}", 0, None, "nested more than"),
                 ("a shape in a shape", entry(shape=[[32]]), 128, None, "nested more than"),
                 ("a fraction", entry(shape=[32.5]), 128, None, "a shape holds sizes"),
                 ("too many sizes", entry(shape=[1] * 10000), 128, None, "a shape has at most 64 sizes"),
                 ("three offsets", entry(data_offsets=[0, 64, 128]), 128, None, "has dtype, shape and data_offsets"),
                 ("a number for a dtype", entry(dtype=32), 128, None, "has dtype, shape and data_offsets"),
                 ("a list at the top", b"[1]", 0, None, "not a JSON object"), ("a word at the top", b'"x"', 0, None, "not a JSON object"),
                 ("binary", bytes(range(256)) * 100, 0, None, "not JSON"),
                 ("bytes after the data", entry(), 132, None, "132 bytes of data, of which tensors fill 128"),
                 ("a hole", entry(data_offsets=[4, 132]), 132, None, "4 bytes before it are no tensor's"),
                 ("an overlap", json.dumps({name: {"dtype": "F32", "shape": [32], "data_offsets": [0, 128]},
                                            "x": {"dtype": "F32", "shape": [32], "data_offsets": [64, 192]}}).encode(), 192, None, "before the tensor before it ends"),
                 ("a name that moves the cursor", json.dumps({"\x1b[2J": {"dtype": "F17", "shape": [], "data_offsets": [0, 4]}}).encode(), 4, None, "unknown dtype"),
                 ("one key twice", b'{"x": {"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4, None, "'dtype' stands twice"),
                 ("nothing but brackets", b"{" + b'"x": {},' * 3000000 + b'"y": {}}', 0, None, "has dtype, shape and data_offsets"),
                 ("a mountain of numbers", b'{"x": {"dtype": "F32", "shape": [' + b"1," * 10000000 + b"1]}}", 0, None, "a shape has at most 64 sizes"),
                 ("other tensors", b'{"x": {"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4, None, "no tensor of a linear-attention layer")]
        for what, header, data, length, words in cases:
            with self.subTest(what):
                raw(self.file, header, data, length)
                if words is None:
                    self.file.write_bytes(b"abc")
                    words = "3 bytes are no safetensors file"
                self.refused(words)

    def test_a_large_header_is_not_read(self):
        self.config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32)))
        with open(self.file, "wb") as file:
            file.write(struct.pack("<Q", 100 << 20))
            file.truncate(200 << 20)
        self.refused("more than the 33554432 that are read")

    def test_as_many_tensors_as_a_header_holds(self):
        self.config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32)))
        pieces = [b'"model.layers.%d.linear_attn.A_log":{"dtype":"F4","shape":[0],"data_offsets":[0,0]}' % i for i in range(365000)]
        header = b"{" + b",".join(pieces) + b"}"
        self.assertGreater(len(header), 30 << 20)
        self.assertLess(len(header), 32 << 20)
        raw(self.file, header)
        run = Run([GDN_GEN, "match", "qwen3_next_80b", "--config", self.config, "--safetensors", self.file], cwd=ROOT, limit=1024)
        self.assertEqual(run.returncode, 1)
        self.assertLess(len(run.stdout), 4000)
        self.assertLess(run.mebibytes, 800)
        self.assertLess(run.seconds, allow(5))

    def test_a_tensor_in_two_files(self):
        self.write(gdn_config("qwen3_next", 16, 32), interleaved(NEXT, 16, 32))
        other = self.home / "other.safetensors"
        safetensors(other, interleaved(NEXT, 16, 32))
        result = self.match("qwen3_next_80b", "--safetensors", other)
        self.assertEqual(result.returncode, 4)
        self.assertIn("stands in another of the files too", result.stderr)


class Import(Checkpoints):
    def imported(self, *more):
        result = gdn_gen("import", "--config", self.config, "--safetensors", self.file, *more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_kda_layers(self):
        for config, tensors, words in [
                (K3, K3_TENSORS, ["rule: kda", "form: bounded    # linear_attn_config.gate_lower_bound", "bound: -5", "bound_key: gate_lower_bound", "a_log: log_padded",
                                  "a_log_entries: 128", "a: low_rank\n  a_rank: 128", "z: single", "base: 1", "gate: sigmoid",
                                  "dt_bias: {dtype: fp32, dims: [value_head, key_dim]}", "a: {dtype: bf16, dims: [token@launch, value_head, key_dim]}"]),
                (KIMI, KIMI_TENSORS, ["form: softplus", "threshold: 20", "a_log: log\n", "z: low_rank\n  z_rank: 128"]),
                (LING, LING_TENSORS, ["bound_key: kda_lower_bound", "a: single", "z: single", "key: 16"]),
                (gdn_config("berrylm", 16, 32), BERRY_TENSORS, ["rule: kda", "form: softplus", "qkv: {dtype: bf16, dims: flat}", "gate: silu", "a: low_rank"]),
                (GLM, {name: value for name, value in GLM_TENSORS.items() if not name.endswith("A_log")}, ["a_log: absent"])]:
            self.write(config, tensors)
            text = self.imported("--engine", "vllm_sd")
            for word in words:
                self.assertIn(word, text)
            path = self.home / "imported.yaml"
            self.imported("--engine", "vllm_sd", "--out", path)
            errors = gdn_gen("lint", path).stderr
            for known in ("decay.form", "decay.bound", "projections.a ", "dims.missing", "key.unknown", "key.needless"):
                self.assertNotIn(known, errors)

    def test_matrices_of_gates_without_tensors(self):
        for config, words in [(K3, ["a: FILL_IN\n", "z: single    # linear_attn_config.use_full_rank_gate"]),
                              (LING, ["a: single    # no_kda_lora", "z: single    # no_kda_lora"]),
                              ({**LING, "no_kda_lora": False}, ["a: low_rank    # no_kda_lora\n  a_rank: FILL_IN", "z: low_rank    # no_kda_lora\n  z_rank: FILL_IN"])]:
            self.config.write_text(json.dumps(config))
            result = gdn_gen("import", "--config", self.config)
            self.assertEqual(result.returncode, 0, result.stderr)
            for word in words:
                self.assertIn(word, result.stdout)

    def test_an_overlay_for_other_models_is_refused(self):
        self.write(gdn_config("qwen3_next", 16, 32), interleaved(NEXT, 16, 32))
        self.assertIn("pairing: grouped", self.imported("--engine", "llama_cpp_grouped"))
        result = gdn_gen("import", "--config", self.config, "--engine", "llama_cpp")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("[overlay.for]", result.stderr)

    def test_what_is_not_known_is_an_error_to_fill_in(self):
        self.write(gdn_config("qwen3_next", 16, 32), interleaved(NEXT, 16, 32))
        path = self.home / "qwen3_next.yaml"
        self.imported("--out", path)
        text = path.read_text()
        result = gdn_gen("lint", path)
        self.assertEqual(result.returncode, 1)
        for key in ("conv.activation", "decay.form", "out_norm.order", "slots.padding", "pools.state"):
            self.assertIn(key, result.stderr)
        for known in ("heads.key", "heads.value", "dims.key", "conv.width", "out_norm.eps", "out_norm.gate"):
            self.assertNotIn(known + " ", result.stderr)
        self.assertIn("FILL_IN", text)

    def test_filled_in_it_is_the_checked_in_layer(self):
        for spec, config, tensors, overlay in [("qwen3_next_80b", gdn_config("qwen3_next", 16, 32, linear_allow_neg_eigval=False, num_hidden_layers=48, full_attention_interval=4), interleaved(NEXT, 16, 32), "vllm_sd"),
                                               ("qwen3_5_27b", gdn_config("qwen3_5", 16, 48, linear_allow_neg_eigval=False, num_hidden_layers=64, full_attention_interval=4), flat(FLAT, 16, 48), "sglang")]:
            with self.subTest(spec):
                self.write(config, tensors)
                text = self.imported("--engine", overlay, "--name", "filled")
                for pattern, value in [(r"kind: FILL_IN, eps: FILL_IN, eps_at: FILL_IN", "kind: l2, eps: 1e-6, eps_at: sum"),
                                       (r"q: FILL_IN, k: FILL_IN", "q: key_dim^-0.5, k: 1"), (r"activation: FILL_IN", "activation: silu"),
                                       (r"form: FILL_IN", "form: softplus"), (r"order: FILL_IN", "order: norm_then_gate"),
                                       (r"unquantised: FILL_IN", "unquantised: [b, a]")]:
                    text, changed = re.subn(pattern, value, text)
                    self.assertEqual(changed, 1, pattern)
                self.assertNotRegex(text.split("\n", 1)[1], "FILL_IN")
                path = self.home / "filled.yaml"
                path.write_text(text)
                self.assertEqual(gdn_gen("lint", path).returncode, 0, gdn_gen("lint", path).stderr)
                self.assertEqual(self.match(path).returncode, 0)
                difference = gdn_gen("diff", spec + "+" + overlay, path)
                self.assertNotIn("SILENT", difference.stdout)

    def test_without_tensors_the_rows_are_not_guessed(self):
        self.config.write_text(json.dumps(gdn_config("qwen3_next", 16, 32)))
        result = gdn_gen("import", "--config", self.config)
        self.assertEqual(result.returncode, 0)
        self.assertIn("qkvz: {dtype: FILL_IN, dims: FILL_IN}", result.stdout)


class Probe(Checkpoints):
    """The engines' own unpacking, written here in plain Python, on the vectors of a spec."""

    def probe(self, spec, *more):
        path = self.home / "probe.safetensors"
        result = gdn_gen("probe", spec, "--out", path, *more)
        self.assertEqual(result.returncode, 0, result.stderr)
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        self.meta = header.pop("__metadata__")
        self.tensors = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            count = (end - begin) // (4 if entry["dtype"] == "F32" else 2)
            if entry["dtype"] == "BF16":  # the upper half of a float
                values = [struct.unpack("<f", b"\0\0" + data[begin + 2 * i:begin + 2 * i + 2])[0] for i in range(count)]
            else:
                values = struct.unpack(f"<{count}{'f' if entry['dtype'] == 'F32' else 'e'}", data[begin:end])
            self.tensors[name] = (entry["shape"], [int(value) for value in values])

    def whole(self, name):
        """Element numbers from the digits of all passes."""
        numbers, power = None, 1
        for shape, digits in (self.tensors[f"{name}/{i}"] for i in range(9) if f"{name}/{i}" in self.tensors):
            numbers = [0] * len(digits) if numbers is None else numbers
            numbers = [number + (digit - 1) * power for number, digit in zip(numbers, digits)]
            power *= 128
        return shape, numbers

    def test_vectors_number_their_elements(self):
        self.probe("qwen3_next_80b")
        for name in ("inputs.qkvz", "inputs.ba", "parameters.a_log", "pools.conv_state", "pools.state"):
            with self.subTest(name):
                shape, numbers = self.whole(name)
                self.assertEqual(numbers, list(range(len(numbers))))
                self.assertEqual(shape[0] * shape[1], len(numbers))
        self.assertEqual(self.meta["spec"], "qwen3_next_80b")
        self.assertIn("key_head:16", self.meta["inputs.qkvz"])

    def test_unpacking_of_interleaved_rows(self):
        # As transformers does it: view as [rows, key heads, 768], split 128 | 128 | 256 | 256.
        self.probe("qwen3_next_80b")
        shape, v = self.whole("inputs.qkvz/v")
        self.assertEqual(shape, [2, 32, 128])
        at = iter(v)
        for row in range(2):
            for head in range(32):
                first = row * 12288 + head // 2 * 768 + 256 + head % 2 * 128
                self.assertEqual([next(at) for _ in range(128)], list(range(first, first + 128)))

    def test_unpacking_of_flat_rows_differs(self):
        self.probe("qwen3_5_35b_a3b")
        flat_k = self.whole("inputs.qkvz/k")
        self.assertEqual(flat_k[1][:128], list(range(2048, 2176)))
        self.probe("qwen3_next_80b")
        self.assertEqual(flat_k[0], self.whole("inputs.qkvz/k")[0])
        self.assertNotEqual(flat_k[1], self.whole("inputs.qkvz/k")[1])

    def test_a_state_by_its_coordinates(self):
        for spec, key_stride, value_stride in [("qwen3_5_27b+vllm_sd", 1, 128), ("qwen3_5_27b+transformers", 128, 1)]:
            with self.subTest(spec):
                self.probe(spec, "--rows", "1", "--tp", "16")
                shape, state = self.whole("pools.state/state")
                self.assertEqual(shape, [1, 3, 128, 128])
                for head, k, v in [(0, 0, 1), (0, 1, 0), (2, 127, 5), (1, 3, 126)]:
                    self.assertEqual(state[(head * 128 + k) * 128 + v], head * 16384 + k * key_stride + v * value_stride)


if __name__ == "__main__":
    unittest.main()
