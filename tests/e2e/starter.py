"""Starts commands for ``Machine``: a process that has imported other people's libraries once, and forks for each.

A command that signs spends a second of processor time on importing web3, and there are hundreds of them. Of `citrate`
the process imports only what every command imports first, so each command still imports its own modules by itself, in
its own order. What it is given is its own, too: environment, pipes, exit; its interpreter ends as any other does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "typer", "citrate.cli.context", "citrate.cli.stopping", "citrate.core.errors", "eth_account", "filelock",
    "httpx", "mmh3", "numba", "numpy", "psutil", "pydantic", "requests", "rfc8785", "rich.console", "safetensors",
    "sqlite3", "typer.main", "web3", "yaml",
)  # fmt: skip
STDIN_MAX_BYTES = 32 << 10
"""What a pipe holds, so that nobody has to wait until it is read."""
_LENGTH = struct.Struct("!I")
_PASSED = 4


class Starter:
    """The tests' side of one such process, which ends when this one does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._environment = dict(os.environ)
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.starter", str(theirs.fileno())],
                cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def can(self, environment: Mapping[str, str], stdin: bytes) -> bool:
        """Whether nothing that an interpreter or a library reads at its start differs."""
        names = {name for name, _ in environment.items() ^ self._environment.items()}
        return all(name.startswith(("CITRATE_", "PYTEST_")) for name in names) and len(stdin) <= STDIN_MAX_BYTES

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes, timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """Run ``citrate`` to its end; returns exit code, stdout and stderr."""
        request = json.dumps([list(arguments), dict(environment)]).encode()
        (its_in, feed), (out, its_out), (err, its_err) = os.pipe(), os.pipe(), os.pipe()
        told, teller = socket.socketpair()
        with told, contextlib.ExitStack() as closing:
            for ours in (out, err):
                closing.callback(os.close, ours)
            passed = [its_in, its_out, its_err, teller.fileno()]
            with self._lock, teller:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))
                self._ours.sendmsg([_LENGTH.pack(len(request))], [rights])
                self._ours.sendall(request)
            for its in passed[:3]:
                os.close(its)
            with contextlib.suppress(BrokenPipeError):
                os.write(feed, stdin)
            os.close(feed)
            said = _read_all((out, err), time.monotonic() + timeout_s)
            told.settimeout(timeout_s)
            return int(told.recv(16)), said[0], said[1]


def _read_all(pipes: tuple[int, int], deadline_s: float) -> tuple[bytes, bytes]:
    """Everything until whoever holds the other ends has closed them."""
    said = {pipe: bytearray() for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline_s - time.monotonic()))
            assert ready, f"the command does not end; it said {said}"
            for key, _ in ready:
                if piece := os.read(key.fd, 1 << 16):
                    said[key.fd] += piece
                else:
                    selector.unregister(key.fd)
    return bytes(said[pipes[0]]), bytes(said[pipes[1]])


# ---------------------------------------------------------------------- the process itself


def serve(requests: socket.socket) -> list[str] | None:
    """Fork for each request. Returns the arguments in the process that is to be the command; None at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who tell how a command ended
    while (found := _receive(requests)) is not None:
        request, passed = found
        if os.fork() == 0:
            requests.close()
            return _attend(request, passed)
        for descriptor in passed:
            os.close(descriptor)
    return None


def _receive(requests: socket.socket) -> tuple[bytes, list[int]] | None:
    head, passed, _, _ = socket.recv_fds(requests, _LENGTH.size, _PASSED)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    request = b""
    while len(request) < length:
        request += requests.recv(length - len(request))
    return request, list(passed)


def _attend(request: bytes, passed: list[int]) -> list[str]:
    """Become the command in a process of its own, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, teller = passed
    if (child := os.fork()) != 0:
        for descriptor in streams:
            os.close(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(teller, str(code).encode())
        os._exit(0)
    os.close(teller)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    arguments, environment = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    return list(arguments)


def _main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # at its end a command would go through all that it was forked with: three times what the rest takes
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        arguments = serve(requests)
    if arguments is not None:
        sys.argv[1:] = arguments
        runpy.run_module("citrate.cli.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
