"""TensorRT-LLM is chosen where it is installed, handed what it needs, and named where it is missing.

It cannot be installed where these tests run; what it is asked for is shown with a module that stands in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from citrate.core.errors import BackendMissingError, UnavailableError
from citrate.core.records import Device, DeviceKind, Format, Variant, VariantRecord
from citrate.inference import device as devices
from citrate.inference import engines
from citrate.inference.engines import Sampling
from citrate.inference.run import GenerationSettings, generate
from citrate.inference.select import GB, select

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
H100 = Device(DeviceKind.NVIDIA, 80 * GB, "sm90", "H100")


def published() -> list[VariantRecord]:
    names = ("safetensors", "gguf:Q8_0", "tensorrt_llm:fp8@sm89", "tensorrt_llm:fp8@sm90")
    return [VariantRecord(Variant.parse(name), f"cid-{name}", "0" * 64, 8 * GB) for name in names]


def test_it_is_preferred_on_its_architecture_where_it_is_installed() -> None:
    assert str(select(published(), H100).variant) == "tensorrt_llm:fp8@sm90"


def test_where_it_is_not_installed_the_next_best_is_chosen_and_says_so() -> None:
    choice = select(published(), replace(H100, lacks=frozenset({Format.TENSORRT_LLM})))
    assert str(choice.variant) == "gguf:Q8_0"
    assert "TensorRT-LLM is not installed here" in choice.reason
    assert "not installed" in choice.rejected[Variant.parse("tensorrt_llm:fp8@sm90")]


@pytest.mark.parametrize("installed", [True, False])
def test_this_machine_knows_whether_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_nvidia", lambda: [H100])
    monkeypatch.setattr(devices, "has_tensorrt_llm", lambda: installed)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    lacking = frozenset() if installed else frozenset({Format.TENSORRT_LLM})
    assert devices.probe().lacks == devices.parse_device("nvidia").lacks == lacking
    assert devices.parse_device("nvidia", "sm100").lacks == frozenset()  # another machine
    assert devices.parse_device("nvidia", "sm90", 24).lacks == frozenset()


def test_running_without_it_says_what_to_install() -> None:
    for sandbox in (True, False):
        with pytest.raises(BackendMissingError, match="tensorrt_llm needs tensorrt_llm") as raised:
            generate(SAMPLE, Format.TENSORRT_LLM, "hello", GenerationSettings(sandbox=sandbox))
        assert "install TensorRT-LLM beside citrate" in str(raised.value.hint)


def test_it_needs_to_be_let_out_of_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citrate.inference.run.has_tensorrt_llm", lambda: True)
    with pytest.raises(UnavailableError, match="no sandbox allows") as raised:
        generate(SAMPLE, Format.TENSORRT_LLM, "hello")
    assert "--no-sandbox" in str(raised.value.hint)


@dataclass
class Running:
    """The answer to a request: a longer list of tokens each time."""

    tokens: Sequence[int]
    aborted: bool = False

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for count in range(1, len(self.tokens) + 1):
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=self.tokens[:count])])

    def abort(self) -> None:
        self.aborted = True


def test_it_is_handed_tokens_and_sampling_and_its_text_comes_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    answer = transformers.AutoTokenizer.from_pretrained(SAMPLE)(" Paris.", add_special_tokens=False)["input_ids"]
    asked: list[tuple[list[int], dict[str, object], bool]] = []
    running = Running(answer)

    class Model:
        def __init__(self, **settings: object) -> None:
            assert settings == {"model": str(SAMPLE), "max_seq_len": 64, "trust_remote_code": False}

        def generate_async(self, prompt: list[int], parameters: dict[str, object], *, streaming: bool) -> Running:
            asked.append((prompt, parameters, streaming))
            return running

    stand_in = ModuleType("tensorrt_llm")
    stand_in.LLM, stand_in.SamplingParams = Model, lambda **settings: settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_llm", stand_in)
    monkeypatch.delitem(sys.modules, "citrate.inference.engines.tensorrt_llm", raising=False)
    model = engines.loader(Format.TENSORRT_LLM)(SAMPLE, 64, 1)
    prompt = model.encode("The capital of France is", add_special_tokens=True)
    assert "".join(model.generate(prompt, Sampling(0.0, 7))) == " Paris."
    assert "".join(model.generate(prompt, Sampling(0.5, 7))) == " Paris."
    room = 64 - len(prompt)
    assert [parameters for _, parameters, _ in asked] == [
        {"max_tokens": room, "top_k": 1},
        {"max_tokens": room, "temperature": 0.5, "top_p": 0.95, "seed": 7},
    ]
    assert all((ids, streaming) == (prompt, True) for ids, _, streaming in asked)
    assert running.aborted
    assert model.chat_template
    monkeypatch.delitem(sys.modules, "citrate.inference.engines.tensorrt_llm")
