"""What PEFT, TRL and transformers call what a recipe calls otherwise, for who writes a recipe with theirs in mind."""

from __future__ import annotations

from collections.abc import Mapping

FIELDS: Mapping[str, str] = {
    "model": "base",
    "model_name_or_path": "base",
    "dataset_name": "dataset",
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "max_seq_length": "max_length",
    "r": "lora.rank",
    "lora_r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "target_modules": "lora.targets",
    "lora_target_modules": "lora.targets",
    "use_dora": "lora.dora",
    "use_rslora": "lora.rslora",
    "load_in_4bit": "quantization",
    "lr": "optimizer.learning_rate",
    "adam_beta1": "optimizer.beta1",
    "adam_beta2": "optimizer.beta2",
    "adam_epsilon": "optimizer.epsilon",
    "lr_scheduler_type": "schedule.kind",
    "loss_type": "preference.loss",
    "num_generations": "reinforcement.generations",
    "save_steps": "checkpoint_every",
    "dtype": "precision",
    "torch_dtype": "precision",
    "num_processes": "world_size",
}
"""Their name -> the path of ours. ``num_train_epochs`` is none of them: a recipe counts steps."""
