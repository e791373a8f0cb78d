"""The main job, told as it goes: one machine publishes a model, another gets verified bytes and runs them.

Two homes stand for two machines: they share a chain and nothing else. Every step is the `citrate` command that a user
would type; what it prints is what it printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOMES = ROOT / "demo-homes"
MODEL = "examples/tiny-llama"
PROMPT = "What is the capital of France?"
CITRATE = [sys.executable, "-m", "citrate.cli.main"]
DEVICES = (
    ("a laptop with Apple silicon", ["--device", "apple_silicon", "--memory-gb", "16"]),
    ("a server with an H100", ["--device", "nvidia", "--arch", "sm90", "--memory-gb", "80"]),
    ("a small CPU machine", ["--device", "cpu", "--memory-gb", "8"]),
)


class Machine:
    """A home, and what is typed there."""

    def __init__(self, name: str, **settings: str) -> None:
        self.name = name
        self.home = HOMES / name
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CITRATE_")}
        self.env = {**kept, "CITRATE_HOME": str(self.home), **settings}

    def types(self, *arguments: str) -> None:
        """Run a command and show what it prints."""
        self._shows(*arguments)
        subprocess.run([*CITRATE, *arguments], cwd=ROOT, env=self.env, check=True)

    def asks(self, *arguments: str, typed: bool = False) -> dict[str, object]:
        """Run a command and read its JSON; ``typed``: show the command."""
        if typed:
            self._shows(*arguments, "--json")
        command = [*CITRATE, *arguments, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=self.env, check=True, capture_output=True, text=True)
        document: dict[str, object] = json.loads(done.stdout)
        return document

    def _shows(self, *arguments: str) -> None:
        print(f"\n\033[1m{self.name}$\033[0m citrate {' '.join(_quoted(a) for a in arguments)}", flush=True)

    def serves(self) -> tuple[subprocess.Popen[str], str]:
        """Start the gateway and wait for its URL."""
        command = [*CITRATE, "gateway", "--port", "0", "--json"]
        process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())["url"]


def say(text: str) -> None:
    print(f"\n\033[36m# {text}\033[0m", flush=True)


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument else argument


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(HOMES, ignore_errors=True)
    publisher = Machine("publisher")
    processes: list[subprocess.Popen[str]] = []
    try:
        published, address = publish(publisher)
        gateway, url = publisher.serves()
        processes.append(gateway)
        chain = publisher.asks("devnet", "status")
        reader = Machine("reader", CITRATE_RPC_URL=str(chain["rpc_url"]), CITRATE_GATEWAYS=url)
        ref = f"{address}/tiny-llama"
        read(reader, ref, url)
        if shutil.which("ipfs"):
            processes.append(through_kubo(publisher, str(chain["rpc_url"]), ref))
        table(published)
        print(f"\nDone in {time.monotonic() - started:.0f} s. Both homes lie in {HOMES.relative_to(ROOT)}/.")
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        subprocess.run([*CITRATE, "devnet", "down"], env=publisher.env, capture_output=True, check=False)


def publish(publisher: Machine) -> tuple[dict[str, object], str]:
    say("A publisher, on a machine with nothing configured. First the local chain, with the contracts deployed.")
    publisher.types("devnet", "up")
    say("What is in the model directory? Nothing of it is executed.")
    publisher.types("inspect", MODEL)
    say("Publish: convert to four variants, check each, store them, record all in one transaction.")
    published = publisher.asks(
        "register-model", MODEL, "--name", "tiny-llama", "--version", "1.0.0", "--alias", "prod", typed=True
    )
    print(
        f"{published['status']} {published['ref']} in transaction {published['tx_hash']}, {published['gas_used']:,} gas"
    )
    say("Again: the same bytes are on chain, so nothing is sent.")
    publisher.types("register-model", MODEL, "--name", "tiny-llama", "--version", "1.0.0")
    return published, str(published["ref"]).partition("/")[0]


def read(reader: Machine, ref: str, url: str) -> None:
    say(f"Another machine: its own home, no shared cache. It knows the chain's RPC and the gateway {url}.")
    reader.types("resolve", f"{ref}:prod")
    for who, flags in DEVICES:
        say(f"Which variant for {who}?")
        reader.types("select", f"{ref}:prod", *flags)
    say("Pull: the owner's signature first, then every block as it arrives, every file's SHA-256 as it streams.")
    reader.types("pull", f"{ref}:prod#gguf:Q4_K_M")
    reader.types("verify", f"{ref}:prod")
    say("Run it, in a child process without network.")
    reader.types("run", f"{ref}:prod#gguf:Q4_K_M", PROMPT, "--max-tokens", "40")


def through_kubo(publisher: Machine, rpc_url: str, ref: str) -> subprocess.Popen[str]:
    say("`ipfs` is on PATH: the same through a real Kubo node.")
    repo = HOMES / "kubo"
    env = {**os.environ, "IPFS_PATH": str(repo)}
    subprocess.run(["ipfs", "init", "--profile=test"], env=env, check=True, capture_output=True)
    daemon = subprocess.Popen(["ipfs", "daemon", "--offline"], env=env, stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    for line in daemon.stdout:
        if "Daemon is ready" in line:
            break
    publisher.types("push", f"{publisher_ref(ref)}", "--to", (repo / "api").read_text().strip())
    gateway = (repo / "gateway").read_text().strip()
    third = Machine("third", CITRATE_RPC_URL=rpc_url, CITRATE_GATEWAYS=gateway)
    third.types("pull", f"{ref}:prod#gguf:Q8_0")
    return daemon


def publisher_ref(ref: str) -> str:
    return f"{ref}:prod"


def table(published: dict[str, object]) -> None:
    say("What stands on chain")
    rows = published["variants"]
    assert isinstance(rows, list)
    print(f"{'VARIANT':<14}{'BYTES':>11}  {'SHA-256':<66}CID")
    for row in rows:
        print(f"{row['variant']:<14}{row['size_bytes']:>11,}  {row['sha256']:<66}{row['cid']}")
    print(f"{'one transaction':<14}{published['gas_used']:>10,} gas  {published['tx_hash']}")


if __name__ == "__main__":
    main()
