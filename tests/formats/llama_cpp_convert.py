"""The child of ``llama_cpp_reference``: one conversion a line of stdin. Runs with llama.cpp's own gguf package."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from conversion import get_model_class
from conversion.base import ModelBase, ModelType, TextModel, get_model_architecture, gguf

TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def convert_lora(request: dict[str, str]) -> None:
    """Run the script as from the command line."""
    sys.argv = ["convert_lora_to_gguf.py", request["adapter"], "--base", request["source"]]
    sys.argv += ["--outtype", request["outtype"], "--outfile", request["target"]]
    script = next(Path(folder) / sys.argv[0] for folder in sys.path if (Path(folder) / sys.argv[0]).exists())
    runpy.run_path(str(script), run_name="__main__")


def convert(request: dict[str, str]) -> None:
    if request.get("adapter"):
        convert_lora(request)
        return
    pre = request["pre"]
    if pre:
        TextModel.get_vocab_base_pre = lambda *_: pre
    source = Path(request["source"])
    settings = ModelBase.load_hparams(source, False)
    kind = get_model_class(get_model_architecture(settings, ModelType.TEXT))
    file_type = gguf.LlamaFileType[TYPES[request["outtype"]]]
    model: Any = kind(source, file_type, Path(request["target"]), model_name=request["name"])
    model.write()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the converter prints is talk
    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            with torch.inference_mode():
                convert(json.loads(line))
            print("done", file=answers, flush=True)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the parent tells it
            print(repr(error), file=answers, flush=True)


main()
