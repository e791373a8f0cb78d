"""Keys: encrypted, private, bound to their chain, and never shown."""

from __future__ import annotations

import json
import pickle
import stat
import threading
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, ConfigError, NotFoundError, NotPermittedError
from citrate.registry import keys as module
from citrate.registry.ethereum import Account
from citrate.registry.keys import ENVIRONMENT_KEY, Keys

LOCAL = {"chain_id": 31337, "rpc_url": "http://127.0.0.1:8545"}
BASE = {"chain_id": 8453, "rpc_url": "https://rpc.example"}
SECRET = "0x" + "4c" * 32
SCRYPT_N = module._SCRYPT_N
PASSWORD = {"CITRATE_KEY_PASSWORD": "correct horse"}


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second a key would make this file slow; the cost itself has a test below."""
    monkeypatch.setattr(module, "_SCRYPT_N", 2)


def test_a_new_key_is_encrypted_private_and_active(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ=PASSWORD)
    made = keys.create("laptop")
    path = tmp_path / "keys" / "laptop.json"
    assert made.active and made.name == "laptop" and not made.devnet_only
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    secret = bytes(Account.decrypt(json.loads(path.read_text()), "correct horse"))  # another wallet reads it too
    assert Account.from_key(secret).address == made.address
    assert secret.hex() not in path.read_text()


def test_keys_of_users_cost_an_attacker_what_geth_costs_him() -> None:
    assert SCRYPT_N == 1 << 18


def test_the_same_key_unlocks_and_signs_for_its_chain_only(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ=PASSWORD)
    entry = keys.import_key(SECRET, "laptop")
    signer = keys.unlock(entry, **BASE)
    assert signer.address == entry.address == Account.from_key(SECRET).address
    fields = {"nonce": 0, "to": entry.address, "value": 0, "gas": 21000, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}
    raw, tx_hash = signer.sign_transaction({**fields, "chainId": 8453})
    assert Account.recover_transaction(raw) == entry.address and tx_hash.startswith("0x")
    with pytest.raises(NotPermittedError, match="unlocked for chain 8453, not 1"):
        signer.sign_transaction({**fields, "chainId": 1})


def test_an_unlocked_key_shows_nothing_of_its_secret(tmp_path: Path) -> None:
    signer = Keys(tmp_path, environ={"CITRATE_PRIVATE_KEY": SECRET}).unlock(
        Keys(tmp_path, environ={"CITRATE_PRIVATE_KEY": SECRET}).find(), **BASE
    )
    assert "4c4c" not in repr(signer) and "4c4c" not in str(vars(signer))
    with pytest.raises(TypeError, match="not copied"):
        pickle.dumps(signer)


def test_a_wrong_password_is_not_permitted_and_not_repeated(tmp_path: Path) -> None:
    entry = Keys(tmp_path, environ=PASSWORD).create()
    with pytest.raises(NotPermittedError, match="wrong password") as error:
        Keys(tmp_path, environ={"CITRATE_KEY_PASSWORD": "guess-17"}).unlock(entry, **BASE)
    assert "guess-17" not in str(error.value) + error.value.hint


def test_the_password_comes_from_the_environment_then_its_file_then_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from file\n")
    asked: list[tuple[str, bool]] = []

    def ask(question: str, confirm: bool) -> str:
        asked.append((question, confirm))
        return "from terminal"

    both = {"CITRATE_KEY_PASSWORD": "from environment", "CITRATE_KEY_PASSWORD_FILE": str(file)}
    for name, environ in (("a", both), ("b", {"CITRATE_KEY_PASSWORD_FILE": str(file)}), ("c", {})):
        Keys(tmp_path, environ=environ, ask=ask).create(name)
    for name, password in (("a", "from environment"), ("b", "from file"), ("c", "from terminal")):
        entry = Keys(tmp_path, environ={}).find(name)
        Keys(tmp_path, environ={"CITRATE_KEY_PASSWORD": password}).unlock(entry, **BASE)
    assert asked == [("Password of the key c", True)]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "no terminal"),
        ({"CITRATE_KEY_PASSWORD_FILE": "absent"}, "cannot be read"),
        ({"CITRATE_KEY_PASSWORD_FILE": "empty"}, "is empty"),
    ],
)
def test_no_password_is_a_usage_error_and_makes_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    with pytest.raises(ConfigError, match=message) as error:
        Keys(tmp_path / "home", environ=environ).create()
    assert error.value.exit_code == 2 and error.value.hint
    assert not (tmp_path / "home").exists()


def test_a_key_from_the_environment_is_used_and_never_stored(tmp_path: Path) -> None:
    stored = Keys(tmp_path, environ=PASSWORD).create()
    keys = Keys(tmp_path, environ={"CITRATE_PRIVATE_KEY": SECRET})
    before = sorted(tmp_path.rglob("*"))
    entry = keys.find()
    assert (entry.name, entry.active) == (ENVIRONMENT_KEY, True)
    assert keys.unlock(entry, **BASE).address == Account.from_key(SECRET).address
    assert keys.find(stored.address.lower()).name == "default"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("secret", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32, "4c" * 32 + "1"])
def test_what_is_no_private_key_is_refused_without_repeating_it(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match="not a private key") as error:
        Keys(tmp_path, environ=PASSWORD).import_key(secret)
    assert not secret or secret not in error.value.message + error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_keystore_of_another_wallet_is_imported(tmp_path: Path) -> None:
    document = Account.encrypt(SECRET, "correct horse", kdf="pbkdf2", iterations=2)
    entry = Keys(tmp_path, environ=PASSWORD).import_key(json.dumps(document), "geth")
    assert entry.address == Account.from_key(SECRET).address
    with pytest.raises(NotPermittedError, match="wrong password"):
        Keys(tmp_path, environ={"CITRATE_KEY_PASSWORD": "x"}).import_key(json.dumps(document), "other")
    with pytest.raises(ConfigError, match="not JSON"):
        Keys(tmp_path, environ=PASSWORD).import_key("{", "broken")


def test_a_taken_or_malformed_name_is_refused(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ=PASSWORD)
    keys.create("laptop")
    with pytest.raises(AlreadyExistsError):
        keys.create("laptop")
    for name in ("", "../x", "Laptop", "a" * 33, "me", "environment"):
        with pytest.raises(ConfigError, match="cannot name a key"):
            keys.create(name)


def test_use_switches_and_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ=PASSWORD)
    with pytest.raises(NotFoundError) as error:
        keys.find()
    assert error.value.hint == "citrate key new"
    first, second = keys.create("one"), keys.create("two")
    assert keys.find() == first
    keys.use(second.address)
    assert keys.find().name == "two"
    assert [(key.name, key.active) for key in keys.list()] == [("one", False), ("two", True)]
    with pytest.raises(NotFoundError, match="no key 'three'"):
        keys.use("three")


def test_a_devnet_key_is_made_alone_for_the_devnet(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ={})
    for elsewhere in (BASE, {**LOCAL, "rpc_url": "https://rpc.example"}, {**LOCAL, "chain_id": 1}):
        with pytest.raises(NotFoundError):
            keys.for_writing("", **elsewhere)
    assert list(tmp_path.iterdir()) == []
    entry = keys.for_writing("", **LOCAL)
    assert entry.devnet_only and entry.active
    assert keys.unlock(entry, **LOCAL).address == entry.address
    for path in (tmp_path / "keys").iterdir():
        assert path.name == "lock" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_devnet_key_is_refused_on_any_other_chain(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ={})
    entry = keys.for_writing("", **LOCAL)
    for elsewhere in (BASE, {**LOCAL, "rpc_url": "https://rpc.example"}, {**LOCAL, "chain_id": 1}):
        with pytest.raises(NotPermittedError, match="made for the devnet"):
            keys.unlock(entry, **elsewhere)
        with pytest.raises(NotPermittedError):
            keys.for_writing("", **elsewhere)


def test_commands_that_start_together_make_one_devnet_key(tmp_path: Path) -> None:
    found: list[str] = []

    def start() -> None:
        found.append(Keys(tmp_path, environ={}).for_writing("", **LOCAL).address)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4


def test_a_damaged_keystore_is_named(tmp_path: Path) -> None:
    keys = Keys(tmp_path, environ=PASSWORD)
    entry = keys.create()
    path = tmp_path / "keys" / "default.json"
    document = json.loads(path.read_text())
    del document["crypto"]
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="damaged"):
        keys.unlock(entry, **BASE)
