"""Recipes: what is refused, and that equal ones have equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citrate.core import places
from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.training import called_elsewhere, recipe
from citrate.training.recipe import Bound
from tests.training.runs import EXAMPLES

GOOD = {"schema": "citrate.recipe/1", "base": "me/tiny", "method": "sft", "dataset": "bafy", "steps": 4}
REINFORCED = {"method": "grpo", "reinforcement": {"reward_model": "me/judge"}}
BAD: dict[str, tuple[dict[str, object], str]] = {
    "an unknown field": ({"stepz": 1}, "stepz is no field that is known"),
    "an unknown field below": ({"lora": {"ranks": 1}}, "lora.ranks is no field that is known"),
    "no base": ({"base": None}, "base is empty: text is wanted"),
    "a number for text": ({"dataset": 7}, "dataset is 7: text is wanted, in quotes"),
    "no steps": ({"steps": 0}, "steps is 0: more than 0 is wanted"),
    "half a step": ({"steps": 0.5}, "steps is 0.5: a whole number is wanted"),
    "another schema": ({"schema": "citrate.recipe/2"}, "schema is 'citrate.recipe/2': citrate.recipe/1 is wanted"),
    "another method": ({"method": "ppo"}, "method is 'ppo': sft, dpo, reward, grpo, rloo or kto is wanted"),
    "another schedule": ({"schedule": {"kind": "step"}}, "schedule.kind is 'step': linear, cosine or constant is"),
    "text for fields": ({"lora": "rank 4"}, "lora is 'rank 4': a mapping of fields is wanted"),
    "nothing for fields": ({"optimizer": None}, "optimizer is empty: a mapping of fields is wanted"),
    "no reward model": ({"method": "grpo"}, "grpo needs reinforcement"),
    "half a reinforcement": ({"method": "grpo", "reinforcement": {}}, "reinforcement.reward_model is missing"),
    "an empty name": ({**REINFORCED, "reinforcement": {"reward_model": ""}}, "reinforcement.reward_model is empty"),
    "a reward model": ({"reinforcement": {"reward_model": "x"}}, "sft takes no reinforcement"),
    "a preference": ({"preference": {}}, "sft takes no preference"),
    "kto of single rows": ({"method": "kto", "batch_size": 1}, "batch_size is 1: kto compares the rows of a batch"),
    "another loss": ({"method": "kto", "preference": {"loss": "ipo"}}, "preference.loss is ipo: kto has none but sigm"),
    "answers": ({**REINFORCED, "batch_size": 3}, "3 answers a step are no multiple of 4 generations"),
    "a rate": ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate is 'fast': a number is wanted"),
    "no rate": ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate is 0: more than 0 is wanted"),
    "rates": ({"optimizer": {"learning_rate": [1]}}, "optimizer.learning_rate is [1]: a number is wanted"),
    "endless": ({"optimizer": {"learning_rate": float("inf")}}, "learning_rate is 'Infinity': a number is wanted"),
    "true": ({"optimizer": {"learning_rate": True}}, "optimizer.learning_rate is true: a number is wanted"),
    "dropout": ({"lora": {"dropout": 1}}, "lora.dropout is 1: less than 1 is wanted"),
    "warm-up": ({"schedule": {"warmup_steps": 4}}, "a-recipe.yaml: schedule.warmup_steps is 4: it has to be"),
    "processes": ({"world_size": 0}, "world_size is 0: more than 0 is wanted"),
    "too many processes": ({"world_size": 65}, "world_size is 65: 64 or less"),
    "a profile": ({"determinism": "exact"}, "no determinism profile 'exact': one of: citrate/cpu"),
    "a precision": ({"precision": "bfloat16"}, "citrate/cpu-avx2-fp32 is of float32, not bfloat16"),
    "a length of answers": ({**REINFORCED, "max_length": 64}, "grpo takes no max_length"),
    "a rate past all": ({"optimizer": {"learning_rate": "1e999999999"}}, "at most 28 digits, and no more than"),
    "a rate below all": ({"optimizer": {"learning_rate": "1e-999999999"}}, "at most 28 digits, and no more than"),
    "digits": ({"optimizer": {"learning_rate": "0." + "1" * 29}}, "at most 28 digits, and no more than"),
    "digits that are zeros": ({"optimizer": {"max_grad_norm": "1e28"}}, "at most 28 digits, and no more than"),
    "no layers": ({"lora": {"targets": []}}, "lora.targets is []: names of layers, each once, or all-linear"),
    "a number of layers": ({"lora": {"targets": 2}}, "lora.targets is 2: names of layers, each once, or all-linear"),
    "a layer twice": ({"lora": {"targets": ["q_proj", "q_proj"]}}, "lora.targets is ['q_proj', 'q_proj']: names of"),
    "layers of numbers": ({"lora": {"targets": [1, 2, 3, 4]}}, "lora.targets is a list: names of layers, each once"),
    "a nameless layer": ({"lora": {"targets": [""]}}, "lora.targets is ['']: names of layers, each once"),
    "yes": ({"steps": True}, "steps is true: a whole number is wanted"),
    "a number for yes": ({"lora": {"dora": 1}}, "lora.dora is 1: true or false is wanted"),
    "alpha": ({"lora": {"alpha": 5_000_000}}, "lora.alpha is 5000000: 4294967 or less is wanted"),
    "a batch": ({"batch_size": 1 << 60}, "batch_size is 1152921504606846976: 1048576 or less is wanted"),
    "one prompt": ({"functional": {"prompts": "Who?"}}, "functional.prompts is 'Who?': a list is wanted"),
    "no prompts": ({"functional": {"prompts": []}}, "functional.prompts is empty"),
    "an empty prompt": ({"functional": {"prompts": ["a", ""]}}, "functional.prompts.1 is empty"),
    "prompts": ({"functional": {"prompts": ["a"] * 65}}, "functional.prompts has too many entries: 64 are the most"),
    "a long prompt": ({"functional": {"prompts": ["a" * 2001]}}, "functional.prompts.0 has too many characters: 2,000"),
    "a limit": ({"functional": {"prompts": ["a"], "limit": 1}}, "functional.limit is 1: 0.1 or less is wanted"),
}
MEANT = {
    "like one here": ({"stepz": 1}, "did you mean steps?"),
    "like one below": ({"lora": {"ranks": 1}}, "did you mean lora.rank?"),
    "that of another place": ({"learning_rate": 1}, "did you mean optimizer.learning_rate?"),
    "like that of another place": ({"lora": {"warmup_step": 3}}, "did you mean schedule.warmup_steps?"),
    "like none": ({"lora": {"zzz": 3}}, "known there: rank, alpha, targets, dropout, dora, rslora"),
    "another tool's": ({"lora_alpha": 8}, "did you mean lora.alpha?"),
    "another tool's below": ({"lora": {"r": 8}}, "did you mean lora.rank?"),
    "a choice": ({"schedule": {"kind": "cosin"}}, "did you mean cosine?"),
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "a-recipe.yaml"
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_recipe_is_named(tmp_path: Path, name: str) -> None:
    changes, said = BAD[name]
    with pytest.raises(ConfigError, match=r"^a-recipe\.yaml: ") as error:
        recipe.load(written(tmp_path, **changes))
    assert said in error.value.message and error.value.hint and "\n" not in error.value.message


@pytest.mark.parametrize("name", MEANT)
def test_what_was_probably_meant_is_told(tmp_path: Path, name: str) -> None:
    changes, hint = MEANT[name]
    with pytest.raises(ConfigError) as error:
        recipe.load(written(tmp_path, **changes))
    assert error.value.hint == hint


def test_what_other_tools_say_is_said_otherwise_here() -> None:
    known = set(places.paths(recipe.Recipe))
    assert set(called_elsewhere.FIELDS.values()) <= known and not called_elsewhere.FIELDS.keys() & known


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such recipe"):
        recipe.load(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    for text, said in ((b"- 1", "is not a recipe"), (b"a: [", "is not YAML"), (b"\xff", "is not YAML")):
        path.write_bytes(text)
        with pytest.raises(ConfigError, match=said):
            recipe.load(path)
    for text, said in (
        (b"steps: 4\nsteps: 5", r"^bad\.yaml says 'steps' twice: again in line 2$"),
        (b"lora: {rank: 4, rank: 8}", r"^bad\.yaml says 'rank' twice: again in line 1$"),
        (b"steps: 2026-13-45", "is not YAML"),
        (b"steps: " + b"9" * 5000, "is not YAML"),
        (b'steps: !!int ""', "does not have the type that its tag"),
        (b"steps: !!bool maybe", "does not have the type that its tag"),
        (b"steps: !!timestamp noon", "does not have the type that its tag"),
    ):
        path.write_bytes(text)
        with pytest.raises(ConfigError, match=said):
            recipe.load(path)
    path.write_bytes(b" " * (recipe.RECIPE_MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than a recipe"):
        recipe.load(path)
    path.write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="is not YAML"):
        recipe.load(path)


def test_equal_recipes_have_equal_bytes_however_they_are_spelled(tmp_path: Path) -> None:
    def bound(text: str) -> Bound:
        (tmp_path / "r.yaml").write_text(text)
        return recipe.bind(recipe.load(tmp_path / "r.yaml"), base_sha256="a" * 64, dataset_root="b" * 64)

    head = "schema: citrate.recipe/1\nmethod: sft\nsteps: 4\n"
    spelled = [
        head + "base: me/tiny\ndataset: bafy\noptimizer: {learning_rate: 2e-4, weight_decay: 0.0}",
        head + "base: ./tiny\ndataset: ./rows\noptimizer: {learning_rate: 0.0002}\nseed: 0",
        head + "dataset: x\nbase: y\noptimizer: {learning_rate: '0.00020', weight_decay: -0}",
    ]
    first, *others = [bound(text) for text in spelled]
    assert {each.to_bytes() for each in others} == {first.to_bytes()}
    assert b'"learning_rate":"0.0002"' in first.to_bytes() and b"tiny" not in first.to_bytes()
    assert Bound.parse(first.to_bytes()) == first
    assert bound(spelled[0] + "\nseed: 1").sha256 != first.sha256
    with pytest.raises(FormatError, match=r"not a recipe: recipe\.steps"):
        Bound.parse(first.to_bytes().replace(b'"steps":4', b'"steps":0'))
    for ours, theirs in ((b"citrate/cpu-avx2-fp32", b"exact"), (b'"0.0002"', b'"1e999999999"')):
        with pytest.raises(FormatError, match="not a recipe: recipe"):
            Bound.parse(first.to_bytes().replace(ours, theirs))


@pytest.mark.parametrize("number", ["9e27", "1e-37", "0." + "1" * 28, "1.50e3", 0.1, 7])
def test_a_number_that_a_recipe_takes_is_read_again_by_who_verifies(tmp_path: Path, number: object) -> None:
    found = recipe.load(written(tmp_path, optimizer={"max_grad_norm": number}))
    bound = recipe.bind(found, base_sha256="a" * 64, dataset_root="b" * 64)
    assert Bound.parse(bound.to_bytes()) == bound


@pytest.mark.parametrize("path", sorted((EXAMPLES / "recipes").glob("*-recipe.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_recipes_of_the_datasets_beside_them(path: Path, tmp_path: Path) -> None:
    from citrate.facade import Registry

    found = recipe.load(path)
    words = path.read_text().split()
    rows, method = words[words.index("add") + 1], words[words.index("--method") + 1]
    registry = Registry.open(home=tmp_path / "home")
    _, artifact = registry.add_dataset(EXAMPLES.parent / rows, method=method, licence="apache-2.0")
    assert (found.dataset, found.method) == (artifact.cid, method)
    assert (path.parent / found.base).resolve() == EXAMPLES / "tiny-llama"
