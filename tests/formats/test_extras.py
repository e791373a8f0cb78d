"""A missing extra is an error that names it; what needs no extra works without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import sys
for name in sys.argv[3].split(","):
    sys.modules[name] = None
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tiny_models import FolderSink
from citrate.core.errors import BackendMissingError
from citrate.core.records import Variant
from citrate.formats import check, convert, inspect, open_model
model, variant, root = open_model(sys.argv[1]), Variant.parse(sys.argv[2]), Path(sys.argv[5])
inspect(sys.argv[1])
try:
    bare = convert(model, variant, FolderSink(root)).bare
    check(model, variant, next(root.iterdir()) if bare else root)
except BackendMissingError as error:
    print(error.message, "|", error.hint)
"""


def run(source: Path, variant: str, missing: str, out: Path) -> str:
    command = [sys.executable, "-c", _RUN, str(source), variant, missing, str(Path(__file__).parent), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("variant", "missing", "said"),
    [
        ("gguf:Q4_K_M", "numba", "GGUF needs numba | pip install 'citrate[gguf]'"),
        ("gguf:Q8_0", "llama_cpp", "GGUF needs llama-cpp-python | pip install 'citrate[gguf]'"),
        (
            "gguf:F16",
            "llama_cpp",
            "gguf:F16 cannot be checked without llama-cpp-python | pip install 'citrate[gguf]'",
        ),
        ("mlx:4bit", "numba", "MLX needs numba | pip install 'citrate[mlx]'"),
        ("safetensors", "tokenizers", "safetensors cannot be checked without tokenizers | pip install 'citrate[gguf]'"),
        (
            "safetensors",
            "torch",
            "safetensors cannot be checked without torch | pip install 'citrate[training]', or use --checks tensors",
        ),
    ],
)
def test_a_missing_extra_is_named(variant: str, missing: str, said: str, llama: Path, tmp_path: Path) -> None:
    assert run(llama, variant, missing, tmp_path / "out") == said


_IN_THREADS = """
import sys
sys.modules["numba"] = None
sys.setswitchinterval(1e-6)
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from citrate.core.errors import BackendMissingError
from citrate.formats.mlx_affine import WRITTEN, encode
def miss(_):
    try:
        encode(np.zeros(64, np.float32), "F32", WRITTEN["4bit"])
    except BackendMissingError as error:
        return error.message
with ThreadPoolExecutor(8) as pool:
    print(*sorted(set(pool.map(miss, range(400)))))
"""


def test_threads_that_miss_the_same_package_all_say_so() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_THREADS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "MLX needs numba", done.stderr


def test_safetensors_are_written_with_no_extra_installed(llama: Path, tmp_path: Path) -> None:
    missing = "numba,llvmlite,llama_cpp,torch,transformers,mlx,gguf,safetensors,tokenizers"
    assert "without tokenizers" in run(llama, "safetensors", missing, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_importing_formats_loads_nothing_heavy() -> None:
    code = "import sys, citrate.formats; print(*sorted(set(sys.modules)))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "transformers", "numba", "llvmlite", "mlx", "llama_cpp", "gguf", "tokenizers", "web3"}
