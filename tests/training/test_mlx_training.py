"""MLX as the trainer: what a row means, runs that repeat, go on and are replayed, and an adapter that PEFT takes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from citrate.core.adapters import Grade
from citrate.core.errors import ConfigError, TrainingError
from citrate.core.records import Format, Variant, VariantRecord
from citrate.facade import Registry
from citrate.fine_tuning.inputs import model_named
from citrate.fine_tuning.verifying import Claim, checked_health, variant_of, verify
from citrate.formats.adapter import open_adapter
from citrate.formats.source import open_model
from citrate.training import committing, dataset, process, recipe, run, trainers
from citrate.training.lengths import RowCount
from citrate.training.process import Files
from citrate.training.proof import Record
from citrate.training.recipe import Backend, Bound, Recipe
from citrate.training.replay import Replayed, replay
from citrate.training.rows import Method
from citrate.training.run import Step
from citrate.training.stepping import Inputs
from tests.training.conftest import SETTINGS, make_rows
from tests.training.runs import BASE_SHA256, Folder, edit_tensors, forge, log_of, with_leaf
from tests.training.test_functional import WANTED, claimed, scaled
from tests.training.test_run import hashes

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("training")]
MLX = {**SETTINGS, "backend": "mlx", "steps": 4, "max_length": 32, "accumulation": 2, "batch_size": 1}
TRL = {"backend": "trl", "determinism": SETTINGS.get("determinism", "citrate/cpu-avx2-fp32")}


@pytest.fixture(scope="module", autouse=True)
def _compiled_afterwards() -> Iterator[None]:
    """A run switches MLX's compiler off in its process, which here is everybody's."""
    import mlx.core as mx

    yield
    mx.enable_compile()


def bound_of(rows: Path, **changes: object) -> Bound:
    wanted = Recipe.model_validate({**MLX, **changes})
    return recipe.bind(wanted, base_sha256=BASE_SHA256, dataset_root=dataset.read(rows).root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> tuple[Path, list[Step]]:
    """A run of MLX that has ended, and what was told of it."""
    out, steps = tmp_path_factory.mktemp("mlx") / "out", list[Step]()
    run.train(bound_of(rows), Inputs(base, rows), out, steps.append)
    return out, steps


def replayed(folder: Path, number: int, base: Path, rows: Path, work: Path) -> Replayed:
    record = Record(folder)
    record.check()
    work.mkdir()
    return replay(record, number, Inputs(base, rows), folder / "adapter", work)


ROWS: dict[str, list[dict[str, object]]] = {
    "messages": [
        {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]},
        {"messages": [{"role": "user", "content": "Hello? " * 40}, {"role": "assistant", "content": "Good day."}]},
    ],
    "text": [{"text": "A CID names bytes."}, {"text": "Bytes are named by a CID. " * 20}],
    "completions": [
        {"prompt": "What is a CID?", "completion": " A name."},
        {"prompt": "Why? " * 40, "completion": " Because."},
        {"prompt": "Why?", "completion": " Because. " * 40},
    ],
    "conversations": [
        {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Good day."}]},
    ],
}


@pytest.mark.parametrize("shape", ROWS)
def test_a_row_is_the_tokens_that_trl_makes_of_it(shape: str, base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from citrate.training import mlx_rows

    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[shape]))
    (tmp_path / "rows").mkdir()
    folder = make_rows(tmp_path / "rows", tmp_path / "in.jsonl", Method.SFT)
    kept, count = mlx_rows.tokenized(folder, AutoTokenizer.from_pretrained(base), 32, 256)
    wanted = Recipe.model_validate({**SETTINGS, "max_length": 32})
    kind = committing.committing(trainers.trainer_of(Method.SFT))
    trainer = trainers.build(wanted, Inputs(base, folder), tmp_path / "work", kind)
    theirs = list(trainer.train_dataset)  # type: ignore[call-overload]  # it is a dataset
    assert [list(row.ids) for row in kept] == [row["input_ids"] for row in theirs]
    learnt = [[-100] * row.begin + list(row.ids[row.begin :]) for row in kept]
    assert learnt == [row["labels"] for row in theirs]
    assert count == trainer.row_count  # type: ignore[attr-defined]  # the subclass is made at run time


def test_rows_come_in_an_order_that_follows_from_seed_and_epoch() -> None:
    from citrate.training.mlx_rows import Batches, Tokens, order

    assert order(7, 0, 6) == [5, 1, 2, 3, 0, 4]
    assert sorted(order(7, 1, 6)) == list(range(6)) and order(7, 1, 6) != order(7, 0, 6) != order(8, 0, 6)
    rows = [Tokens((row,) * (row + 2), 1) for row in range(3)]
    wanted = Recipe.model_validate({**MLX, "batch_size": 2, "accumulation": 2})
    batches = Batches(rows, wanted)
    seen = [int(ids[0]) for step in (1, 2, 3) for batch in batches.of_step(step) for ids in batch.ids]
    assert seen == [row for epoch in range(4) for row in order(7, epoch, 3)], "every row once an epoch"
    first = next(Batches(rows, wanted).of_step(3))
    assert first.ids.tolist() == next(batches.of_step(3)).ids.tolist(), "a step's rows follow from the step alone"
    assert first.tokens == sum(end + 1 for _, end in first.spans.tolist())


def test_the_learning_rate_is_transformers_own(tmp_path: Path) -> None:
    import torch
    from transformers import get_scheduler

    from citrate.training.mlx_stepping import learning_rate

    for kind, warm in (("linear", 2), ("cosine", 3), ("constant", 0), ("constant", 4), ("linear", 0)):
        wanted = Recipe.model_validate({**MLX, "steps": 9, "schedule": {"kind": kind, "warmup_steps": warm}})
        optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1e-3)
        name = trainers.arguments(wanted.model_copy(update=TRL), tmp_path).lr_scheduler_type
        schedule = get_scheduler(name, optimizer, warm, 9)
        for step in range(1, 10):
            assert learning_rate(wanted, step) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12, abs=1e-18)
            optimizer.step()
            schedule.step()


def test_a_run_ends_with_an_adapter_that_peft_puts_on_the_base(
    trained: tuple[Path, list[Step]], base: Path, rows: Path
) -> None:
    out, steps = trained
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert all(math.isfinite(step.loss) and step.grad_norm > 0 and step.tokens > 0 for step in steps)
    assert [line["loss"] for line in log_of(out)] == [step.loss for step in steps]
    record = Record(out)
    record.check()
    assert record.bound == bound_of(rows) and set(record.proof.environment.packages) >= {"mlx", "mlx-lm"}
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    assert not (out / "work").exists()
    adapter = open_adapter(out / "adapter")
    assert (adapter.rank, adapter.alpha_thousandths, adapter.target_modules) == (4, 8000, ("q_proj", "v_proj"))
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert str(base).encode() not in everything and str(out).encode() not in everything, "a local path leaked"


def test_what_mlx_trained_transformers_and_mlx_compute_alike(
    trained: tuple[Path, list[Step]], base: Path, rows: Path
) -> None:
    import mlx.core as mx
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from citrate.training import checkpoint
    from citrate.training.mlx_model import Model

    ids = [1019, 5, 77, 300, 12]
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        before = plain(torch.tensor([ids])).logits[0].clone()
        tuned = PeftModel.from_pretrained(plain, out := trained[0] / "adapter").eval()
        wanted = tuned(torch.tensor([ids])).logits[0]
    model = Model(base, bound_of(rows).recipe)
    model.set_weights(checkpoint.load(out, checkpoint.WEIGHTS))
    model.module.eval()
    found = torch.from_numpy(np.array(model.module(mx.array([ids]))[0]))
    assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(wanted, before, atol=1e-3)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    trained: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(step: Step) -> None:
        if step.step == 3:
            raise Killed

    with pytest.raises(Killed):
        run.train(bound_of(rows), Inputs(base, rows), tmp_path / "out", kill)
    told: list[Step] = []
    run.train(bound_of(rows), Inputs(base, rows), tmp_path / "out", told.append)
    assert [step.step for step in told] == [3, 4], "goes on after the last checkpoint"
    assert hashes(tmp_path / "out") == hashes(trained[0])


def test_an_honest_run_is_replayed_bit_for_bit(
    trained: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        found = replayed(trained[0], number, base, rows, tmp_path / f"work{number}")
        assert found == Replayed(2 * number + 1, 2 * number + 2, ok=True, exact=True, differs="", error=0.0)


def nudge(tensors: dict[str, object]) -> None:
    first = sorted(tensors)[0]
    tensors[first] = tensors[first] + 1  # type: ignore[operator]  # a tensor


FORGERIES: dict[str, tuple[str, str]] = {
    "adapter_model.safetensors": ("weights", "step 2: weights"),
    "optimizer.safetensors": ("optimizer", "step 2: optimizer"),
    "rng.safetensors": ("rng", "step 2: rng"),
}


@pytest.mark.parametrize("file", FORGERIES)
def test_a_forged_checkpoint_is_found_by_the_segments_beside_it(
    trained: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path, file: str
) -> None:
    part, said = FORGERIES[file]
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    forged = edit_tensors(copy / "checkpoints" / "step-00000002" / file, nudge)
    forge(copy, leaves=with_leaf(Record(copy), 2, **{part: forged}))
    assert replayed(copy, 0, base, rows, tmp_path / "first").differs == said
    assert not replayed(copy, 1, base, rows, tmp_path / "second").ok


def test_a_random_key_that_mlx_cannot_have_is_refused(
    trained: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)

    def negate(tensors: dict[str, object]) -> None:
        tensors["mlx"] = -1 - tensors["mlx"]  # type: ignore[operator]  # a tensor

    forged = edit_tensors(copy / "checkpoints" / "step-00000002" / "rng.safetensors", negate)
    forge(copy, leaves=with_leaf(Record(copy), 2, rng=forged))
    with pytest.raises(TrainingError, match="random key is none of MLX's"):
        replayed(copy, 1, base, rows, tmp_path / "work")


RECIPES: dict[str, Callable[[dict[str, object]], object]] = {
    "the seed": lambda document: document.update(seed=8),
    "the dropout": lambda document: document["lora"].update(dropout="0"),  # type: ignore[attr-defined]  # a dict
    "the alpha": lambda document: document["lora"].update(alpha=16),  # type: ignore[attr-defined]  # a dict
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_forged_recipe_is_found(
    trained: tuple[Path, list[Step]], base: Path, rows: Path, tmp_path: Path, what: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    document = json.loads(Record(copy).bound.to_bytes())
    RECIPES[what](document["recipe"])
    forge(copy, bound=Bound.model_validate(document))
    assert not replayed(copy, 1, base, rows, tmp_path / "work").ok


def test_workers_train_on_a_quantised_base_and_a_machine_that_rounds_otherwise_is_graded_functional(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    """What a user starts: processes of their own in the profile, the replay's without network."""
    quantised, out, told = tmp_path / "quantised", tmp_path / "out", list[object]()
    quantised.mkdir()
    quantise(base, quantised)
    bound = bound_of(rows, lora={"rank": 4, "alpha": 8}, steps=2, checkpoint_every=1, functional=WANTED.model_dump())
    files = Files(quantised, rows)
    done = process.train(bound, files, out, told.append)
    assert done.environment.profile == "citrate/mlx-cpu" and len(told) == 2
    assert open_adapter(out / "adapter").target_modules == (
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    )  # fmt: skip
    record = claimed(out, scaled)
    verified = verify(Claim(record, out / "adapter", files, checked_health(record), "00", "you"), segments=None)
    first, last = verified.segments
    assert first["exact"] and first["kl"] is None, first
    assert last["ok"] and last["error"] > 1e-4 and 0 < last["kl"] < 0.01 * last["effect"], last
    assert verified.grade is Grade.FUNCTIONAL


def quantise(base: Path, out: Path) -> None:
    """Make the base an MLX variant of 4 bits."""
    from citrate import formats

    formats.convert(open_model(base), Variant(Format.MLX, "4bit-g32"), Folder(out))


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "another method": ({"method": "dpo"}, "mlx trains by sft only: dpo is TRL's"),
    "dora": ({"lora": {"dora": True}}, "no dora, no rslora"),
    "nf4": ({"quantization": "nf4"}, "name a quantised variant"),
    "processes": ({"world_size": 2}, "mlx trains in one process"),
    "torch's profile": ({"determinism": "citrate/cuda"}, "is of trl, not mlx: citrate/mlx-cpu or citrate/mlx-gpu"),
    "mlx's profile": ({"backend": "trl", "determinism": "citrate/mlx-cpu"}, "is of mlx, not trl"),
    "another backend": ({"backend": "jax"}, "Input should be 'trl' or 'mlx'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_recipe_that_mlx_cannot_do_says_why(what: str) -> None:
    changes, said = REFUSED[what]
    with pytest.raises(ValueError, match="validation error") as error:
        Recipe.model_validate({**MLX, **changes})
    assert said in str(error.value)


def test_a_recipe_of_before_keeps_its_hash(rows: Path) -> None:
    """What a recipe does not say of later fields is not in its bytes."""
    bound = recipe.bind(Recipe.model_validate(SETTINGS), base_sha256=BASE_SHA256, dataset_root="d" * 64)
    assert b"backend" not in bound.to_bytes() and b"functional" not in bound.to_bytes()
    assert bound.sha256 == "33a2004890203d7064aa21a77043973219364cfad3ca0bf444c367e5d71ad40e"
    mlx = bound_of(rows)
    assert Bound.parse(mlx.to_bytes()) == mlx and b'"backend":"mlx"' in mlx.to_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"targets": ["w_proj"]}}, "the base has no linear layer 'w_proj'"),
        ({"determinism": "citrate/mlx-gpu"}, "MLX finds none"),
    ],
)
def test_what_cannot_be_trained_is_told_before_the_first_step(
    changes: dict[str, object], said: str, base: Path, rows: Path, tmp_path: Path
) -> None:
    import mlx.core as mx

    if "determinism" in changes and mx.is_available(mx.gpu):
        return  # then it is no mistake
    with pytest.raises(TrainingError, match=said) as error:
        run.train(bound_of(rows, **changes), Inputs(base, rows), tmp_path / "out", lambda _: None)
    assert error.value.hint and not (tmp_path / "out" / "proof.json").exists()


def test_rows_whose_answers_are_all_cut_off_are_told_before_the_first_step(base: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Is the sky blue above us?", "completion": " Yes."}\n' * 3)
    (tmp_path / "rows").mkdir()
    rows = make_rows(tmp_path / "rows", tmp_path / "in.jsonl", Method.SFT)
    with pytest.raises(TrainingError, match="all 3 rows are longer than max_length"):
        run.train(bound_of(rows, max_length=2), Inputs(base, rows), tmp_path / "out", lambda _: None)


@pytest.mark.parametrize(
    ("backend", "variant", "hint"),
    [(Backend.TRL, "mlx:4bit", "REF#safetensors"), (Backend.MLX, "gguf:Q8_0", "safetensors and mlx")],
)
def test_a_variant_that_a_backend_does_not_train_is_refused(
    backend: Backend, variant: str, hint: str, tmp_path: Path
) -> None:
    registry = Registry.open(home=tmp_path / "home")
    named = f"0x{'ab' * 20}/tiny#{variant}"
    with pytest.raises(ConfigError, match=f"{backend} does not train on {variant}") as error:
        model_named(registry, named, tmp_path, (), frozenset(), None, backend)
    assert hint in error.value.hint


def test_which_variant_of_a_base_was_trained_on_follows_from_its_content(trained: tuple[Path, list[Step]]) -> None:
    proof = Record(trained[0]).proof
    variants = (
        VariantRecord(Variant(Format.SAFETENSORS), "bafy", "1" * 64, 1),
        VariantRecord(Variant(Format.MLX, "4bit"), "bafy", proof.base_sha256, 1),
    )
    base = SimpleNamespace(ref="me/tiny@1.0.0", variants=variants)
    assert variant_of(base, proof) == "me/tiny@1.0.0#mlx:4bit"  # type: ignore[arg-type]  # what it looks at of a version


def test_a_loss_that_is_no_number_ends_the_run(base: Path, rows: Path, tmp_path: Path) -> None:
    wild = bound_of(rows, optimizer={"learning_rate": "1e27"}, lora={"rank": 1, "alpha": 1_000_000})
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+: training stopped"):
        run.train(wild, Inputs(base, rows), tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out" / "proof.json").exists()


def test_rows_that_are_cut_are_told(base: Path, rows: Path, tmp_path: Path) -> None:
    told: list[object] = []
    run.train(
        bound_of(rows, max_length=24, steps=1, checkpoint_every=1), Inputs(base, rows), tmp_path / "out",
        lambda _: None, told.append,
    )  # fmt: skip
    assert len(told) == 1 and "29 rows are longer than max_length (24 tokens)" in str(told[0])
    found = json.loads((tmp_path / "out" / "health.json").read_bytes())["rows"]
    assert RowCount(**found).cut > 0
