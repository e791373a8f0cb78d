"""RLHF whole: a reward model is trained, merged into its base, and trained with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from citrate.core.errors import AlreadyExistsError, TrainingError
from citrate.facade import Registry
from citrate.fine_tuning import prepare
from citrate.training import dataset, recipe, reward_model, run
from citrate.training.proof import Record
from citrate.training.recipe import Bound, Recipe
from citrate.training.replay import replay
from citrate.training.rows import Method
from citrate.training.run import Step
from citrate.training.stepping import Inputs
from tests.e2e.machine import Machine
from tests.training.conftest import SETTINGS, make_rows
from tests.training.runs import BASE_SHA256, EXAMPLES, log_of
from tests.training.test_run import hashes

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]
CHAT = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
]


def bound_to(rows: Path, method: Method, **changes: object) -> Bound:
    settings = {key: value for key, value in SETTINGS.items() if key != "max_length"}  # theirs is of the answers
    wanted = Recipe.model_validate({**settings, "method": method, "steps": 4, **changes})
    judge = "c" * 64 if wanted.reinforcement else ""
    root = dataset.read(rows).root
    return recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=root, reward_sha256=judge)


@pytest.fixture(scope="module")
def judged(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward run's folder, with the merged model in it: trained here, merged by the command, which finds it ended."""
    folder = tmp_path_factory.mktemp("judge")
    machine, registry = Machine(folder / "home"), Registry.open(home=folder / "home")
    _, rows = registry.add_dataset(EXAMPLES / "datasets" / "polite-pairs.jsonl", method="reward", licence="apache-2.0")
    path = folder / "judge-recipe.yaml"
    path.write_text(json.dumps({**SETTINGS, "method": "reward", "steps": 4, "base": str(base), "dataset": rows.cid}))
    prepared = prepare(registry, recipe.load(path), folder)
    inputs = Inputs(prepared.files.base, prepared.files.dataset)
    run.train(prepared.bound, inputs, folder / "out", lambda _: None)
    done = machine.gets("train", str(path), "--out", str(folder / "out"), "--merged")
    assert done["merged_path"] == str(folder / "out" / "merged") and done["steps"] == 4
    again = machine.types("train", str(path), "--out", str(folder / "out"), "--merged")
    assert again.out.splitlines()[-1] == done["merged_path"], "what is there is not merged again"
    return folder / "out"


def test_the_merged_model_scores_as_base_and_adapter_do(judged: Path, base: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    merged, tokenizer = reward_model.load(judged / "merged", "float32")
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype="float32")
    both = PeftModel.from_pretrained(plain, str(judged / "adapter")).eval()
    tokens = tokenizer.apply_chat_template(CHAT, return_tensors="pt", return_dict=True)
    for model in (merged, both):
        model.config.pad_token_id = tokenizer.eos_token_id
    with torch.no_grad():
        expected, found = both(**tokens).logits, merged(**tokens).logits
    assert expected.shape == (1, 1) and torch.allclose(expected, found, atol=1e-6)


def test_the_merged_folder_names_nothing_of_this_machine_and_is_not_written_over(judged: Path, base: Path) -> None:
    text = b"".join(path.read_bytes() for path in (judged / "merged").iterdir())
    assert str(base).encode() not in text and str(judged).encode() not in text
    assert json.loads((judged / "merged" / "config.json").read_bytes())["architectures"] == [
        "LlamaForSequenceClassification"
    ]
    with pytest.raises(AlreadyExistsError, match="exists"):
        reward_model.merge(base, judged / "adapter", judged / "merged", "float32")


def test_a_model_that_would_score_at_random_is_refused(judged: Path, base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(TrainingError, match="is no sequence classifier") as error:
        reward_model.load(base, "float32")
    assert "--merged" in error.value.hint
    shutil.copytree(judged / "merged", tmp_path / "judge")
    weights = tmp_path / "judge" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("score")}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"has no score\.weight"):
        reward_model.load(tmp_path / "judge", "float32")


@pytest.mark.parametrize("method", [Method.GRPO, Method.RLOO])
def test_training_with_it_goes_on_to_the_same_bytes_and_is_replayed(
    method: Method, judged: Path, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    rows = make_rows(tmp_path / "rows", EXAMPLES / "datasets" / "questions.jsonl", method)
    options = {"reward_model": "-", "generations": 2, "max_completion_length": 6}
    bound = bound_to(rows, method, reinforcement=options)
    inputs = Inputs(base, rows, judged / "merged")
    run.train(bound, inputs, tmp_path / "a", lambda _: None)
    assert all(isinstance(line["reward"], float) and line["tokens"] for line in log_of(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "proof.json").unlink()
    told: list[Step] = []
    run.train(bound, inputs, tmp_path / "b", told.append)
    assert [step.step for step in told] == [3, 4] and hashes(tmp_path / "a") == hashes(tmp_path / "b")
    (tmp_path / "work").mkdir()
    found = replay(Record(tmp_path / "a"), 1, inputs, tmp_path / "a" / "adapter", tmp_path / "work")
    assert found.ok and found.exact, found.differs
