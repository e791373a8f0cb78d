"""A child that answers one request: whatever a file makes of it, the parent has one typed error in bounded time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core.confinement import child
from citrate.core.confinement.child import Limits
from citrate.core.errors import BackendMissingError, CitrateError, FormatError, UnavailableError

LIMITS = Limits(memory_bytes=256 << 20, seconds=60, answer_bytes=1 << 20)

Ask = Callable[..., bytearray]


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run the body of a child's ``answer(request)``."""

    def run(body: str, reads: tuple[Path, ...] = (), limits: Limits = LIMITS, **request: str) -> bytearray:
        indented = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "answering.py").write_text(
            "import os, signal, socket, sys, time\n"
            "from citrate.core.confinement.serving import serve\n"
            "from citrate.core.errors import BackendMissingError, FormatError\n"
            f"def answer(request):\n{indented}\nsys.exit(serve(answer))\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return child.ask("answering", request, reads, limits, what="x.bin", memory_hint="buy some")

    return run


def test_the_answer_comes_back_whole(answered: Ask) -> None:
    assert answered("print('talk')\nreturn request['text'].encode() * 100", text="é" * 5000) == "é".encode() * 500_000


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        ("raise FormatError('it is broken', hint='mend it')", FormatError, "it is broken"),
        ("raise BackendMissingError('no library')", BackendMissingError, "no library"),
        ("raise KeyError('what\\never')", FormatError, "KeyError"),
        ("bytearray(512 << 20)", UnavailableError, "more memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", FormatError, "x.bin crashed its reader .SIGSEGV"),
        ("os._exit(3)", FormatError, "x.bin crashed its reader .exit code 3"),
        ("return bytes(2 << 20)", FormatError, "say too much"),
        ("socket.socket()", FormatError, "PermissionError"),
        ("open(os.environ['TMPDIR'] + '/x', 'w')", FormatError, "PermissionError"),
        ("os.execv('/bin/true', ['true'])", FormatError, "PermissionError"),
    ],
)  # fmt: skip
def test_every_bad_end_is_one_typed_error(body: str, kind: type[CitrateError], match: str, answered: Ask) -> None:
    with pytest.raises(kind, match=match) as caught:
        answered(body)
    assert type(caught.value) is kind and "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize("body", ["time.sleep(60)", "os.closerange(0, 64)\ntime.sleep(60)"])
def test_one_that_does_not_end_is_ended(body: str, answered: Ask) -> None:
    started = time.monotonic()
    with pytest.raises(FormatError, match="not read within 2 s"):
        answered(body, limits=Limits(1 << 28, 2, 1))
    assert time.monotonic() - started < 30


def test_it_knows_no_secret_and_reads_one_file(answered: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITRATE_PRIVATE_KEY", "secret")
    (tmp_path / "weights").write_text("bytes")
    body = "return (open(request['path']).read() + str('CITRATE_PRIVATE_KEY' in os.environ)).encode()"
    assert answered(body, (tmp_path / "weights",), path=str(tmp_path / "weights")) == b"bytesFalse"


def test_nonsense_instead_of_a_head_is_refused() -> None:
    for said in (b"not json\n", b"[]\n", json.dumps({"error": ""}).encode() + b"\n", b"[" * 9000 + b"\n"):
        with pytest.raises(FormatError, match="nonsense"):
            child._answer(bytearray(said), b"", 0, "x.bin", "")


def test_no_process_and_no_folder_stays_behind(answered: Ask) -> None:
    pid = int(bytes(answered("return str(os.getpid()).encode()")))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_documents_come_along_and_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answering_documents.py").write_text(
        "import json, sys\n"
        "from citrate.core.confinement.serving import serve_documents\n"
        "def answer(request, documents):\n"
        "    return request['word'].encode().join(documents)\n"
        "sys.exit(serve_documents(answer))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    documents = [b"\n\x00first\n", b"", bytes(1 << 19)]
    said = child.ask("answering_documents", {"word": "-"}, [], LIMITS, what="x", documents=documents)
    assert said == b"-".join(documents)


def test_one_that_computes_too_long_is_ended_however_busy_the_machine_is(answered: Ask) -> None:
    with pytest.raises(FormatError, match="more than 1 s of processor time") as caught:
        answered("while True: pass", limits=Limits(1 << 28, 600, 1, processor_seconds=1))
    assert caught.value.hint
