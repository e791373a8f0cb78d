"""Bad input of every kind: one line, a hint, the right exit code, and nothing half done."""

from __future__ import annotations

import http.server
import json
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citrate.registry import manifest as manifests
from tests.e2e.conftest import SAMPLE, Machine, Release, Result
from tests.fixtures_anvil import start_anvil, stop_anvil

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("e2e")]


def refuses(result: Result, code: int, kind: str, *words: str) -> None:
    """The result is an error as CLI.md says, in its JSON form: type, one line, a hint."""
    assert result.code == code, result.out + result.err
    error = result.error
    assert error["type"] == kind
    message = str(error["message"])
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert error["hint"]
    assert "Traceback" not in result.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the sample model, to be damaged."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "model"))


def _no_such_folder(model: Path) -> None:
    shutil.rmtree(model)


def _a_file(model: Path) -> None:
    shutil.rmtree(model)
    model.write_text("not a folder")


def _not_a_model(model: Path) -> None:
    for path in model.iterdir():
        path.unlink()
    (model / "notes.txt").write_text("hello")


def _only_pickles(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _truncated(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _header_too_long(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", 2**63) + weights.read_bytes()[8:])


def _nan_weights(model: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-2:] = struct.pack("<H", 0x7FC0)  # a bfloat16 NaN
    (model / "model.safetensors").write_bytes(weights)


def _an_outlier(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 7] = 1e7  # its scale overflows half precision
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def _a_tokenizer_that_gguf_cannot_express(model: Path) -> None:
    document = json.loads((model / "tokenizer.json").read_text())
    document["model"]["end_of_word_suffix"] = "</w>"
    (model / "tokenizer.json").write_text(json.dumps(document))


def _shard_outside(model: Path) -> None:
    shutil.copyfile(model / "model.safetensors", model.parent / "secret.safetensors")
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"model.embed_tokens.weight": "../secret.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (model / "x.safetensors").write_bytes(b"")


def _absurd_config(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = 10**9
    (model / "config.json").write_text(json.dumps(config))


def _licence_missing(model: Path) -> None:
    (model / "LICENSE").unlink()
    (model / "README.md").write_text("# a model\n")


DAMAGES: list[tuple[Callable[[Path], None], int, str, str]] = [
    (_no_such_folder, 4, "NotFoundError", "no such folder"),
    (_a_file, 1, "FormatError", "not a folder"),
    (_not_a_model, 1, "FormatError", "not a model directory"),
    (_only_pickles, 1, "FormatError", "is a pickle that is not used"),
    (_truncated, 1, "FormatError", ""),
    (_header_too_long, 1, "FormatError", ""),
    (_nan_weights, 1, "FormatError", ""),
    (_an_outlier, 1, "FormatError", "check 'tensor error Q8_0' failed"),
    (_a_tokenizer_that_gguf_cannot_express, 1, "FormatError", "check 'tokens' failed for gguf:Q8_0"),
    (_shard_outside, 1, "FormatError", "not a plain file name"),
    (_absurd_config, 1, "FormatError", ""),
    (_licence_missing, 2, "ConfigError", "names no licence"),
]


@pytest.mark.parametrize(("damage", "code", "kind", "word"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_source_is_refused_and_leaves_the_home_as_it_was(
    fresh: Machine, model: Path, damage: Callable[[Path], None], code: int, kind: str, word: str
) -> None:
    damage(model)
    result = fresh.types("register-model", str(model), "--name", "x", "--variants", "safetensors,gguf:Q8_0", "--json")
    refuses(result, code, kind, word)
    assert fresh.files() == set(), "no key, no devnet, no object, no leftover"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--name", "Llama"), "not allowed"),
        (("--name", "x" * 65), "not allowed"),
        (("--name", "x", "--version", "latest"), "reserved"),
        (("--name", "x", "--alias", "latest"), "reserved"),
        (("--name", "x", "--alias", "1.0.0"), "alias"),
        (("--name", "x", "--variants", "pickle"), "unknown format"),
        (("--name", "x", "--variants", ""), "empty"),
        (("--name", "x", "--price", "5"), "unit"),
        (("--name", "x", "--price", "-1ether"), "positive"),
        (("--name", "x", "--license", "mit"), "card"),
        (("--name", "x", "--checks", "none"), "not known"),
    ],
)
def test_wrong_arguments_exit_2(fresh: Machine, arguments: tuple[str, ...], word: str) -> None:
    refuses(fresh.types("register-model", str(SAMPLE), *arguments, "--json"), 2, "ConfigError", word)
    assert fresh.files() == set()


def test_a_named_variant_that_cannot_be_made_lists_what_is_possible(fresh: Machine) -> None:
    result = fresh.types("register-model", str(SAMPLE), "--name", "x", "--variants", "tensorrt_llm:fp8@sm70", "--json")
    refuses(result, 1, "UnsupportedConversionError", "LlamaForCausalLM")
    assert "gguf:Q4_K_M" in str(result.error["hint"])
    assert fresh.files() == set()


def test_a_taken_version_with_other_bytes_names_the_next_one(release: Release, model: Path) -> None:
    card = (model / "README.md").read_text()
    (model / "README.md").write_text(card + "\nOne more line.\n")
    machine = release.machine
    pinned = [item["cid"] for item in machine.gets("store", "ls")["objects"] if item["pinned"]]
    command = ("register-model", str(model), "--name", "tiny-llama", "--variants", "safetensors", "--checks", "tensors")
    result = machine.types(*command, "--json")
    refuses(result, 1, "AlreadyExistsError", "other bytes")
    assert "1.0.1" in str(result.error["hint"])
    assert [item["cid"] for item in machine.gets("store", "ls")["objects"] if item["pinned"]] == pinned


def test_a_version_named_like_an_alias_is_refused(release: Release) -> None:
    command = ("register-model", str(SAMPLE), "--name", "tiny-llama", "--version", "prod", "--checks", "tensors")
    refuses(release.machine.types(*command, "--json"), 1, "AlreadyExistsError", "alias")


def test_what_a_standing_version_cannot_take_is_not_dropped_silently(release: Release) -> None:
    command = ("register-model", str(SAMPLE), "--name", "tiny-llama")
    priced = release.machine.types(*command, "--price", "1ether", "--json")
    refuses(priced, 1, "AlreadyExistsError", "price")
    named = release.machine.types(*command, "--alias", "another", "--json")
    refuses(named, 1, "AlreadyExistsError", "another")
    assert "citrate alias set" in str(named.error["hint"])


def test_a_refused_transaction_leaves_no_pins(release: Release, tmp_path: Path) -> None:
    pauper = Machine(tmp_path / "pauper", CITRATE_RPC_URL=release.rpc_url, CITRATE_KEY_PASSWORD="pw")
    pauper.gets("key", "new", "--name", "pauper")
    command = ("register-model", str(SAMPLE), "--name", "x", "--variants", "safetensors", "--checks", "tensors")
    assert pauper.types(*command).code == 1
    assert not [item for item in pauper.gets("store", "ls")["objects"] if item["pinned"]]


def test_a_wrong_checksum_of_an_address_is_refused(release: Release) -> None:
    wrong = "0x70997970C51812dc3A010C7d01b50e0d17dC79C8"
    refuses(release.machine.types("transfer", "offer", "me/tiny-llama", wrong, "--json"), 2, "ConfigError", "checksum")


def test_secrets_of_the_rpc_url_are_not_shown(fresh: Machine) -> None:
    shown = fresh.types("config", "show", "--json", CITRATE_RPC_URL="https://user:secretpw@rpc.example/v3/SECRETKEY")
    assert shown.code == 0
    assert "secretpw" not in shown.out
    assert "SECRETKEY" not in shown.out


def test_export_to_a_device_writes_to_it(release: Release, tmp_path: Path) -> None:
    cid = str(release.result["manifest"]["cid"])
    assert release.machine.types("store", "export", cid, "--out", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    car = tmp_path / "manifest.car"
    assert release.machine.gets("store", "export", cid, "--out", str(car))["size_bytes"] == car.stat().st_size


def test_no_funds_is_told_before_anything_is_sent(release: Release, tmp_path: Path) -> None:
    pauper = Machine(tmp_path / "pauper", CITRATE_RPC_URL=release.rpc_url, CITRATE_KEY_PASSWORD="pw")
    pauper.gets("key", "new", "--name", "pauper")
    command = ("register-model", str(SAMPLE), "--name", "x", "--variants", "safetensors", "--checks", "tensors")
    result = pauper.types(*command, "--json")
    refuses(result, 1, "CitrateError", "0 ETH")
    assert "citrate devnet fund 0x" in str(result.error["hint"])


def test_no_key_on_a_chain_that_is_not_the_devnet_exits_4(release: Release, tmp_path: Path) -> None:
    node = start_anvil("--chain-id", "4242")
    try:
        other = Machine(tmp_path / "other", CITRATE_RPC_URL=node.url)
        result = other.types("register-model", str(SAMPLE), "--name", "x", "--json")
        refuses(result, 5, "ChainError", "no ModelRegistry")
        assert other.files() == set()
    finally:
        stop_anvil(node)


def test_another_chain_id_is_refused(release: Release, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "wrong", CITRATE_RPC_URL=release.rpc_url, CITRATE_CHAIN_ID="1")
    refuses(machine.types("resolve", release.ref, "--json"), 5, "ChainError", "31337")
    told = machine.types("doctor", "--json")
    assert told.code == 1
    assert [check["ok"] for check in told.json["checks"] if check["name"] == "chain"] == [False]
    assert machine.files() == set()


def test_a_contract_that_is_not_ours_is_refused(release: Release, tmp_path: Path) -> None:
    proxy = "0x4e59b44847b379578588920cA78FbF26c0B4956C"  # a contract, but not the registry
    machine = Machine(tmp_path / "wrong", CITRATE_RPC_URL=release.rpc_url, CITRATE_MODEL_REGISTRY=proxy)
    refuses(machine.types("resolve", release.ref, "--json"), 5, "ChainError", proxy)


def test_a_chain_that_is_down_exits_5(fresh: Machine) -> None:
    refuses(fresh.types("list", "--json"), 5, "UnavailableError", "down")
    result = fresh.types("list", "--json", CITRATE_RPC_URL="http://127.0.0.1:9")
    refuses(result, 5, "ChainError")
    assert fresh.files() == set()


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


def test_run_refuses_bad_prompts_and_paths(fresh: Machine, tmp_path: Path) -> None:
    refuses(fresh.types("run", str(SAMPLE), "--json", stdin=""), 2, "ConfigError", "no prompt")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40))
    refuses(fresh.types("run", str(broken), "Hello", "--json"), 1, "FormatError")
    refuses(fresh.types("run", "no/such@thing@here", "Hello", "--json"), 2, "ConfigError")
    assert fresh.files() == set()


def test_convert_refuses_to_overwrite_and_leaves_nothing_on_failure(
    fresh: Machine, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("mine")
    refuses(
        fresh.types("convert", str(model), "--to", "gguf:Q8_0", "--out", str(out), "--json"), 1, "AlreadyExistsError"
    )
    assert out.read_text() == "mine"
    _nan_weights(model)
    before = sorted(tmp_path.iterdir())
    result = fresh.types("convert", str(model), "--to", "gguf:Q8_0", "--out", str(tmp_path / "new.gguf"), "--json")
    refuses(result, 1, "FormatError")
    assert sorted(tmp_path.iterdir()) == before


def test_a_read_only_home_is_told(tmp_path: Path, release: Release) -> None:
    taken = tmp_path / "file"
    taken.write_text("a file where the home should be")
    machine = Machine(taken, CITRATE_RPC_URL=release.rpc_url, CITRATE_GATEWAYS=release.gateway)
    result = machine.types("pull", f"{release.ref}#gguf:Q8_0", "--json")
    refuses(result, 2, "ConfigError", "is no folder")


def test_usage_errors_obey_json(fresh: Machine) -> None:
    for arguments in (
        ("nope",),
        ("pull",),
        ("pull", "--nope", "x"),
        ("config", "shw"),
        ("run", "x", "y", "--seed", "z"),
    ):
        result = fresh.types(*arguments, "--json")
        assert result.code == 2
        assert result.error["type"] == "UsageError"
        assert result.error["hint"]


def test_a_model_that_writes_no_text_is_not_run(fresh: Machine, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"], "model_type": "bert"}))
    refuses(fresh.types("run", str(model), "hello", "--json"), 1, "FormatError", "makes vectors of text")
