"""The registry of models as plain dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_abi import encode
from eth_utils import keccak

from tests.differential.encoding import ZERO, ZERO_WORD, Fold, Refused, account, model_id, name_id, record_code, text
from tests.differential.payloads import is_name, parse_addition, parse_release

FIRST, LATER, ADDED = 1, 2, 3


@dataclass(frozen=True)
class Now:
    """The block in which something happens."""

    time: int
    block: int


@dataclass
class Record:
    address: str
    kind: int
    version_id: bytes
    time: int
    sender: str
    manifest: bytes
    variants: tuple
    code: bytes


@dataclass
class Version:
    model_id: bytes
    version: str
    licence: str
    price: int
    records: list[Record]
    deprecated: bool = False
    replacement: bytes = ZERO_WORD


@dataclass
class Alias:
    version_id: bytes
    block: int
    changes: int


@dataclass
class Model:
    publisher: str
    name: str
    owner: str
    pending: str = ZERO
    versions: list[bytes] = field(default_factory=list)
    aliases: dict[str, Alias] = field(default_factory=dict)


class RegistryModel:
    """Every write and every view of ModelRegistry."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.models: dict[bytes, Model] = {}
        self.all_versions: dict[bytes, Version] = {}
        self.all_records: list[Record] = []
        self.fold = Fold()

    # ---- writing

    def publish(self, now: Now, sender: str, publisher: str, release: bytes, alias: str) -> None:
        parsed = parse_release(release)
        mid = model_id(publisher, parsed.name)
        vid = name_id(mid, parsed.version)
        model = self.models.get(mid) or Model(publisher, parsed.name, publisher)
        if sender != model.owner:
            raise Refused("NotOwner", mid, sender)
        if vid in self.all_versions:
            raise Refused("VersionTaken", vid)
        if parsed.version in model.aliases:
            raise Refused("NameTaken", vid)
        if alias:
            self._check_alias(mid, alias, also=parsed.version)
        self.models[mid] = model
        first = not model.versions
        by_other = b"" if sender == publisher else bytes.fromhex(sender[2:])
        rest = by_other + release
        link = publisher
        if not first:
            link = account(self.address, model.versions[0])
            rest = by_other + text(self.all_versions[model.versions[-1]].version) + release[parsed.after_name :]
        record = self._append(FIRST if first else LATER, vid, vid, now, sender, link, rest, bool(by_other))
        record.manifest, record.variants = parsed.manifest, parsed.variants
        self.all_versions[vid] = Version(mid, parsed.version, parsed.licence, parsed.price, [record])
        model.versions.append(vid)
        if alias:
            self._move_alias(now, model, mid, alias, vid)

    def add_variants(self, now: Now, sender: str, publisher: str, name: str, version: str, addition: bytes) -> None:
        mid, _ = self._require_owner(sender, publisher, name)
        vid = name_id(mid, version)
        parsed = parse_addition(addition)
        target = self._version(vid)
        if len(target.records) == 16:
            raise Refused("TooManyRecords", vid)
        for record in target.records:
            taken = {v.key for v in record.variants}
            for variant in parsed.variants:
                if variant.key in taken:
                    raise Refused("DuplicateVariant", variant.key.ljust(32, b"\0"))
        by_other = b"" if sender == publisher else bytes.fromhex(sender[2:])
        salt = addition_salt(vid, len(target.records))
        link = target.records[0].address
        record = self._append(ADDED, salt, vid, now, sender, link, by_other + addition, bool(by_other))
        record.manifest, record.variants = parsed.manifest, parsed.variants
        target.records.append(record)

    def set_alias(self, now: Now, sender: str, publisher: str, name: str, alias: str, version: str) -> None:
        mid, model = self._require_owner(sender, publisher, name)
        vid = name_id(mid, version)
        self._version(vid)
        self._check_alias(mid, alias)
        self._move_alias(now, model, mid, alias, vid)

    def deprecate(self, sender: str, publisher: str, name: str, version: str, replacement: bytes) -> None:
        mid, _ = self._require_owner(sender, publisher, name)
        vid = name_id(mid, version)
        target = self._version(vid)
        if replacement == vid:
            raise Refused("InvalidReplacement", vid)
        if any(replacement):
            self._version(replacement)
        target.deprecated, target.replacement = True, replacement
        self.fold.log("Deprecated(bytes32,bytes32,bytes32)", [mid, vid], ["bytes32"], [replacement])

    def transfer_model(self, sender: str, publisher: str, name: str, to: str) -> None:
        mid, model = self._require_owner(sender, publisher, name)
        model.pending = to
        self.fold.log("TransferStarted(bytes32,address,address)", [mid, sender, to], [], [])

    def accept_model(self, sender: str, mid: bytes) -> None:
        model = self.models.get(mid)
        if model is None or model.pending != sender:
            raise Refused("NotPendingOwner", mid, sender)
        model.owner, model.pending = sender, ZERO
        self.fold.log("Transferred(bytes32,address)", [mid, sender], [], [])

    # ---- reading

    def resolve(self, publisher: str, name: str, wanted: str) -> bytes:
        mid, model = self._require_model(model_id(publisher, name))
        if wanted == "latest":
            current = [vid for vid in model.versions if not self.all_versions[vid].deprecated]
            return (current or model.versions)[-1]
        if name_id(mid, wanted) in self.all_versions:
            return name_id(mid, wanted)
        if wanted not in model.aliases:
            raise Refused("UnknownAlias", mid, wanted)
        return model.aliases[wanted].version_id

    def get_version(self, vid: bytes) -> tuple:
        v = self._version(vid)
        model = self.models[v.model_id]
        first = v.records[0]
        names = (model.publisher, model.owner, model.name, v.version, v.licence, v.price, first.time)
        state = (v.deprecated, v.replacement, first.address)
        return (v.model_id, *names, *state, [r.manifest for r in v.records], [r.sender for r in v.records])

    def terms_of(self, vid: bytes) -> tuple:
        v = self._version(vid)
        return v.model_id, self.models[v.model_id].owner, v.price, v.deprecated

    def content_of(self, vid: bytes) -> tuple:
        v = self._version(vid)
        return v.model_id, v.deprecated, v.records[0].variants[0].sha256

    def get_variants(self, vid: bytes) -> list:
        return [variant.view() for record in self._version(vid).records for variant in record.variants]

    def alias_of(self, mid: bytes, alias: str) -> tuple:
        model = self.models.get(mid)
        if model is None or alias not in model.aliases:
            raise Refused("UnknownAlias", mid, alias)
        found = model.aliases[alias]
        return found.version_id, self.all_versions[found.version_id].version, found.block, found.changes

    def owner_of(self, mid: bytes) -> str:
        return self._require_model(mid)[1].owner

    def pending_owner_of(self, mid: bytes) -> str:
        return self.models[mid].pending if mid in self.models else ZERO

    def nonce_of(self, mid: bytes) -> int:
        return len(self.models[mid].versions) if mid in self.models else 0

    def head(self) -> tuple:
        return (self.all_records[-1].address if self.all_records else ZERO), len(self.all_records)

    def records(self, cursor: str, limit: int) -> tuple:
        return self._page(self.all_records, cursor, limit)

    def models_page(self, cursor: str, limit: int) -> tuple:
        items, after = self._page(self.all_records, cursor, limit)
        return [item for item in items if item[1] == FIRST], after

    def versions_page(self, mid: bytes, cursor: str, limit: int) -> tuple:
        if cursor == ZERO:
            self._require_model(mid)
        releases = [self.all_versions[v].records[0] for v in self.models[mid].versions] if mid in self.models else []
        if cursor != ZERO and limit and cursor not in {r.address for r in releases}:
            raise Refused("UnknownRecord", cursor)
        return self._page(releases, cursor, limit)

    # ---- parts

    def _page(self, chain: list[Record], cursor: str, limit: int) -> tuple:
        """From ``cursor`` (zero: the newest) back, and the cursor that follows."""
        limit = min(limit, 500)
        backwards = chain[::-1]
        if cursor != ZERO:
            at = next((i for i, r in enumerate(backwards) if r.address == cursor), None)
            if at is None:
                if limit:
                    raise Refused("UnknownRecord", cursor)
                return [], cursor
            backwards = backwards[at:]
        rest = backwards[limit:]
        return [self._item(r) for r in backwards[:limit]], rest[0].address if rest else ZERO

    def _item(self, record: Record) -> tuple:
        v = self.all_versions[record.version_id]
        model = self.models[v.model_id]
        names = (v.model_id, record.version_id, model.publisher, model.name, v.version)
        return record.address, record.kind, *names, record.time, v.deprecated

    def _append(
        self, kind: int, salt: bytes, vid: bytes, now: Now, sender: str, link: str, rest: bytes, by_other: bool
    ) -> Record:
        code = record_code(kind | (0x80 if by_other else 0), now.time, self.head()[0], link, rest)
        record = Record(account(self.address, salt), kind, vid, now.time, sender, ZERO_WORD, (), code)
        self.all_records.append(record)
        return record

    def _check_alias(self, mid: bytes, alias: str, also: str = "") -> None:
        if alias == "latest":
            raise Refused("ReservedName")
        if not is_name(alias.encode(), 32):
            raise Refused("InvalidAlias", alias)
        if name_id(mid, alias) in self.all_versions or alias == also:
            raise Refused("NameTaken", name_id(mid, alias))

    def _move_alias(self, now: Now, model: Model, mid: bytes, alias: str, vid: bytes) -> None:
        before = model.aliases.get(alias, Alias(vid, 0, 0))
        model.aliases[alias] = Alias(vid, now.block, before.changes + 1)
        values = [alias, before.block, before.changes + 1]
        types = ["string", "uint256", "uint256"]
        self.fold.log("AliasSet(bytes32,bytes32,string,uint256,uint256)", [mid, vid], types, values)

    def _require_model(self, mid: bytes) -> tuple[bytes, Model]:
        if mid not in self.models:
            raise Refused("UnknownModel", mid)
        return mid, self.models[mid]

    def _require_owner(self, sender: str, publisher: str, name: str) -> tuple[bytes, Model]:
        mid, model = self._require_model(model_id(publisher, name))
        if sender != model.owner:
            raise Refused("NotOwner", mid, sender)
        return mid, model

    def _version(self, vid: bytes) -> Version:
        if vid not in self.all_versions:
            raise Refused("UnknownVersion", vid)
        return self.all_versions[vid]


def addition_salt(vid: bytes, k: int) -> bytes:
    return keccak(encode(["bytes32", "uint256"], [vid, k]))
