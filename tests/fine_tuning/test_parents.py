"""Weights and licences of what is merged: counted with, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ConfigError, FormatError, NotPermittedError
from citrate.core.records import Artifact
from citrate.fine_tuning.merging import Merged, Request
from citrate.fine_tuning.parents import Found, Named, licence_of, require_trained_on, shares
from citrate.formats import merging_record
from citrate.formats.merging import How, Method
from citrate.formats.merging_record import MergeRecord, Parent, settings_of

ID, OTHER_ID = f"0x{'1' * 64}", f"0x{'2' * 64}"
SHA256, OTHER_SHA256 = "a" * 64, "b" * 64


def weights(*texts: str) -> list[str]:
    return [str(weight) for weight in shares([Named.parse(text) for text in texts])]


def found(name: str, licence: str, kind: str = "model") -> Found:
    return Found(name, Path(name), Parent(kind, SHA256), licence, frozenset([SHA256]))


def test_who_has_no_weight_gets_an_equal_part_of_what_is_left() -> None:
    assert weights("me/a") == ["1"]
    assert weights("me/a=0.25") == ["0.25"]
    assert weights("me/a=0.7", "me/b") == ["0.7", "0.3"]
    assert weights("me/a", "me/b=0.5", "me/c") == ["0.25", "0.5", "0.25"]
    assert weights("me/a=2", "me/b=-1.5") == ["2", "-1.5"]
    thirds = [Decimal(weight) for weight in weights("a/a", "a/b", "a/c")]
    assert all(abs(weight * 3 - 1) < Decimal("1e-8") for weight in thirds)


@pytest.mark.parametrize("text", ["x", "", "nan", "inf", "-inf", "0", "0.0", "1e7", "1e-12", "0x1", "1,5"])
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no weight"):
        Named.parse(f"me/a={text}")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("me/a=1", "me/b=-1"), "add up to zero"),
        (("me/a=1", "me/b"), "leave nothing for 1 of 2"),
        (("me/a=1.5", "me/b", "me/c"), "leave nothing for 2 of 3"),
    ],
)
def test_weights_that_cannot_be_used_together_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        weights(*texts)


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert Named.parse(str(folder)) == Named(str(folder))
    assert Named.parse(f"{folder}=0.5") == Named(str(folder), Decimal("0.5"))


def test_licences_that_agree_are_the_results_and_others_are_named() -> None:
    same = [found("a", "Apache-2.0"), found("b", "Apache-2.0"), found("c", "")]
    assert licence_of(same, None) == "Apache-2.0"
    assert licence_of([found("c", "")], None) == ""
    different = [*same, found("d", "MIT")]
    with pytest.raises(ConfigError, match=r"a is under Apache-2\.0, d is under MIT"):
        licence_of(different, None)
    assert licence_of(different, "apache-2.0") == licence_of(same, "apache-2.0") == "Apache-2.0"
    assert licence_of([found("c", "")], "mit") == "MIT"
    with pytest.raises(ConfigError, match=r"under Apache-2\.0: a merge is no reason for MIT"):
        licence_of(same, "mit")
    with pytest.raises(ConfigError, match="licence is empty"):
        licence_of(different, " ")


def test_no_wish_overrides_a_licence_that_forbids_derivatives() -> None:
    with pytest.raises(NotPermittedError, match=r"b, CC-BY-ND-4\.0, forbids derivatives"):
        licence_of([found("a", "MIT"), found("b", "CC-BY-ND-4.0")], "mit")


def test_a_registered_adapter_is_merged_into_its_own_base_only() -> None:
    base = found("me/base", "MIT", "base")
    adapter = replace(found("me/lora", "MIT", "adapter"), base=ID, base_sha256=OTHER_SHA256)
    with pytest.raises(FormatError, match="me/lora was trained on another base"):
        require_trained_on(adapter, base)
    require_trained_on(adapter, replace(base, parent=Parent("base", SHA256, id=ID)))
    require_trained_on(adapter, replace(base, digests=frozenset([SHA256, OTHER_SHA256])))
    require_trained_on(found("folder", "", "adapter"), base)


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        (Method.CAT, {}, "either adapters or models"),
        (Method.CAT, {"base": "b", "adapters": 1, "models": 2}, "either adapters or models"),
        (Method.CAT, {"adapters": 1}, "merged into a model"),
        (Method.SLERP, {"base": "b", "adapters": 2}, "adapters are not merged by slerp"),
        (Method.CAT, {"models": 2}, "models are not merged by cat"),
        (Method.SLERP, {"models": 1}, "one model alone"),
        (Method.SLERP, {"models": 3}, "slerp takes two models"),
        (Method.SLERP, {"models": 2, "base": "b"}, "slerp takes two models"),
        (Method.TIES, {"models": 2}, "changed in the one"),
        (Method.CAT, {"base": "b", "adapters": 9}, "at most 8"),
    ],
)
def test_what_does_not_go_together_is_refused(method: Method, fields: dict[str, object], message: str) -> None:
    named: dict[str, Any] = {
        key: tuple(Named(f"me/{i}") for i in range(count)) for key, count in fields.items() if isinstance(count, int)
    }
    with pytest.raises(ConfigError, match=message):
        Request(How(method), Path("out"), str(fields.get("base", "")), **named)


@pytest.mark.parametrize("density", [0, -0.5, 1.5, float("nan")])
def test_a_density_is_a_share(density: float) -> None:
    with pytest.raises(ConfigError, match="keeps nothing"):
        Request(How(Method.TIES, density), Path("out"), "b", (Named("me/a"),))


def test_shares_of_a_merge_on_chain_add_up_to_the_whole() -> None:
    def points(*told: tuple[str, str]) -> tuple[int, ...]:
        parents = tuple(Parent("adapter", SHA256, weight, id_) for weight, id_ in told)
        record = MergeRecord("cat", {}, (Parent("base", SHA256), *parents))
        return Merged(Path(), Artifact("", "", 0, (), False), record, "", (), 8, 8.0).basis_points

    assert points(("0.7", ID), ("0.3", OTHER_ID)) == (7000, 3000)
    assert points(("1", ID), ("1", OTHER_ID), ("1", ID)) == (3334, 3333, 3333)
    assert points(("2", ID), ("-1", OTHER_ID)) == ()
    assert points(("0.5", ID), ("0.5", "")) == ()


def test_a_merge_is_read_as_it_was_written(tmp_path: Path) -> None:
    parents = (Parent("base", SHA256, id=ID, ref="0xab/base@1.0.0"), Parent("adapter", OTHER_SHA256, "-0.25"))
    record = MergeRecord("dare", settings_of(How(Method.DARE, 0.3, seed=7)), parents)
    assert merging_record.read(tmp_path) is None
    (tmp_path / merging_record.FILE).write_bytes(record.encode())
    assert merging_record.read(tmp_path) == record
    assert dict(record.settings) == {"density": "0.3", "seed": "7"}
    assert merging_record.lineage(record) == [(ID, "merge dare base")]
    assert merging_record.card("MIT", record).startswith(b"---\nlicense: mit\n---\n")
    assert b"LicenseRef-Own" in merging_record.card("LicenseRef-Own", record)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}", "{", '{"schema": "citrate.merge/2", "method": "cat", "settings": {}, "parents": []}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents": []}',
        '{"schema": "citrate.merge/1", "method": "soup", "settings": {}, "parents": [{}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {"a": 1}, "parents": [{}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents": [{"kind": "base"}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents": [{"kind": "x", "sha256": "%s"}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents":'
        ' [{"kind": "base", "sha256": "%s", "id": "0x1"}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents":'
        ' [{"kind": "base", "sha256": "%s", "weight": "much"}]}',
        '{"schema": "citrate.merge/1", "method": "cat", "settings": {}, "parents":'
        ' [{"kind": "base", "sha256": "%s", "path": "/home"}]}',
    ],
)  # fmt: skip
def test_a_record_that_nobody_wrote_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / merging_record.FILE).write_text(text.replace("%s", SHA256))
    with pytest.raises(FormatError, match=r"merge\.json"):
        merging_record.read(tmp_path)
