"""Models that are only passed on are published and pulled like any other: a pipeline that paints, a model that sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from citrate.cli.main import main
from tests.e2e.conftest import Machine, Release
from tests.passed_on_models import make_llava, make_sdxl

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]
Typed = Callable[..., tuple[int, dict[str, object]]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A command typed at a machine, in this process: exit code and JSON."""

    def run(machine: Machine, *arguments: str) -> tuple[int, dict[str, object]]:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
            for name, value in machine.env.items():
                patch.setenv(name, value)
            main([*arguments, "--json"])
        return int(stopped.value.code or 0), json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", ["sdxl", "llava"])
def test_a_model_that_is_passed_on_arrives_with_every_weight_and_nothing_private(
    name: str, release: Release, reader: Machine, typed: Typed, tmp_path: Path
) -> None:
    source = (make_sdxl if name == "sdxl" else make_llava)(tmp_path / "source")
    code, published = typed(release.machine, "register-model", str(source), "--name", f"passed-on-{name}")
    assert code == 0, published
    (variant,) = published["variants"]  # type: ignore[misc]
    assert variant["variant"] == "safetensors"
    skipped = {each["variant"]: each["reason"] for each in published["skipped"]}  # type: ignore[attr-defined]
    assert set(skipped) == {"gguf:Q4_K_M", "gguf:Q8_0", "mlx:4bit"} and all(skipped.values())
    code, pulled = typed(reader, "pull", f"{published['ref']}#safetensors", "--out", str(tmp_path / "pulled"))
    assert (code, pulled["sha256"]) == (0, variant["sha256"]), pulled
    path = Path(str(pulled["path"]))
    for file in path.rglob("*.safetensors"):
        ours, theirs = load_file(file), load_file(source / file.relative_to(path))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[tensor], theirs[tensor]) for tensor in ours)
    texts = [file.read_text() for file in path.rglob("*.json")]
    assert texts and not any("/home/me" in text for text in texts)
    code, found = typed(reader, "inspect", str(path))
    assert (code, found["architecture"]["name"]) == (0, name)  # type: ignore[index]


def test_a_variant_that_a_model_that_sees_cannot_have_is_refused_with_its_reason(
    release: Release, typed: Typed, tmp_path: Path
) -> None:
    source = make_llava(tmp_path / "source")
    arguments = ("--name", "sees", "--variants", "tensorrt_llm:fp8@sm90")
    code, told = typed(release.machine, "register-model", str(source), *arguments)
    assert code == 1
    assert "makes no TensorRT-LLM checkpoints of models that see" in str(told["error"])
