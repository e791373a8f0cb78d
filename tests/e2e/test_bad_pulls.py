"""What no source has, what lies or was changed: one line, a hint, the right exit code, and nothing half done."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from citrate.registry import manifest as manifests
from tests.e2e.conftest import Machine, Release, refuses

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]


@pytest.mark.parametrize(
    ("ref", "code", "kind"),
    [
        ("nonsense", 2, "ConfigError"),
        ("nobody/tiny-llama", 2, "ConfigError"),
        ("me/tiny-llama", 4, "NotFoundError"),
        ("ADDRESS/no-such-model", 4, "NotFoundError"),
        ("ADDRESS/tiny-llama@9.9.9", 4, "NotFoundError"),
        ("ADDRESS/tiny-llama:nope", 4, "NotFoundError"),
        ("ADDRESS/tiny-llama#gguf:Q2_K", 4, "NotFoundError"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(
    release: Release, reader: Machine, ref: str, code: int, kind: str
) -> None:
    result = reader.types("pull", ref.replace("ADDRESS", release.address), "--json")
    refuses(result, code, kind)
    assert not [name for name in reader.files() if "objects" in name and not name.endswith("manifest")] or "#" in ref


def test_no_source_names_each_and_why(release: Release, tmp_path: Path) -> None:
    alone = Machine(tmp_path / "alone", CITRATE_RPC_URL=release.rpc_url)
    refuses(alone.types("pull", f"{release.ref}#gguf:Q8_0", "--json"), 5, "StoreError")
    dead = alone.types("pull", f"{release.ref}#gguf:Q8_0", "--from", "http://127.0.0.1:9", "--json")
    refuses(dead, 5, "StoreError", "http://127.0.0.1:9")
    refuses(alone.types("pull", f"{release.ref}#gguf:Q8_0", "--offline", "--json"), 5, "StoreError")


class _Liar(http.server.BaseHTTPRequestHandler):
    """A gateway that passes everything on, but flips a bit in what is not the manifest."""

    upstream = ""
    honest = ""

    def do_GET(self) -> None:
        import urllib.request

        request = urllib.request.Request(
            self.upstream + self.path, headers={"Accept": self.headers.get("Accept", "*/*")}
        )
        if "Range" in self.headers:
            request.add_header("Range", self.headers["Range"])
        with urllib.request.urlopen(request) as answer:
            body = bytearray(answer.read())
            status, headers = answer.status, dict(answer.headers)
        if self.honest not in self.path:
            body[len(body) // 2] ^= 1
        self.send_response(status)
        for name in ("Content-Type", "Content-Range"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def liar(release: Release) -> Iterator[str]:
    handler = type("Handler", (_Liar,), {"upstream": release.gateway, "honest": _manifest_cid(release)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _manifest_cid(release: Release) -> str:
    sha256 = str(release.machine.gets("resolve", release.ref)["manifest"]["sha256"])
    return manifests.cid_of(sha256)


def test_a_store_that_answers_other_bytes_is_exit_3_and_nothing_stays(
    release: Release, liar: str, tmp_path: Path
) -> None:
    victim = Machine(tmp_path / "victim", CITRATE_RPC_URL=release.rpc_url)
    result = victim.types("pull", f"{release.ref}#gguf:Q4_K_M", "--from", liar, "--json")
    refuses(result, 3, "IntegrityError")
    details = result.error["details"]
    assert details["expected"] != details["actual"]
    stored = victim.gets("store", "ls")["objects"]
    assert [item["cid"] for item in stored] == [_manifest_cid(release)], "only the manifest, which was right"
    human = victim.types("pull", f"{release.ref}#gguf:Q4_K_M", "--from", liar)
    assert human.code == 3
    assert details["expected"][:16] in human.err
    honest = victim.gets("pull", f"{release.ref}#gguf:Q4_K_M", "--from", liar, "--from", release.gateway)
    assert honest["source"] == release.gateway, "the liar is dropped, the next source is asked"


def test_a_file_changed_in_the_store_is_never_used_but_mended(release: Release, reader: Machine) -> None:
    path = Path(str(reader.gets("pull", f"{release.ref}#gguf:Q8_0")["path"]))
    original = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    assert reader.types("store", "verify", "--json").code == 3
    assert reader.types("verify", release.ref, "--json").code == 3
    refuses(reader.types("run", f"{release.ref}#gguf:Q8_0", "Hello", "--offline", "--json"), 3, "IntegrityError")
    told = reader.gets("run", f"{release.ref}#gguf:Q8_0", "What is the capital of France?")
    assert "Paris" in str(told["text"]), "with a source at hand the object is fetched again"
    assert path.read_bytes() == original


def test_some_files_need_a_place_to_go_and_a_name_that_is_there(
    release: Release, reader: Machine, tmp_path: Path
) -> None:
    out, ref = tmp_path / "some", f"{release.ref}#safetensors"
    refuses(reader.types("pull", ref, "--include", "*.json", "--json"), 2, "ConfigError", "no object of the store")
    none = reader.types("pull", ref, "--include", "*.gguf", "--out", str(out), "--json")
    refuses(none, 4, "NotFoundError", "no file")
    assert "config.json" in str(none.error["hint"])
    refuses(reader.types("pull", ref, "--max-rate", "fast", "--json"), 2, "ConfigError", "max_rate")
    told = reader.gets("pull", ref, "--include", "*.json", "--exclude", "tokenizer*", "--out", str(out))
    assert told["path"] == str(out)
    names = {file["path"] for file in told["files"]}
    assert "config.json" in names
    assert not any(name.startswith("tokenizer") or not name.endswith(".json") for name in names)
    assert {path.name for path in out.iterdir()} == names
    more = reader.gets("pull", ref, "--include", "*.json", "--out", str(out))
    assert {path.name for path in out.iterdir()} == {file["path"] for file in more["files"]} > names
    assert reader.gets("pull", ref, "--include", "*.json", "--out", str(out))["source"] == "out"
    whole = reader.gets("pull", ref, "--out", str(out))
    assert reader.gets("pull", ref, "--out", str(out))["path"] == whole["path"] == str(out)
    (out / "config.json").write_text("mine")
    for asked in (("--include", "*.json"), ()):
        again = reader.types("pull", ref, *asked, "--out", str(out), "--json")
        refuses(again, 1, "AlreadyExistsError", "config.json with other bytes")
    assert (out / "config.json").read_text() == "mine"


def test_a_manifest_changed_on_the_way_is_refused(release: Release, tmp_path: Path) -> None:
    handler = type("Handler", (_Liar,), {"upstream": release.gateway, "honest": "nothing at all"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    victim = Machine(tmp_path / "victim", CITRATE_RPC_URL=release.rpc_url)
    result = victim.types(
        "pull", f"{release.ref}#gguf:Q4_K_M", "--from", f"http://127.0.0.1:{server.server_port}", "--json"
    )
    server.shutdown()
    refuses(result, 3, "IntegrityError")
    assert victim.gets("store", "ls")["objects"] == []


def test_a_read_only_home_is_told(tmp_path: Path, release: Release) -> None:
    taken = tmp_path / "file"
    taken.write_text("a file where the home should be")
    machine = Machine(taken, CITRATE_RPC_URL=release.rpc_url, CITRATE_GATEWAYS=release.gateway)
    result = machine.types("pull", f"{release.ref}#gguf:Q8_0", "--json")
    refuses(result, 2, "ConfigError", "is no folder")


def test_export_to_a_device_writes_to_it(release: Release, tmp_path: Path) -> None:
    cid = str(release.result["manifest"]["cid"])
    assert release.machine.types("store", "export", cid, "--out", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    car = tmp_path / "manifest.car"
    assert release.machine.gets("store", "export", cid, "--out", str(car))["size_bytes"] == car.stat().st_size
