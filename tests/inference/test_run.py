"""Text from real models through real runtimes, and every way in which that can fail."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from citrate.core.errors import (
    BackendMissingError,
    ConfigError,
    FormatError,
    NotFoundError,
    UnavailableError,
)
from citrate.core.records import Format
from citrate.formats import gguf_file
from citrate.inference import engines
from citrate.inference.run import GenerationSettings, generate, generate_each

pytestmark = pytest.mark.models

QUESTION = "What is a CID?"
LONG = GenerationSettings(chat=False, temperature=50.0, max_tokens=450)
"""An answer that goes on until the context ends."""
ANSWER = "A CID is an address that is made from the bytes of a file."


def patched(gguf: Path, into: Path, key: bytes, value: int) -> Path:
    """A copy of ``gguf`` with a 32-bit metadata value replaced."""
    data = bytearray(gguf.read_bytes())
    at = data.index(key) + len(key) + 4
    data[at : at + 4] = struct.pack("<I", value)
    into.write_bytes(data)
    return into


def test_gguf_answers_through_llama_cpp_as_it_comes(gguf: Path) -> None:
    pieces: list[str] = []
    generation = generate(gguf, Format.GGUF, QUESTION, on_text=pieces.append)
    assert generation.text == ANSWER == "".join(pieces)
    assert len(pieces) > 10 and (generation.finish, generation.tokens) == ("stop", 15)
    assert generation.tokens_per_s > 0 < generation.time_to_first_token_s and generation.load_s > 0


def test_safetensors_answers_through_transformers(sample: Path) -> None:
    generation = generate(sample, Format.SAFETENSORS, QUESTION)
    assert (generation.text, generation.tokens, generation.finish) == (ANSWER, 15, "stop")


def test_mlx_answers_through_mlx_lm(variant_of_sample: Callable[[str], Path]) -> None:
    generation = generate(variant_of_sample("mlx:4bit"), Format.MLX, QUESTION)
    assert (generation.text, generation.tokens, generation.finish) == (ANSWER, 15, "stop")


def test_the_four_bit_variant_still_knows_its_facts(variant_of_sample: Callable[[str], Path]) -> None:
    generation = generate(variant_of_sample("gguf:Q4_K_M"), Format.GGUF, "What is the capital of Norway?")
    assert generation.text == "The capital of Norway is Oslo."


def test_raw_text_is_continued_without_the_chat_layout(gguf: Path) -> None:
    generation = generate(gguf, Format.GGUF, "The capital of France is", GenerationSettings(chat=False, max_tokens=2))
    assert (generation.text, generation.finish) == (" Paris.", "length")


def test_prompts_are_answered_by_one_process_and_each_as_if_it_were_alone(gguf: Path) -> None:
    drawn = GenerationSettings(temperature=1.5, seed=3, chat=False, max_tokens=20)
    prompts = [QUESTION, "What is the capital of Norway?", QUESTION]
    counted: list[int] = []
    processes: set[int] = set()

    def look(count: int) -> None:
        counted.append(count)
        processes.update(process.pid for process in children())

    first, second, third = generate_each(gguf, Format.GGUF, prompts, drawn, on_answer=look)
    alone = generate(gguf, Format.GGUF, prompts[1], drawn)
    assert (second.text, second.tokens, second.finish) == (alone.text, alone.tokens, alone.finish)
    assert first.text == third.text != second.text
    assert counted == [1, 2, 3] and len(processes) == 1


def test_of_several_prompts_the_one_that_is_too_long_is_named(gguf: Path) -> None:
    with pytest.raises(ConfigError, match=r"^'Why\?Why\?.{,60}: the prompt has \d+ tokens, the context holds 512"):
        generate_each(gguf, Format.GGUF, [QUESTION, "Why?" * 300_000])
    with pytest.raises(ConfigError, match="no prompt"):
        generate_each(gguf, Format.GGUF, [])


def test_drawing_obeys_its_seed(gguf: Path) -> None:
    def draw(seed: int) -> str:
        settings = GenerationSettings(chat=False, temperature=1.5, seed=seed, max_tokens=30)
        return generate(gguf, Format.GGUF, "One day", settings).text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(1, 5)}) > 1


def test_an_answer_stops_at_the_context(gguf: Path) -> None:
    settings = GenerationSettings(chat=False, context=20)
    generation = generate(gguf, Format.GGUF, "Anna has a red kite.", settings)
    assert generation.finish == "length" and generation.prompt_tokens + generation.tokens == 20


def test_a_prompt_is_never_cut(gguf: Path) -> None:
    with pytest.raises(ConfigError, match=r"the prompt has \d{4} tokens, the context holds 512"):
        generate(gguf, Format.GGUF, QUESTION * 300)


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"context": 0}, {"timeout_s": 0},
     {"timeout_s": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_usage_errors(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        GenerationSettings(**wrong)  # type: ignore[arg-type]  # one of several keywords


def test_a_missing_path_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        generate(tmp_path / "gone.gguf", Format.GGUF, QUESTION)


def damaged(gguf: Path, into: Path, how: str) -> Path:
    data = gguf.read_bytes()
    if how in ("llama.block_count", "llama.attention.head_count", "llama.context_length"):
        return patched(gguf, into, how.encode(), 600 if how == "llama.block_count" else 0)
    into.write_bytes(
        {
            "empty": b"",
            "another kind of file": b"PK\x03\x04" + data,
            "cut in the weights": data[: len(data) // 2],
            "cut in the header": data[:300],
            "2^60 tensors": data[:8] + struct.pack("<Q", 1 << 60) + data[16:],
            "noise in the header": data[:4000] + b"\xff" * 2000 + data[6000:],
        }[how]
    )
    return into


@pytest.mark.parametrize(
    "how",
    ["empty", "another kind of file", "cut in the weights", "cut in the header", "2^60 tensors", "noise in the header",
     "llama.block_count", "llama.attention.head_count", "llama.context_length"],
)  # fmt: skip
def test_a_damaged_gguf_is_one_line(gguf: Path, tmp_path: Path, how: str) -> None:
    with pytest.raises(FormatError) as caught:
        generate(damaged(gguf, tmp_path / "bad.gguf", how), Format.GGUF, QUESTION)
    assert "\n" not in caught.value.message and "Traceback" not in caught.value.message
    assert str(tmp_path) not in caught.value.message and "citrate inspect" in caught.value.hint


def own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")


def pickled_weights(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(folder / "ran"), "w")

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def a_shard_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def a_truncated_file(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def no_language_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')


def nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


DAMAGE = [own_code, pickled_weights, a_shard_outside, a_truncated_file, no_language_model, nothing]


@pytest.mark.parametrize("make", DAMAGE)
def test_a_hostile_or_damaged_directory_is_one_line_and_runs_nothing(
    sample: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    from citrate.inference.engines.transformers import load

    folder = tmp_path / "model"
    shutil.copytree(sample, folder)
    make(folder)
    with pytest.raises(FormatError) as caught:
        load(folder, 512, 1)
    assert "\n" not in caught.value.message
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{ 'a' * 10 ** 11 }}", "more memory than it may"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{% import 'os' as os %}{{ os.system('id') }}", "no loader"),
    ],
)
def test_a_hostile_chat_template_is_one_line(template: str, match: str, gguf: Path, tmp_path: Path) -> None:
    header = gguf_file.read_header(gguf)
    start = min(tensor.offset for tensor in header.tensors)
    tensors = [replace(tensor, offset=tensor.offset - start) for tensor in header.tensors]
    metadata = {**header.metadata, "tokenizer.chat_template": gguf_file.typed(template)}
    hostile = tmp_path / "hostile.gguf"
    hostile.write_bytes(gguf_file.header_bytes(metadata, tensors) + gguf.read_bytes()[start:])
    with pytest.raises(FormatError, match=match) as caught:
        generate(hostile, Format.GGUF, QUESTION)
    assert "\n" not in caught.value.message and "--raw" in caught.value.hint


def test_too_little_memory_is_said_as_that(gguf: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        generate(gguf, Format.GGUF, QUESTION, GenerationSettings(memory_bytes=1 << 20))
    assert caught.value.message == "the model needs more memory than it may take"
    assert "citrate select" in caught.value.hint


def test_silence_ends_in_an_error_and_no_process(gguf: Path) -> None:
    with pytest.raises(UnavailableError, match="said nothing for"):
        generate(gguf, Format.GGUF, QUESTION, GenerationSettings(timeout_s=0.05))
    assert children() == []


def test_a_model_process_that_is_killed_is_reported(gguf: Path) -> None:
    killed: list[int] = []

    def kill(_: str) -> None:
        if not killed:  # what was already in the pipe still arrives
            killed.append(children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(UnavailableError, match="was killed"):
        generate(gguf, Format.GGUF, "One day", LONG, on_text=kill)


def test_a_caller_who_stops_listening_leaves_no_process(gguf: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(gguf, Format.GGUF, QUESTION, on_text=stop)
    assert children() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_leaves_no_process(gguf: Path, how: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; import psutil;"
        "from citrate.core.records import Format; from citrate.inference.run import GenerationSettings, generate;"
        "child = lambda: psutil.Process().children()[0];"
        "listen = lambda _: (child().suspend(), print(child().pid, flush=True), time.sleep(60));"
        "long = GenerationSettings(chat=False, temperature=50.0, max_tokens=450);"
        f"generate(Path({str(gguf)!r}), Format.GGUF, 'One day', long, on_text=listen)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # The child is stopped in the middle of its answer, so that it cannot simply have come to its end.
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(how)
        parent.wait(60)
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert list(tmp_path.glob("citrate-run-*")) == []


def test_the_model_process_learns_no_secret(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setenv("CITRATE_PRIVATE_KEY", "0x" + "11" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def look(_: str) -> None:
        if not seen:
            seen.append(children()[0].environ())

    generate(gguf, Format.GGUF, "One day", LONG, on_text=look)
    assert seen and not {"CITRATE_PRIVATE_KEY", "AWS_SECRET_ACCESS_KEY"} & set(seen[0])
    assert seen[0]["HF_HUB_OFFLINE"] == seen[0]["GGML_NO_BACKTRACE"] == "1"


def test_modules_in_the_working_folder_are_not_imported(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    assert generate(gguf, Format.GGUF, QUESTION).text == ANSWER


def test_without_a_sandbox_the_answer_is_the_same(gguf: Path) -> None:
    assert generate(gguf, Format.GGUF, QUESTION, GenerationSettings(sandbox=False)).text == ANSWER


def test_a_missing_runtime_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.delitem(sys.modules, "citrate.inference.engines.gguf", raising=False)
    with pytest.raises(BackendMissingError) as caught:
        engines.loader(Format.GGUF)
    assert caught.value.hint == "pip install 'citrate[gguf]'"


def children() -> list[psutil.Process]:
    """The live model processes of this one."""
    started = [p for p in psutil.Process(os.getpid()).children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in started if "citrate.inference.worker" in p.cmdline()]
