from __future__ import annotations

import pytest

from citrate.core.confinement import endings
from citrate.core.errors import FormatError
from citrate.core.records import Format
from citrate.inference import process
from citrate.inference.engines.incremental import IncrementalText
from citrate.inference.protocol import (
    Done,
    Event,
    Failure,
    Ready,
    Request,
    Text,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
)


@pytest.mark.parametrize(
    "event",
    [Ready(512), Text("Zürich \n\x1b[31m"), Done(3, 4, 0.5, 1.5, "stop"), Failure("FormatError", "no", "try")],
)
def test_events_survive_the_pipe_as_one_line(event: Event) -> None:
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


def test_the_request_survives_the_pipe() -> None:
    request = Request("/a b/\n", Format.GGUF, ("hi\n", "ho"), 1, 0.5, 7, 512, True, True, 1 << 30, 2, 42)
    assert encode_request(request).count(b"\n") == 1
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"llama_model_loader: loaded",
        b"[]",
        b"7",
        b"{}",
        b'{"event": "exec"}',
        b'{"event": ["text"]}',
        b'{"event": "text"}',
        b'{"event": "text", "text": 7}',
        b'{"event": "text", "text": "a", "more": 1}',
        b'{"event": "ready", "context": true}',
        b'{"event": "done", "prompt_tokens": 1, "tokens": 1, "first_token_s": 0, "last_token_s": 0, "finish": ""}',
        b"[" * 100_000,
    ],
)
def test_nonsense_from_the_model_process_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_event(line)


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(FormatError, match="nonsense"):
        list(process._parse([], b"x" * (1 << 21), b""))


def test_a_child_cannot_choose_another_class_or_inject_control_characters() -> None:
    error = endings.failure("IntegrityError", "all\x1b[2J\nfine", "do\x07 this", b"", "")
    assert type(error) is FormatError
    assert (error.message, error.hint) == ("all[2J fine", "do this")


def test_text_is_given_out_in_whole_characters() -> None:
    data = "naïve 🦙 ok".encode()
    text = IncrementalText(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [text.push(byte) for byte in data]
    assert "".join(pieces) == "naïve 🦙 ok"
    assert [piece for piece in pieces if piece] == list("naïve 🦙 ok")
