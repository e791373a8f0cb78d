"""A trained adapter on the model that is run: the same answers in every runtime, and whatever can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core.adapters import Applied
from citrate.core.errors import CitrateError, ConfigError, FormatError, NotFoundError, UnsupportedConversionError
from citrate.core.records import Format, Variant
from citrate.facade import Registry
from citrate.formats.adapter_conversion import convert_adapter, open_updates
from citrate.inference.run import GenerationSettings, generate
from citrate.registry.applied import Named
from tests.adapter_dirs import lora_tensors, write_adapter
from tests.inference.conftest import FolderSink
from tests.training.trained import polite

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("adapters_run")]

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."
POLITE = f"{ANSWER} Thank you for asking."


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return polite(tmp_path_factory)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(home=tmp_path / "home", offline=True)


def answer(registry: Registry, model: Path, adapter: str) -> str:
    return registry.run(str(model), QUESTION, adapter=adapter).text


@pytest.mark.parametrize("variant", ["gguf:Q8_0", "gguf:Q4_K_M", "mlx", "safetensors"])
def test_every_runtime_puts_the_adapter_on_its_variant(
    variant: str, registry: Registry, adapter: Path, sample: Path, variant_of_sample: Callable[[str], Path]
) -> None:
    model = sample if variant == "safetensors" else variant_of_sample(variant)
    assert answer(registry, model, str(adapter)) == POLITE


def test_without_it_and_with_none_of_it_the_answer_is_the_bases(registry: Registry, adapter: Path, gguf: Path) -> None:
    assert generate(gguf, Format.GGUF, QUESTION).text == ANSWER
    assert answer(registry, gguf, f"{adapter}=0") == ANSWER


def test_it_is_what_pefts_merge_makes(adapter: Path, sample: Path, tmp_path: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from citrate.inference.engines import Sampling
    from citrate.inference.engines.transformers import load

    torch.set_num_threads(1)
    network = AutoModelForCausalLM.from_pretrained(sample, dtype="auto")
    merged = peft.PeftModel.from_pretrained(network, adapter).merge_and_unload().state_dict()
    found = load(sample, 512, 1, Applied(adapter))
    state = found._model.state_dict()
    assert state.keys() == merged.keys() and all(torch.equal(state[name], merged[name]) for name in merged)
    half, whole = load(sample, 512, 1, Applied(adapter, 0.5)), load(sample, 512, 1)
    name = "model.layers.0.mlp.down_proj.weight"
    change = (state[name] - whole._model.state_dict()[name]).float()
    assert torch.allclose(
        (half._model.state_dict()[name] - whole._model.state_dict()[name]).float() * 2, change, atol=1e-2
    )
    prompt = found.encode("Anna has a red kite.", add_special_tokens=True)
    told = [text for text, _ in zip(found.generate(prompt, Sampling(0, 0)), range(5), strict=False)]
    assert len(told) == 5


def test_an_adapter_of_mlx_lm_is_put_on_a_gguf_model(
    registry: Registry, adapter: Path, gguf: Path, tmp_path: Path
) -> None:
    convert_adapter(open_updates(adapter), Variant(Format.MLX), FolderSink(tmp_path / "mlx"))
    assert answer(registry, gguf, str(tmp_path / "mlx")) == POLITE


def test_what_was_made_for_a_runtime_is_kept_and_made_again_when_it_is_damaged(
    registry: Registry, adapter: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.adapter(str(adapter), registry.locate(str(gguf)))
    with monkeypatch.context() as patch:
        patch.setattr("citrate.registry.applied.convert_adapter", None)  # it would fail, were it called
        assert registry.adapter(str(adapter), registry.locate(str(gguf))) == first
    path = first.applied.path
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = registry.adapter(str(adapter), registry.locate(str(gguf)))
    data[-1] ^= 1
    assert again.applied.path.read_bytes() == data


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda at: at, NotFoundError, "no such folder"),
        (lambda at: at.mkdir() or at, ConfigError, "is no adapter"),
        (lambda at: at.write_text("{}") and at, ConfigError, "is no adapter"),
        (lambda at: write_adapter(at, lora_tensors(layers=9)), FormatError, "3 layers"),
        (lambda at: write_adapter(at, {f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight": shape
                                       for side, shape in (("A", (8, 32)), ("B", (32, 8)))}, target_modules=["q_proj"]),
         FormatError, "256 in"),
        (lambda at: write_adapter(at, use_dora=True), UnsupportedConversionError, "gguf cannot be given this adapter"),
        (lambda at: zeroed(write_adapter(at)), FormatError, "never trained"),
        (lambda at: cut(write_adapter(at)), FormatError, "adapter_model.safetensors"),
    ],
    ids=["nothing", "empty", "a file", "too many layers", "another width", "dora", "untrained", "cut off"],
)  # fmt: skip
def test_what_is_no_adapter_of_this_model_is_one_line_and_nothing_runs(
    make: Callable[[Path], Path],
    error: type[CitrateError],
    message: str,
    registry: Registry,
    gguf: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message) as raised:
        registry.run(str(gguf), QUESTION, adapter=str(make(tmp_path / "adapter")), on_text=lambda _: pytest.fail("ran"))
    assert "\n" not in raised.value.message and raised.value.hint


def zeroed(folder: Path) -> Path:
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights.write_bytes(data[:start] + bytes(len(data) - start))
    return folder


def cut(folder: Path) -> Path:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def test_a_gguf_file_whose_tensors_are_not_its_architectures_takes_none(
    registry: Registry, adapter: Path, gguf: Path, tmp_path: Path
) -> None:
    for old, new, error in (
        (b"blk.0.attn_q.weight", b"blk.0.attn_z.weight", FormatError),
        (b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lxama", FormatError),
    ):
        data = gguf.read_bytes()
        assert old in data
        (tmp_path / "odd.gguf").write_bytes(data.replace(old, new, 1))
        with pytest.raises(error) as raised:
            registry.run(str(tmp_path / "odd.gguf"), QUESTION, adapter=str(adapter))
        assert "odd.gguf" in raised.value.message


def test_mlx_and_other_formats_say_what_they_cannot(sample: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no adapter"):
        generate(sample, Format.TENSORRT_LLM, QUESTION, GenerationSettings(sandbox=False), adapter=Applied(adapter))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("me/polite", Named("me/polite")),
        ("me/polite@1.0.0=0.5", Named("me/polite@1.0.0", 0.5)),
        ("a/b=-1", Named("a/b", -1)),
    ],
)
def test_a_scale_stands_behind_the_name(text: str, wanted: Named) -> None:
    assert Named.parse(text) == wanted


@pytest.mark.parametrize("text", ["me/polite=", "me/polite=half", "me/polite=nan", "me/polite=1e9"])
def test_a_scale_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigError, match="scale"):
        Named.parse(text)


def test_a_folder_whose_name_has_a_sign_in_it_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a=1").mkdir()
    assert Named.parse(str(tmp_path / "a=1")) == Named(str(tmp_path / "a=1"))
