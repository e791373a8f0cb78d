"""A LoRA adapter as PEFT saves it: read with bounds, held against its base, and published in one reproducible form.

Nothing of it is loaded: the weights' header says every tensor's name and shape. What PEFT writes is not reproducible
(``target_modules`` is a set) and may hold the author's local paths, so ``adapter_config.json`` is written anew; of the
other files only tokenizer, card and licence are published, and never a pickle.
Source: PEFT's `LoraConfig` and `get_peft_model_state_dict` (https://huggingface.co/docs/peft).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from citrate.core.adapters import ADAPTER_MAX_BYTES, RANK_MAX
from citrate.core.canonical import Json
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.sink import Progress, Sink
from citrate.formats.adapter_config import CONFIG, published
from citrate.formats.companions import Companion, companion
from citrate.formats.configuration import number
from citrate.formats.documents import inside, names_in, pretty, read_object
from citrate.formats.safetensors_file import Tensor, read_header

WEIGHTS = "adapter_model.safetensors"
MLX_WEIGHTS = "adapters.safetensors"
_PICKLES = re.compile(r"adapter_model\.(bin|pt|pth)")
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(\.weight)?")
_MODULE = re.compile(r"[\w-]{1,64}(\.[\w-]{1,64}){0,31}", re.ASCII)
_EMBEDDINGS = (".embed_tokens.base_layer", "lm_head.base_layer")
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class LoraPair:
    """The two factors of one module's update; ``rank`` is their common dimension."""

    module: str
    """The module's path in the base model, such as ``model.layers.0.self_attn.q_proj``."""
    rank: int
    in_features: int
    out_features: int
    a: Tensor
    """The first factor, [rank, in]."""
    b: Tensor
    """The second factor, [out, rank]."""
    embedding: bool
    """Whether it is an update of an embedding, whose ``in`` is the vocabulary."""

    @property
    def tensor(self) -> str:
        """The name of a factor, to be told in errors."""
        return self.b.name if self.embedding else self.a.name

    @property
    def kind(self) -> str:
        """The last part of the module's path, such as ``q_proj``."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True)
class Adapter:
    """An adapter directory, opened and checked in itself."""

    root: Path
    rank: int
    alpha_thousandths: int
    pairs: tuple[LoraPair, ...]
    config: Mapping[str, Json]
    """As it is published."""
    companions: tuple[Companion, ...]
    left_out: tuple[str, ...]
    """Names in the directory that are not published."""

    @property
    def target_modules(self) -> tuple[str, ...]:
        """The kinds of modules that have an update, sorted."""
        return tuple(sorted({pair.kind for pair in self.pairs}))


def open_adapter(path: Path) -> Adapter:
    """Open a directory as PEFT's ``save_pretrained`` leaves it.

    Raises:
        NotFoundError: no such directory, or no adapter in it.
        FormatError: no LoRA, a pickle instead of safetensors, a file that is damaged, or weights that are not what the
            configuration says; also more than 500 MB.
    """
    if not path.is_dir():
        raise NotFoundError(f"no such directory: {path}", hint="an adapter is what PEFT's save_pretrained writes")
    _require_files(path)
    document = read_object(path, CONFIG)
    rank, alpha = _scale(document)
    tensors = read_header(inside(path, WEIGHTS))
    pairs = tuple(_pairs(tensors, document))
    _require_ranks(pairs, rank, document)
    named, left_out = beside(path)
    config = published(document, [pair.module for pair in pairs], _whole_modules(tensors))
    adapter = Adapter(path, rank, alpha, pairs, config, named, left_out)
    size = sum(_sizes(adapter).values())
    if size > ADAPTER_MAX_BYTES:
        raise FormatError(
            f"the adapter has {size:,} bytes, and the registry takes {ADAPTER_MAX_BYTES:,}",
            hint="save it in bfloat16, or with a lower rank",
        )
    return adapter


def texts(adapter: Adapter) -> Mapping[str, bytes]:
    """What is published beside the weights, by name.

    Raises:
        FormatError: a file cannot be read, is too large, or is JSON that is none.
    """
    return {CONFIG: pretty(adapter.config)} | {each.name: each.read() for each in adapter.companions}


def write(adapter: Adapter, sink: Sink, progress: Progress) -> None:
    """Write what is published of an adapter, in byte order of the names.

    Raises:
        FormatError: a file cannot be read, or changed meanwhile.
        StoreError: the sink cannot take it.
    """
    small = texts(adapter)
    total, done = sum(_sizes(adapter).values()), 0
    for name in sorted([*small, WEIGHTS], key=str.encode):
        if name != WEIGHTS:
            file = sink.open(name, len(small[name]))
            file.write(small[name])
            file.close()
            done += len(small[name])
        else:
            for length in _copy(inside(adapter.root, WEIGHTS), sink):
                done += length
                progress("adapter", done, total)
    progress("adapter", total, total)


def _copy(path: Path, sink: Sink) -> Iterator[int]:
    try:
        with path.open("rb") as source:
            file = sink.open(WEIGHTS, path.stat().st_size)
            while piece := source.read(_PIECE_BYTES):
                file.write(piece)
                yield len(piece)
            file.close()
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error


def _require_files(path: Path) -> None:
    names = set(names_in(path))
    if CONFIG not in names:
        raise NotFoundError(f"{path} holds no {CONFIG}", hint="an adapter is what PEFT's save_pretrained writes")
    if WEIGHTS not in names:
        pickles = sorted(name for name in names if _PICKLES.fullmatch(name))
        if pickles:
            raise FormatError(
                f"{pickles[0]} is a pickle, which can run code when it is loaded",
                hint="save the adapter again: model.save_pretrained(DIR, safe_serialization=True)",
            )
        if MLX_WEIGHTS in names:
            raise NotFoundError(f"{path} is an adapter of mlx-lm", hint=f"citrate convert {path} --to safetensors")
        raise NotFoundError(f"{path} holds no {WEIGHTS}", hint="an adapter is what PEFT's save_pretrained writes")


def _scale(document: Mapping[str, Json]) -> tuple[int, int]:
    """Rank, and alpha in thousandths."""
    if document.get("peft_type") != "LORA":
        raise FormatError(
            f"{CONFIG}: {document.get('peft_type')!r:.40} is no LoRA", hint="only LoRA adapters are taken"
        )
    rank = document.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= RANK_MAX:
        raise FormatError(
            f"{CONFIG}: the rank r = {rank!r:.40} is not 1 to {RANK_MAX}",
            hint="r is the rank that the adapter was trained with; train it with one that the registry takes",
        )
    alpha = Decimal(repr(number(document, "lora_alpha"))) * 1000  # as it is spelled: 1.005 * 1000.0 is below 1005
    if alpha < 1 or alpha != int(alpha) or alpha >= 1 << 32:
        raise FormatError(
            f"{CONFIG}: lora_alpha = {document.get('lora_alpha')!r:.40} cannot stand on chain",
            hint="it is above 0 and has at most three decimals",
        )
    return rank, int(alpha)


def _pairs(tensors: tuple[Tensor, ...], document: Mapping[str, Json]) -> Iterator[LoraPair]:
    """The updates, sorted by module; every tensor belongs to one or is a whole one that the configuration names."""
    sides: dict[str, dict[str, Tensor]] = {}
    embeddings: set[str] = set()
    for tensor in tensors:
        found = _PAIR.fullmatch(tensor.name)
        if found:
            sides.setdefault(_module(found), {})[found["side"]] = tensor
            if found["embedding"]:
                embeddings.add(_module(found))
        elif not _MAGNITUDE.fullmatch(tensor.name) and not _is_whole(tensor.name, document):
            raise FormatError(f"{WEIGHTS}: the tensor {tensor.name!r} is no part of a LoRA")
    if not sides:
        raise FormatError(f"{WEIGHTS} holds no LoRA")
    for module in sorted(sides):
        yield _pair(module, sides[module], module in embeddings)


def _module(found: re.Match[str]) -> str:
    module = found["module"].removeprefix(_PREFIX)
    if not _MODULE.fullmatch(module):
        raise FormatError(f"{WEIGHTS}: {module[:80]!r} is no module's path", hint="save the adapter again with PEFT")
    return module


def _whole_modules(tensors: tuple[Tensor, ...]) -> list[str]:
    """The modules of which there are tensors that are no part of an update."""
    names = [t.name for t in tensors if not _PAIR.fullmatch(t.name) and not _MAGNITUDE.fullmatch(t.name)]
    return [name.removeprefix(_PREFIX).rpartition(".")[0] for name in names]


def _pair(module: str, sides: Mapping[str, Tensor], embedding: bool) -> LoraPair:
    if len(sides) != 2:
        raise FormatError(f"{WEIGHTS}: {module} has one factor of its LoRA only")
    a, b = sides["A"], sides["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise FormatError(f"{WEIGHTS}: the factors of {module} have the shapes {a.shape} and {b.shape}: no LoRA")
    # an embedding looks up rows of the vocabulary: its first factor is [rank, vocabulary], like any [rank, in]
    return LoraPair(module, a.shape[0], a.shape[1], b.shape[0], a, b, embedding)


def _is_whole(name: str, document: Mapping[str, Json]) -> bool:
    """Whether a tensor is one that the adapter brings as a whole: of ``modules_to_save``, a trained bias, or the
    embedding below an update of it, which PEFT saves too."""
    module, _, kind = name.removeprefix(_PREFIX).rpartition(".")
    if kind == "bias" and document.get("bias") in ("all", "lora_only"):
        return True
    if kind == "weight" and module.endswith(_EMBEDDINGS):
        return True
    saved = document.get("modules_to_save")
    return isinstance(saved, list) and any(part in saved for part in module.split("."))


def _require_ranks(pairs: tuple[LoraPair, ...], rank: int, document: Mapping[str, Json]) -> None:
    patterns = document.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise FormatError(f"{CONFIG}: rank_pattern is no object")
    for pair in pairs:
        named = [value for key, value in patterns.items() if pair.module == key or pair.module.endswith(f".{key}")]
        wanted = named[0] if named else rank
        if pair.rank != wanted:
            raise FormatError(
                f"{WEIGHTS}: {pair.tensor} has rank {pair.rank}, {CONFIG} says {wanted!r:.20}",
                hint="both files are of one save_pretrained: save the adapter again with PEFT",
            )


def beside(path: Path) -> tuple[tuple[Companion, ...], tuple[str, ...]]:
    """The files that are published beside an adapter's weights, and the names of those that are not."""
    named: list[Companion] = []
    left_out: list[str] = []
    for name in names_in(path):
        if name in (CONFIG, WEIGHTS, MLX_WEIGHTS):
            continue
        found = companion(path, name)
        if found is None:
            left_out.append(name)
        else:
            named.append(found)
    return tuple(named), tuple(left_out)


def _sizes(adapter: Adapter) -> Mapping[str, int]:
    sizes = {each.name: each.path.stat().st_size for each in adapter.companions}
    return sizes | {CONFIG: len(pretty(adapter.config)), WEIGHTS: inside(adapter.root, WEIGHTS).stat().st_size}
