"""Feed readers with damaged inputs.

    python tests/fuzz/run.py short [TARGET ...]     the same inputs every time, some hundred a target
    python tests/fuzz/run.py long SECONDS [TARGET]  atheris looks for new paths, that many seconds a target

What breaks a promise is printed with its input in hexadecimal: mend the reader, and give its own tests that input.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from guard import BrokenPromiseError, Guard

if TYPE_CHECKING:
    from target import Target


def _targets(folder: Path) -> Mapping[str, Target]:
    """Imported when it is called: atheris must see every import of what it explores."""
    from targets import targets

    return targets(folder)


def short(names: list[str], folder: Path) -> int:
    """Run every target's own number of inputs; returns how many broke a promise."""
    known = _targets(folder)
    guard = Guard(folder)
    broken = 0
    for name in names or list(known):
        known[name].run(known[name].seeds[0])  # what it imports late is not its inputs' fault
        slowest = 0.0
        for data in inputs(name, known[name]):
            try:
                slowest = max(slowest, guard.check(known[name].run, data))
            except BrokenPromiseError as error:
                broken += 1
                print(f"BROKEN {name}: {error}\n  {data.hex() if len(data) < 5000 else f'{len(data)} bytes'}")
        print(f"{name}: {known[name].inputs} inputs, the slowest took {slowest:.3f} s")
    return broken


def inputs(name: str, target: Target) -> list[bytes]:
    """The sound inputs, and the same damaged ones every time."""
    rng = random.Random(zlib.crc32(name.encode()))
    made = list(target.seeds)
    while len(made) < target.inputs:
        made.append(target.mutate(rng.choice(target.seeds), rng))
    return made


def one(name: str, seconds: int, folder: Path) -> None:
    """Let atheris explore one target from its seeds; ends the process."""
    import atheris

    known = _targets(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(inputs(name, known)[:100]):
        (corpus / str(number)).write_bytes(seed)
    known.run(known.seeds[0])  # what it imports late is not its inputs' fault
    guard = Guard(folder)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-max_len=65536", "-rss_limit_mb=0", "-print_final_stats=1"]
    crashes = Path(os.environ.get("FUZZ_CRASHES", ".")).resolve()
    options.append(f"-artifact_prefix={crashes}/fuzz-{name}-")

    def check(data: bytes) -> None:
        guard.check(known.run, data)

    atheris.Setup([name, *options, str(corpus)], check)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    mode, *rest = arguments or ["short"]
    if mode == "long":
        seconds, *names = rest or ["60"]
        with tempfile.TemporaryDirectory() as folder:
            known = names or list(_targets(Path(folder)))
        codes = [subprocess.call([sys.executable, __file__, "one", seconds, name]) for name in known]
        return int(any(codes))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["RUST_BACKTRACE"] = "0"  # a library's panics are inputs here, and looking up their traces is not
    try:
        if mode == "one":
            import atheris

            with atheris.instrument_imports(include=["citrate", "jinja2"]):
                one(rest[1], int(rest[0]), folder)
        return 1 if short(rest, folder) else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
