"""Folders of models that are only passed on: a Stable Diffusion XL and a LLaVA, with tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PARTS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def weights(path: Path, names: list[str], seed: int) -> None:
    """A file of random matrices in half precision."""
    random = np.random.default_rng(seed)
    save_file({name: random.standard_normal((8, 16)).astype(np.float16) for name in names}, path)


def make_sdxl(root: Path) -> Path:
    """The folders of a Stable Diffusion XL, with two tensors in each network, local paths, and code."""
    for part in PARTS:
        (root / part).mkdir(parents=True)
    index = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.35.0", "_name_or_path": "/home/me/x"}
    index |= {**PARTS, "feature_extractor": [None, None], "force_zeros_for_empty_prompt": True}
    (root / "model_index.json").write_text(json.dumps(index))
    (root / "README.md").write_text("---\nlicense: openrail++\n---\n# A pipeline for tests\n")
    for part in ("text_encoder", "text_encoder_2"):
        names = ["text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.weight"]
        weights(root / part / "model.safetensors", names, seed=len(part))
        (root / part / "config.json").write_text(json.dumps({"model_type": "clip_text_model", "_name_or_path": "/a/b"}))
    weights(root / "vae" / "diffusion_pytorch_model.safetensors", ["encoder.conv_in.weight"], seed=3)
    weights(root / "vae" / "diffusion_pytorch_model.fp16.safetensors", ["encoder.conv_in.weight"], seed=3)
    shards = {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}
    shards |= {"conv_out.weight": "diffusion_pytorch_model-00002-of-00002.safetensors"}
    for name, shard in shards.items():
        weights(root / "unet" / shard, [name], seed=4)
    document = {"metadata": {"total_size": 512, "path": "/home/me"}, "weight_map": shards}
    (root / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(document))
    for part in ("unet", "vae"):
        (root / part / "config.json").write_text(json.dumps({"_class_name": PARTS[part][1]}))
    (root / "scheduler" / "scheduler_config.json").write_text("{}")
    (root / "tokenizer" / "vocab.json").write_text("{}")
    (root / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (root / "unet" / "pipeline.py").write_text("raise SystemExit('executed')")
    return root


def make_llava(root: Path) -> Path:
    """A LLaVA 1.6 of three tensors: one of what sees, one between, one of what speaks."""
    root.mkdir(parents=True)
    text = {"model_type": "mistral", "_name_or_path": "/home/me/language", "num_hidden_layers": 2, "hidden_size": 16}
    config = {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "model_type": "llava_next",
        "text_config": {**text, "rope_theta": 1000000.0, "rope_scaling": None},
        "vision_config": {"model_type": "clip_vision_model", "image_size": 336},
    }
    (root / "config.json").write_text(json.dumps(config))
    (root / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "LlavaNextImageProcessor"}))
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model that sees, for tests\n")
    names = ["vision_tower.x.weight", "multi_modal_projector.linear_1.weight", "language_model.lm_head.weight"]
    weights(root / "model.safetensors", names, seed=5)
    return root
