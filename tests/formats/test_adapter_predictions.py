"""What an adapter became predicts what it did, on its base; or it is not handed out."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from family_models import minilm

from citrate.core.errors import ConfigError, FormatError, UnsupportedConversionError
from citrate.core.records import Variant
from citrate.formats import open_model
from citrate.formats.adapter_conversion import open_updates
from citrate.formats.adapter_predictions import check_predictions, require_comparable
from citrate.registry.converting import convert_to_path
from tests.adapter_dirs import write_adapter

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"

pytestmark = pytest.mark.models


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", lora_alpha=0.5)


@pytest.mark.parametrize("form", ["gguf", "gguf:F16", "mlx", "safetensors"])
def test_a_full_check_has_both_forms_predict(adapter: Path, tmp_path: Path, form: str) -> None:
    made = convert_to_path(adapter, Variant.parse(form), tmp_path / "out", "full", None, SAMPLE)
    factors, logits = made.checks
    assert (factors.name, logits.name) == ("factors", "logits") and logits.limit is not None
    assert Decimal(logits.value) <= Decimal(logits.limit)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "out"}, "the base that was made for it is gone"


@pytest.mark.parametrize("form", ["gguf", "mlx"])
def test_another_adapter_fails(adapter: Path, tmp_path: Path, form: str) -> None:
    base, variant = open_model(SAMPLE), Variant.parse(form)
    other = write_adapter(tmp_path / "other", lora_alpha=1.0)
    made = convert_to_path(other, variant, tmp_path / "out", None, None, SAMPLE).path
    runtime_base = SAMPLE
    if form == "gguf":
        runtime_base = convert_to_path(SAMPLE, Variant.parse("gguf:F32"), tmp_path / "base.gguf", "tensors", None).path
    with pytest.raises(FormatError, match=f"check 'logits' failed: with the adapter as {form} predictions are"):
        check_predictions(open_updates(adapter), variant, made, base, runtime_base)


def test_what_cannot_predict_is_told_before_anything_is_written(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="full checks of an adapter need its base"):
        convert_to_path(adapter, Variant.parse("mlx"), tmp_path / "out", "full", None)
    (tmp_path / "encoder").mkdir()
    minilm(tmp_path / "encoder")
    with pytest.raises(UnsupportedConversionError, match="predicts no tokens"):
        require_comparable(open_model(tmp_path / "encoder"))
    assert not (tmp_path / "out").exists()
