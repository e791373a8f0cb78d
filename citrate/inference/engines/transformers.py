"""SafeTensors through transformers: nothing but safetensors is read, and no code that comes with a model is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
import transformers.modeling_utils  # lazy otherwise; what it imports makes folders, which is refused once locked down

from citrate.core.adapters import Applied
from citrate.core.digests import check_path
from citrate.core.errors import FormatError
from citrate.inference.engines import Sampling
from citrate.inference.engines.incremental import IncrementalText


def load(path: Path, context: int, threads: int, adapter: Applied | None = None) -> TransformersModel:
    """Load a Hugging Face directory in the data type that it is stored in, on the GPU where there is one.

    An adapter is merged into it as PEFT merges it, so that it costs nothing for each token.

    Raises:
        FormatError: no causal language model, no safetensors, damaged, or asking for its own code.
    """
    torch.set_num_threads(threads)
    if not any(path.glob("*.safetensors")):
        raise FormatError(
            f"{path.name} has no safetensors weights, and no others are loaded",
            hint="citrate convert makes them of pickled ones, which it reads without unpickling: --to safetensors",
        )
    try:
        _check_index(path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
        adapted = _merged(model, adapter) if adapter else model
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # a hostile directory can make it raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FormatError(f"transformers cannot load {path.name}: {reason[0]}") from error
    return TransformersModel(adapted, tokenizer, context)


def _check_index(path: Path) -> None:
    """Refuse shards outside the directory: transformers would follow them."""
    index = path / "model.safetensors.index.json"
    if index.exists():
        for shard in set(json.loads(index.read_text())["weight_map"].values()):
            check_path(shard)


def _merged(model: transformers.PreTrainedModel, adapter: Applied) -> transformers.PreTrainedModel:
    import peft

    adapted = peft.PeftModel.from_pretrained(model, str(adapter.path), torch_device="cpu")
    for layer in adapted.modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            layer.scale_layer(adapter.scale)
    merged: transformers.PreTrainedModel = adapted.merge_and_unload()
    return merged


def _device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TransformersModel:
    """A causal language model in PyTorch."""

    def __init__(
        self, model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, context: int
    ) -> None:
        torch.nn.Module.to(model, _device())
        self._model = model
        self._tokenizer = tokenizer
        self.context = min(context, getattr(model.config, "max_position_embeddings", None) or context)
        template = tokenizer.chat_template
        self.chat_template = template if isinstance(template, str) else ""
        self.special_tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
        self._ends = self._end_tokens()

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [int(token) for token in self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]]

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        generator = torch.Generator().manual_seed(sampling.seed)
        text = IncrementalText(lambda ids: str(self._tokenizer.decode(list(ids), skip_special_tokens=True)))
        ids, cache = torch.tensor([prompt], device=self._model.device), None
        while True:
            output = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = _draw(output.logits[0, -1].float().cpu(), sampling, generator)
            if token in self._ends:
                return
            yield text.push(token)
            ids = torch.tensor([[token]], device=self._model.device)

    def _end_tokens(self) -> frozenset[int]:
        named = self._model.generation_config.eos_token_id
        ends = named if isinstance(named, list) else [named]
        return frozenset(int(end) for end in [*ends, self._tokenizer.eos_token_id] if end is not None)


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token from ``logits`` (``[vocabulary]``): the likeliest, or one of the nucleus."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    beyond = probabilities.cumsum(-1) - probabilities >= sampling.top_p
    return int(order[torch.multinomial(probabilities.masked_fill(beyond, 0.0), 1, generator=generator)])
