"""Inspection says what a model is and runs nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edit_model import edited
from tiny_models import TEMPLATE, Convert

from citrate.core.errors import FormatError, NotFoundError
from citrate.formats import inspect, open_model, require_template
from citrate.formats.tokenizer_files import chat_template_sha256


def test_a_directory(llama: Path) -> None:
    found = inspect(llama)
    assert (found.format, found.dtypes, found.tokenizer) == ("safetensors", ("BF16",), "BPE")
    assert (found.architecture.name, found.architecture.class_name) == ("llama", "LlamaForCausalLM")
    assert (found.architecture.layers, found.architecture.heads, found.architecture.kv_heads) == (2, 8, 2)
    assert found.architecture.head_dim == 32
    assert found.chat_template == TEMPLATE
    assert found.chat_template_sha256 == chat_template_sha256(TEMPLATE)
    assert found.licence is not None
    assert found.licence.spdx == "Apache-2.0"
    assert found.findings == ()


@pytest.mark.parametrize("variant", ["gguf:Q4_K_M", "gguf:F16", "mlx:4bit", "safetensors"])
def test_every_variant_is_recognised_as_the_same_model(variant: str, llama: Path, converted: Convert) -> None:
    source, (path, _) = inspect(llama), converted(open_model(llama), variant)
    found = inspect(path)
    assert found.format == variant.partition(":")[0]
    assert found.parameters == source.parameters
    assert found.chat_template_sha256 == source.chat_template_sha256
    assert found.architecture.kv_cache_bytes(512) == source.architecture.kv_cache_bytes(512)


def test_code_is_found_and_not_run(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m", lambda config: config.update(auto_map={"AutoConfig": "evil.Config"}))
    marker = tmp_path / "executed"
    (root / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    findings = " ".join(inspect(root).findings)
    assert "evil.py" in findings
    assert "auto_map" in findings
    assert not marker.exists()


def test_a_chat_template_with_half_a_character_is_refused(llama: Path, tmp_path: Path) -> None:
    root = edited(llama, tmp_path / "m")
    (root / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((root / "tokenizer_config.json").read_text())
    (root / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "\ud800"}))
    with pytest.raises(FormatError, match="no valid Unicode"):
        inspect(root)


def test_many_local_paths_are_one_short_finding(llama: Path, tmp_path: Path) -> None:
    paths = {f"path_{i}": "/home/somebody/x" for i in range(1000)}
    found = inspect(edited(llama, tmp_path / "m", lambda config: config.update(paths))).findings
    (finding,) = [finding for finding in found if "local paths" in finding]
    assert "and 995 more" in finding and len(finding) < 200


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        inspect(tmp_path / "nothing")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(FormatError, match="neither a model folder nor a GGUF file"):
        inspect(tmp_path / "x.zip")


def test_another_chat_template_than_the_manifest_names_is_refused(llama: Path) -> None:
    found = inspect(llama)
    require_template(found, found.chat_template_sha256, "x")
    require_template(found, "", "x")
    with pytest.raises(FormatError, match="that its manifest does not name"):
        require_template(found, "0" * 64, "x")
