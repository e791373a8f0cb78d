"""The child of ``making``: quantises one model by ModelOpt, once a recipe. Run as a module, never imported.

ModelOpt gets transformers' own class, filled by our reader: it sees neither the source's folder nor a file of it. When
the libraries are loaded the process opens no socket any more and takes no more memory than it was promised.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core.confinement import sandbox
from citrate.core.errors import CitrateError
from citrate.formats.checks import network, reference
from citrate.formats.source import SourceModel, open_model
from citrate.formats.tensorrt.making import installed_versions

if TYPE_CHECKING:
    import torch


def main() -> int:
    """Read one request on stdin, write a folder a recipe; the answer is one JSON object."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is talk
    request = json.load(sys.stdin)
    sandbox.die_with_parent(request["parent_pid"])
    try:
        answer = _make(request)
    except CitrateError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except MemoryError:
        answer = {"error": "UnavailableError", "message": "ModelOpt takes more memory than reckoned", "hint": ""}
    with os.fdopen(answers, "w") as out:
        json.dump(answer, out)
    return 0


def _make(request: dict[str, Any]) -> dict[str, str]:
    import torch
    import transformers  # noqa: F401 - loaded before the walls are up

    sandbox.go_offline()
    sandbox.limit_memory(request["memory_bytes"])
    torch.set_num_threads(request["threads"])
    model = open_model(request["source"])
    for recipe, out in request["recipes"].items():
        quantized = _quantized(_loaded(model), recipe, request["sequences"])
        _export(quantized, Path(out))
    return dict(installed_versions())


def _loaded(model: SourceModel) -> torch.nn.Module:
    """The whole model in 16 bits: its own type, or bfloat16 where that is float32."""
    import torch

    dtype = torch.float16 if model.source_dtype == "F16" else torch.bfloat16
    made = network.built(model.config, pooled=False, dtype=dtype)
    return network.materialized(made, reference.source_weights(model))


def _quantized(made: torch.nn.Module, recipe: str, sequences: Sequence[Sequence[int]]) -> torch.nn.Module:
    import modelopt.torch.quantization as quantization
    import torch

    def calibrate(watched: torch.nn.Module) -> None:
        for ids in sequences:
            watched(input_ids=torch.tensor([list(ids)]), use_cache=False)

    with torch.inference_mode():
        done: torch.nn.Module = quantization.quantize(made, getattr(quantization, recipe), forward_loop=calibrate)
    return done


def _export(quantized: torch.nn.Module, out: Path) -> None:
    import torch
    from modelopt.torch.export import export_hf_checkpoint

    with torch.inference_mode():
        export_hf_checkpoint(quantized, export_dir=out)


if __name__ == "__main__":
    sys.exit(main())
