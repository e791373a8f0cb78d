"""A home and a chain: the parts that every operation uses, each made when it is first needed.

What a name means is decided here too: ``me``, the address book, versions and aliases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from citrate.core.errors import ConfigError, NotFoundError, UnavailableError
from citrate.core.records import ADDRESS_PATTERN, LATEST, Reference, VersionRecord
from citrate.core.settings import DEVNET_CHAIN_ID, Settings
from citrate.registry import deployments, ids
from citrate.registry.artifacts import LORA_REGISTRY
from citrate.registry.devnet import Devnet
from citrate.registry.keys import AskPassword, Keys

if TYPE_CHECKING:
    from pathlib import Path

    from citrate.core.adapters import LoraRecord
    from citrate.registry.access import Access
    from citrate.registry.chain import Chain
    from citrate.registry.deploy import Deployed
    from citrate.registry.ledger import Ledger
    from citrate.registry.loras import Loras
    from citrate.registry.manifest import Manifest
    from citrate.registry.moderation import Moderation
    from citrate.registry.signer import Signer
    from citrate.registry.sources import Limit, Source
    from citrate.registry.store import Store
    from citrate.registry.verification import Verdict

ME = "me"


class Session:
    """A home (store, keys, devnet) and a chain.

    Args:
        settings: see `citrate.core.settings`.
        ask_password: asks for a key's password on a terminal; None where nobody can answer.
        notify: told what happens by itself, such as "starting the local chain".
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ask_password: AskPassword | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.notify = notify or (lambda _: None)
        self._told: set[str] = set()
        self.keys = Keys(settings.home, ask=ask_password)
        self.devnet = Devnet(settings.home)

    @cached_property
    def store(self) -> Store:
        """The embedded store of the home."""
        from citrate.registry.store import Store
        from citrate.registry.store.collecting import GB

        limit = round(self.settings.cache_max_gb * GB)
        return Store(self.settings.home / "store", max_bytes=limit, notify=self.notify)

    @cached_property
    def chain(self) -> Chain:
        """The chain; a devnet must be up.

        Raises:
            UnavailableError: the chain does not answer, or no devnet runs.
            ChainError: it is another chain, or the contract there is not ours.
        """
        from citrate.registry.chain import Chain

        settings = self.settings
        at = (settings.chain_id, settings.model_registry, settings.authority)
        return Chain.connect(self.rpc_url, *at, home=settings.home, settings=settings, notify=self.notify)

    @cached_property
    def loras(self) -> Loras:
        """Adapters, merges, and whose adapters a model takes."""
        from citrate.registry.loras import Loras

        return Loras(self.chain)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of training runs."""
        from citrate.registry.ledger import Ledger

        return Ledger(self.chain)

    @cached_property
    def access(self) -> Access:
        """Prices, purchases, and what sellers are owed."""
        from citrate.registry.access import Access

        return Access(self)

    @cached_property
    def moderation(self) -> Moderation:
        """Reports, votes, stakes and bonds, with the contract that is appointed."""
        from citrate.registry.moderation import Moderation

        return Moderation(self)

    @property
    def rpc_url(self) -> str:
        """Where the chain is."""
        if not self.settings.is_devnet:
            return self.settings.rpc_url
        status = self.devnet.status()
        if not status.pid:
            raise UnavailableError("the local chain is down", hint="citrate devnet up")
        self.devnet.require_this_build()
        return status.rpc_url

    def notify_once(self, text: str) -> None:
        """Tell something that is the same for everything that is asked of this session."""
        if text not in self._told:
            self._told.add(text)
            self.notify(text)

    def start_chain(self) -> None:
        """Before a write: start this home's devnet, where that is the chain and it is down."""
        if self.settings.is_devnet and not self.devnet.status().pid:
            self.notify("starting the local chain (citrate devnet down stops it)")
            self.devnet.up()

    def signer(self) -> Signer:
        """The unlocked key that signs; on a devnet it is made where there is none, and funded.

        Raises:
            NotFoundError: no key, and this is no devnet.
            NotPermittedError: a wrong password, or a devnet key on another chain.
        """
        self.start_chain()
        chain_id, rpc_url = self.chain.chain_id, self.rpc_url
        entry = self.keys.for_writing(self.settings.key, chain_id=chain_id, rpc_url=rpc_url)
        if self.settings.is_devnet:
            self.devnet.fund(entry.address)
        return self.keys.unlock(entry, chain_id=chain_id, rpc_url=rpc_url)

    def signer_at_rest(self) -> Signer:
        """The active key, unlocked, without starting a chain or making a key: for a dry run.

        Raises:
            NotFoundError: there is no key.
        """
        if self.chain_is_up():
            chain_id, rpc_url = self.chain.chain_id, self.rpc_url
        else:
            chain_id, rpc_url = DEVNET_CHAIN_ID, "http://127.0.0.1"
        return self.keys.unlock(self.keys.find(self.settings.key), chain_id=chain_id, rpc_url=rpc_url)

    def require_writable(self) -> None:
        """Before long work that ends in a write: fail now if the chain or the key is not there.

        Raises:
            UnavailableError: the chain does not answer.
            NotFoundError: no key. (On a devnet both are made when they are needed.)
        """
        if not self.settings.is_devnet:
            chain_id = self.chain.chain_id
            if chain_id != DEVNET_CHAIN_ID:
                self.keys.find(self.settings.key)

    def chain_is_up(self) -> bool:
        """Whether there is a chain to ask; only a home's own devnet may be down without that being an error."""
        return not self.settings.is_devnet or bool(self.devnet.status().pid)

    @property
    def registry_address(self) -> str:
        """The address of ModelRegistry, also while no chain runs: it is the same on every chain."""
        return self.chain.registry_address if self.chain_is_up() else deployments.registry_on(DEVNET_CHAIN_ID)

    def sources(self, gateways: Iterable[str] = ()) -> list[Source]:
        """Where bytes are looked for after the local store: Kubo, the given gateways, then those of the settings."""
        from citrate.registry import sources

        if self.settings.offline:
            return []
        found: list[Source] = []
        if self.settings.kubo_api:
            found.append(sources.KuboSource(self.settings.kubo_api))
        urls = dict.fromkeys(url.rstrip("/") for url in (*gateways, *self.settings.gateways))
        found += [sources.GatewaySource(url) for url in urls]
        limit = self._limit
        return [sources.LimitedSource(source, limit) for source in found] if limit else found

    @cached_property
    def _limit(self) -> Limit | None:
        """What all pulls of this session share, where the settings limit the rate."""
        from citrate.registry.sources import Limit

        return Limit(self.settings.max_rate) if self.settings.max_rate else None

    # ------------------------------------------------------------------ names

    def reference(self, text: str | Reference) -> Reference:
        """Parse a reference and turn its publisher into an address.

        Raises:
            ConfigError: malformed, or a publisher that is neither an address nor in the address book.
            NotFoundError: ``me`` without a key.
        """
        ref = Reference.parse(text) if isinstance(text, str) else text
        publisher = self.address_of(ref.publisher)
        return Reference(publisher, ref.name, ref.version, ref.alias, ref.variant)

    def address_of(self, who: str) -> str:
        """The address behind ``me``, a name of the address book, or an address."""
        if who == ME:
            return self.keys.find(self.settings.key).address
        address = self.settings.addresses.get(who, who)
        if not ADDRESS_PATTERN.fullmatch(address):
            known = ", ".join([ME, *self.settings.addresses])
            raise ConfigError(
                f"{who!r} is neither an address nor in the address book",
                hint=f"known: {known}; others: [addresses] in citrate.toml",
            )
        if address not in (address.lower(), ids.checksum(address)):
            raise ConfigError(
                f"the address {address} has a wrong checksum", hint="copy it again, or write it in lower case"
            )
        return address

    # ------------------------------------------------------------------ reading

    def resolve(self, ref: str | Reference) -> VersionRecord:
        """The chain's record of a version; nothing is downloaded.

        Raises:
            NotFoundError: no such model, version or alias; the hint names what there is.
        """
        named = self.reference(ref)
        return self.chain.resolve(named.publisher, named.name, named.version or named.alias)

    def find(self, ref: str | Reference) -> VersionRecord | LoraRecord:
        """The chain's record of a model's version or, where there is no such model, of an adapter.

        An adapter has no aliases: without a version the newest of its name is meant.

        Raises:
            NotFoundError: neither, as far as could be looked; the hint names what there is, or what to set.
        """
        named = self.reference(ref)
        try:
            return self.resolve(named)
        except NotFoundError as no_model:
            if named.alias not in ("", LATEST) or named.variant:
                raise
            if LORA_REGISTRY not in self.chain.addresses:
                hint = f"name who governs: authority = ADDRESS in citrate.toml, or CITRATE_AUTHORITY; {no_model.hint}"
                why = f"no adapter is looked for: nobody is named who governs chain {self.chain.chain_id}"
                raise NotFoundError(f"{no_model.message}, and {why}", hint=hint) from None
            if not self.chain.find(LORA_REGISTRY):
                self.chain.require_governed()
                raise
            missing = no_model
        try:
            return self.loras.resolve(named.publisher, named.name, named.version)
        except NotFoundError as no_adapter:
            hints = [error.hint for error in (missing, no_adapter) if error.hint != NotFoundError.usual_hint]
            raise NotFoundError(f"{missing.message}, and no such adapter", hint="; ".join(hints)) from None

    def resolve_model(self, ref: str | Reference, adapters: str) -> VersionRecord:
        """As ``resolve``, for what can be done with a model's version only.

        Args:
            ref: the reference.
            adapters: what is told of adapters where ``ref`` names one, such as ``have no price``.

        Raises:
            ConfigError: it names an adapter.
            NotFoundError: neither.
        """
        record = self.find(ref)
        if isinstance(record, VersionRecord):
            return record
        base = self.chain.version(record.lora.base).ref
        raise ConfigError(f"{record.ref} is an adapter, and adapters {adapters}", hint=f"its base is {base}")

    def manifest(self, record: VersionRecord, gateways: Iterable[str] = ()) -> Manifest:
        """The manifest of a version, verified against the chain and its signature."""
        from citrate.registry.retrieve import read_manifest

        return read_manifest(record, self.chain, self.store, self.sources(gateways), self.notify)

    def deploy_contracts(self, *, dry_run: bool = False) -> Deployed:
        """Deploy what the chain lacks. Starting a devnet has done so already.

        Args:
            dry_run: only say what would be sent; starts nothing and needs no key.

        Raises:
            ConfigError: nobody is named who governs the contracts.
            ChainError: the chain does not answer, or takes no deployment.
            NotFoundError: something is missing there, and there is no key to deploy it with.
        """
        from citrate.registry.deployers import deploy_with_key

        if not dry_run:
            self.start_chain()
        deployed = deploy_with_key(self.rpc_url, self.settings, self.keys, dry_run=dry_run, told=self.notify)
        if self.settings.is_devnet and not dry_run:
            self.devnet.checkpoint()
        return deployed

    def verify_contracts(self, names: Iterable[str] = (), solc: Path | None = None) -> tuple[Verdict, ...]:
        """Compile the contracts again and compare them with the chain's; starts nothing.

        Args:
            names: which ones; all by default.
            solc: the compiler; None looks for one of the right version.

        Raises:
            ConfigError: nobody is named who governs, or ``solc`` is another version.
            UnavailableError: there is no compiler, or the chain does not answer.
        """
        from citrate.registry.compiler import Compiler
        from citrate.registry.contract import require_chain
        from citrate.registry.rpc import JsonRpc
        from citrate.registry.verification import verify

        settings, node = self.settings, JsonRpc(self.rpc_url)
        chain_id = require_chain(node, settings.chain_id)
        authority = deployments.authority_on(chain_id, node.url, settings.authority)
        addresses = deployments.addresses_on(chain_id, authority, settings.model_registry)
        return verify(node, chain_id, addresses, authority, Compiler(solc), names=names, told=self.notify)
