"""llama.cpp's own converter, out of llama-cpp-python's source package: the oracle of whole GGUF files.

The package comes from the registry that pip is set to, is compared with the hash in requirements.lock, and stays in
`.setup/`, which git ignores. Nothing of it is committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType

from filelock import FileLock

ROOT = Path(__file__).parents[2]
_WANTED = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion/", "gguf-py/gguf/")
_PINNED = re.compile(r"llama-cpp-python==(\S+) \\\n\s+--hash=sha256:([0-9a-f]{64})")


def fetched() -> Path:
    """The folder with the converter; downloaded (75 MB) where this checkout does not have it yet."""
    pinned = _PINNED.search((ROOT / "requirements.lock").read_text())
    assert pinned, "requirements.lock pins one source package of llama-cpp-python"
    version, sha256 = pinned.groups()
    kept = hashlib.sha256(" ".join(_WANTED).encode()).hexdigest()[:8]
    folder = ROOT / ".setup" / f"llama.cpp-{version}-{kept}"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                archive = _download(version, Path(scratch))
                assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256
                _unpack(archive, Path(scratch) / "unpacked")
                (Path(scratch) / "unpacked").rename(folder)
    return folder


def _download(version: str, into: Path) -> Path:
    own = ROOT / ".boot" / "bin" / "pip"
    pip = [str(own)] if own.exists() else [sys.executable, "-m", "pip"]
    wanted = ["--no-deps", "--no-binary", ":all:", f"llama-cpp-python=={version}"]
    done = subprocess.run(
        [*pip, "download", "-q", "-d", str(into), *wanted], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"the oracle cannot be fetched: {done.stderr[-2000:]}"
    return next(into.glob("*.tar.gz"))


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, name = member.name.partition("/vendor/llama.cpp/")
            if name.startswith(_WANTED) and member.isfile():
                member.name = name
                tar.extract(member, into, filter="data")


class ReferenceConverter:
    """A child process in which the converter is imported once, and which converts what it is told to."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{folder / 'gguf-py'}:{folder}", "HF_HUB_OFFLINE": "1"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("llama_cpp_convert.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**environment, "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def convert(self, source: Path, target: Path, *, outtype: str, name: str, pre: str = "") -> Path:
        """Write the GGUF file of ``source``; ``pre`` stands for the hash table of published tokenizers, in which a
        tokenizer made for a test does not occur."""
        request = {"source": str(source), "target": str(target), "outtype": outtype, "name": name, "pre": pre}
        return self._ask(request, target)

    def convert_lora(self, adapter: Path, base: Path, target: Path, *, outtype: str) -> Path:
        """Write the GGUF file of an adapter of PEFT."""
        request = {"adapter": str(adapter), "source": str(base), "target": str(target), "outtype": outtype}
        return self._ask(request, target)

    def _ask(self, request: dict[str, str], target: Path) -> Path:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if answer.strip() != "done":
            self._log.seek(0)
            raise AssertionError(f"llama.cpp's converter failed: {answer}{self._log.read()[-3000:].decode()}")
        return target

    def __enter__(self) -> ReferenceConverter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        self._child.wait()
        self._log.close()
