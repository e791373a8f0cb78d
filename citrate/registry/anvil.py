"""Where the Anvil binary is, and how to get one."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from citrate.core.errors import UnavailableError

VERSION = "1.7.1"
"""The version that `devnet up` installs; package.json pins the same one."""

_CPUS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def package() -> str:
    """The npm package that holds the binary for this platform; starting it directly leaves no wrapper process."""
    return f"@foundry-rs/anvil-{sys.platform}-{_CPUS.get(platform.machine().lower(), 'unknown')}"


def find(home: Path) -> Path | None:
    """Look on PATH, in ``node_modules`` upwards from here and from the package, then in ``home``."""
    on_path = shutil.which("anvil")
    # npm's own `anvil` command is a script around the binary: it starts slower and leaves a child behind when killed.
    if on_path and not Path(on_path).resolve().suffix:
        return Path(on_path)
    folders = [Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents, _tools(home)]
    candidates = (folder / "node_modules" / package() / "bin" / "anvil" for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def require(home: Path) -> Path:
    """Find Anvil.

    Raises:
        UnavailableError: there is none.
    """
    found = find(home)
    if found is None:
        raise UnavailableError("the devnet needs Anvil, and none is installed", hint="citrate devnet up")
    return found


def install(home: Path) -> Path:
    """Install Anvil under ``home`` through npm, which checks the package against its registry's hash.

    Raises:
        UnavailableError: there is no npm, it failed, or the platform has no package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError(
            "the devnet needs Anvil; installing it needs npm, and there is none",
            hint="install Node.js, or put `anvil` (getfoundry.sh) on PATH",
        )
    folder = _tools(home)
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(folder), "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(
        [*command, "--ignore-scripts", f"{package()}@{VERSION}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    found = find(home)
    if done.returncode or found is None:
        lines = [line for line in done.stderr.splitlines() if "error" in line and " code " not in line]
        lines = lines or ["it installed nothing"]
        raise UnavailableError(
            f"npm could not install Anvil: {lines[0][:200]}", hint="put `anvil` (getfoundry.sh) on PATH"
        )
    return found


def _tools(home: Path) -> Path:
    return home / "tools"
