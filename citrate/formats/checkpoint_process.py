"""The child of ``checkpoint``: says where the tensors of a pickled checkpoint lie. Run as a module, never imported."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from citrate.core.confinement.serving import Request, serve
from citrate.core.errors import FormatError
from citrate.formats.torch_file import find_tensors


def answer(request: Request) -> bytes:
    """One JSON document: of each file asked for, by its place in the request, what was found in it."""
    paths = request["paths"]
    if not isinstance(paths, list):
        raise FormatError("no paths")
    return json.dumps([asdict(find_tensors(Path(str(path)))) for path in paths]).encode()


if __name__ == "__main__":
    sys.exit(serve(answer))
