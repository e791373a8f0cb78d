"""Build the wheel and use it outside the checkout: what a `pip install citrate` gives, with our pinned packages.

The wheel is installed alone into a fresh folder that stands before everything else on the path, so that nothing is
imported from the checkout; decoys named like our folders lie in the working folder and must not be picked up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import citrate, citrate.core.records, json, sys
from importlib.resources import files
assert citrate.__file__.startswith(sys.argv[1]), citrate.__file__
abi = json.loads(files("citrate.registry").joinpath("abi/ModelRegistry.json").read_text())
assert any(item.get("name") == "getVariants" for item in abi["abi"])
from citrate import Registry
print("imported", citrate.__file__)
"""


def run(*command: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(work / "dist"),
            str(ROOT),
            cwd=work,
            env=dict(os.environ),
        )
        (wheel,) = (work / "dist").glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        outside = [name for name in names if not name.startswith(("citrate/", "citrate-"))]
        if outside:
            sys.exit(f"the wheel holds more than citrate/: {outside[:5]}")
        site = work / "site"
        run(sys.executable, "-m", "zipfile", "-e", str(wheel), str(site), cwd=work, env=dict(os.environ))
        elsewhere = work / "elsewhere"
        elsewhere.mkdir()
        for decoy in ("registry.py", "formats.py", "training.py"):
            (elsewhere / decoy).write_text("raise SystemExit('a decoy was imported')")
        env = {**os.environ, "PYTHONPATH": str(site), "CITRATE_HOME": str(work / "home")}
        print(run(sys.executable, "-c", PROGRAM, str(site), cwd=elsewhere, env=env).strip())
        model = str(ROOT / "examples" / "tiny-llama")
        citrate = (sys.executable, "-m", "citrate.cli.main")
        try:
            run(*citrate, "devnet", "up", "--json", cwd=ROOT, env=env)
            run(*citrate, "register-model", model, "--name", "tiny", "--variants", "gguf:Q8_0", cwd=elsewhere, env=env)
            text = run(
                *citrate,
                "run",
                "me/tiny",
                "What is the capital of France?",
                "--max-tokens",
                "20",
                cwd=elsewhere,
                env=env,
            )
        finally:
            subprocess.run([*citrate, "devnet", "down"], cwd=elsewhere, env=env, capture_output=True, check=False)
        if "Paris" not in text:
            sys.exit(f"the wheel's model does not know the capital of France: {text!r}")
        print(f"{wheel.name}: {len(names)} files; registered and ran outside the checkout")


if __name__ == "__main__":
    main()
