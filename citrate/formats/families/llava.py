"""LLaVA 1.5 and 1.6 (LLaVA-NeXT): a picture encoder, a projector and a language model. Only passed on."""

from __future__ import annotations

from citrate.core.records import Format
from citrate.formats.families.family import Family, Output

FAMILY = Family(
    name="llava",
    models="LLaVA 1.5, 1.6",
    class_names=("LlavaNextForConditionalGeneration", "LlavaForConditionalGeneration"),
    output=Output.NONE,
    refusals={
        Format.GGUF: "llama.cpp wants picture encoder and projector in a second file, which citrate does not write "
        "(nor does llama.cpp's converter for LLaVA 1.6)",
        Format.MLX: "mlx-lm has no models that see",
        Format.TENSORRT_LLM: "citrate makes no TensorRT-LLM checkpoints of models that see",
    },
)
