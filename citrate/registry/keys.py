"""Keys: encrypted keystores in the home, or one key from the environment. Never in the clear, never printed.

``home/keys/NAME.json`` is an Ethereum keystore (version 3, scrypt) that other wallets read as well,
``home/keys/active`` the name of the one in use. A key that citrate made by itself for the devnet stands beside its
password
(``NAME.password``, mode 0600): it protects nothing but play money, and is refused on every other chain.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from citrate.core.errors import AlreadyExistsError, CitrateError, ConfigError, NotFoundError, NotPermittedError
from citrate.core.records import ADDRESS_PATTERN
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import atomic
from citrate.registry.ids import checksum
from citrate.registry.rpc import is_loopback

if TYPE_CHECKING:
    from citrate.registry.signer import Signer

AskPassword: TypeAlias = Callable[[str, bool], str]
"""Called as ``ask(question, confirm)`` where there is a terminal; ``confirm``: ask twice."""

DEVNET_KEY = "devnet"
ENVIRONMENT_KEY = "environment"
"""The name under which a key from ``CITRATE_PRIVATE_KEY`` is listed."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_PRIVATE_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_SCRYPT_N = 1 << 18
"""The cost that geth and eth-account use: 256 MiB and about a second to try one password."""
_SCRYPT_N_DEVNET = 1 << 12
"""For passwords of 256 random bits, which cannot be guessed at any cost: 15 ms, so that devnet commands stay fast."""
_NEW_KEY_HINT = "citrate key new"


@dataclass(frozen=True)
class KeyEntry:
    """A key that can be used, without its secret."""

    address: str
    name: str
    active: bool
    devnet_only: bool


class Keys:
    """The keys of ``home`` and of the environment."""

    def __init__(self, home: Path, *, environ: Mapping[str, str] | None = None, ask: AskPassword | None = None) -> None:
        self._folder = home / "keys"
        self._environ = os.environ if environ is None else environ
        self._ask = ask

    def create(self, name: str = "default") -> KeyEntry:
        """Make a key, encrypted with a password from the environment, its file or the terminal.

        Raises:
            AlreadyExistsError: a key has that name.
            ConfigError: the name is malformed, or there is no password and no terminal to ask.
        """
        self._require_free(name)
        return self._store(name, secrets.token_bytes(32), self._password(name, new=True))

    def import_key(self, secret: str, name: str = "default") -> KeyEntry:
        """Take over a private key in hex, or a keystore's JSON text (its password is asked for, and kept).

        Raises:
            ConfigError: neither of them; also as ``create``.
            NotPermittedError: the keystore's password is wrong.
            AlreadyExistsError: a key has that name.
        """
        self._require_free(name)
        if not secret.lstrip().startswith("{"):
            return self._store(name, _private_key(secret, "the key"), self._password(name, new=True))
        try:
            document = json.loads(secret)
        except ValueError as error:
            raise ConfigError("the keystore is not JSON", hint="citrate key import --help") from error
        password = self._password(name, new=False)
        return self._store(name, _decrypt(document, password, name), password)

    def list(self) -> tuple[KeyEntry, ...]:
        """All keys, by name; the one of the environment first."""
        active = self._active_name()
        stored = [self._entry(path, active) for path in sorted(self._folder.glob("*.json"))]
        secret = self._environ.get("CITRATE_PRIVATE_KEY", "")
        if not secret:
            return tuple(stored)
        own = KeyEntry(_address_of(_private_key(secret, "CITRATE_PRIVATE_KEY")), ENVIRONMENT_KEY, True, False)
        return (own, *(KeyEntry(key.address, key.name, False, key.devnet_only) for key in stored))

    def use(self, which: str) -> KeyEntry:
        """Make the key of that name or address the active one.

        Raises:
            NotFoundError: there is none.
        """
        entry = self.find(which)
        if entry.name == ENVIRONMENT_KEY:
            raise ConfigError("the key of CITRATE_PRIVATE_KEY is in use as long as it is set", hint="citrate key list")
        atomic.write_atomic(self._folder / "active", entry.name.encode())
        return KeyEntry(entry.address, entry.name, True, entry.devnet_only)

    def find(self, which: str = "") -> KeyEntry:
        """The key of that name or address; without one, the active key. Makes none.

        Raises:
            NotFoundError: there is none.
        """
        for entry in self.list():
            if entry.active if not which else which.lower() in (entry.name, entry.address.lower()):
                return entry
        if which:
            raise NotFoundError(f"there is no key {which!r}", hint="citrate key list")
        hint = "citrate key use NAME" if any(self._folder.glob("*.json")) else _NEW_KEY_HINT
        raise NotFoundError("no key is active", hint=hint)

    def for_writing(self, which: str, *, chain_id: int, rpc_url: str) -> KeyEntry:
        """The key to write with, made if this is the devnet and there is none.

        Raises:
            NotFoundError: there is none, and none is made for this chain.
            NotPermittedError: it is a devnet key, and this is another chain.
        """
        try:
            entry = self.find(which)
        except NotFoundError:
            if which or not _is_devnet(chain_id, rpc_url):
                raise
            entry = self._devnet_key()
        _require_chain(entry, chain_id, rpc_url)
        return entry

    def unlock(self, entry: KeyEntry, *, chain_id: int, rpc_url: str) -> Signer:
        """Decrypt a key for one chain.

        Raises:
            NotPermittedError: the password is wrong, or it is a devnet key and this is another chain.
            ConfigError: there is no password and no terminal to ask.
        """
        from citrate.registry.signer import Signer

        _require_chain(entry, chain_id, rpc_url)
        if entry.name == ENVIRONMENT_KEY:
            secret = _private_key(self._environ.get("CITRATE_PRIVATE_KEY", ""), "CITRATE_PRIVATE_KEY")
        else:
            secret = _decrypt(self._document(self._path(entry.name)), self._password_for(entry), entry.name)
        signer = Signer(secret, chain_id)
        if signer.address != entry.address:
            raise CitrateError(f"the keystore of {entry.name} holds another key", hint="citrate key list")
        return signer

    def _devnet_key(self) -> KeyEntry:
        """Make the devnet's key, once: two commands that start together get the same one."""
        import filelock  # 60 ms that a read does not need

        atomic.private_folder(self._folder)
        with filelock.FileLock(self._folder / "lock", timeout=60):
            if self._path(DEVNET_KEY).exists():
                return self.find(DEVNET_KEY)
            password = secrets.token_hex(32)
            atomic.write_atomic(self._password_path(DEVNET_KEY), password.encode())
            return self._store(DEVNET_KEY, secrets.token_bytes(32), password, devnet_only=True)

    def _store(self, name: str, secret: bytes, password: str, *, devnet_only: bool = False) -> KeyEntry:
        from citrate.registry.ethereum import Account

        cost = _SCRYPT_N_DEVNET if devnet_only else _SCRYPT_N
        document = dict(Account.encrypt(secret, password, kdf="scrypt", iterations=cost))
        document["citrate"] = {"devnet_only": devnet_only}
        atomic.write_atomic(self._path(name), json.dumps(document).encode())
        if not self._active_name():
            atomic.write_atomic(self._folder / "active", name.encode())
        return self._entry(self._path(name), self._active_name())

    def _entry(self, path: Path, active: str) -> KeyEntry:
        document = self._document(path)
        address = "0x" + str(document.get("address", "")).removeprefix("0x")
        if not ADDRESS_PATTERN.fullmatch(address):
            raise CitrateError(f"{path} is not a keystore", hint="move it away, or import it: citrate key import")
        own = document.get("citrate")
        devnet_only = isinstance(own, dict) and own.get("devnet_only") is True
        return KeyEntry(checksum(address), path.stem, path.stem == active, devnet_only)

    def _document(self, path: Path) -> dict[str, object]:
        try:
            return cast(dict[str, object], dict(json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError) as error:
            raise CitrateError(f"{path} cannot be read: {error}", hint="citrate key list") from error

    def _active_name(self) -> str:
        path = self._folder / "active"
        return path.read_text("utf-8").strip() if path.exists() else ""

    def _require_free(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name in ("active", "me", ENVIRONMENT_KEY):
            raise ConfigError(f"{name!r} cannot name a key", hint="1 to 32 of a-z 0-9 . _ -, such as laptop")
        if self._path(name).exists():
            raise AlreadyExistsError(f"there is a key {name!r} already", hint="give another one a name: --name")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _password_path(self, name: str) -> Path:
        return self._folder / f"{name}.password"

    def _password_for(self, entry: KeyEntry) -> str:
        if entry.devnet_only:
            return _read_password(self._password_path(entry.name))
        return self._password(entry.name, new=False)

    def _password(self, name: str, *, new: bool) -> str:
        if password := self._environ.get("CITRATE_KEY_PASSWORD", ""):
            return password
        if path := self._environ.get("CITRATE_KEY_PASSWORD_FILE", ""):
            return _read_password(Path(path))
        if self._ask is None:
            raise ConfigError(
                f"the key {name} needs a password, and there is no terminal to ask for it",
                hint="set CITRATE_KEY_PASSWORD_FILE (or CITRATE_KEY_PASSWORD)",
            )
        password = self._ask(f"Password of the key {name}", new)
        if not password:
            raise ConfigError("the password is empty", hint="choose one")
        return password


def _read_password(path: Path) -> str:
    try:
        password = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the password file {path} cannot be read: {error}", hint="check the path") from error
    if not password:
        raise ConfigError(f"the password file {path} is empty", hint="write the password on its first line")
    return password


def _private_key(text: str, what: str) -> bytes:
    """The 32 bytes of a private key; the message never repeats it."""
    text = text.strip()
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    if not _PRIVATE_KEY.fullmatch(text) or not 0 < int(text, 16) < order:
        raise ConfigError(f"{what} is not a private key", hint="a private key is 64 hex digits, with or without 0x")
    return bytes.fromhex(text.removeprefix("0x"))


def _address_of(secret: bytes) -> str:
    from eth_keys.datatypes import PrivateKey  # a third of the time that eth_account takes to import

    return str(PrivateKey(secret).public_key.to_checksum_address())


def _decrypt(document: dict[str, object], password: str, name: str) -> bytes:
    from citrate.registry.ethereum import Account

    try:
        return bytes(Account.decrypt(document, password))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if "MAC mismatch" in str(error):
            raise NotPermittedError(
                f"wrong password for the key {name}", hint="see CITRATE_KEY_PASSWORD_FILE"
            ) from None
        raise ConfigError(f"the keystore of {name} is damaged or of an unknown kind", hint="citrate key list") from None


def _is_devnet(chain_id: int, rpc_url: str) -> bool:
    return chain_id == DEVNET_CHAIN_ID and is_loopback(rpc_url)


def _require_chain(entry: KeyEntry, chain_id: int, rpc_url: str) -> None:
    if entry.devnet_only and not _is_devnet(chain_id, rpc_url):
        raise NotPermittedError(
            f"the key {entry.name} was made for the devnet and is refused on chain {chain_id}",
            hint=f"{_NEW_KEY_HINT} --name NAME, then citrate key use NAME",
        )
