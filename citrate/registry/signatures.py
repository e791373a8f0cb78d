"""EIP-712 signatures of the registries: over a manifest (it travels inside the manifest), and over a release or a LoRA
that somebody else sends.

A manifest's signature says that the owner's key, and not only an RPC that claims so, stands behind the bytes. It is
over the manifest's canonical form without its ``signature`` field, for one chain and one registry.
Sources: EIP-712, EIP-1271, EIP-2 (a signature has one form only: s in the lower half).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.errors import IntegrityError
from citrate.registry.abi_codec import encode
from citrate.registry.ids import keccak
from citrate.registry.lora_payload import encode_lora

if TYPE_CHECKING:
    from citrate.core.adapters import Lora
    from citrate.registry.payload import ReleasePayload
    from citrate.registry.queries import ChainReader
    from citrate.registry.signer import Signer

EOA, ERC1271 = "eoa", "erc1271"

_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_MANIFEST_TYPE = "Manifest(bytes32 sha256)"
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
_PUBLISH_FIELDS = [
    {"name": "publisher", "type": "address"},
    {"name": "release", "type": "bytes"},
    {"name": "aliasName", "type": "string"},
    {"name": "nonce", "type": "uint256"},
    {"name": "deadline", "type": "uint256"},
]
_LORA_DOMAIN = "Citrate LoRA"
_LORA_FIELDS = [
    {"name": "creator", "type": "address"},
    {"name": "lora", "type": "bytes"},
    {"name": "nonce", "type": "uint256"},
    {"name": "deadline", "type": "uint256"},
]


@dataclass(frozen=True)
class Domain:
    """What a signature is bound to: one registry on one chain; ``name`` is what wallets show."""

    chain_id: int
    registry_address: str
    name: str = "Citrate"

    def typed(self, primary: str, fields: list[dict[str, str]], message: dict[str, object]) -> dict[str, object]:
        """The typed data that a wallet signs."""
        domain = {
            "name": self.name,
            "version": "1",
            "chainId": self.chain_id,
            "verifyingContract": self.registry_address,
        }
        types = {"EIP712Domain": _DOMAIN_FIELDS, primary: fields}
        return {"types": types, "primaryType": primary, "domain": domain, "message": message}

    def separator(self) -> bytes:
        """The hash of the domain."""
        return keccak(
            keccak(_DOMAIN_TYPE.encode())
            + keccak(self.name.encode())
            + keccak(b"1")
            + encode(["uint256", "address"], self.chain_id, self.registry_address)
        )


def manifest_digest(domain: Domain, unsigned_sha256: str) -> bytes:
    """The 32 bytes that the owner of a model signs for a manifest."""
    return _digest(domain, _MANIFEST_TYPE, unsigned_sha256)


def record_digest(domain: Domain, kind: str, unsigned_sha256: str) -> bytes:
    """The 32 bytes that are signed for a record that is no manifest, such as a ``Comparison``."""
    return _digest(domain, f"{kind}(bytes32 sha256)", unsigned_sha256)


def sign_record(signer: Signer, kind: str, unsigned_sha256: str, registry_address: str) -> str:
    """Sign a record; each kind is a type of its own beside the manifest's, so that none passes for another."""
    message: dict[str, object] = {"sha256": bytes.fromhex(unsigned_sha256)}
    domain = Domain(signer.chain_id, registry_address)
    typed = domain.typed(kind, [{"name": "sha256", "type": "bytes32"}], message)
    return "0x" + signer.sign_typed_data(typed).hex()


def sign(signer: Signer, unsigned_sha256: str, registry_address: str) -> str:
    """Sign a manifest for the chain that the key was unlocked for; ``0x`` and 130 hex digits."""
    return sign_record(signer, "Manifest", unsigned_sha256, registry_address)


def sign_release(
    signer: Signer, release: ReleasePayload, alias: str, *, nonce: int, deadline: int, registry_address: str
) -> bytes:
    """Sign a release that somebody else will send (``Chain.publish_by_sig``).

    Args:
        signer: the model's owner.
        release: what is published.
        alias: the alias to set in the same transaction, or empty.
        nonce: ``Chain.nonce_of`` the model; any publication before it is sent voids the signature.
        deadline: last Unix second at which it holds.
        registry_address: the registry, on the chain that the key was unlocked for.
    """
    message: dict[str, object] = {
        "publisher": release.publisher,
        "release": release.encode(),
        "aliasName": alias,
        "nonce": nonce,
        "deadline": deadline,
    }
    return signer.sign_typed_data(Domain(signer.chain_id, registry_address).typed("Publish", _PUBLISH_FIELDS, message))


def sign_lora(signer: Signer, lora: Lora, *, nonce: int, deadline: int, registry_address: str) -> bytes:
    """Sign a LoRA that somebody else will send (``Loras.register_by_sig``).

    Args:
        signer: its creator.
        lora: what is recorded.
        nonce: ``Loras.counts_of(creator).ever``; any registration before it is sent voids the signature.
        deadline: last Unix second at which it holds.
        registry_address: LoRARegistry, on the chain that the key was unlocked for.
    """
    message: dict[str, object] = {
        "creator": signer.address,
        "lora": encode_lora(lora),
        "nonce": nonce,
        "deadline": deadline,
    }
    domain = Domain(signer.chain_id, registry_address, _LORA_DOMAIN)
    return signer.sign_typed_data(domain.typed("RegisterLoRA", _LORA_FIELDS, message))


def require_valid(chain: ChainReader, owner: str, unsigned_sha256: str, kind: str, value: str) -> str:
    """Check the signature of ``owner`` over a manifest.

    Args:
        chain: where the manifest is recorded.
        owner: who owned the model when the manifest was recorded, as the chain says.
        unsigned_sha256: SHA-256 of the manifest's canonical form without its signature.
        kind: ``eoa``, or ``erc1271`` for a contract wallet.
        value: the signature, ``0x`` and hex.

    Returns:
        Empty, or a warning: a contract wallet answers for the present only, so one that does not confirm an old
        signature any more leaves the decision to the record on chain, which the wallet's transaction made.

    Raises:
        IntegrityError: the signature is not the owner's, or the owner is no contract wallet.
        ChainError: the chain does not answer.
    """
    digest = manifest_digest(Domain(chain.chain_id, chain.registry_address), unsigned_sha256)
    try:
        signature = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raise _mismatch(owner, "a value that is not hex") from None
    if kind == EOA:
        signer = recover(digest, signature)
        if signer.lower() != owner.lower():
            raise _mismatch(owner, signer or "no valid signature")
        return ""
    if kind != ERC1271 or not chain.has_code(owner):
        raise _mismatch(owner, f"a signature of the kind {kind!r}, but there is no contract wallet at this address")
    if chain.is_valid_signature(owner, digest, signature):
        return ""
    return f"the wallet {owner} does not confirm its signature of this manifest any more; the chain's record decides"


def recover(digest: bytes, signature: bytes) -> str:
    """The address whose key made a signature (r, s, v in 65 bytes, v 27 or 28, s low); empty if it is malformed."""
    from eth_keys.datatypes import Signature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    if len(signature) != 65 or signature[64] not in (27, 28):
        return ""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if s > _HALF_ORDER:
        return ""
    try:
        public = Signature(vrs=(signature[64] - 27, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError, ValueError):
        return ""
    return str(public.to_checksum_address())


def _digest(domain: Domain, type_: str, sha256: str) -> bytes:
    content = keccak(keccak(type_.encode()) + bytes.fromhex(sha256))
    return keccak(b"\x19\x01" + domain.separator() + content)


def _mismatch(owner: str, actual: str) -> IntegrityError:
    return IntegrityError(
        f"the manifest's signature is not that of {owner}", path="manifest.signature", expected=owner, actual=actual
    )
