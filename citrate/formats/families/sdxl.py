"""Stable Diffusion XL: a diffusers pipeline of two text encoders, a denoiser and a decoder. Only passed on."""

from __future__ import annotations

from citrate.core.records import Format
from citrate.formats.families.family import Family, Output

FAMILY = Family(
    name="sdxl",
    models="Stable Diffusion XL",
    class_names=(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    ),
    output=Output.NONE,
    refusals={
        Format.GGUF: "llama.cpp runs language models, not pipelines that make pictures",
        Format.MLX: "mlx-lm runs language models, not pipelines that make pictures",
        Format.TENSORRT_LLM: "TensorRT-LLM runs language models, not pipelines that make pictures",
    },
)
