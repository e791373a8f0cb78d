"""Adapters of PEFT, mlx-lm and llama.cpp become each other, and predict the same in each one's own runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_models import DECODERS
from llama_cpp_reference import ReferenceConverter
from numpy.typing import NDArray
from tiny_models import FolderSink

from citrate.core.errors import CitrateError, ConfigError, FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import SourceModel, convert, open_model
from citrate.formats.adapter import open_adapter
from citrate.formats.adapter_conversion import adapter_variant, check_adapter, convert_adapter, open_updates
from citrate.formats.checks.divergence import mean_divergence
from citrate.formats.gguf_file import GgufHeader, GgufValue, header_bytes, plan, read_header

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("llama_cpp_reference")]

IDS = [int(i) for i in (np.arange(48) * 37 + 11) % 480]
FAMILIES = ("llama3", "qwen2")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LLAMA = (
    "import sys, json, numpy as np, llama_cpp\n"
    "m = llama_cpp.Llama(sys.argv[1], lora_path=sys.argv[2] or None, n_ctx=64, logits_all=True, verbose=False)\n"
    "ids = json.loads(sys.argv[4]); m.eval(ids); np.save(sys.argv[3], np.array(m.scores[:len(ids)], np.float32))\n"
)


@dataclass(frozen=True)
class Base:
    """A base model in float32, and an adapter of it that PEFT has saved."""

    model: SourceModel
    adapter: Path

    @property
    def root(self) -> Path:
        return self.model.root


def save_lora(base: Path, target: Path, seed: int = 0, **settings: Any) -> Path:
    """Let PEFT itself save a random adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    chosen: dict[str, Any] = {"r": 8, "lora_alpha": 12, "target_modules": list(KINDS), **settings}
    network = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **chosen)
    )
    for name, parameter in network.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    network.save_pretrained(target)
    (target / "README.md").unlink()
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    return target


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    import torch
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp(request.param)
    (root / "base").mkdir()
    DECODERS[request.param][0](root / "base")
    AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32).save_pretrained(root / "base")
    more = ["lm_head"] if request.param == "llama3" else []
    return Base(open_model(root / "base"), save_lora(root / "base", root / "lora", target_modules=[*KINDS, *more]))


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Path]:
    """Convert into a folder of its own, with its check; returns the file or folder."""
    count = iter(range(100))

    def run(source: Path, to: str, model: SourceModel | None = None, exact: bool = True) -> Path:
        target, variant, updates = (
            tmp_path / f"out-{next(count)}",
            adapter_variant(Variant.parse(to)),
            open_updates(source),
        )
        report = convert_adapter(updates, variant, FolderSink(target), base=model, name="tiny")
        path = next(target.iterdir()) if report.bare else target
        (check,) = check_adapter(updates, variant, path, model)
        assert check.passed and (check.value == "0" or not exact)
        return path

    return run


def peft_logits(base: Path, adapter: Path | None) -> NDArray[np.float32]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    if adapter:
        network = PeftModel.from_pretrained(network, adapter)
    with torch.inference_mode():
        found: NDArray[np.float32] = network(input_ids=torch.tensor([IDS])).logits[0].numpy()
    return found


def mlx_logits(base: SourceModel, adapter: Path, tmp_path: Path) -> NDArray[np.float32]:
    import mlx.core as mx
    from mlx_lm.utils import load_adapters, load_model

    convert(base, Variant.parse("mlx"), FolderSink(tmp_path / "mlx-base"), name="tiny")
    network, _ = load_model(tmp_path / "mlx-base")
    load_adapters(network, str(adapter)).eval()
    return np.array(network(mx.array([IDS])).astype(mx.float32))[0]


def llama_logits(base: SourceModel, adapter: Path, tmp_path: Path) -> NDArray[np.float32]:
    convert(base, Variant.parse("gguf:F32"), FolderSink(tmp_path / "gguf-base"), name="tiny")
    out = tmp_path / "logits.npy"
    files = [str(tmp_path / "gguf-base" / "tiny-F32.gguf"), str(adapter), str(out)]
    subprocess.run([sys.executable, "-c", _LLAMA, *files, json.dumps(IDS)], check=True, capture_output=True)
    found: NDArray[np.float32] = np.load(out)
    return found


def test_an_adapter_of_peft_predicts_the_same_in_mlx_and_llama_cpp(
    base: Base, converted: Callable[..., Path], tmp_path: Path
) -> None:
    wanted = peft_logits(base.root, base.adapter)
    assert mean_divergence(peft_logits(base.root, None), wanted) > 0.01, "the adapter does something"
    for model in (None, base.model):
        found = mlx_logits(base.model, converted(base.adapter, "mlx", model), tmp_path / str(bool(model)))
        assert mean_divergence(wanted, found) < 1e-6
    found = llama_logits(base.model, converted(base.adapter, "gguf", base.model), tmp_path)
    assert mean_divergence(wanted, found) < 1e-5


def test_an_adapter_that_mlx_lm_trained_predicts_the_same_in_peft(
    base: Base, converted: Callable[..., Path], tmp_path: Path
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model, save_config

    convert(base.model, Variant.parse("mlx"), FolderSink(tmp_path / "mlx-base"), name="tiny")
    network, _ = load_model(tmp_path / "mlx-base")
    network.freeze()
    parameters = {"rank": 4, "dropout": 0.0, "scale": 0.7, "keys": ["self_attn.q_proj", "mlp.down_proj"]}
    linear_to_lora_layers(network, 2, parameters)  # of three layers
    mx.random.seed(0)
    weights = {
        name: mx.random.normal(value.shape) * 0.1 for name, value in tree_flatten(network.trainable_parameters())
    }
    (tmp_path / "trained").mkdir()
    mx.save_safetensors(str(tmp_path / "trained" / "adapters.safetensors"), weights)
    settings = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters, "model": "/home/me/base"}
    save_config({**settings, "batch_size": 4}, tmp_path / "trained" / "adapter_config.json")
    network.load_weights(list(weights.items()), strict=False)
    wanted = np.array(network(mx.array([IDS])).astype(mx.float32))[0]

    adapter = converted(tmp_path / "trained", "safetensors", base.model)
    opened = open_adapter(adapter)
    assert (opened.rank, opened.alpha_thousandths, opened.target_modules) == (4, 2800, ("down_proj", "q_proj"))
    assert b"/home" not in (adapter / "adapter_config.json").read_bytes()
    assert mean_divergence(peft_logits(base.root, adapter), wanted) < 1e-6
    again = converted(adapter, "mlx", base.model)
    assert mx.load(str(again / "adapters.safetensors")).keys() == weights.keys()
    assert all(
        mx.array_equal(value, weights[name]) for name, value in mx.load(str(again / "adapters.safetensors")).items()
    )
    written = json.loads((again / "adapter_config.json").read_text())
    assert (written["num_layers"], written["lora_parameters"]["keys"]) == (2, ["mlp.down_proj", "self_attn.q_proj"])
    assert (
        mean_divergence(wanted, llama_logits(base.model, converted(tmp_path / "trained", "gguf", base.model), tmp_path))
        < 1e-5
    )


@pytest.mark.servers
def test_the_gguf_file_is_the_one_that_llama_cpp_makes(
    base: Base, converted: Callable[..., Path], tmp_path: Path, reference_converter: ReferenceConverter
) -> None:
    for kind in ("f32", "f16", "bf16"):
        target = tmp_path / f"{kind}.gguf"
        theirs = reference_converter.convert_lora(base.adapter, base.root, target, outtype=kind)
        ours = converted(base.adapter, f"gguf:{kind.upper()}", base.model, exact=kind == "f32")
        header = read_header(theirs)
        sizes = [(tensor.name, tensor.shape, tensor.type_name) for tensor in header.tensors]
        start = header.tensors[0].offset
        assert ours.read_bytes() == header_bytes(edited(header), plan(sizes)) + theirs.read_bytes()[start:]


def edited(header: GgufHeader) -> dict[str, GgufValue]:
    """Their metadata with our name, and without what names the base's folder."""
    kept = {key: value for key, value in header.metadata.items() if not key.startswith("general.base_model")}
    kept.pop("general.tags", None)
    return {**kept, "general.name": GgufValue(kept["general.name"].kind, "tiny")}


@pytest.mark.parametrize("base", ["llama3"], indirect=True)
@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 40}},
    ],
)
def test_ranks_and_scales_that_differ_by_module_come_through(
    settings: dict[str, Any], base: Base, converted: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = save_lora(base.root, tmp_path / "lora", **settings)
    wanted = peft_logits(base.root, adapter)
    assert mean_divergence(wanted, mlx_logits(base.model, converted(adapter, "mlx", exact=False), tmp_path)) < 1e-6
    file = converted(adapter, "gguf", base.model, exact=False)
    assert mean_divergence(wanted, llama_logits(base.model, file, tmp_path)) < 1e-5


def test_an_update_that_adds_nothing_does_not_lead_the_others(
    base: Base, converted: Callable[..., Path], tmp_path: Path
) -> None:
    kinds = {f"mlp.{kind}": 0 for kind in ("down_proj", "gate_proj", "up_proj")}  # the first by name
    adapter = save_lora(base.root, tmp_path / "some", alpha_pattern=kinds)
    none = tmp_path / "none"
    shutil.copytree(adapter, none)
    config = json.loads((none / "adapter_config.json").read_text())
    nothing = {**config, "alpha_pattern": dict.fromkeys(config["target_modules"], 0)}
    (none / "adapter_config.json").write_text(json.dumps(nothing))
    for source, scales in ((adapter, {0.0, 1.5}), (none, {0.0})):
        assert {update.scale for update in open_updates(source).updates} == scales
        converted(source, "mlx", exact=False)  # compares each update
        converted(source, "gguf", base.model, exact=False)


def test_what_other_formats_cannot_say_is_refused(base: Base, tmp_path: Path, converted: Callable[..., Path]) -> None:
    for name, settings, message in (
        ("dora", {"use_dora": True}, "use_dora"),
        ("saved", {"modules_to_save": ["input_layernorm"]}, "modules_to_save"),
    ):
        with pytest.raises(UnsupportedConversionError, match=message):
            open_updates(save_lora(base.root, tmp_path / name, **settings))
    embedding = save_lora(base.root, tmp_path / "embedding", target_modules=["embed_tokens", "q_proj"])
    with pytest.raises(UnsupportedConversionError, match="apply differently"):
        converted(embedding, "mlx")
    if base.model.config.tied:
        with pytest.raises(UnsupportedConversionError, match="apply differently"):
            converted(embedding, "mlx", base.model)
        return
    wanted = peft_logits(base.root, embedding)
    assert mean_divergence(wanted, mlx_logits(base.model, converted(embedding, "mlx", base.model), tmp_path)) < 1e-6
    file = converted(embedding, "gguf", base.model)
    assert mean_divergence(wanted, llama_logits(base.model, file, tmp_path)) < 1e-5


def test_bases_and_variants_that_do_not_fit_are_refused(
    base: Base, converted: Callable[..., Path], llama: Path
) -> None:
    with pytest.raises(ConfigError, match="needs its base"):
        converted(base.adapter, "gguf")
    with pytest.raises(UnsupportedConversionError, match="an adapter cannot become gguf:Q8_0"):
        converted(base.adapter, "gguf:Q8_0", base.model)
    for to in ("mlx", "gguf"):
        with pytest.raises((FormatError, UnsupportedConversionError)) as raised:
            converted(base.adapter, to, open_model(llama))
        assert "--base" in raised.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine_tune_type": "dora"}, "fine_tune_type is 'dora'"),
        ({"fine_tune_type": "full"}, "fine_tune_type is 'full'"),
        ({"lora_parameters": None}, "no lora_parameters"),
        ({"lora_parameters": {"rank": 8}}, "scale must be a number"),
        ({"lora_parameters": {"rank": 0, "scale": 1}}, "rank 0"),
        ({"lora_parameters": {"rank": 8, "scale": -1}}, "no LoRA"),
        ({"lora_parameters": {"rank": 9, "scale": 1}}, "has rank 8, adapter_config.json says 9"),
    ],
)
def test_a_configuration_of_mlx_that_is_wrong_is_one_line(
    change: dict[str, object], message: str, base: Base, converted: Callable[..., Path]
) -> None:
    folder = converted(base.adapter, "mlx")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CitrateError, match=message) as raised:
        open_updates(folder)
    assert "\n" not in raised.value.message
    (folder / "adapters.safetensors").rename(folder / "adapters.npz")
    with pytest.raises(NotFoundError):
        open_updates(folder)


def test_register_lora_says_how_an_adapter_of_mlx_becomes_one_that_it_takes(
    base: Base, converted: Callable[..., Path]
) -> None:
    with pytest.raises(NotFoundError, match="adapter of mlx-lm") as raised:
        open_adapter(converted(base.adapter, "mlx"))
    assert "citrate convert" in raised.value.hint
