"""Runs that are killed half-way lose nothing and leave nothing half done; running them again finishes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, SAMPLE, Machine, Release

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]
PUBLISH = ("register-model", str(SAMPLE), "--variants", "safetensors,gguf:Q8_0,gguf:Q4_K_M", "--checks", "tensors")


@pytest.mark.parametrize("after_s", [0.8, 1.6, 2.4])
def test_a_killed_register_model_is_finished_by_running_it_again(release: Release, after_s: float) -> None:
    machine = release.machine
    arguments = (*PUBLISH, "--name", f"killed-{int(after_s * 10)}")
    process = subprocess.Popen(
        [sys.executable, "-m", "citrate.cli.main", *arguments],
        env=machine.env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert machine.gets("store", "verify")["ok"] is True, "what is visible is whole"
    again = machine.gets(*arguments)
    assert again["status"] in ("published", "unchanged")
    assert machine.gets(*arguments)["status"] == "unchanged"


def test_two_publishers_at_once_with_one_key_both_succeed(release: Release) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "citrate.cli.main", *PUBLISH[:2], "--variants", "safetensors", "--checks", "tensors",
             "--name", name, "--json"],
            env=release.machine.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("at-once-a", "at-once-b")
    ]  # fmt: skip
    for process in commands:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err


def test_a_version_published_by_one_run_is_unchanged_for_the_other(release: Release, reader: Machine) -> None:
    before = reader.gets("resolve", release.ref)["manifest"]
    again = release.machine.gets("register-model", str(SAMPLE), "--name", "tiny-llama", "--checks", "tensors")
    assert again["status"] == "unchanged"
    assert again["manifest"]["sha256"] == before["sha256"]


def test_ctrl_c_ends_with_130_and_one_json_document(tmp_path: Path) -> None:
    arguments = ("register-model", str(SAMPLE), "--name", "stopped", "--dry-run", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "citrate.cli.main", *arguments],
        env={**os.environ, "CITRATE_HOME": str(tmp_path / "home")},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "home").exists():  # then it has begun to convert
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert json.loads(out)["error"]["type"] == "Interrupted"
