"""Variants are made together, one read for all GGUF files, reused, and taken back where one cannot be published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from citrate import formats
from citrate.core.errors import BackendMissingError, FormatError
from citrate.core.records import Check, Variant
from citrate.formats import checking
from citrate.formats.gguf_file import read_header
from citrate.registry import publish
from citrate.registry.conversions import Conversions, Made
from citrate.registry.publish import Release, Request
from citrate.registry.store import Store

SAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
SIZE = (SAMPLE / "model.safetensors").stat().st_size
GGUF = "gguf:Q8_0,gguf:Q4_K_M,gguf:F16,gguf:Q6_K"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def prepared(tmp_path: Path, store: Store) -> Callable[..., Release]:
    def run(variants: str, progress: Callable[..., None] = lambda *_: None) -> Release:
        wanted = tuple(map(Variant.parse, variants.split(",")))
        request = Request(SAMPLE, "tiny", variants=wanted, checks="tensors")
        return publish.prepare(request, store, Conversions(tmp_path / "conversions"), progress)

    return run


def bytes_read() -> int:
    """What this process has asked the kernel to read, files mapped into memory left out."""
    return int(Path("/proc/self/io").read_text().partition("rchar:")[2].split()[0])


@pytest.mark.models
def test_all_gguf_files_come_from_one_read_of_the_source(prepared: Callable[..., Release]) -> None:
    prepared("gguf:Q5_K_M")  # the encoders are compiled before the count
    counts: dict[str, list[int]] = {}

    def count(stage: str, *_: object) -> None:
        counts.setdefault(stage.partition(":")[0], []).append(bytes_read())

    release = prepared(GGUF, count)
    assert ",".join(str(made.variant) for made in release.variants) == GGUF, "in the order of the request"
    assert counts["gguf"][-1] - counts["gguf"][0] < 1.1 * SIZE
    assert counts["tokens"][0] >= counts["gguf"][-1], "what was counted is the whole of the conversion"


@pytest.mark.models
def test_what_was_converted_is_reused_and_only_the_rest_is_made(prepared: Callable[..., Release], store: Store) -> None:
    before = prepared("gguf:Q8_0,safetensors")
    stages: set[str] = set()
    after = prepared("safetensors,gguf:Q8_0,gguf:F16", lambda stage, *_: stages.add(stage))
    assert after.variants[:2] == before.variants[::-1]
    assert not stages & {"safetensors", "gguf:Q8_0"} and "gguf:F16" in stages
    assert len(store.ls()) == 3


class Faulty:
    """Checks that fail at one variant."""

    def __init__(self, at: str, fault: type[BaseException]) -> None:
        self.at, self.fault = at, fault

    def __call__(self, _model: object, variant: Variant, _path: Path, **_: object) -> tuple[Check, ...]:
        if str(variant) == self.at:
            raise self.fault("a planted fault")
        return ()


@pytest.mark.models
def test_a_check_that_fails_leaves_nothing_new(
    prepared: Callable[..., Release], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = prepared("gguf:F16").variants
    monkeypatch.setattr(formats, "check", Faulty("gguf:Q8_0", FormatError))
    with pytest.raises(FormatError, match="planted"):
        prepared("safetensors,gguf:F16,gguf:Q4_K_M,gguf:Q8_0,gguf:Q6_K")
    assert [item.cid for item in store.ls()] == [kept.cid], "what an earlier run made stays"


@pytest.mark.models
def test_a_stop_keeps_what_passed_its_checks_and_nothing_else(
    prepared: Callable[..., Release], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(formats, "check", Faulty("gguf:Q8_0", KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepared("safetensors,gguf:Q4_K_M,gguf:Q8_0,gguf:Q6_K")
    left = {item.cid for item in store.ls()}
    release = prepared("safetensors,gguf:Q4_K_M,gguf:Q8_0")
    assert left == {made.cid for made in release.variants[:2]}


@pytest.mark.models
def test_a_directory_of_mlx_is_published_decoded_and_the_manifest_says_so(
    prepared: Callable[..., Release], store: Store, tmp_path: Path
) -> None:
    _, quantised = prepared("safetensors,mlx:8bit").variants
    request = Request(store.get(quantised.cid), "tiny", checks="tensors")
    release = publish.prepare(request, store, Conversions(tmp_path / "other"), lambda *_: None)
    (entry,) = release.manifest.variants
    assert (entry.variant, entry.source_dtype) == ("safetensors", "BF16")
    assert entry.converter.arguments == {"decoded": "mlx affine, 8 bits in groups of 64"}
    assert release.manifest.architecture == formats.open_model(SAMPLE).architecture
    assert {str(variant): "quantised already" in why for variant, why in release.skipped} == {
        "gguf:Q4_K_M": True,
        "gguf:Q8_0": True,
        "mlx:4bit": True,
    }


@pytest.mark.models
def test_every_variant_says_of_which_source_it_was_made_and_a_file_names_the_licence_of_the_release(
    store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(SAMPLE, source)
    (source / "README.md").unlink()
    (source / "LICENSE").unlink()
    conversions = Conversions(tmp_path / "conversions")

    def made(licence: str) -> Release:
        request = Request(source, "tiny", licence=licence, variants=(Variant.parse("gguf:F16"),), checks="tensors")
        return publish.prepare(request, store, conversions, lambda *_: None)

    for licence, spdx in (("mit", "MIT"), ("apache-2.0", "Apache-2.0")):
        (entry,) = made(licence).manifest.variants
        assert read_header(store.get(entry.cid)).text("general.license") == spdx
        assert entry.converter.arguments == {"name": "tiny", "licence": spdx}
        assert entry.source_sha256 == made(licence).manifest.lineage.source_sha256


def test_what_could_not_be_checked_is_refused_before_anything_is_converted(
    prepared: Callable[..., Release], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking.importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else object())
    monkeypatch.setattr(formats, "convert_all", lambda *_, **__: pytest.fail("was converted"))
    with pytest.raises(BackendMissingError, match="gguf:Q8_0 cannot be checked without llama-cpp-python"):
        prepared("safetensors,gguf:Q8_0")
    assert not store.ls()


def test_a_conversion_is_remembered_for_the_programs_that_made_it(tmp_path: Path) -> None:
    conversions = Conversions(tmp_path)
    made = Made("0" * 64, Variant.parse("tensorrt_llm:fp8@sm90"), "tiny", "MIT", "full", "p", {"modelopt": "0.47.0"})
    other = [
        replace(made, toolchain={"modelopt": "0.48.0"}),
        replace(made, licence="Apache-2.0"),
        replace(made, level="tensors"),
        replace(made, source_sha256="1" * 64),
    ]
    assert len({conversions.key(each) for each in (made, *other)}) == 5
    assert conversions.key(made) == conversions.key(replace(made))


@pytest.mark.models
def test_a_variant_that_is_added_says_what_it_was_made_from_itself(
    prepared: Callable[..., Release], store: Store, tmp_path: Path
) -> None:
    base = prepared("safetensors").manifest
    own = store.get(base.variants[0].cid)
    request = Request(own, "tiny", variants=(Variant.parse("gguf:F16"),), checks="tensors")
    conversions = Conversions(tmp_path / "other")
    longer = publish.extend(request, base, base.sha256(), store, conversions, lambda *_: None, own_source=True).manifest
    first, added = longer.variants
    assert first == base.variants[0] and first.source_sha256 == base.lineage.source_sha256
    assert added.source_sha256 == publish.source_digest(formats.open_model(own), lambda *_: None)
    assert added.converter.arguments == {"name": "tiny", "licence": base.licence.spdx}
