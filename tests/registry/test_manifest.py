"""The manifest: the same input gives the same bytes, and nothing hostile passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from citrate.core.digests import listing_sha256
from citrate.core.errors import CitrateError, FormatError, IntegrityError
from citrate.core.records import (
    TENSOR_PROFILE,
    Architecture,
    Artifact,
    Check,
    FileEntry,
    Variant,
    VariantRecord,
    VersionRecord,
)
from citrate.registry import cid
from citrate.registry import manifest as manifests
from citrate.registry.manifest import Converter, Licence, Lineage, Manifest, Signature

PUBLISHER = "0x52908400098527886E0F7030069857D2E4169EE7"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file_entry(path: str, size_bytes: int = 10) -> FileEntry:
    return FileEntry(path, size_bytes, sha(path), cid.encode(cid.RAW, bytes.fromhex(sha(path))))


def entries() -> tuple[manifests.VariantEntry, ...]:
    bare = file_entry("model.gguf", 100)
    gguf = Artifact(bare.cid, bare.sha256, 100, (bare,), bare=True)
    files = (file_entry("config.json"), file_entry("model.safetensors", 90))
    folder = Artifact(cid.encode(cid.DAG_PB, bytes.fromhex(sha("dir"))), listing_sha256(files), 100, files, bare=False)
    made = []
    for variant, artifact in (("safetensors", folder), ("gguf:Q8_0", gguf)):
        record = VariantRecord(Variant.parse(variant), artifact.cid, artifact.sha256, artifact.size_bytes)
        converter = Converter(name="citrate", version="0.1.0", arguments={})
        checks = (Check("logits_kl_mean", passed=True, value="0.0022", limit="0.01"),)
        made.append(manifests.entry_of(record, artifact, "BF16", converter, checks))
    return tuple(made)


def manifest() -> Manifest:
    return Manifest(
        schema="citrate.manifest/1",
        publisher=PUBLISHER,
        name="tiny",
        version="1.0.0",
        licence=Licence(spdx="Apache-2.0", text="ö"),
        architecture=Architecture("llama", "LlamaForCausalLM", 1, 2, 3, 4, 5, 6, 7, 8),
        generation={"temperature": "0.7"},
        chat_template_sha256=None,
        variants=entries(),
        lineage=Lineage(source_sha256=sha("source")),
        previous=None,
        signature=Signature(signer=PUBLISHER, kind="eoa", value="0x00"),
    )


def record_for(document: Manifest) -> VersionRecord:
    variants = tuple(VariantRecord(Variant.parse(e.variant), e.cid, e.sha256, e.size_bytes) for e in document.variants)
    digest = document.sha256()
    return VersionRecord(
        model_id="0x1",
        version_id="0x2",
        publisher=PUBLISHER,
        name="tiny",
        version="1.0.0",
        licence="Apache-2.0",
        manifest_sha256=digest,
        manifest_history=(digest,),
        signers=(PUBLISHER,),
        price_wei=0,
        created_at=0,
        deprecated=False,
        replacement="",
        variants=variants,
        block_number=1,
    )


def test_encoding_is_canonical_and_read_back() -> None:
    data = manifest().encode()
    assert data == manifest().encode()
    assert manifests.parse(data, hashlib.sha256(data).hexdigest()) == manifest()
    assert manifests.cid_of(hashlib.sha256(data).hexdigest()) == cid.of(cid.RAW, data)


def test_each_variant_says_what_it_was_made_from_and_records_that_do_not_are_read() -> None:
    older = manifest()
    assert b'"source_sha256"' not in b"".join(json.dumps(e.document()).encode() for e in older.variants)
    stated = tuple(e.model_copy(update={"source_sha256": sha(e.variant)}) for e in older.variants)
    data = older.model_copy(update={"variants": stated}).encode()
    read = manifests.parse(data, hashlib.sha256(data).hexdigest())
    assert [entry.source_sha256 for entry in read.variants] == [sha("safetensors"), sha("gguf:Q8_0")]
    assert manifests.parse(older.encode(), older.sha256()) == older


def test_what_is_signed_does_not_hold_the_signature() -> None:
    signed = manifest()
    other = signed.signed(Signature(signer=PUBLISHER, kind="eoa", value="0xff"))
    assert signed.unsigned_sha256() == other.unsigned_sha256()
    assert signed.sha256() != other.sha256()


def test_other_bytes_than_the_chain_commits_to_are_an_integrity_error() -> None:
    data = manifest().encode()
    with pytest.raises(IntegrityError) as caught:
        manifests.parse(data + b" ", hashlib.sha256(data).hexdigest())
    assert caught.value.expected == hashlib.sha256(data).hexdigest()


def _edited(edit: Callable[[Any], None]) -> bytes:
    document = json.loads(manifest().encode())
    edit(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(extra=1),
        lambda d: d["architecture"].update(extra=1),
        lambda d: d["variants"][0]["files"][0].update(extra=1),
        lambda d: d.update(schema="citrate.manifest/2"),
        lambda d: d.update(variants=[]),
        lambda d: d["variants"][0].update(size_bytes="10"),
        lambda d: d["variants"][0].update(size_bytes=-1),
        lambda d: d["variants"][0].update(size_bytes=1 << 48),
        lambda d: d["variants"][0].update(sha256="A" * 64),
        lambda d: d["variants"][0].update(files=[]),
        lambda d: d["variants"][0].update(source_sha256="x"),
        lambda d: d["variants"][0].update(source_sha256=None),
        lambda d: d["licence"].update(spdx=""),
        lambda d: d.pop("lineage"),
        lambda d: d.update(generation={"temperature": 0.5}),
    ],
)
def test_the_right_hash_of_a_wrong_document_is_a_format_error(edit: Callable[[Any], None]) -> None:
    data = _edited(edit)
    with pytest.raises(FormatError):
        manifests.parse(data, hashlib.sha256(data).hexdigest())


def test_a_manifest_that_fits_the_chain_passes() -> None:
    manifests.check_against(manifest(), record_for(manifest()))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, publisher="0x" + "11" * 20),
        lambda r: replace(r, name="other"),
        lambda r: replace(r, version="2.0.0"),
        lambda r: replace(r, licence="MIT"),
        lambda r: replace(r, manifest_history=(sha("old"), r.manifest_sha256)),
        lambda r: replace(r, variants=r.variants[:1]),
        lambda r: replace(r, variants=(replace(r.variants[0], sha256=sha("x")), r.variants[1])),
        lambda r: replace(r, variants=(replace(r.variants[0], size_bytes=99), r.variants[1])),
        lambda r: replace(r, variants=(r.variants[0], replace(r.variants[1], cid=r.variants[0].cid))),
    ],
)
def test_any_difference_from_the_chain_is_an_integrity_error(
    change: Callable[[VersionRecord], VersionRecord],
) -> None:
    with pytest.raises(IntegrityError) as caught:
        manifests.check_against(manifest(), change(record_for(manifest())))
    assert caught.value.expected != caught.value.actual


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["variants"][0]["files"][0].update(sha256=sha("other")),
        lambda d: d["variants"][0]["files"][0].update(path="../config.json"),
        lambda d: d["variants"][0]["files"][0].update(path="/etc/passwd"),
        lambda d: d["variants"][0]["files"][0].update(size_bytes=11),
        lambda d: d["variants"][0]["files"].append(d["variants"][0]["files"][0]),
        lambda d: d["variants"][1]["files"][0].update(path="a/b.gguf"),
        lambda d: d["variants"][1]["files"][0].update(cid=d["variants"][0]["files"][0]["cid"]),
        lambda d: d["variants"].append(d["variants"][0]),
        lambda d: d["variants"][0].update(bare=True),
    ],
)
def test_a_publisher_whose_lists_contradict_the_chain_is_caught_before_a_byte_is_fetched(
    edit: Callable[[Any], None],
) -> None:
    honest = record_for(manifest())
    data = _edited(edit)
    document = manifests.parse(data, hashlib.sha256(data).hexdigest())
    with pytest.raises(CitrateError) as caught:
        manifests.check_against(document, honest)
    assert isinstance(caught.value, IntegrityError | FormatError)


def test_too_many_files_do_not_fit_a_block() -> None:
    many = tuple(file_entry(f"{'x' * 200}/{number}") for number in range(4000))
    entry = entries()[0].model_copy(update={"files": many})
    with pytest.raises(FormatError, match="too many files"):
        manifest().model_copy(update={"variants": (entry,)}).encode()


def cut_manifest() -> Manifest:
    """One whose folder was cut at its tensors."""
    made = manifest()
    folder = made.variants[0]
    files = (folder.files[0], replace(folder.files[1], tsize=1000))
    return made.model_copy(
        update={"variants": (folder.model_copy(update={"files": files, "profile": TENSOR_PROFILE}), made.variants[1])}
    )


def test_a_profile_stands_in_the_manifest_only_where_it_is_another() -> None:
    usual = json.loads(manifest().encode())
    assert all("profile" not in entry for entry in usual["variants"])
    assert all(set(file) == {"path", "size_bytes", "sha256", "cid"} for v in usual["variants"] for file in v["files"])
    data = cut_manifest().encode()
    cut, bare = json.loads(data)["variants"]
    assert cut["profile"] == TENSOR_PROFILE
    assert [file.get("tsize") for file in cut["files"]] == [None, 1000]
    assert "profile" not in bare
    assert manifests.parse(data, hashlib.sha256(data).hexdigest()) == cut_manifest()
    assert cut_manifest().variants[0].artifact().files[1].tsize == 1000


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.pop("profile"),
        lambda entry: entry.update(profile=None),
        lambda entry: entry.update(profile="citrate-tensor-v2"),
        lambda entry: entry["files"][0].update(tsize=None),
        lambda entry: entry["files"][0].update(tsize="1"),
    ],
    ids=["no profile", "an empty profile", "an unknown profile", "an empty tsize", "a tsize that is no number"],
)
def test_a_profile_that_is_not_said_as_it_must_be_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(cut_manifest().encode())
    change(document["variants"][0])
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    with pytest.raises(FormatError):
        manifests.parse(data, hashlib.sha256(data).hexdigest())
