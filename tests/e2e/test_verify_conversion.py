"""Anyone makes a published variant again, from the version's own weights or its source, and compares every byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate import formats
from citrate.cli.main import main
from citrate.core.sink import unwatched
from citrate.formats import gguf
from citrate.registry import reconversion
from citrate.registry.publish import source_digest
from tests.e2e.conftest import SAMPLE, Machine, Release

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]
Typed = Callable[..., tuple[int, dict[str, object], str]]


@pytest.fixture
def typed(reader: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A command typed at the reader's machine, in this process: exit code, JSON, stderr."""
    for name, value in reader.env.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, dict[str, object], str]:
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--json"])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), json.loads(out), err

    return run


@pytest.mark.models
def test_every_variant_comes_out_again_of_the_pulled_safetensors(release: Release, typed: Typed) -> None:
    for variant in ("gguf:Q4_K_M", "mlx:4bit", "safetensors"):
        code, told, err = typed("verify-conversion", f"{release.ref}#{variant}")
        assert (code, told["ok"], err) == (0, True, "")
        assert str(told["source"]).endswith("@1.0.0#safetensors")
        published = next(v for v in release.result["variants"] if v["variant"] == variant)  # type: ignore[attr-defined]
        files = told["files"]
        assert isinstance(files, list) and len(files) == published["files"]
        assert all(file["actual"] == file["expected"] for file in files)


@pytest.mark.models
def test_a_source_that_one_has_is_converted_where_it_is_the_versions_own(
    release: Release, typed: Typed, tmp_path: Path
) -> None:
    source = tmp_path / "somewhere else"
    shutil.copytree(SAMPLE, source)
    code, told, _ = typed("verify-conversion", f"{release.ref}#gguf:Q8_0", "--source", str(source))
    assert (code, told["ok"], told["source"]) == (0, True, str(source))
    assert told["source_sha256"] == source_digest(formats.open_model(source), unwatched)
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\nanother\n")
    code, told, _ = typed("verify-conversion", f"{release.ref}#gguf:Q8_0", "--source", str(source))
    assert code == 2 and "is not what" in str(told["error"]["message"])  # type: ignore[index]


@pytest.mark.models
def test_other_bytes_end_with_3_and_another_converter_is_told_first(
    release: Release, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "general", lambda *_: {})
    monkeypatch.setattr(reconversion, "converter_version", lambda: "9.9.9")
    code, told, err = typed("verify-conversion", f"{release.ref}#gguf:Q8_0")
    assert (code, told["ok"]) == (3, False)
    (file,) = told["files"]  # type: ignore[misc]
    assert file["path"] == "tiny-llama-Q8_0.gguf" and file["actual"] != file["expected"]
    assert told["converter"]["installed"] == "9.9.9" and "this is 9.9.9" in err  # type: ignore[index]


def test_a_variant_that_other_programs_made_is_not_compared_but_told_why(
    release: Release, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "toolchain", lambda _: {"modelopt": "0.99.0"})
    monkeypatch.setattr(formats, "convert", lambda *_, **__: pytest.fail("was made again"))
    code, told, _ = typed("verify-conversion", f"{release.ref}#gguf:Q8_0")
    assert code == 1
    assert "was made with modelopt unknown, here is modelopt 0.99.0" in str(told["error"])


def test_what_is_not_there_and_what_does_not_answer_have_their_own_ends(
    release: Release, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("verify-conversion", release.ref)[0] == 2
    assert typed("verify-conversion", f"{release.ref}#gguf:F16")[0] == 4
    monkeypatch.setenv("CITRATE_GATEWAYS", "http://127.0.0.1:9")
    assert typed("verify-conversion", f"{release.ref}#gguf:Q8_0")[0] == 5
