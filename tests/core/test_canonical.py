from __future__ import annotations

import pytest

from citrate.core import canonical
from citrate.core.errors import FormatError


def test_canonical_form_sorts_keys_and_keeps_unicode() -> None:
    assert canonical.dumps({"ö": [1, True, None], "a": {"z": "\n"}}) == '{"a":{"z":"\\n"},"ö":[1,true,null]}'.encode()


@pytest.mark.parametrize("document", [{"a": 0.5}, {"a": [{"b": 1.0}]}, {"a": 1 << 60}])
def test_floats_and_wide_integers_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        canonical.dumps(document)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{ "a":1}', b'{"b":1,"a":2}', b"\xff", b'{"a":NaN}', b"[" * 100_000]
)
def test_only_canonical_objects_are_read(data: bytes) -> None:
    with pytest.raises(FormatError):
        canonical.loads(data)


def test_however_deep_a_document_is_it_is_read_or_refused() -> None:
    """Reading and writing end at depths of their own, and between them lies one."""
    for depth in range(860, 980):
        try:
            canonical.loads(b'{"a":' * depth + b"1" + b"}" * depth)
        except FormatError as error:
            assert "\n" not in error.message
