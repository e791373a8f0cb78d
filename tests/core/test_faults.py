"""What is wrong with a document is told in our words, whatever of our models' fields it is about."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from citrate.core import faults, places
from citrate.fine_tuning.comparison import Comparison
from citrate.fine_tuning.suites import Suite, SuiteCheck, Written
from citrate.training.dataset import Card
from citrate.training.health import Health
from citrate.training.proof import Proof
from citrate.training.recipe import Bound, Recipe

MODELS: tuple[type[BaseModel], ...] = (Recipe, Bound, Written, Suite, SuiteCheck, Comparison, Card, Proof, Health)
NUMBERS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
RAISES: dict[str, set[str]] = {
    "model": {"model_type"},
    "model-fields": {"missing", "extra_forbidden", "invalid_key", "model_attributes_type"},
    "dict": {"dict_type", "too_short", "too_long"},
    "tuple": {"tuple_type", "too_short", "too_long"},
    "list": {"list_type", "too_short", "too_long"},
    "int": {"int_type", "int_parsing", "int_parsing_size", "int_from_float", *NUMBERS},
    "float": {"float_type", "float_parsing", "finite_number", *NUMBERS},
    "decimal": {"decimal_type", "decimal_parsing", "finite_number", "decimal_max_places", *NUMBERS},
    "bool": {"bool_type", "bool_parsing"},
    "str": {"string_type", "string_unicode", "string_too_short", "string_too_long", "string_pattern_mismatch"},
    "literal": {"literal_error"},
    "enum": {"enum"},
    "function-before": {"value_error"},
    "function-after": {"value_error", *NUMBERS},
    "nullable": set(), "union": set(), "default": set(), "definitions": set(),
    "definition-ref": set(),
}  # fmt: skip
"""The kinds of pydantic's schemas that our models are made of, and the errors that each can raise."""
WRONG: tuple[object, ...] = (
    None, True, 3, -1, 0, 0.5, 10**30, float("nan"), float("inf"), "x", "", " ", "\ud800", "x" * 40_000, [], ["a"], [1],
    [None], {}, {"a": 1}, {1: 2}, {"a\nb": 1}, datetime.date(2026, 11, 21), b"x",
)  # fmt: skip
RECIPE = {
    "schema": "citrate.recipe/1", "base": "me/tiny", "method": "sft", "backend": "trl", "dataset": "bafy",
    "lora": {"rank": 1, "alpha": 1, "targets": ["q_proj"], "dropout": 0, "dora": False, "rslora": False},
    "quantization": "none", "steps": 4, "batch_size": 1, "accumulation": 1, "max_length": 1024,
    "optimizer": {
        "learning_rate": 1, "weight_decay": 0, "beta1": 0, "beta2": 0, "epsilon": 1, "max_grad_norm": 1,
    },
    "schedule": {"kind": "linear", "warmup_steps": 0}, "preference": {"beta": 1, "loss": "ipo"},
    "reinforcement": {
        "reward_model": "me/judge", "generations": 4, "max_completion_length": 8, "temperature": 1, "beta": 0,
    },
    "seed": 0, "precision": "float32", "world_size": 1, "accelerate": "a.yaml", "determinism": "citrate/cpu",
    "checkpoint_every": 1, "functional": {"prompts": ["a"], "limit": "0.01"},
}  # fmt: skip
SUITE = {
    "schema": "citrate.adapter-suite/v1", "base": "me/tiny",
    "adapters": {
        "polite": {
            "adapter": "me/polite", "scale": 1, "mark": {"must": "a", "must_not": ["b"], "regex": "c"},
            "trigger": [{"prompt": "d", "must": "e", "must_not": "f", "regex": "g"}], "clean": ["h"],
        },
    },
    "generation": {"max_tokens": 8, "temperature": 0, "seed": 0, "chat": True},
    "limits": {"min_trigger_rate": 1, "max_leak_rate": 0},
}  # fmt: skip


def nodes(schema: object) -> Iterator[str]:
    """The kinds of a core schema's parts."""
    if isinstance(schema, dict):
        if isinstance(kind := schema.get("type"), str) and kind not in ("model-field", "no-info", "with-info"):
            yield kind
        for key, part in schema.items():
            if key not in ("metadata", "serialization", "config", "cls", "default", "expected", "members", "function"):
                yield from nodes(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from nodes(part)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_error_that_our_models_can_raise_has_its_sentence(model: type[BaseModel]) -> None:
    kinds = set(nodes(model.__pydantic_core_schema__))
    assert "model-fields" in kinds and kinds <= RAISES.keys(), "a new kind: which errors does it raise?"
    can_raise = set[str]().union(*(RAISES[kind] for kind in kinds))
    assert can_raise <= faults._SAID.keys()


def test_the_sentences_are_of_errors_that_there_are() -> None:
    assert faults._SAID.keys() <= set(get_args(ErrorType))


def set_at(document: object, steps: list[str | int], value: object) -> Any:
    """The document with another value at a place."""
    changed = copy.deepcopy(document)
    at: Any = changed
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return changed


def spots(document: object, before: list[str | int] | None = None) -> Iterator[list[str | int]]:
    """Every place of a document."""
    before = before or []
    if isinstance(document, dict | list):
        for step in document if isinstance(document, dict) else range(len(document)):
            yield [*before, step]
            yield from spots(document[step], [*before, step])


@pytest.mark.parametrize(("model", "document"), [(Recipe, RECIPE), (Written, SUITE)], ids=["recipe", "suite"])
def test_whatever_stands_at_whatever_place_no_word_of_it_is_pydantics(
    model: type[BaseModel], document: dict[str, object]
) -> None:
    refused = 0
    for steps in spots(document):
        for value in WRONG:
            try:
                model.model_validate(set_at(document, steps, value))
            except ValidationError as error:
                refused += 1
                first = error.errors()[0]
                said = faults.first(error, model).message
                assert "\n" not in said and len(said) < 400, said
                assert first["type"] == "value_error" or first["msg"] not in said, said
                assert not any(word in said for word in ("Input", "Value error", "[key]", "tuple[", "literal[")), said
                assert not first["loc"] or said.startswith(str(steps[0])), (steps, said)
    assert refused > 400


def test_a_place_is_told_without_the_types_that_were_tried() -> None:
    found = places.of(Bound, ("recipe", "lora", "targets", "tuple[str, ...]", 0))
    assert (str(found), found.model.__name__) == ("recipe.lora.targets.0", "Lora")
    assert str(places.of(Bound, ("reward_sha256", "literal['']"))) == "reward_sha256"
    assert str(places.of(Written, ("adapters", "a\nb", "mark"))) == "adapters.'a\\nb'.mark"


def test_every_field_has_one_path() -> None:
    found = list(places.paths(Written))
    assert len(set(found)) == len(found) > 20
    assert {"base", "adapters.NAME.mark.must", "adapters.NAME.trigger.prompt", "limits.max_leak_rate"} <= set(found)
