"""From a bound recipe to TRL's trainer for it, on this machine's files.

Only this module, ``committing`` and ``reward_model`` know TRL, PEFT and transformers. Nothing here decides anything:
every value comes from the recipe, and what TRL would choose by itself is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.training import dataset, determinism, failures, reward_model
from citrate.training.recipe import Recipe
from citrate.training.rows import Method
from citrate.training.stepping import Inputs

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import Trainer, TrainingArguments


_TRL = {
    Method.SFT: "SFT",
    Method.DPO: "DPO",
    Method.REWARD: "Reward",
    Method.GRPO: "GRPO",
    Method.RLOO: "RLOO",
    Method.KTO: "KTO",
}


def build(recipe: Recipe, inputs: Inputs, work: Path, kind: type[Trainer]) -> Trainer:
    """The trainer for a recipe.

    Args:
        recipe: what to do.
        inputs: with what.
        work: an empty folder that the trainer may write to.
        kind: TRL's trainer for the method, or a subclass of it.

    Raises:
        TrainingError: the base cannot be loaded, or cannot be trained so, or there is not enough memory for it.
    """
    import datasets  # type: ignore[import-untyped]  # it ships no types
    from transformers import AutoTokenizer, set_seed

    with failures.telling(
        f"{recipe.method} cannot begin on this base", memory="the base and the rows", less=failures.LESS_TO_LOAD,
        hint="citrate inspect tells what the base is",
    ):  # fmt: skip
        rows = datasets.Dataset.from_list([row for _, row in dataset.rows(inputs.dataset)])
        set_seed(recipe.seed)
        given: dict[str, Any] = {"model": str(inputs.base), "peft_config": lora_config(recipe)}
        if inputs.reward is not None:  # loaded by us: TRL would quantise it with the base, and draw a missing score
            judge = reward_model.load(inputs.reward, recipe.precision)
            given["reward_funcs"], given["reward_processing_classes"] = judge
        tokenizer = AutoTokenizer.from_pretrained(inputs.base)
        return kind(args=arguments(recipe, work), train_dataset=rows, processing_class=tokenizer, **given)


def trainer_of(method: Method) -> type[Trainer]:
    """TRL's trainer for a method."""
    import trl

    found: type[Trainer] = getattr(trl, f"{_TRL[method]}Trainer")  # trl loads its names when they are asked for
    return found


def lora_config(recipe: Recipe) -> LoraConfig:
    """The adapter that is trained."""
    from peft import LoraConfig

    lora, reward = recipe.lora, recipe.method == Method.REWARD
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        use_dora=lora.dora,
        use_rslora=lora.rslora,
        bias="none",
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
        modules_to_save=["score"] if reward else None,
    )


def arguments(recipe: Recipe, work: Path) -> TrainingArguments:
    """TRL's arguments for a recipe."""
    import trl

    found: TrainingArguments = getattr(trl, f"{_TRL[recipe.method]}Config")(**_common(recipe, work), **_own(recipe))
    return found


def _common(recipe: Recipe, work: Path) -> dict[str, Any]:
    optimizer, profile = recipe.optimizer, determinism.profile(recipe.determinism)
    return {
        "output_dir": str(work),
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "optim": "adamw_torch",
        "learning_rate": float(optimizer.learning_rate),
        "weight_decay": float(optimizer.weight_decay),
        "adam_beta1": float(optimizer.beta1),
        "adam_beta2": float(optimizer.beta2),
        "adam_epsilon": float(optimizer.epsilon),
        "max_grad_norm": float(optimizer.max_grad_norm),
        "lr_scheduler_type": _schedule(recipe),
        "warmup_steps": recipe.schedule.warmup_steps,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "full_determinism": profile.exact,
        "use_cpu": profile.device == "cpu",
        "bf16": recipe.precision == "bfloat16",
        "activation_checkpointing": False,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is no number must be seen
        "save_strategy": "no",  # our own checkpoints hold no pickles
        "report_to": "none",
        "disable_tqdm": True,
        "model_init_kwargs": _model(recipe),
    }


def _schedule(recipe: Recipe) -> str:
    """The schedule's name in transformers, whose plain ``constant`` knows no warm-up."""
    kind = recipe.schedule.kind
    return "constant_with_warmup" if kind == "constant" and recipe.schedule.warmup_steps else kind


def _model(recipe: Recipe) -> dict[str, Any]:
    given: dict[str, Any] = {"dtype": recipe.precision, "attn_implementation": "sdpa", "trust_remote_code": False}
    if recipe.quantization == "nf4":
        from transformers import BitsAndBytesConfig

        given["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # transformers types it not
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=recipe.precision,
            bnb_4bit_use_double_quant=True,
        )
    return given


def _own(recipe: Recipe) -> dict[str, Any]:
    if recipe.reinforcement is not None:
        options = recipe.reinforcement
        return {
            "num_generations": options.generations,
            "max_completion_length": options.max_completion_length,
            "temperature": float(options.temperature),
            "beta": float(options.beta),
        }
    given: dict[str, Any] = {"max_length": recipe.max_length}
    if recipe.method in (Method.DPO, Method.KTO) and recipe.preference is not None:
        given["beta"] = float(recipe.preference.beta)
        if recipe.method == Method.DPO:
            given["loss_type"] = [recipe.preference.loss]
    return given
