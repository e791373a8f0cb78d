"""The walls, tried from inside: each attempt runs in a process that has locked itself down as a model process does."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from citrate.core.confinement import landlock, sandbox, seccomp
from citrate.core.errors import UnavailableError

LOCKED = """
import ctypes, mmap, os, signal, socket, sys, threading, time
from pathlib import Path
from citrate.core.confinement import sandbox
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) >= 0:
        return "allowed"
    return os.strerror(ctypes.get_errno())
target = sys.argv[1]
if len(sys.argv) < 3:
    sandbox.restrict_files([Path(target or sys.prefix)], Path(os.environ["TMPDIR"]))
early = []
go = threading.Event()
def wait():
    go.wait()
    try:
        socket.socket(); early.append("allowed")
    except OSError as error:
        early.append(error.strerror)
thread = threading.Thread(target=wait); thread.start()
if len(sys.argv) < 3:
    sandbox.lock_down(256 << 20)
go.set(); thread.join()
def attempt():
"""

linux_only = pytest.mark.skipif(platform.system() != "Linux", reason="a test of the Linux filter")


def attempt(body: str, target: Path | str = "", *, walls: bool = True) -> str:
    """Run ``body`` (the inside of a function that returns text) behind the walls or, to compare, without them."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    ending = "try:\n    print(attempt())\nexcept (OSError, MemoryError) as error:\n"
    ending += "    print(getattr(error, 'strerror', None) or type(error).__name__)\n"
    command = [sys.executable, "-c", LOCKED + indented + ending, str(target), *([] if walls else ["open"])]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "TMPDIR": scratch}
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


DENIED = "Operation not permitted"
X86 = platform.machine() == "x86_64"


@linux_only
@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("a TCP socket", "socket.socket(); return 'allowed'"),
        ("a Unix socket", "socket.socket(socket.AF_UNIX); return 'allowed'"),
        ("a raw netlink socket", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); return 'allowed'"),
        ("a pair of sockets", "socket.socketpair(); return 'allowed'"),
        ("a socket in a thread that was there before", "return early[0]"),
        ("a socket in a child process", "pid = os.fork()\nif pid: os.wait(); os._exit(0)\nsocket.socket()"),
        ("sockets through io_uring", "return call(425, 8, ctypes.create_string_buffer(120))"),
        ("another program", "os.execv('/bin/true', ['true'])"),
        ("tracing the parent", f"return call({101 if X86 else 117}, 16, os.getppid(), 0, 0)"),
        ("reading the parent's memory", f"return call({310 if X86 else 270}, os.getppid(), 0, 0, 0, 0, 0)"),
        ("killing the parent", "os.kill(os.getppid(), 0); return 'allowed'"),
        ("taking a file descriptor of the parent", "return call(434, os.getppid(), 0)"),
        ("a namespace of its own", f"return call({272 if X86 else 97}, 0x10000000)"),
        ("a clone into a namespace", f"return call({56 if X86 else 220}, 0x10000000 | 17, 0, 0, 0, 0)"),
    ],
)  # fmt: skip
def test_the_model_process_is_refused(what: str, body: str) -> None:
    assert attempt(body) == DENIED, what


@linux_only
@pytest.mark.parametrize(
    "body",
    [
        "socket.socket(); return 'allowed'",
        "socket.socket(socket.AF_UNIX); return 'allowed'",
        "socket.socketpair(); return 'allowed'",
        "os.execv('/bin/echo', ['echo', 'allowed'])",
        "os.kill(os.getppid(), 0); return 'allowed'",
        "return call(434, os.getppid(), 0)",
        "open(target + '.new', 'x'); return 'allowed'",
    ],
)
def test_the_same_attempts_succeed_without_the_walls(body: str, tmp_path: Path) -> None:
    assert attempt(body, tmp_path / "file", walls=False) == "allowed"


@linux_only
@pytest.mark.parametrize(
    "body",
    [
        "open(target, 'w'); return 'allowed'",
        "open(target, 'r+'); return 'allowed'",
        "open(target + '.new', 'x'); return 'allowed'",
        "os.unlink(target); return 'allowed'",
        "os.rename(target, target + '.moved'); return 'allowed'",
        "os.chmod(target, 0o777); return 'allowed'",
        "os.truncate(target, 0); return 'allowed'",
        "os.symlink(target, target + '.link'); return 'allowed'",
        "os.mkdir(target + '.folder'); return 'allowed'",
        "os.utime(target); return 'allowed'",
    ],
)
def test_no_file_can_be_made_or_changed(body: str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    before = target.stat()
    if sandbox.has_gpu_nodes() and "'r+'" in body:  # opening is left to GPU drivers; writing is not
        body = "f = open(target, 'r+', buffering=0); f.write(b'x'); return 'allowed'"
    assert attempt(body, target) in (DENIED, "Permission denied", "File too large")
    assert target.read_text() == "kept" and list(tmp_path.iterdir()) == [target]
    assert (target.stat().st_mode, target.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@linux_only
@pytest.mark.parametrize(
    "body",
    [
        "return open(os.path.dirname(target) + '/keystore').read()",
        "return open(os.path.dirname(target) + '/link').read()",
        "return ' '.join(os.listdir(os.path.dirname(target)))",
        "return 'secret' * bool(open(f'/proc/{os.getppid()}/environ').read())",
        "fd = os.open(f'/proc/{os.getppid()}/mem', os.O_RDONLY); return 'secret'",
    ],
)
def test_nothing_of_the_users_can_be_read_but_the_model(body: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("weights")
    (tmp_path / "keystore").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "keystore")
    answer = attempt(body, tmp_path / "model")
    if landlock.available():
        assert answer == "Permission denied"
    else:  # documented: an older kernel has no such wall, and seccomp stands alone
        assert "secret" in answer or "keystore" in answer


@linux_only
def test_a_folder_of_links_as_hf_caches_them_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").write_text("weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/model").symlink_to("../blobs/1")
    assert attempt("return open(target + '/model').read()", tmp_path / "snapshot") == "weights"


@linux_only
def test_what_a_runtime_needs_still_works(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("weights")
    body = """
with open(target) as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    text = bytes(mapped).decode()
answers = []
worker = threading.Thread(target=lambda: answers.append(text)); worker.start(); worker.join()
os.kill(os.getpid(), 0)
return answers[0]
"""
    assert attempt(body, tmp_path / "model") == "weights"


@linux_only
def test_memory_ends_at_the_limit() -> None:
    if sandbox.has_gpu_nodes():
        pytest.fail("this machine has a GPU driver, whose address space cannot be limited: run this test without one")
    assert attempt("bytearray(100 << 20); return 'room'") == "room"
    assert attempt("bytearray(512 << 20); return 'allowed'") == "MemoryError"


@linux_only
def test_the_walls_cannot_be_taken_down_again() -> None:
    body = """
import resource
assert resource.getrlimit(resource.RLIMIT_CORE) == resource.getrlimit(resource.RLIMIT_FSIZE) == (0, 0)
assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 512
libc.prctl(38, 0, 0, 0, 0)
return str(libc.prctl(39, 0, 0, 0, 0))  # PR_GET_NO_NEW_PRIVS
"""
    assert attempt(body) == "1"


def test_a_platform_without_a_sandbox_says_so_and_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "FreeBSD")
    with pytest.raises(UnavailableError) as caught:
        sandbox.wrap(["python"], Path("scratch"))
    assert caught.value.exit_code == 5 and "--no-sandbox" in caught.value.hint


def test_an_architecture_without_a_filter_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.install(devices=False)


def test_macos_starts_the_process_inside_sandbox_exec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(sandbox, "_SANDBOX_EXEC", Path(sys.executable))
    command = sandbox.wrap(["python", "-m", "x"], tmp_path)
    assert command[1:4] == ["-D", f"SCRATCH={tmp_path.resolve()}", "-p"]
    assert "(deny network*)" in command[4] and command[5:] == ["python", "-m", "x"]
