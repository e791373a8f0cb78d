"""Recipes: what is refused, and that equal ones have equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.training import recipe
from citrate.training.recipe import Bound
from tests.training.runs import EXAMPLES

GOOD = {"schema": "citrate.recipe/1", "base": "me/tiny", "method": "sft", "dataset": "bafy", "steps": 4}
REINFORCED = {"method": "grpo", "reinforcement": {"reward_model": "me/judge"}}
BAD: dict[str, tuple[dict[str, object], str]] = {
    "an unknown field": ({"stepz": 1}, "stepz: Extra inputs"),
    "an unknown field below": ({"lora": {"ranks": 1}}, "lora.ranks: Extra inputs"),
    "no steps": ({"steps": 0}, "steps: Input should be greater than 0"),
    "another schema": ({"schema": "citrate.recipe/2"}, "schema: Input should be"),
    "another method": ({"method": "ppo"}, "method: Input should be 'sft'"),
    "no reward model": ({"method": "grpo"}, "grpo needs reinforcement"),
    "a reward model": ({"reinforcement": {"reward_model": "x"}}, "sft takes no reinforcement"),
    "a preference": ({"preference": {}}, "sft takes no preference"),
    "another loss": ({"method": "kto", "preference": {"loss": "ipo"}}, "kto has no other loss"),
    "answers": ({**REINFORCED, "batch_size": 3}, "3 answers a step are no multiple of 4 generations"),
    "a rate": ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate: not a number"),
    "no rate": ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: Input should be greater than 0"),
    "endless": ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate: not a number"),
    "true": ({"optimizer": {"learning_rate": True}}, "optimizer.learning_rate: not a number"),
    "dropout": ({"lora": {"dropout": 1}}, "lora.dropout: Input should be less than 1"),
    "warm-up": ({"schedule": {"warmup_steps": 4}}, "the warm-up is as long as the run"),
    "processes": ({"world_size": 0}, "world_size: Input should be greater than 0"),
    "too many processes": ({"world_size": 65}, "world_size is 64 at most"),
    "segments of shards": ({"accelerate": "a.yaml", "steps": 99}, "checkpoint_every is steps or more with accelerate"),
    "a profile": ({"determinism": "exact"}, "no determinism profile 'exact': one of: citrate/cpu"),
    "a precision": ({"precision": "bfloat16"}, "citrate/cpu-avx2-fp32 is of float32, not bfloat16"),
    "a length of answers": ({**REINFORCED, "max_length": 64}, "grpo takes no max_length"),
    "a rate past all": ({"optimizer": {"learning_rate": "1e999999999"}}, "optimizer.learning_rate: has more than"),
    "a rate below all": ({"optimizer": {"learning_rate": "1e-999999999"}}, "optimizer.learning_rate: has more than"),
    "digits": ({"optimizer": {"learning_rate": "0." + "1" * 29}}, "optimizer.learning_rate: has more than 28 digits"),
    "no layers": ({"lora": {"targets": []}}, "names of layers, each once, or all-linear"),
    "a layer twice": ({"lora": {"targets": ["q_proj", "q_proj"]}}, "names of layers, each once"),
    "a nameless layer": ({"lora": {"targets": [""]}}, "names of layers, each once"),
    "yes": ({"steps": True}, "steps: Input should be a valid integer"),
    "a number for yes": ({"lora": {"dora": 1}}, "lora.dora: Input should be a valid boolean"),
    "alpha": ({"lora": {"alpha": 5_000_000}}, "lora.alpha: Input should be less than or equal to 4294967"),
    "a batch": ({"batch_size": 1 << 60}, "batch_size: Input should be less than or equal to 1048576"),
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
    assert said in error.value.message and error.value.hint


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
