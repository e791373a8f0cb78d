"""How far ModelOpt's checkpoints are from their source, for random models of every decoder family: each passes the
gates of `citrate register-model`, and its distances are printed. About two minutes; nothing is timed.

    python bench/tensorrt_families.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "formats"))

from family_models import llama31, mistral, qwen2, qwen3
from tiny_models import FolderSink

from citrate.core.records import Variant
from citrate.formats import check, convert_all, open_model
from citrate.formats.tensorrt.schemes import SCHEMES


def main() -> None:
    for build in (llama31, mistral, qwen2, qwen3):
        with tempfile.TemporaryDirectory(prefix="citrate-bench-") as folder:
            root = Path(folder)
            (root / "source").mkdir()
            build(root / "source")
            model = open_model(root / "source")
            variants = [Variant.parse(f"tensorrt_llm:{name}@{scheme.targets[0]}") for name, scheme in SCHEMES.items()]
            made = convert_all(model, {variant: FolderSink(root / variant.quantization) for variant in variants})
            for variant in variants:
                checks = (*made[variant].checks, *check(model, variant, root / variant.quantization))
                told = ", ".join(f"{each.name} {each.value}" for each in checks if each.value != "0")
                print(f"{build.__name__:8} {variant.quantization:10} {told}", flush=True)


if __name__ == "__main__":
    main()
