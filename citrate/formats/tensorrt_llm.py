"""TensorRT-LLM: a quantised Hugging Face checkpoint for a GPU architecture, made by NVIDIA ModelOpt on any CPU.

What it holds is checked here, tensor by tensor and by what it predicts; that TensorRT-LLM loads it is not, which takes
an NVIDIA GPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import Sink
from citrate.formats.checks import metadata, network
from citrate.formats.checks.network import Outputs
from citrate.formats.checks.reference import positions
from citrate.formats.checks.tokens import has_tokenizer
from citrate.formats.configuration import canonical_config
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.documents import parse_object, pretty, read_object
from citrate.formats.families.family import Output
from citrate.formats.layout import layout_of, why_not
from citrate.formats.safetensors import INDEX, write_companions, write_file, write_shard
from citrate.formats.same_tokenizer import deviation, tokenize  # noqa: F401 - this format's too
from citrate.formats.sharding import sharded
from citrate.formats.source import SourceModel, open_model
from citrate.formats.tensorrt import calibration, decoding, judging, making
from citrate.formats.tensorrt.schemes import SCHEMES, Scheme, by_algorithm

BARE = False
TARGETS: Mapping[str, tuple[str, ...]] = {name: scheme.targets for name, scheme in SCHEMES.items()}
_PACKAGES = ("modelopt", "torch", "transformers")
CHECKED_BY: Mapping[str, tuple[str, ...]] = {"tensors": _PACKAGES, "full": _PACKAGES}
QUANT_CONFIG = "hf_quant_config.json"
_ADDED = ("quantization_config", "dtype", "torch_dtype")


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """The quantizations of ``model`` that ModelOpt makes; empty where it cannot be converted."""
    if refusal(model):
        return ()
    slots = layout_of(model).slots(model.config)
    shapes = [slot.shape for name, slot in slots.items() if name.endswith(judging.PROJECTION)]
    return tuple(
        name
        for name, scheme in SCHEMES.items()
        if all(rows % 2 == 0 and columns % (scheme.group or 16) == 0 for rows, columns in shapes)
    )


def refusal(model: SourceModel) -> str:
    """Why ``model`` cannot become a TensorRT-LLM checkpoint; empty where it can."""
    reason = why_not(model, Format.TENSORRT_LLM)
    return reason or ("" if has_tokenizer(model.root) else calibration.WITHOUT_TOKENIZER)


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write a directory a request; ModelOpt runs once, and quantises once for all targets of a quantization.

    Raises as ``citrate.formats.convert`` does, and UnavailableError where memory does not suffice.
    """
    model, schemes = requests[0].model, [SCHEMES[request.variant.quantization] for request in requests]
    with tempfile.TemporaryDirectory(prefix="citrate-modelopt-") as folder:
        outs = {scheme: Path(folder) / scheme.name for scheme in schemes}
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        requests[0].report(0)
        versions = making.make(model, outs, scratch, requests[0].threads)
        made = {scheme: open_model(out) for scheme, out in outs.items()}
        return tuple(
            _write(request, scheme, made[scheme], versions) for request, scheme in zip(requests, schemes, strict=True)
        )


def toolchain(quantization: str) -> Mapping[str, str]:
    """The versions of what computes, the recipe, and the text that activations are measured on."""
    scheme = SCHEMES.get(quantization)
    recipe = {"recipe": scheme.recipe} if scheme else {}
    return {"calibration_sha256": calibration.sha256(), **recipe, **making.installed_versions()}


def faults(model: SourceModel, quantization: str, path: Path) -> list[str]:
    """What the directory lacks of its source, or says otherwise."""
    found = metadata.of_folder(model, path, _ADDED)
    algorithm = _algorithm(path)
    wanted = SCHEMES[quantization].algorithm
    return found if algorithm == wanted else [*found, f"{QUANT_CONFIG}: quant_algo is {algorithm!r:.40}, not {wanted}"]


def passed_on(model: SourceModel, variant: Variant, path: Path) -> tuple[Check, ...]:  # noqa: ARG001 - none
    """Nothing: ModelOpt rewrites matrices, AWQ norms too; ``judging`` has compared them."""
    return ()


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Logits by transformers, of the decoded weights, with inputs rounded as the engine rounds them."""
    written, algorithm = open_model(path), _algorithm(path)
    scheme = by_algorithm(algorithm)
    if scheme is None:
        raise FormatError(f"{QUANT_CONFIG}: quant_algo is {algorithm!r:.40}, which citrate does not know")
    made = network.built(written.config, pooled=False)
    decoding.round_inputs(made, written, scheme)
    return network.evaluate(made, decoding.weights(written, scheme), positions(model), "")


def limit(quantization: str, output: Output) -> str:  # noqa: ARG001 - decoders only
    """In nats."""
    return SCHEMES[quantization].limit


def _algorithm(path: Path) -> Json:
    quantization = read_object(path, QUANT_CONFIG).get("quantization")
    return quantization.get("quant_algo") if isinstance(quantization, dict) else None


def _write(request: Request, scheme: Scheme, made: SourceModel, versions: Mapping[str, str]) -> Conversion:
    """Judge what ModelOpt made, and write it in an order of ours; its tensors byte for byte."""
    model = request.model
    checks: tuple[Check, ...] = judging.judge(request.variant, model, made, scheme)
    done = 0
    files = sharded(made.tensors)
    for name, tensors in files:
        for size in write_shard(request, name, tensors):
            done += size
            request.report(done * model.size_bytes // made.size_bytes)
    if len(files) > 1:
        weight_map: dict[str, Json] = {tensor.name: name for name, tensors in files for tensor in tensors}
        write_file(request.sink, INDEX, pretty({"metadata": {"total_size": done}, "weight_map": weight_map}))
    _write_documents(request.sink, model, made)
    return Conversion(
        variant=request.variant,
        checks=checks,
        converter="citrate.formats.tensorrt_llm",
        version=converter_version(),
        arguments={"calibration_sha256": calibration.sha256(), "recipe": scheme.recipe, **versions},
        source_dtype=model.source_dtype,
        bare=BARE,
    )


def _write_documents(sink: Sink, model: SourceModel, made: SourceModel) -> None:
    """The source's configuration with what ModelOpt says of its quantization, and that once more where engines look."""
    config = parse_object(canonical_config(model.config), "config.json")
    config["dtype"] = {"F16": "float16"}.get(model.source_dtype, "bfloat16")
    config["quantization_config"] = made.config.document.get("quantization_config")
    config.pop("torch_dtype", None)
    write_companions(model, sink, pretty(config))
    write_file(sink, QUANT_CONFIG, pretty(read_object(made.root, QUANT_CONFIG)))
