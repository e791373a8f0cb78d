"""One target a reader: it gets bytes that anybody may have written, and ends in a value or in one typed error.

Seeds are generated: small, sound inputs from which mutations start.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from folder_targets import folder_targets
from mutations import mutated_header, mutated_json, mutated_template
from target import Target, in_place, on_file
from tokenizer_targets import tokenizer_targets

from citrate.core import canonical
from citrate.core.errors import CitrateError
from citrate.core.records import Architecture, Artifact, Check, FileEntry, Format, Variant, VariantRecord
from citrate.formats import (
    chat,
    chat_process,
    gguf_file,
    gguf_weights,
    inspection,
    licence,
    safetensors_file,
    source,
    torch_file,
)
from citrate.formats.adapter import open_adapter
from citrate.formats.configuration import canonical_config, read_config
from citrate.formats.documents import read_object
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.layout import why_not
from citrate.formats.safetensors_file import Planned
from citrate.formats.vocabulary import read_vocabulary
from citrate.registry import car, cid, dagcbor, dagpb, ipld, manifest, tensor_headers
from citrate.registry.carfile import CarFile

ROOT = Path(__file__).parents[2]


def targets(folder: Path) -> Mapping[str, Target]:
    """Every target; ``folder`` is where their inputs lie as files, and where they may read."""
    return {
        **_formats(folder),
        **_directories(folder),
        **folder_targets(folder),
        **tokenizer_targets(folder),
        **_registry(),
    }


# ------------------------------------------------------------------ files of a model


def _formats(folder: Path) -> Mapping[str, Target]:
    template = (ROOT / "examples/tiny-llama/chat_template.jinja").read_bytes()
    return {
        "gguf": Target(on_file(folder / "x.gguf", inspection.inspect), _gguf_seeds(), inputs=600),
        "gguf-deep": Target(on_file(folder / "deep.gguf", _deep), _deep_seeds(), inputs=300),
        "safetensors": Target(
            on_file(folder / "x.safetensors", safetensors_file.read_header),
            _safetensors_seeds(),
            mutated_header,
            inputs=600,
        ),
        "pickle": Target(on_file(folder / "x.bin", torch_file.find_tensors), _pickle_seeds(), inputs=600),
        "chat-template": Target(_render, (template, *_TEMPLATES), mutated_template, inputs=150),
    }


def _deep(path: Path) -> None:
    gguf_weights.not_finite(path, gguf_file.read_header(path))


def _deep_seeds() -> tuple[bytes, ...]:
    """A tensor of each type whose weights or scales are looked at."""
    types = ("F32", "F16", "BF16", "F64", "Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q6_K", "Q2_K", "Q3_K", "I32")
    metadata = {"general.architecture": GgufValue(Kind.STRING, "llama")}
    files = []
    for names in (types[:4], types[4:8], types[8:]):
        tensors = gguf_file.plan([(f"blk.0.{name}", (256, 2), name) for name in names])
        files.append(gguf_file.header_bytes(metadata, tensors) + bytes(8192))
    return tuple(files)


def _render(data: bytes) -> None:
    template, tokens = data.decode(errors="replace"), {"bos_token": "<s>"}
    chat_process.answer({"template": template, "special_tokens": {**tokens}})
    chat.render(template, "hi", tokens)


_CARD_OF_TAGS = b"""---
license: !!str mit
a: !!int "7"
b: !!float "7.5"
c: !!bool yes
d: !!timestamp 2001-12-14
e: !!binary "aGk="
---
"""
_TEMPLATES = (
    b"{% for m in messages %}{{ m.role }}{% if loop.last %}{{ m['content'] | trim }}{% endif %}{% endfor %}",
    b"{% macro f(x) %}{{ x * 3 }}{% endmacro %}{{ f('a') }}{{ range(9) | list }}{{ 2 ** 9 }}",
    b"{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a * 2 %}{% endfor %}{{ ns.a }}",
)


def _gguf_seeds() -> tuple[bytes, ...]:
    tensors = gguf_file.plan([("token_embd.weight", (32, 4), "F16"), ("blk.0.attn_q.weight", (256, 2), "Q4_K")])
    metadata = {
        "general.architecture": GgufValue(Kind.STRING, "llama"),
        "llama.block_count": GgufValue(Kind.UINT32, 2),
        "llama.rope.freq_base": GgufValue(Kind.FLOAT32, 1e4),
        "tokenizer.ggml.tokens": array(Kind.STRING, ["a", "b", "<s>"]),
        "tokenizer.ggml.scores": array(Kind.FLOAT32, [0.0, 1.0, 2.0]),
        "tokenizer.ggml.bos_token_id": GgufValue(Kind.UINT32, 2),
        "tokenizer.ggml.add_bos_token": GgufValue(Kind.BOOL, True),
    }
    return gguf_file.header_bytes(metadata, tensors) + bytes(1000), gguf_file.header_bytes({}, [])


def _safetensors_seeds() -> tuple[bytes, ...]:
    planned = [Planned("model.norm.weight", "F32", (4,)), Planned("w", "BF16", (2, 3)), Planned("s", "I64", ())]
    return safetensors_file.header_bytes(planned, {"format": "pt"}) + bytes(36), safetensors_file.header_bytes([], {})


def _pickle_seeds() -> tuple[bytes, ...]:
    """A checkpoint as torch writes it, made by hand so that no torch is needed, in both layouts; and any pickle."""
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
    )
    weights = b"\x80\x02}q\x00X\x01\x00\x00\x00a" + tensor + b"s."
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, data in {"data.pkl": weights, "byteorder": b"little", "data/0": bytes(24), "version": b"3\n"}.items():
            file.writestr(zipfile.ZipInfo(f"m/{name}"), data)
    number = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    system = pickle.dumps({"little_endian": True}, protocol=2)
    legacy = number + pickle.dumps(1001, protocol=2) + system + weights + pickle.dumps(["0"], protocol=2)
    other = pickle.dumps({"a": [1, (2.5, None), {3}], "b": frozenset("x"), "c": Path("x")}, protocol=4)
    return packed.getvalue(), legacy + struct.pack("<q", 6) + bytes(24), other


# ------------------------------------------------------------------ directories of a model


def _directories(folder: Path) -> Mapping[str, Target]:
    sample = ROOT / "examples/tiny-llama"
    root = folder / "model"
    root.mkdir()
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "README.md"):
        shutil.copy(sample / name, root)
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for tensor, shard in shards.items():
        header = safetensors_file.header_bytes([Planned(tensor, "F32", (2,))], {"format": "pt"})
        (root / shard).write_bytes(header + bytes(8))
    index = json.dumps({"metadata": {"total_size": 16}, "weight_map": shards}).encode()
    (root / "model.safetensors.index.json").write_bytes(index)
    sound = read_config(root)
    adapter = folder / "adapter"
    adapter.mkdir()
    pair = [Planned(f"base_model.model.model.layers.0.self_attn.q_proj.lora_{s}.weight", "F32", (2, 2)) for s in "AB"]
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_file.header_bytes(pair, {}) + bytes(32))

    def on_config(_: Path) -> None:
        config = read_config(root)
        canonical_config(config)
        inspection.inspect(root)
        why_not(source.open_model(root), Format.GGUF)

    read = {name: (root / name).read_bytes() for name in ("config.json", "tokenizer_config.json", "README.md")}
    tokenizer = _small_tokenizer(json.loads((root / "tokenizer.json").read_bytes()))
    config: dict[str, object] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    config |= {"bias": "none", "rank_pattern": {}, "task_type": "CAUSAL_LM", "base_model_name_or_path": "x/y"}
    return {
        "config": Target(
            in_place(root, "config.json", on_config), (read["config.json"],), mutate=mutated_json, inputs=150
        ),
        "tokenizer-config": Target(
            in_place(root, "tokenizer_config.json", lambda path: read_vocabulary(path, sound)),
            (read["tokenizer_config.json"],), mutate=mutated_json, inputs=100,
        ),
        "tokenizer": Target(
            in_place(root, "tokenizer.json", lambda path: read_vocabulary(path, sound)),
            (tokenizer,), mutate=mutated_json, inputs=250,
        ),
        "index": Target(
            in_place(root, "model.safetensors.index.json", source.open_model), (index,), mutate=mutated_json, inputs=150
        ),
        "card": Target(
            in_place(root, "README.md", licence.find_licence), (read["README.md"], _CARD_OF_TAGS), inputs=400
        ),
        "adapter-config": Target(
            in_place(adapter, "adapter_config.json", open_adapter),
            (json.dumps(config).encode(),), mutate=mutated_json, inputs=250,
        ),
        "document": Target(
            in_place(root, "generation_config.json", lambda path: read_object(path, "generation_config.json")),
            (b'{"a": [1, 2.5, {"b": null}], "c": "\\ud83d\\ude00"}',), inputs=300,
        ),
    }  # fmt: skip


def _small_tokenizer(document: dict[str, object]) -> bytes:
    """The sample's tokenizer with a vocabulary that mutations can find their way in."""
    model = document["model"]
    assert isinstance(model, dict)
    model["vocab"] = dict(list(model["vocab"].items())[:300])
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) in model["vocab"]][:20]
    return json.dumps(document).encode()


# ------------------------------------------------------------------ what comes from the network


def _registry() -> Mapping[str, Target]:
    block = b"hello world"
    raw = cid.Cid.of(0x55, block)
    node = dagpb.encode([dagpb.Link(raw.binary, b"name", len(block))], b"\x08\x01")
    cbor = bytes.fromhex("a2616183016162f6616cd82a5825000155122022" + "00" * 31)
    root = str(cid.Cid.of(0x70, node))
    packed = car.header(root) + car.frame(root, node) + car.frame(str(raw), block)
    release = _manifest()
    return {
        "car": Target(lambda data: _drain(CarFile(io.BytesIO(data))), (packed,), inputs=500),
        "dag-pb": Target(_dag_pb, (node,), inputs=600),
        "dag-cbor": Target(_dag_cbor, (cbor,), inputs=600),
        "cid": Target(lambda data: _cid(data), (str(raw).encode(), root.encode(), raw.binary), inputs=600),
        "manifest": Target(_parse_manifest, (release,), mutate=mutated_json, inputs=150),
        "tensor-headers": Target(_scan, (*_gguf_seeds(), *_safetensors_seeds()), inputs=500),
    }


def _drain(file: CarFile) -> None:
    for _ in file.blocks():
        pass


def _dag_pb(data: bytes) -> None:
    dagpb.decode_unixfs(dagpb.decode(data).data)
    ipld.links(cid.Cid.of(0x70, data), data)


def _dag_cbor(data: bytes) -> None:
    dagcbor.decode(data)
    ipld.links(cid.Cid.of(0x71, data), data)


def _cid(data: bytes) -> None:
    if data[:1] in (b"\x01", b"\x12"):
        cid.Cid.decode(data)
    else:
        cid.Cid.parse(data.decode(errors="replace"))


def _scan(data: bytes) -> None:
    """As the cutter drives it: as many bytes as it asks for, as long as there are any."""
    head = bytearray()
    steps = tensor_headers.scan(head)
    try:
        wanted = next(steps)
        while wanted <= len(data):
            head[:] = data[:wanted]
            wanted = steps.send(None)
    except StopIteration:
        pass


def _parse_manifest(data: bytes) -> None:
    with suppress(ValueError, TypeError, RecursionError, CitrateError):  # what is not canonical gets no further
        data = canonical.dumps(json.loads(data))
    manifest.parse(data, hashlib.sha256(data).hexdigest())


def _manifest() -> bytes:
    address, sha = "0x" + "ab" * 20, "cd" * 32
    file = FileEntry("model.gguf", 100, sha, str(cid.Cid.of(0x55, b"model")))
    artifact = Artifact(file.cid, sha, 100, (file,), bare=True)
    converter = manifest.Converter(name="citrate", version="0.1.0", arguments={"a": "b"})
    checks = (Check("logits", passed=True, value="0.0022", limit="0.01"),)
    record = VariantRecord(Variant.parse("gguf:Q8_0"), artifact.cid, sha, 100)
    return manifest.Manifest(
        schema="citrate.manifest/1",
        publisher=address,
        name="tiny",
        version="1.0.0",
        licence=manifest.Licence(spdx="Apache-2.0", text="ö"),
        architecture=Architecture("llama", "LlamaForCausalLM", 1, 2, 3, 4, 5, 6, 7, 8),
        generation={"temperature": "0.7"},
        chat_template_sha256=sha,
        variants=(manifest.entry_of(record, artifact, "BF16", converter, checks),),
        lineage=manifest.Lineage(source_sha256=sha),
        previous=None,
        signature=manifest.Signature(signer=address, kind="eoa", value="0x00"),
    ).encode()
