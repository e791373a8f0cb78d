"""An adapter is read with bounds, refused where it is none, held against its base, and published reproducibly."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from citrate.core.adapters import ADAPTER_MAX_BYTES
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import Architecture, FileEntry
from citrate.core.sink import Buffer
from citrate.formats import open_model
from citrate.formats.adapter import open_adapter, texts, write
from citrate.formats.adapter_base import require_fits, tensor_shapes
from citrate.formats.adapter_config import require_published
from citrate.formats.adapter_weights import require_trained
from citrate.formats.safetensors_file import read_header
from tests.adapter_dirs import HIDDEN, LAYERS, VOCAB, lora_tensors, module_path, write_adapter

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"


class FolderSink:
    """Keeps what is written in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}

    def open(self, path: str, _size_bytes: int | None = None) -> _File:
        self.files[path] = bytearray()
        return _File(path, self.files[path])


class _File:
    def __init__(self, path: str, data: bytearray) -> None:
        self.path = path
        self.data = data

    def write(self, data: Buffer) -> None:
        self.data += data

    def close(self) -> FileEntry:
        return FileEntry(self.path, len(self.data), "0" * 64, "")


def published(folder: Path) -> dict[str, bytes]:
    sink = FolderSink()
    write(open_adapter(folder), sink, lambda *_: None)
    return {name: bytes(data) for name, data in sink.files.items()}


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    return open_model(SAMPLE).architecture


def test_what_the_files_say_is_read(tmp_path: Path, architecture: Architecture) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", lora_alpha=12.5))
    assert (adapter.rank, adapter.alpha_thousandths, adapter.target_modules) == (8, 12_500, ("q_proj", "v_proj"))
    assert len(adapter.pairs) == 2 * LAYERS and adapter.pairs[0].module == module_path(0, "q_proj")
    require_fits(adapter, architecture, {})
    require_fits(adapter, architecture, tensor_shapes(SAMPLE))


def test_every_alpha_of_three_decimals_can_stand_on_chain(tmp_path: Path) -> None:
    """In binary 1.005 * 1000 is below 1005."""
    for thousandths in (1, 1001, 1005, 5600, 65_535_999):
        adapter = open_adapter(write_adapter(tmp_path / "a", lora_alpha=thousandths / 1000))
        assert adapter.alpha_thousandths == thousandths


def test_what_is_published_is_the_same_whatever_order_peft_wrote(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "a", target_modules=["v_proj", "q_proj"])
    other = write_adapter(tmp_path / "b", target_modules=["q_proj", "v_proj"])
    assert published(one) == published(other)
    config = published(one)["adapter_config.json"]
    assert b"somebody" not in config and json.loads(config)["target_modules"] == ["q_proj", "v_proj"]
    again = tmp_path / "again"
    again.mkdir()
    for name, data in published(one).items():
        (again / name).write_bytes(data)
    assert published(again) == published(one), "published files are published as they are"


def test_only_weights_configuration_tokenizer_card_and_licence_are_published(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    for name in ("README.md", "LICENSE", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    for name in ("training_args.bin", "optimizer.pt", "adapter_model.bin", "notes.txt", "model.py"):
        (folder / name).write_bytes(pickle.dumps({}))
    (folder / "checkpoint-10").mkdir()
    adapter = open_adapter(folder)
    assert set(published(folder)) == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "LICENSE", "tokenizer.json",
        "chat_template.jinja",
    }  # fmt: skip
    assert "training_args.bin" in adapter.left_out and "checkpoint-10" in adapter.left_out
    assert set(texts(adapter)) == set(published(folder)) - {"adapter_model.safetensors"}


def test_a_pickle_instead_of_weights_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFoundError, match="holds no adapter_model"):
        open_adapter(folder)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(FormatError, match="is a pickle") as error:
        open_adapter(folder)
    assert "safe_serialization" in error.value.hint


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "README.md").symlink_to(secret)
    with pytest.raises(FormatError, match="leads outside"):
        open_adapter(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "is no LoRA"),
        ({"peft_type": None}, "is no LoRA"),
        ({"r": 0}, "rank r = 0"),
        ({"r": True}, "rank r = True"),
        ({"r": 4097}, "rank r = 4097"),
        ({"r": "8"}, "rank r = '8'"),
        ({"r": 16}, "has rank 8, adapter_config.json says 16"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": -1}, "lora_alpha"),
        ({"lora_alpha": 0.0001}, "lora_alpha"),
        ({"lora_alpha": 1.0005}, "lora_alpha"),
        ({"lora_alpha": 1e12}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"rank_pattern": []}, None),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern is no object"),
        ({"rank_pattern": {"q_proj": 4}}, "says 4"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(
    tmp_path: Path, config: dict[str, object], message: str | None
) -> None:
    folder = write_adapter(tmp_path / "a", **config)
    if message is None:
        open_adapter(folder)
        return
    with pytest.raises(FormatError, match=message) as error:
        open_adapter(folder)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ({"r": 5000}, "train it with one that the registry takes"),
        ({"r": 16}, "save the adapter again"),
        ({"rank_pattern": {"q_proj": 4}}, "save the adapter again"),
    ],
)
def test_a_wrong_rank_says_what_to_do_about_the_adapter(tmp_path: Path, config: dict[str, object], hint: str) -> None:
    with pytest.raises(FormatError) as error:
        open_adapter(write_adapter(tmp_path / "a", **config))
    assert hint in error.value.hint and "download" not in error.value.hint


def test_weights_that_are_no_lora_are_refused(tmp_path: Path) -> None:
    whole = lora_tensors()
    lone = dict(list(whole.items())[1:])
    name = next(iter(whole))
    for shapes, message in (
        ({}, "holds no LoRA"),
        (lone, "one factor"),
        ({**whole, "model.embed_tokens.weight": (VOCAB, HIDDEN)}, "no part of a LoRA"),
        ({**whole, name: (8, 256, 1)}, "no LoRA"),
        ({**whole, name: (4, 256)}, "no LoRA"),
    ):
        with pytest.raises(FormatError, match=message):
            open_adapter(write_adapter(tmp_path / message.replace(" ", "-"), shapes))


def test_modules_that_are_saved_whole_and_trained_biases_are_taken(tmp_path: Path, architecture: Architecture) -> None:
    shapes = {
        **lora_tensors(),
        "base_model.model.lm_head.weight": (VOCAB, HIDDEN),
        "base_model.model.model.layers.0.self_attn.q_proj.bias": (HIDDEN,),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": (HIDDEN,),
    }
    adapter = open_adapter(write_adapter(tmp_path / "a", shapes, modules_to_save=["lm_head"], bias="lora_only"))
    require_fits(adapter, architecture, {})
    with pytest.raises(FormatError, match="lm_head"):
        open_adapter(write_adapter(tmp_path / "b", shapes, bias="lora_only"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "names 'o_proj', of which the weights hold no update"),
        ({"target_modules": ["q_proj,v_proj"]}, "names 'q_proj,v_proj'"),
        ({"target_modules": ["q_proj"]}, "v_proj, which target_modules does not name"),
        ({"target_modules": []}, "which target_modules does not name"),
        ({"target_modules": {"q_proj": 1}}, "no list of names"),
        ({"target_modules": ["q_proj", 1]}, "no list of names"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save names 'lm_head'"),
        ({"modules_to_save": ["score", "classifier"]}, "modules_to_save names 'classifier'"),
    ],
)
def test_modules_that_are_named_are_those_of_the_weights(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        open_adapter(write_adapter(tmp_path / "a", **config))


def test_a_regular_expression_is_published_as_the_modules_that_it_stood_for(tmp_path: Path) -> None:
    for named in (r".*\.(q|v)_proj", None):
        adapter = open_adapter(write_adapter(tmp_path / "a", target_modules=named))
        assert adapter.config["target_modules"] == [pair.module for pair in adapter.pairs]
        assert adapter.target_modules == ("q_proj", "v_proj")


def test_what_names_code_is_not_published_and_refused_where_somebody_did(tmp_path: Path) -> None:
    code = {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}, "megatron_config": {"a": 1}}
    adapter = open_adapter(write_adapter(tmp_path / "a", **code))
    assert not set(adapter.config) & {*code, "megatron_core"}
    found = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    with pytest.raises(FormatError, match="names code in auto_mapping"):
        require_published(found, adapter.config)
    require_published(adapter.config, adapter.config)
    require_published({**adapter.config, "auto_mapping": None, "megatron_core": "megatron.core"}, adapter.config)
    for key, value in (("target_modules", "(.*)*q_proj"), ("modules_to_save", ["lm_head"])):
        with pytest.raises(FormatError, match=f"{key} is not what the weights hold"):
            require_published({**adapter.config, key: value}, adapter.config)


def test_a_classifier_names_two_heads_and_has_one(tmp_path: Path) -> None:
    shapes = {**lora_tensors(), "base_model.model.score.weight": (2, HIDDEN)}
    adapter = open_adapter(write_adapter(tmp_path / "a", shapes, modules_to_save=["classifier", "score"]))
    assert adapter.config["modules_to_save"] == ["score"]


def test_a_tensor_whose_module_is_no_path_is_refused(tmp_path: Path) -> None:
    for path in ("model.q,proj", "model.q proj", "model..q_proj", "model." + "q" * 65):
        shapes = {f"base_model.model.{path}.lora_A.weight": (8, 16), f"base_model.model.{path}.lora_B.weight": (16, 8)}
        with pytest.raises(FormatError, match="is no module's path"):
            open_adapter(write_adapter(tmp_path / "a", shapes))


def test_values_are_finite_and_trained(tmp_path: Path) -> None:
    weights = write_adapter(tmp_path / "a") / "adapter_model.safetensors"
    require_trained(weights)
    tensors = {tensor.name: tensor for tensor in read_header(weights)}
    whole = weights.read_bytes()

    def changed(names: Iterable[str], value: bytes) -> None:
        data = bytearray(whole)
        for name in names:
            tensor = tensors[name]
            data[tensor.offset : tensor.offset + tensor.size_bytes] = value * (tensor.size_bytes // 4)
        weights.write_bytes(data)

    second = [name for name in tensors if "lora_B" in name]
    changed(second[:-1], bytes(4))
    require_trained(weights)
    changed(second, bytes(4))
    with pytest.raises(FormatError, match="was never trained"):
        require_trained(weights)
    for value in (float("nan"), float("inf"), float("-inf")):
        changed(second[-1:], struct.pack("<f", value))
        with pytest.raises(FormatError, match="NaN or infinite"):
            require_trained(weights)


def test_an_embedding_has_the_vocabulary_on_its_first_side(tmp_path: Path, architecture: Architecture) -> None:
    def adapter_for(vocabulary: int) -> Path:
        shapes = {
            "base_model.model.model.embed_tokens.lora_embedding_A": (8, vocabulary),
            "base_model.model.model.embed_tokens.lora_embedding_B": (HIDDEN, 8),
        }
        return write_adapter(tmp_path / str(vocabulary), shapes, target_modules=["embed_tokens"])

    require_fits(open_adapter(adapter_for(VOCAB)), architecture, {})
    with pytest.raises(FormatError, match="embed_tokens"):
        require_fits(open_adapter(adapter_for(VOCAB + 1)), architecture, {})


def test_an_adapter_of_another_base_is_refused_and_the_tensor_named(tmp_path: Path, architecture: Architecture) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a"))
    for other, why in (
        (replace(architecture, hidden_size=512), "q_proj has 512 in"),
        (replace(architecture, heads=8), "q_proj has 512 out"),
        (replace(architecture, kv_heads=4), "v_proj has 256 out"),
        (replace(architecture, layers=2), "the base has 2 layers"),
    ):
        with pytest.raises(FormatError, match=r"does not fit this base: .*lora_A\.weight") as error:
            require_fits(adapter, other, {})
        assert why in error.value.message and "--base" in error.value.hint
    require_fits(adapter, replace(architecture, hidden_size=0, heads=0, kv_heads=0, layers=0), {})


def test_the_bases_own_tensors_decide_where_they_are_known(tmp_path: Path, architecture: Architecture) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a"))
    shapes = dict(tensor_shapes(SAMPLE))
    missing = {name: shape for name, shape in shapes.items() if "layers.1.self_attn.q_proj" not in name}
    with pytest.raises(FormatError, match=r"has no model\.layers\.1\.self_attn\.q_proj"):
        require_fits(adapter, architecture, missing)
    other = {**shapes, "model.layers.0.self_attn.v_proj.weight": (64, 256)}
    with pytest.raises(FormatError, match="64 x 256"):
        require_fits(adapter, architecture, other)


def test_what_is_larger_than_the_registry_takes_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    rank = ADAPTER_MAX_BYTES // 4 // (2 * HIDDEN) // 64 + 1
    shapes = {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight": shape
        for layer in range(64)
        for side, shape in (("A", (rank, HIDDEN)), ("B", (HIDDEN, rank)))
    }
    import math

    from citrate.formats.safetensors_file import Planned, header_bytes

    planned = [Planned(name, "F32", shape) for name, shape in sorted(shapes.items())]
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(header_bytes(planned, {}))
        file.truncate(file.tell() + 4 * sum(math.prod(each.shape) for each in planned))  # sparse: takes no room
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "r": min(rank, 4096), "rank_pattern": {"q_proj": rank}, "target_modules": ["q_proj"]})
    )
    with pytest.raises(FormatError, match="500,000,000"):
        open_adapter(folder)


def test_what_is_no_directory_or_no_adapter_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such directory"):
        open_adapter(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="holds no adapter_config"):
        open_adapter(SAMPLE)
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FormatError, match="truncated"):
        open_adapter(folder)
    (folder / "adapter_config.json").write_text("[1]")
    with pytest.raises(FormatError, match="not a JSON object"):
        open_adapter(folder)


@pytest.mark.models
def test_an_adapter_that_peft_itself_wrote_is_taken_and_loads_again(
    tmp_path: Path, architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def base() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(SAMPLE)  # type: ignore[no-any-return]  # transformers has no types

    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj", "embed_tokens"], init_lora_weights=False
    )
    trained = get_peft_model(base(), config).eval()
    trained.save_pretrained(tmp_path / "peft")
    adapter = open_adapter(tmp_path / "peft")
    assert adapter.target_modules == ("down_proj", "embed_tokens", "q_proj")
    require_fits(adapter, architecture, tensor_shapes(SAMPLE))
    out = tmp_path / "published"
    out.mkdir()
    for name, data in published(tmp_path / "peft").items():
        (out / name).write_bytes(data)
    loaded = PeftModel.from_pretrained(base(), out).eval()
    tokens = torch.arange(1, 17).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(trained(tokens).logits, loaded(tokens).logits)
