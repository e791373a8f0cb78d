"""Targets in folders that are more than config.json and weights, and bases of adapters.

Pipelines, embedding models, MLX, TensorRT-LLM, merged models, adapters of mlx-lm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mutations import mutated_json
from target import Target, in_place, on_file

from citrate.core.records import Format
from citrate.formats import generation, gguf_file, merging_record, mlx_source, safetensors_file, source, tensorrt_llm
from citrate.formats.adapter_conversion import open_updates
from citrate.formats.adapter_host import gguf_host
from citrate.formats.configuration import read_config
from citrate.formats.families import llama, pooling
from citrate.formats.gguf_file import GgufValue, Kind
from citrate.formats.inspection import inspect
from citrate.formats.layout import why_not
from citrate.formats.safetensors_file import Planned

_CARD = "---\nlicense: apache-2.0\n---\n# A model for tests\n"
_DECODER: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32, "hidden_size": 64,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": True,
}  # fmt: skip


def folder_targets(folder: Path) -> Mapping[str, Target]:
    """Each with a folder of its own below ``folder``."""
    return {
        **_pipeline(folder / "pipeline"),
        **_encoder(folder / "encoder"),
        **_mlx(folder / "mlx"),
        **_tensorrt(folder / "tensorrt"),
        **_beside(folder / "beside"),
        **_mlx_adapter(folder / "mlx-adapter"),
        "gguf-host": _host(folder / "host.gguf", folder / "mlx"),
    }


def _written(path: Path, document: object) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path.read_bytes()


def _weights(path: Path, planned: list[Planned]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    widths = {"F32": 4, "U32": 4, "BF16": 2, "U8": 1}
    size = 0
    for tensor in planned:
        count = widths[tensor.dtype]
        for length in tensor.shape:
            count *= length
        size += count
    path.write_bytes(safetensors_file.header_bytes(planned, {"format": "mlx"}) + bytes(size))


def _pipeline(root: Path) -> Mapping[str, Target]:
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.35.0", **parts, "x": [None, None]}
    seed = _written(root / "model_index.json", index)
    _weights(root / "unet" / "diffusion_pytorch_model.safetensors", [Planned("conv_in.weight", "F32", (2, 2))])
    _written(root / "unet" / "config.json", {"_class_name": "UNet2DConditionModel"})
    _written(root / "tokenizer" / "vocab.json", {})
    (root / "README.md").write_text(_CARD)
    run = in_place(root, "model_index.json", inspect)
    return {"pipeline": Target(run, (seed,), mutate=mutated_json, inputs=200)}


def _encoder(root: Path) -> Mapping[str, Target]:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    listed = _written(root / "modules.json", modules)
    pooled = _written(root / "1_Pooling" / "config.json", {"pooling_mode_cls_token": False, "pooling_mode": "mean"})
    older = json.dumps({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}).encode()
    return {
        "modules": Target(in_place(root, "modules.json", pooling.metadata), (listed,), mutate=mutated_json, inputs=250),
        "pooling": Target(
            in_place(root, "1_Pooling/config.json", pooling.metadata), (pooled, older), mutate=mutated_json, inputs=150
        ),
    }


def _mlx(root: Path) -> Mapping[str, Target]:
    """A packed matrix and a plain one; config.json says how the former was packed, for all or for it alone."""
    module = "model.layers.0.mlp.up_proj"
    arrays = [Planned(f"{module}.weight", "U32", (4, 8)), Planned(f"{module}.scales", "BF16", (4, 1))]
    arrays += [Planned(f"{module}.biases", "BF16", (4, 1)), Planned("model.norm.weight", "BF16", (64,))]
    _weights(root / "model.safetensors", arrays)
    (root / "README.md").write_text(_CARD)
    whole = {"bits": 4, "group_size": 64}
    seeds = (
        {**_DECODER, "quantization": whole, "quantization_config": whole},
        {**_DECODER, "quantization": {**whole, "mode": "affine", module: {"group_size": 64, "bits": None}}},
        {**_DECODER, "quantization": {"bits": 8, "group_size": 32, module: whole}},
    )

    def read(path: Path) -> None:
        inspect(path)
        model = source.open_model(path)
        for matrix in mlx_source.packed(model).values():
            matrix.read(0, 4)
        why_not(model, Format.SAFETENSORS)

    documents = tuple(json.dumps(seed).encode() for seed in seeds)
    (root / "config.json").write_bytes(documents[0])
    return {"mlx-config": Target(in_place(root, "config.json", read), documents, mutate=mutated_json, inputs=250)}


def _tensorrt(root: Path) -> Mapping[str, Target]:
    quantization = {"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]}
    producer = {"name": "modelopt", "version": "0.47.0"}
    stated = {"quant_method": "modelopt", "producer": producer, **quantization}
    config = _written(root / "config.json", {**_DECODER, "quantization_config": stated})
    beside = _written(root / "hf_quant_config.json", {"producer": producer, "quantization": quantization})
    _weights(root / "model.safetensors", [Planned("model.norm.weight", "BF16", (64,))])
    (root / "README.md").write_text(_CARD)
    model = source.open_model(root)

    def read(path: Path) -> None:
        inspect(path)
        tensorrt_llm.faults(model, "fp8", path)

    return {
        "hf-quant-config": Target(
            in_place(root, "hf_quant_config.json", read), (beside,), mutate=mutated_json, inputs=150
        ),
        "modelopt-config": Target(in_place(root, "config.json", read), (config,), mutate=mutated_json, inputs=100),
    }


def _beside(root: Path) -> Mapping[str, Target]:
    """What stands beside a model's weights, and is read for what it says."""
    _written(root / "config.json", {**_DECODER, "model_type": "other", "architectures": ["OtherModel"]})
    _weights(root / "model.safetensors", [Planned("model.norm.weight", "BF16", (64,))])
    (root / "README.md").write_text(_CARD)
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 1e-3, "eos_token_id": [1, 2]}
    stated = _written(root / "generation_config.json", sampling)
    parents = [{"kind": "base", "sha256": "ab" * 32}, {"kind": "adapter", "sha256": "cd" * 32, "weight": "0.5"}]
    schema = {"schema": "citrate.merge/1", "method": "ties", "settings": {"density": "0.5"}}
    merged = json.dumps({**schema, "parents": parents}).encode()
    return {
        "generation": Target(
            in_place(root, "generation_config.json", _sampling),
            (stated,), mutate=mutated_json, inputs=150,
        ),
        "merge-record": Target(in_place(root, "merge.json", _merge), (merged,), mutate=mutated_json, inputs=200),
    }  # fmt: skip


def _sampling(root: Path) -> None:
    generation.generation_defaults(source.open_model(root))


def _merge(root: Path) -> None:
    record = merging_record.read(root)
    if record:
        merging_record.card("Apache-2.0", record)
        merging_record.lineage(record)


def _mlx_adapter(root: Path) -> Mapping[str, Target]:
    planned = [Planned("model.layers.0.self_attn.q_proj.lora_a", "F32", (4, 2))]
    planned += [Planned("model.layers.0.self_attn.q_proj.lora_b", "F32", (2, 4))]
    _weights(root / "adapters.safetensors", planned)
    parameters = {"rank": 2, "scale": 20.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": parameters, "model": "x/y"}
    seed = _written(root / "adapter_config.json", config)
    run = in_place(root, "adapter_config.json", open_updates)
    return {"mlx-adapter": Target(run, (seed,), mutate=mutated_json, inputs=200)}


def _host(path: Path, decoder: Path) -> Target:
    """The header of a whole GGUF file of one layer: what an adapter's names and shapes follow from."""
    config = read_config(decoder)
    layout = llama.FAMILY.layout
    assert layout is not None
    slots = layout.slots(config).values()
    tensors = gguf_file.plan([(slot.gguf_name, slot.shape[::-1], "F16") for slot in slots])
    numbers = {"block_count": 1, "embedding_length": 64, "feed_forward_length": 64, "attention.head_count": 2}
    numbers |= {"attention.head_count_kv": 2, "context_length": 64, "vocab_size": 32}
    metadata = {"general.architecture": GgufValue(Kind.STRING, "llama")}
    metadata |= {f"llama.{name}": GgufValue(Kind.UINT32, value) for name, value in numbers.items()}
    end = tensors[-1].offset + tensors[-1].size_bytes
    return Target(on_file(path, gguf_host), (gguf_file.header_bytes(metadata, tensors) + bytes(end),), inputs=300)
