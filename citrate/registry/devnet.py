"""The local chain: one Anvil for a home, detached, its state kept whatever happens to it or to us.

Files under ``home/devnet``::

    devnet.json   which process serves it, and the addresses of the contracts on it
    state.json    the chain after the last confirmed write; only ever replaced by a rename
    exit.json     what Anvil itself wrote when it was stopped; adopted at the next start if it is newer
    anvil.log     what Anvil said when it could not start

A ``kill -9`` of Anvil loses nothing that ``checkpoint`` has seen, a ``kill -9`` of us loses nothing at all.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from citrate.core.errors import ChainError, CitrateError, ConfigError, UnavailableError
from citrate.core.records import ADDRESS_PATTERN
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import anvil, atomic, deployments
from citrate.registry.rpc import JsonRpc, is_loopback, quantity
from citrate.registry.stack import ANVIL_ACCOUNT

FUNDED_WEI = 1000 * 10**18
"""What ``fund`` tops an account up to."""

_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 15.0
_RESET_HINT = "citrate devnet reset"
_KEPT = ("state.json", "exit.json", "devnet.json")


@dataclass(frozen=True)
class DevnetStatus:
    """The devnet as it is now; ``pid`` 0 and an empty ``rpc_url`` while it is down."""

    rpc_url: str
    chain_id: int
    contracts: Mapping[str, str]
    pid: int
    block: int


@dataclass(frozen=True)
class _Kept:
    """What ``devnet.json`` holds."""

    pid: int = 0
    port: int = 0
    contracts: Mapping[str, str] = field(default_factory=dict)


def contracts() -> Mapping[str, str]:
    """Contract name -> its address on a devnet of this build; Anvil's first account governs."""
    return deployments.addresses_on(DEVNET_CHAIN_ID, ANVIL_ACCOUNT)


class Devnet:
    """The devnet of ``home``. Every method may be called by several processes at once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "devnet"

    def up(self, *, install: bool = False) -> DevnetStatus:
        """Start Anvil unless it runs, and deploy the contracts unless they stand.

        Args:
            install: get Anvil through npm where there is none; only on the user's explicit wish.

        Raises:
            UnavailableError: no Anvil, or it does not start.
            CitrateError: the kept chain holds contracts of another build of citrate.
        """
        kept = self._kept()
        if self._serves(kept) and kept.contracts == contracts():
            return self._status(kept)
        with self._locked():
            kept = self._kept()
            _require_this_build(kept)
            if not self._serves(kept):
                binary = anvil.find(self._home) or (anvil.install if install else anvil.require)(self._home)
                kept = self._start(binary, kept)
            if kept.contracts != contracts():
                kept = self._deploy(kept)
            return self._status(kept)

    def status(self) -> DevnetStatus:
        """Say what runs; starts and changes nothing.

        Raises:
            ChainError: it runs and does not answer.
        """
        kept = self._kept()
        if self._serves(kept):
            return self._status(kept)
        return DevnetStatus("", DEVNET_CHAIN_ID, dict(kept.contracts), 0, 0)

    def require_this_build(self) -> None:
        """Refuse a devnet that was kept from another build of citrate.

        Raises:
            CitrateError: its contracts are not this build's.
        """
        _require_this_build(self._kept())

    def down(self) -> bool:
        """Stop Anvil and wait until its state is on the disk; False if it did not run.

        Raises:
            ChainError: it runs, does not answer and does not stop.
        """
        with self._locked():
            kept = self._kept()
            if not self._serves(kept):
                return False
            self._stop(kept)
            self._adopt_exit_state()
            return True

    def reset(self) -> DevnetStatus:
        """Throw the chain away and start a new one."""
        with self._locked():
            with contextlib.suppress(CitrateError):  # a damaged record is no reason to keep it
                kept = self._kept()
                if self._serves(kept):
                    self._stop(kept)
            self._end_strays()
            for name in _KEPT:
                (self._folder / name).unlink(missing_ok=True)
        return self.up()

    def _end_strays(self) -> None:
        """End an Anvil of this folder that no record knows any more; its command line names the folder."""
        mark = str(self._folder / "exit.json")
        for process in psutil.process_iter(["cmdline"]):
            if mark in (process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait(_STOP_TIMEOUT_S)

    def fund(self, address: str) -> int:
        """Top ``address`` up to ``FUNDED_WEI``; returns its balance in wei.

        Raises:
            ConfigError: not an address.
            UnavailableError: the devnet does not run.
        """
        _require_address(address)  # also while it is down
        before, balance = top_up(self._rpc(self._running()), address)
        if before != balance:
            self.checkpoint()
        return balance

    def checkpoint(self) -> None:
        """Write the chain's state to the disk, so that it survives a ``kill -9`` of Anvil. Call it after each write.

        Raises:
            UnavailableError: the devnet does not run, or does not answer.
        """
        with self._locked():
            self._checkpoint(self._running())

    def _checkpoint(self, kept: _Kept) -> None:
        dump = self._rpc(kept).call("anvil_dumpState")
        if not isinstance(dump, str):
            raise ChainError("Anvil gave no state", hint=_RESET_HINT)
        atomic.write_atomic(self._folder / "state.json", gzip.decompress(bytes.fromhex(dump[2:])))

    def _start(self, binary: Path, kept: _Kept) -> _Kept:
        """Start Anvil on the port it had before, if that is free, and record its process."""
        self._adopt_exit_state()
        for port in dict.fromkeys((kept.port, 0)):
            process = self._spawn(binary, port)
            listening = _wait_for_port(process)
            if listening:
                running = _Kept(process.pid, listening, kept.contracts)
                self._keep(running)
                return running
        log = (self._folder / "anvil.log").read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise UnavailableError(f"Anvil does not start: {log[0][:200]}", hint=_RESET_HINT)

    def _spawn(self, binary: Path, port: int) -> psutil.Popen:
        atomic.private_folder(self._folder)
        cache = self._folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        command = [str(binary), "--quiet", "--host", "127.0.0.1", "--port", str(port), "--accounts", "1"]
        command += ["--chain-id", str(DEVNET_CHAIN_ID), "--hardfork", "osaka", "--cache-path", str(cache)]
        command += ["--dump-state", str(self._folder / "exit.json")]
        if (self._folder / "state.json").exists():
            command += ["--load-state", str(self._folder / "state.json")]
        try:
            with (self._folder / "anvil.log").open("wb") as log:
                return psutil.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    start_new_session=True,
                )
        except OSError as error:
            raise UnavailableError(f"{binary} cannot be started: {error.strerror}", hint="citrate doctor") from error

    def _stop(self, kept: _Kept) -> None:
        with contextlib.suppress(ChainError):  # one that hangs is stopped too; its last checkpoint stands
            self._checkpoint(kept)
        process = psutil.Process(kept.pid)
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)

    def _deploy(self, kept: _Kept) -> _Kept:
        from citrate.registry.deployers import deploy_locally

        kept = _Kept(kept.pid, kept.port, deploy_locally(self._rpc(kept)).contracts)
        self._checkpoint(kept)
        self._keep(kept)
        return kept

    def _adopt_exit_state(self) -> None:
        """Take over what a stopped Anvil wrote, if it is whole and at least as new as the last checkpoint."""
        written, state = self._folder / "exit.json", self._folder / "state.json"
        found = _block_of(written)
        if found is not None and found >= (_block_of(state) or 0):
            atomic.write_atomic(state, written.read_bytes())
        written.unlink(missing_ok=True)

    def _running(self) -> _Kept:
        kept = self._kept()
        if not self._serves(kept):
            raise UnavailableError("the devnet is down", hint="citrate devnet up")
        return kept

    def _serves(self, kept: _Kept) -> bool:
        """Whether the recorded process is alive and an Anvil of this home, not a later process with its pid."""
        if not kept.pid:
            return False
        try:
            process = psutil.Process(kept.pid)
            own = str(self._folder / "exit.json") in process.cmdline()
            return own and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _status(self, kept: _Kept) -> DevnetStatus:
        block = quantity(self._rpc(kept).call("eth_blockNumber"))
        return DevnetStatus(_url(kept), DEVNET_CHAIN_ID, dict(kept.contracts), kept.pid, block)

    def _rpc(self, kept: _Kept) -> JsonRpc:
        return JsonRpc(_url(kept), timeout_s=10)

    def _kept(self) -> _Kept:
        path = self._folder / "devnet.json"
        try:
            document = json.loads(path.read_text("utf-8"))
            return _Kept(
                int(document["pid"]),
                int(document["port"]),
                {str(name): str(address) for name, address in document["contracts"].items()},
            )
        except FileNotFoundError:
            return _Kept()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CitrateError(f"{path} cannot be read: {error}", hint=_RESET_HINT) from error

    def _keep(self, kept: _Kept) -> None:
        atomic.write_atomic(self._folder / "devnet.json", json.dumps(asdict(kept)).encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import filelock  # 60 ms that a read does not need

        atomic.private_folder(self._folder)
        with filelock.FileLock(self._folder / "lock", timeout=60):
            yield


def top_up(node: JsonRpc, address: str) -> tuple[int, int]:
    """Top an address up to ``FUNDED_WEI`` on a development chain, whoever runs it.

    Returns:
        Its balance before and after, in wei.

    Raises:
        ConfigError: not an address.
        ChainError: the chain does not answer, or makes no money up.
    """
    _require_address(address)
    balance = quantity(node.call("eth_getBalance", address, "latest"))
    if balance >= FUNDED_WEI:
        return balance, balance
    node.call("hardhat_setBalance", address, hex(FUNDED_WEI))  # Anvil has it under this name, too
    return balance, FUNDED_WEI


def is_play_chain(rpc_url: str) -> bool:
    """Whether a development chain on this machine answers there.

    Raises:
        ChainError: nothing answers.
    """
    return is_loopback(rpc_url) and quantity(JsonRpc(rpc_url).call("eth_chainId")) == DEVNET_CHAIN_ID


def _require_address(address: str) -> None:
    if not ADDRESS_PATTERN.fullmatch(address):
        raise ConfigError(f"{address!r} is not an address", hint="an address is 0x and 40 hex digits")


def _require_this_build(kept: _Kept) -> None:
    """Refuse a chain with other contracts: never deploy beside them silently. New kinds of contract may be added."""
    current = contracts()
    for name, address in kept.contracts.items():
        if current.get(name) != address:
            raise CitrateError(
                f"this devnet holds {name} of another build of citrate ({address})",
                hint=f"{_RESET_HINT} throws the local chain away and starts a new one",
            )


def _wait_for_port(process: psutil.Popen) -> int:
    """The loopback port that the process listens on once it does; 0 if it ended instead."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return 0
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            for connection in process.net_connections("tcp4"):
                if connection.status == psutil.CONN_LISTEN:
                    return int(connection.laddr.port)
        time.sleep(0.02)
    process.kill()
    return 0


def _block_of(state: Path) -> int | None:
    """The newest block in a state file; None if the file is absent or not whole."""
    try:
        return int(json.loads(state.read_bytes())["best_block_number"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _url(kept: _Kept) -> str:
    return f"http://127.0.0.1:{kept.port}"
