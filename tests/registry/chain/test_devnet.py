"""The devnet keeps its state whatever happens to Anvil or to us, and is never two."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from citrate.core.errors import ChainError, CitrateError, ConfigError, UnavailableError
from citrate.registry import anvil as binaries
from citrate.registry.chain import Chain
from citrate.registry.devnet import FUNDED_WEI, Devnet, contracts
from citrate.registry.keys import Keys
from citrate.registry.rpc import JsonRpc
from tests.fixtures_anvil import release_of

pytestmark = pytest.mark.servers

FRESH = len(contracts()) + 1
"""The newest block of a new devnet: one for each contract, and one in which moderation is appointed."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    pid = Devnet(tmp_path / "home").status().pid
    if pid:
        psutil.Process(pid).kill()


def publish(home: Path, version: str) -> None:
    """What a command does: find the chain, take the home's key, send."""
    url = Devnet(home).status().rpc_url
    keys = Keys(home, environ={})
    entry = keys.for_writing("", chain_id=31337, rpc_url=url)
    Devnet(home).fund(entry.address)
    signer = keys.unlock(entry, chain_id=31337, rpc_url=url)
    Chain.connect(url, 31337, home=home).publish(signer, release_of(signer.address, version=version))


def published(home: Path) -> list[str]:
    models = Chain.connect(Devnet(home).status().rpc_url, 31337, home=home).models()
    return [version.version for model in models for version in model.versions]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=60)


def test_up_starts_one_anvil_with_our_contracts_and_twice_is_once(home: Path) -> None:
    first = Devnet(home).up()
    assert first.chain_id == 31337 and first.rpc_url.startswith("http://127.0.0.1:")
    assert first.contracts == contracts() and first.block == FRESH
    assert Devnet(home).up() == first == Devnet(home).status()
    assert stat.S_IMODE((home / "devnet").stat().st_mode) == 0o700


def test_an_anvil_is_not_tied_to_the_process_that_started_it(home: Path) -> None:
    code = f"from pathlib import Path; from citrate.registry.devnet import Devnet; Devnet(Path({str(home)!r})).up()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    status = Devnet(home).status()
    assert psutil.Process(status.pid).terminal() is None and os.getsid(status.pid) == status.pid
    assert status.block == FRESH


def test_state_and_port_are_kept_over_down_and_up(home: Path) -> None:
    first = Devnet(home).up()
    publish(home, "1.0.0")
    assert Devnet(home).down() and not psutil.pid_exists(first.pid)
    stopped = Devnet(home).status()
    assert (stopped.pid, stopped.rpc_url, stopped.contracts) == (0, "", first.contracts)
    assert not Devnet(home).down()
    again = Devnet(home).up()
    assert again.rpc_url == first.rpc_url and again.pid != first.pid
    assert published(home) == ["1.0.0"]


def test_a_killed_anvil_loses_no_confirmed_write(home: Path) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        status = Devnet(home).up()
        publish(home, version)
        kill(status.pid)
        assert Devnet(home).status().pid == 0
    Devnet(home).up()
    assert published(home) == ["3.0.0", "2.0.0", "1.0.0"]


def test_what_others_wrote_is_kept_by_an_orderly_stop_from_outside(home: Path) -> None:
    status = Devnet(home).up()
    rpc = JsonRpc(status.rpc_url)
    for _ in range(3):
        rpc.call("evm_mine")
    process = psutil.Process(status.pid)
    process.terminate()
    process.wait(60)
    assert Devnet(home).up().block == FRESH + 3


def test_a_torn_exit_state_is_not_adopted(home: Path) -> None:
    status = Devnet(home).up()
    publish(home, "1.0.0")
    kill(status.pid)
    (home / "devnet" / "exit.json").write_text('{"best_block_number": 99, "accounts": {"0x')
    assert Devnet(home).up().block == FRESH + 1
    assert published(home) == ["1.0.0"]


def test_killing_the_writer_at_any_moment_leaves_a_devnet_that_starts(home: Path) -> None:
    Devnet(home).up()
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, '.');"
        "from tests.registry.chain.test_devnet import publish;"
        f"home = Path({str(home)!r}); [publish(home, str(i)) for i in range(int(sys.argv[1]), 10**6)]"
    )
    root = Path(__file__).resolve().parents[3]
    for delay_s in (0.0, 0.03):
        start = len(published(home))
        writer = subprocess.Popen([sys.executable, "-c", code, str(start)], cwd=root)
        deadline = time.monotonic() + 60
        while len(published(home)) < start + 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(delay_s)
        writer.kill()
        writer.wait()
        before = published(home)
        assert len(before) >= start + 2
        kill(Devnet(home).status().pid)
        Devnet(home).up()
        assert published(home) in (before, before[1:])  # the newest may lack its checkpoint: nobody was told "done"


def test_processes_that_start_together_share_one_anvil(home: Path) -> None:
    code = "import sys; from pathlib import Path; from citrate.registry.devnet import Devnet;"
    code += f"print(Devnet(Path({str(home)!r})).up().pid)"
    starts = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {start.communicate(timeout=60)[0].strip() for start in starts}
    assert len(pids) == 1 and pids != {""}


def test_a_port_that_was_taken_meanwhile_is_given_up(home: Path) -> None:
    first = Devnet(home).up()
    Devnet(home).down()
    port = int(first.rpc_url.rsplit(":", 1)[1])
    with socket.socket() as occupier:
        occupier.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupier.bind(("127.0.0.1", port))
        occupier.listen()
        second = Devnet(home).up()
        assert second.rpc_url != first.rpc_url and second.contracts == first.contracts


def test_a_pid_that_went_to_another_process_is_not_ours(home: Path) -> None:
    status = Devnet(home).up()
    kill(status.pid)
    path = home / "devnet" / "devnet.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "pid": os.getpid()}))
    assert Devnet(home).status().pid == 0
    assert not Devnet(home).down()
    assert Devnet(home).up().pid not in (0, os.getpid())


def test_a_chain_of_an_older_build_is_kept_and_refused(home: Path) -> None:
    Devnet(home).up()
    publish(home, "1.0.0")
    Devnet(home).down()
    path = home / "devnet" / "devnet.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "contracts": {"ModelRegistry": "0x" + "12" * 20}}))
    before = (home / "devnet" / "state.json").read_bytes()
    with pytest.raises(CitrateError, match="another build") as error:
        Devnet(home).up()
    assert error.value.exit_code == 1 and error.value.hint.startswith("citrate devnet reset")
    assert (home / "devnet" / "state.json").read_bytes() == before
    assert Devnet(home).reset().block == FRESH
    assert published(home) == []


def test_fund_tops_up_once_and_survives_a_kill(home: Path) -> None:
    address = "0x" + "ab" * 20
    status = Devnet(home).up()
    assert Devnet(home).fund(address) == Devnet(home).fund(address) == FUNDED_WEI
    kill(status.pid)
    Devnet(home).up()
    rpc = JsonRpc(Devnet(home).status().rpc_url)
    assert int(str(rpc.call("eth_getBalance", address, "latest")), 16) == FUNDED_WEI
    with pytest.raises(ConfigError, match="not an address"):
        Devnet(home).fund("alice")


def test_a_devnet_that_is_down_says_how_to_start_it(home: Path) -> None:
    for action in (Devnet(home).checkpoint, lambda: Devnet(home).fund("0x" + "ab" * 20)):
        with pytest.raises(UnavailableError) as error:
            action()
        assert (error.value.exit_code, error.value.hint) == (5, "citrate devnet up")
    assert Devnet(home).status().pid == 0 and not (home / "devnet" / "devnet.json").exists()


def test_a_devnet_that_hangs_is_told_and_stopped(home: Path) -> None:
    status = Devnet(home).up()
    os.kill(status.pid, signal.SIGSTOP)
    while psutil.Process(status.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    try:
        with pytest.raises(ChainError, match="no answer in time"):
            JsonRpc(status.rpc_url, timeout_s=0.3).call("eth_blockNumber")
    finally:
        os.kill(status.pid, signal.SIGCONT)
    assert Devnet(home).down()


def test_without_anvil_the_next_command_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find", lambda _: None)
    with pytest.raises(UnavailableError) as error:
        Devnet(home).up()
    assert (error.value.exit_code, error.value.hint) == (5, "citrate devnet up")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="npm") as error:
        Devnet(home).up(install=True)
    assert "Node.js" in error.value.hint


def test_an_anvil_that_does_not_start_says_why(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "anvil"
    broken.write_text("#!/bin/sh\necho 'error: no such flag' >&2\nexit 2\n")
    broken.chmod(0o755)
    monkeypatch.setattr(binaries, "find", lambda _: broken)
    with pytest.raises(UnavailableError, match="error: no such flag"):
        Devnet(home).up()


def test_anvil_is_found_on_path_then_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "anvil"
    own.write_text("")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binaries.find(tmp_path) == own
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    found = binaries.find(tmp_path)
    assert found is not None and found.parts[-4:-2] == tuple(binaries.package().split("/"))


def test_reset_ends_what_a_damaged_record_no_longer_names(home: Path) -> None:
    old = Devnet(home).up()
    (home / "devnet" / "devnet.json").write_text("{")
    with pytest.raises(CitrateError, match="cannot be read"):
        Devnet(home).status()
    new = Devnet(home).reset()
    assert new.block == FRESH
    assert not psutil.pid_exists(old.pid) or psutil.Process(old.pid).status() == psutil.STATUS_ZOMBIE
