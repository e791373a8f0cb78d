"""Reward models: a reward run's adapter merged into its base, and what ``grpo`` and ``rloo`` take as one.

Such a folder is a sequence classifier with one label, as transformers knows it: the base without its language head, the
trained ``score`` in its place.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import AlreadyExistsError, FormatError, TrainingError
from citrate.formats.companions import companions
from citrate.formats.documents import pretty, read_object
from citrate.training import durable, failures

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HINT = "train one (method: reward) and have it merged: citrate train RECIPE --merged"
_LESS = "precision: bfloat16 holds it in half, or a smaller one"
_CLASS = "ForSequenceClassification"


def merge(base: Path, adapter: Path, out: Path, precision: str) -> None:
    """Merge a reward run's adapter into its base: the whole folder, or nothing.

    Args:
        base: what it was trained on.
        adapter: what came out: a LoRA and the trained ``score``.
        out: a folder that does not exist.
        precision: ``float32`` or ``bfloat16``: that in which it was trained, so that nothing is rounded.

    Raises:
        AlreadyExistsError: ``out`` exists.
        TrainingError: the two do not fit.
    """
    from peft import PeftModel

    if out.exists():
        raise AlreadyExistsError(f"{out} exists", hint="it is not written over: move it away")
    staging = out.with_name(f".{out.name}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with failures.telling("the adapter cannot be merged", memory="the reward model", less=_LESS):
            merged = PeftModel.from_pretrained(_classifier(base, precision), str(adapter)).merge_and_unload()
            merged.save_pretrained(staging)
            _clean(base, staging)
            durable.sync_tree(staging)
            staging.rename(out)
            durable.sync(out.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load(folder: Path, precision: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A reward model and its tokenizer.

    Raises:
        TrainingError: it is none; a model without a trained ``score`` would score at random.
    """
    from transformers import AutoTokenizer

    what = "the reward model cannot be loaded"
    try:
        with failures.telling(what, memory="the reward model", less=_LESS, hint=_HINT):
            names = read_object(folder, "config.json").get("architectures")
            if not isinstance(names, list) or not names or not str(names[0]).endswith(_CLASS):
                raise TrainingError("the reward model is no sequence classifier", hint=_HINT)
            return _classifier(folder, precision, whole=True), AutoTokenizer.from_pretrained(folder)
    except FormatError as error:
        raise TrainingError(f"{what}: {error.message}", hint=_HINT) from error


def _classifier(folder: Path, precision: str, *, whole: bool = False) -> PreTrainedModel:
    """``whole``: refuse weights that are not in the files and would be drawn at random."""
    from transformers import AutoModelForSequenceClassification

    model, told = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=precision, attn_implementation="sdpa", trust_remote_code=False,
        use_safetensors=True, output_loading_info=True,
    )  # fmt: skip
    if whole and (told["missing_keys"] or told["mismatched_keys"]):
        missing = sorted(map(str, {*told["missing_keys"], *told["mismatched_keys"]}))
        raise TrainingError(f"the reward model has no {', '.join(missing[:3])}, or not one score", hint=_HINT)
    model.eval()
    found: PreTrainedModel = model
    return found


def _clean(base: Path, out: Path) -> None:
    """The base's tokenizer and texts beside the weights as they are; nothing of this machine in the configuration."""
    for each in companions(base)[0]:
        if each.name not in ("generation_config.json", "README.md"):  # a card tells of another model
            (out / each.name).write_bytes(each.read())
    document = {key: value for key, value in read_object(out, "config.json").items() if key != "_name_or_path"}
    (out / "config.json").write_bytes(pretty(document))
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which an IPFS node under another user cannot read
