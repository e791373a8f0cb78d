"""Adapters for the tests: what a LoRA says, with digests made from its name."""

from __future__ import annotations

from citrate.core.adapters import Lora, Training
from citrate.core.records import VersionRecord
from citrate.registry import cid
from tests.fixtures_anvil import sha256_of


def lora_of(
    base: VersionRecord, name: str = "tiny-lora", version: str = "1.0.0", training: Training | None = None
) -> Lora:
    """A LoRA on ``base`` whose digests are made from its name and version."""
    return Lora(
        name=name,
        version=version,
        licence="apache-2.0",
        base=base.version_id,
        base_sha256=base.variants[0].sha256,
        cid=cid.encode(cid.DAG_PB, bytes.fromhex(sha256_of(f"cid {name} {version}"))),
        sha256=sha256_of(f"adapter {name} {version}"),
        size_bytes=123_456,
        rank=16,
        alpha_thousandths=32_000,
        target_modules=("q_proj", "v_proj"),
        steps=200,
        training=training or Training(),
    )
