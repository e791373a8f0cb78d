"""Bad sources and arguments of every kind: one line, a hint, the right exit code, and nothing half done."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import SAMPLE, Machine, refuses

pytestmark = pytest.mark.servers


def _no_such_folder(model: Path) -> None:
    shutil.rmtree(model)


def _a_file(model: Path) -> None:
    shutil.rmtree(model)
    model.write_text("not a folder")


def _not_a_model(model: Path) -> None:
    for path in model.iterdir():
        path.unlink()
    (model / "notes.txt").write_text("hello")


def _only_pickles(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _truncated(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _header_too_long(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", 2**63) + weights.read_bytes()[8:])


def _nan_weights(model: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-2:] = struct.pack("<H", 0x7FC0)  # a bfloat16 NaN
    (model / "model.safetensors").write_bytes(weights)


def _an_outlier(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 7] = 1e7  # its scale overflows half precision
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def _a_tokenizer_that_gguf_cannot_express(model: Path) -> None:
    document = json.loads((model / "tokenizer.json").read_text())
    document["model"]["end_of_word_suffix"] = "</w>"
    (model / "tokenizer.json").write_text(json.dumps(document))


def _shard_outside(model: Path) -> None:
    shutil.copyfile(model / "model.safetensors", model.parent / "secret.safetensors")
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"model.embed_tokens.weight": "../secret.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "x.safetensors").write_bytes(b"")


def _absurd_config(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = 10**9
    (model / "config.json").write_text(json.dumps(config))


def _licence_missing(model: Path) -> None:
    (model / "LICENSE").unlink()
    (model / "README.md").write_text("# a model\n")


DAMAGES: list[tuple[Callable[[Path], None], int, str, str]] = [
    (_no_such_folder, 4, "NotFoundError", "no such folder"),
    (_a_file, 1, "FormatError", "not a folder"),
    (_not_a_model, 1, "FormatError", "not a model directory"),
    (_only_pickles, 1, "FormatError", "is a pickle that is not used"),
    (_truncated, 1, "FormatError", ""),
    (_header_too_long, 1, "FormatError", ""),
    (_nan_weights, 1, "FormatError", ""),
    (_an_outlier, 1, "FormatError", "check 'tensor error Q8_0' failed"),
    (_a_tokenizer_that_gguf_cannot_express, 1, "FormatError", "check 'tokens' failed for gguf:Q8_0"),
    (_shard_outside, 1, "FormatError", "not a plain file name"),
    (_absurd_config, 1, "FormatError", ""),
    (_licence_missing, 2, "ConfigError", "names no licence"),
]


@pytest.mark.parametrize(("damage", "code", "kind", "word"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_source_is_refused_and_leaves_the_home_as_it_was(
    fresh: Machine, model: Path, damage: Callable[[Path], None], code: int, kind: str, word: str
) -> None:
    damage(model)
    result = fresh.types("register-model", str(model), "--name", "x", "--variants", "safetensors,gguf:Q8_0", "--json")
    refuses(result, code, kind, word)
    assert fresh.files() == set(), "no key, no devnet, no object, no leftover"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--name", "Llama"), "not allowed"),
        (("--name", "x" * 65), "not allowed"),
        (("--name", "x", "--version", "latest"), "reserved"),
        (("--name", "x", "--alias", "latest"), "reserved"),
        (("--name", "x", "--alias", "1.0.0"), "alias"),
        (("--name", "x", "--variants", "pickle"), "unknown format"),
        (("--name", "x", "--variants", ""), "empty"),
        (("--name", "x", "--price", "5"), "unit"),
        (("--name", "x", "--price", "-1ether"), "positive"),
        (("--name", "x", "--license", "mit"), "card"),
        (("--name", "x", "--checks", "none"), "not known"),
    ],
)
def test_wrong_arguments_exit_2(fresh: Machine, arguments: tuple[str, ...], word: str) -> None:
    refuses(fresh.types("register-model", str(SAMPLE), *arguments, "--json"), 2, "ConfigError", word)
    assert fresh.files() == set()


def test_a_named_variant_that_cannot_be_made_lists_what_is_possible(fresh: Machine) -> None:
    result = fresh.types("register-model", str(SAMPLE), "--name", "x", "--variants", "tensorrt_llm:fp8@sm70", "--json")
    refuses(result, 1, "UnsupportedConversionError", "LlamaForCausalLM")
    assert "gguf:Q4_K_M" in str(result.error["hint"])
    assert fresh.files() == set()


def test_secrets_of_the_rpc_url_are_not_shown(fresh: Machine) -> None:
    shown = fresh.types("config", "show", "--json", CITRATE_RPC_URL="https://user:secretpw@rpc.example/v3/SECRETKEY")
    assert shown.code == 0
    assert "secretpw" not in shown.out
    assert "SECRETKEY" not in shown.out


def test_run_refuses_bad_prompts_and_paths(fresh: Machine, tmp_path: Path) -> None:
    refuses(fresh.types("run", str(SAMPLE), "--json", stdin=""), 2, "ConfigError", "no prompt")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40))
    refuses(fresh.types("run", str(broken), "Hello", "--json"), 1, "FormatError")
    refuses(fresh.types("run", "no/such@thing@here", "Hello", "--json"), 2, "ConfigError")
    assert fresh.files() == set()


def test_convert_refuses_to_overwrite_and_leaves_nothing_on_failure(
    fresh: Machine, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("mine")
    refuses(
        fresh.types("convert", str(model), "--to", "gguf:Q8_0", "--out", str(out), "--json"), 1, "AlreadyExistsError"
    )
    assert out.read_text() == "mine"
    _nan_weights(model)
    before = sorted(tmp_path.iterdir())
    result = fresh.types("convert", str(model), "--to", "gguf:Q8_0", "--out", str(tmp_path / "new.gguf"), "--json")
    refuses(result, 1, "FormatError")
    assert sorted(tmp_path.iterdir()) == before


def test_usage_errors_obey_json(fresh: Machine) -> None:
    for arguments in (
        ("nope",),
        ("pull",),
        ("pull", "--nope", "x"),
        ("config", "shw"),
        ("run", "x", "y", "--seed", "z"),
    ):
        result = fresh.types(*arguments, "--json")
        assert result.code == 2
        assert result.error["type"] == "UsageError"
        assert result.error["hint"]


def test_a_model_that_writes_no_text_is_not_run(fresh: Machine, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"], "model_type": "bert"}))
    refuses(fresh.types("run", str(model), "hello", "--json"), 1, "FormatError", "makes vectors of text")
