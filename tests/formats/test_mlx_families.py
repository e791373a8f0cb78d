"""MLX directories of every family that mlx-lm has hold the arrays of ``mlx_lm.convert``, and come back whole."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_models import DECODERS
from tiny_models import FolderSink

from citrate.core.records import Variant
from citrate.formats import Conversion, SourceModel, check, convert, convert_all, inspect, open_model
from citrate.formats.mlx_affine import WRITTEN

pytestmark = pytest.mark.models

FAMILIES = ("llama31", "mistral", "qwen25", "qwen3")
"""One model of each that mlx-lm has."""
OTHERS = ("4bit", "8bit-g32", "")  # of every family; all of them of one
VARIANTS = [Variant.parse(f"mlx:{name}" if name else "mlx") for name in WRITTEN]


@dataclass(frozen=True)
class Made:
    """A family's model and our MLX directories of it, by quantization."""

    model: SourceModel
    ours: dict[str, Path]
    reports: dict[str, Conversion]

    @property
    def names(self) -> tuple[str, ...]:
        """The quantizations to compare with mlx-lm."""
        return tuple(WRITTEN) if self.model.architecture.name == "llama" and self.model.config.tied else OTHERS


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp(request.param)
    (root / "source").mkdir()
    DECODERS[request.param][0](root / "source")
    model = open_model(root / "source")
    sinks = {variant: FolderSink(root / f"ours-{variant.quantization}") for variant in VARIANTS}
    reports = {v.quantization: report for v, report in convert_all(model, sinks, name="tiny", threads=2).items()}
    return Made(model, {name: root / f"ours-{name}" for name in WRITTEN}, reports)


def mlx_lm_convert(source: Path, target: Path, **settings: Any) -> Path:
    """The reference tool itself."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from mlx_lm.convert import convert as reference

    reference(str(source), mlx_path=str(target), **settings)
    return target


def arrays(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every array."""
    import mlx.core as mx

    found = {name: array for path in sorted(folder.glob("*.safetensors")) for name, array in mx.load(str(path)).items()}
    return {
        name: (str(array.dtype), tuple(array.shape), np.array(array.view(mx.uint8)).tobytes())
        for name, array in found.items()
    }


def settings_of(name: str) -> dict[str, Any]:
    affine = WRITTEN[name]
    return {"quantize": True, "q_group_size": affine.group, "q_bits": affine.bits} if affine else {}


def test_every_array_is_what_mlx_lm_makes(made: Made, tmp_path: Path) -> None:
    for name in made.names:
        theirs = mlx_lm_convert(made.model.root, tmp_path / f"theirs-{name}", **settings_of(name))
        assert arrays(made.ours[name]) == arrays(theirs), name
        wanted = json.loads((theirs / "config.json").read_text())
        config = json.loads((made.ours[name] / "config.json").read_text())
        for key in ("quantization", "quantization_config"):
            assert config.get(key) == wanted.get(key)
        sizes = json.loads((theirs / "model.safetensors.index.json").read_text())["metadata"]
        assert json.loads((made.ours[name] / "model.safetensors.index.json").read_text())["metadata"] == sizes


def test_mlx_lm_loads_it_and_predicts_as_the_checks_say(made: Made) -> None:
    import mlx.core as mx
    from mlx_lm.utils import load

    from citrate.formats.checks.divergence import mean_divergence
    from citrate.formats.checks.reference import positions, source_outputs

    for name in ("", "8bit"):
        variant = Variant.parse(f"mlx:{name}" if name else "mlx")
        checks = {each.name: each for each in check(made.model, variant, made.ours[name])}
        assert float(checks["logits"].value) < (1e-6 if not name else 0.01)
        network, _ = load(str(made.ours[name]))
        network.set_dtype(mx.float32)
        ids = [list(each[:64]) for each in positions(made.model)]
        found = np.concatenate([np.array(network(mx.array([each])))[0] for each in ids])
        whole = source_outputs(made.model)
        lengths = [len(each) for each in positions(made.model)]
        starts = np.cumsum([0, *lengths[:-1]])
        wanted = np.concatenate([whole[start : start + len(each)] for start, each in zip(starts, ids, strict=True)])
        assert mean_divergence(wanted, found) < (1e-5 if not name else 0.02)


def test_it_comes_back_whole_where_nothing_was_quantised(made: Made, tmp_path: Path) -> None:
    back = open_model(made.ours[""])
    report = convert(back, Variant.parse("safetensors"), FolderSink(tmp_path / "back"), name="tiny")
    once = convert(made.model, Variant.parse("safetensors"), FolderSink(tmp_path / "once"), name="tiny")
    assert report.arguments == once.arguments == {}
    assert arrays(tmp_path / "back") == arrays(tmp_path / "once")
    once_written = [path for path in (tmp_path / "once").rglob("*.*") if path.is_file()]
    for path in once_written:
        again = tmp_path / "back" / path.relative_to(tmp_path / "once")
        assert path.suffix == ".safetensors" or again.read_bytes() == path.read_bytes(), path.name
    assert (inspect(made.ours[""]).format, inspect(tmp_path / "back").format) == ("mlx", "safetensors")


def test_it_comes_back_decoded_as_mlx_lm_decodes_it(made: Made, tmp_path: Path) -> None:
    for name in filter(None, made.names):
        affine = WRITTEN[name]
        assert affine
        back = open_model(made.ours[name])
        report = convert(back, Variant.parse("safetensors"), FolderSink(tmp_path / f"back-{name}"), name="tiny")
        assert report.arguments == {"decoded": f"mlx affine, {affine.bits} bits in groups of {affine.group}"}
        theirs = mlx_lm_convert(made.ours[name], tmp_path / f"theirs-{name}", dequantize=True)
        assert arrays(tmp_path / f"back-{name}") == arrays(theirs)
        config = json.loads((tmp_path / f"back-{name}" / "config.json").read_text())
        assert "quantization" not in config and "quantization_config" not in config
        (outputs,) = [each for each in check(back, report.variant, tmp_path / f"back-{name}") if each.name == "logits"]
        assert float(outputs.value) <= 1e-6
        assert inspect(made.ours[name]).parameters == inspect(made.model.root).parameters
