from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from citrate.core.digests import check_path, listing_sha256
from citrate.core.errors import FormatError
from citrate.core.records import FileEntry


def test_directory_digest_is_what_coreutils_print(tmp_path: Path) -> None:
    names = ["b.txt", "a/ä.txt", "a/z", "Z", "a b", ".hidden"]
    entries = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 3)
        entries.append(FileEntry(name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), ""))
    listed = subprocess.run(
        "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | LC_ALL=C xargs -0 sha256sum",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    assert listing_sha256(entries) == hashlib.sha256(listed).hexdigest()


@pytest.mark.parametrize("path", ["", "/a", "a//b", "a/", "../a", "a/../b", ".", "a\\b", "a\nb", "a\x00", "\udc80"])
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        check_path(path)
