"""A fine-tune from the registry and back: announced, trained, recorded, and replayed on a machine that has nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from citrate.registry.rpc import JsonRpc
from citrate.training.proof import Record
from tests.adapter_dirs import write_adapter
from tests.e2e.conftest import ROOT, Machine, Release
from tests.training import tiny
from tests.training.runs import forge, with_leaf

pytestmark = [pytest.mark.servers, pytest.mark.models, pytest.mark.xdist_group("e2e")]

RECIPE = """
schema: citrate.recipe/1
base: {base}
method: sft
dataset: {dataset}
steps: 4
batch_size: 2
max_length: 64
checkpoint_every: 2
seed: 7
lora: {{rank: 4, alpha: 8, targets: [q_proj, v_proj]}}
optimizer: {{learning_rate: 1e-3}}
"""


@dataclass(frozen=True)
class Run:
    """A run that was announced and has ended, its recipe, and what `train` told of it."""

    folder: Path
    recipe: Path
    trained: dict[str, object]
    dataset: dict[str, object]


@pytest.fixture(scope="module")
def ended(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, machine = tmp_path_factory.mktemp("ended"), release.machine
    rows = ROOT / "examples" / "datasets" / "polite.jsonl"
    dataset = machine.gets("dataset", "add", str(rows), "--method", "sft", "--license", "apache-2.0")
    recipe = folder / "polite-recipe.yaml"
    recipe.write_text(RECIPE.format(base=release.ref, dataset=dataset["cid"]))
    trained = machine.gets("train", str(recipe), "--out", str(folder / "run"), "--announce")
    return Run(folder / "run", recipe, trained, dataset)


def test_an_announced_run_is_recorded_and_replayed_by_somebody_else(
    release: Release, ended: Run, reader: Machine, tmp_path: Path
) -> None:
    machine, trained, dataset = release.machine, ended.trained, ended.dataset
    shutil.copytree(ended.folder, tmp_path / "run")
    assert trained["steps"] == 4 and trained["dataset_root"] == dataset["root"]
    run = machine.gets("ledger", "show", str(trained["run_id"]))
    assert (run["recipe"], run["proof_root"]) == (trained["recipe_sha256"], trained["proof_root"])
    again = machine.gets("train", str(ended.recipe), "--out", str(ended.folder), "--announce")
    assert again == trained, "what has ended is not done again, announced again, or committed again"
    shutil.copytree(ended.folder, tmp_path / "damaged")
    shutil.rmtree(tmp_path / "damaged" / "checkpoints" / "step-00000002")
    refused = machine.types("train", str(ended.recipe), "--out", str(tmp_path / "damaged"), "--json")
    assert refused.code == 1 and "step-00000002 has no readable" in str(refused.error["message"]), refused.out

    adapter = str(trained["adapter_path"])
    told = json.loads((tmp_path / "run" / "adapter" / "training.json").read_text())
    assert told["base"] == f"{release.address}/tiny-llama@1.0.0", "the version that a shorter reference meant"
    recorded = machine.gets(
        "register-lora", adapter, "--base", release.ref, "--name", "polite", "--license", "apache-2.0"
    )
    resolved = reader.gets("resolve", str(recorded["ref"]))
    assert resolved["steps"] == 4 and resolved["training"] == {
        "dataset": trained["dataset_root"],
        "recipe": trained["recipe_sha256"],
        "proof_root": trained["proof_root"],
        "run": trained["run_id"],
        "confirmed": True,
    }
    verified = reader.gets("verify-training", str(recorded["ref"]), "--all")
    assert verified["grade"] == "exact" and [each["exact"] for each in verified["segments"]] == [True, True]
    drawing = tmp_path / "polite.svg"
    shown = reader.gets("show", str(recorded["ref"]), "--plot", str(drawing))
    assert shown["health"] == verified["health"] == trained["health"] and shown["health"]["steps"] == 4
    assert drawing.read_text().startswith("<svg ") and "polite" in drawing.read_text()
    refused = reader.types("show", str(recorded["ref"]), "--plot", "polite.pdf", "--json")
    assert refused.code == 2 and "is neither SVG nor PNG" in str(refused.error["message"])
    run_with_it(release, reader, str(recorded["ref"]), tmp_path / "another")

    JsonRpc(release.rpc_url).call("anvil_mine", "0x40")
    drawn = machine.gets("ledger", "draw", str(trained["run_id"]))["seed"]
    compared = ("verify-training", str(recorded["ref"]), "--segments", "0")
    by_ledger, by_hand = reader.gets(*compared), reader.gets(*compared, "--seed", "5eed")
    assert (by_ledger["seed"], by_ledger["seed_by"]) == (str(drawn).removeprefix("0x"), "ledger")
    assert (by_hand["seed"], by_hand["seed_by"]) == ("5eed", "you"), "what the user names is not overruled"

    forged = tmp_path / "run" / "adapter" / "training.json"
    told = json.loads(forged.read_text())
    other = machine.gets("dataset", "add", str(ROOT / "examples" / "datasets" / "questions.jsonl"), "--method", "grpo",
                         "--license", "apache-2.0")  # fmt: skip
    forged.write_text(json.dumps({**told, "dataset": other["cid"]}, sort_keys=True, separators=(",", ":")))
    refused = machine.types("verify-training", str(tmp_path / "run"), "--json")
    assert refused.code == 3 and "the dataset is not the one" in str(refused.error["message"])


def test_an_adapter_is_recorded_on_the_base_that_it_was_trained_on(
    release: Release, ended: Run, tmp_path: Path
) -> None:
    """Another model of the same shapes does not get it; by its creator's bare word it does, and has no proof."""
    machine = release.machine
    shutil.copytree(ROOT / "examples" / "tiny-llama", tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\nAnother model.\n")
    quick = ("--variants", "safetensors", "--checks", "tensors")
    machine.gets("register-model", str(tmp_path / "base"), "--name", "twin", *quick)
    adapter = tmp_path / "adapter"
    shutil.copytree(ended.folder / "adapter", adapter)
    told = json.loads((adapter / "training.json").read_text())
    del told["run"]  # as of a run that was not announced: the ledger does not know its base
    (adapter / "training.json").write_text(json.dumps(told, sort_keys=True, separators=(",", ":")))
    asked = ("register-lora", str(adapter), "--base", "me/twin", "--name", "liar", "--license", "apache-2.0")
    refused = machine.types(*asked, "--json")
    assert refused.code == 3 and "was not trained on" in str(refused.error["message"]), refused.out
    claims = ("recipe_sha256", "dataset_root", "proof_root")
    recipe, dataset, proof = (str(ended.trained[name]) for name in claims)
    claimed = (*asked, "--recipe", recipe, "--dataset", dataset)
    refused = machine.types(*claimed, "--proof", "0x" + "1" * 64, "--json")
    assert refused.code == 3, "what lies beside it is held against the base whatever the options say"
    (adapter / "training.json").unlink()
    liar = str(machine.gets(*claimed, "--proof", proof)["ref"])
    refused = machine.types("verify-training", liar, "--base", release.ref, "--segments", "0", "--json")
    assert refused.code == 4 and "does not say where its training proof is" in str(refused.error["message"])


def test_a_step_that_was_forged_is_exit_3(release: Release, ended: Run, tmp_path: Path) -> None:
    """With all hashes around it made right again."""
    shutil.copytree(ended.folder, tmp_path / "forged")
    forge(tmp_path / "forged", leaves=with_leaf(Record(ended.folder), 3, rng="f" * 64))
    for name in ("evil.pkl", "README.md"):
        (tmp_path / "forged" / "adapter" / name).write_bytes(b"# polite")
    found = release.machine.types("verify-training", str(tmp_path / "forged"), "--all", "--json")
    others = ["adapter/README.md", "adapter/evil.pkl"]
    assert found.json["notes"] == [f"{name} is not of the run, and was not looked at" for name in others]
    assert found.code == 3 and found.json["grade"] is None, found.out
    assert [(each["ok"], each["differs"]) for each in found.json["segments"]] == [  # type: ignore[attr-defined]  # JSON
        (True, ""),
        (False, "step 3: rng"),
    ]


def run_with_it(release: Release, reader: Machine, adapter: str, another: Path) -> None:
    """Run the base with the adapter, all of it fetched; and see that it is put on nothing else."""
    asked = ("What is a CID?", "--max-tokens", "5", "--adapter")
    ran = reader.gets("run", release.ref, *asked, f"{adapter}=0.5")
    assert ran["adapter"] == {"name": adapter, "scale": 0.5} and str(ran["variant"]).startswith("gguf:")
    pulled = reader.gets("pull", release.ref)
    assert reader.gets("run", str(pulled["path"]), *asked, adapter)["tokens"] == ran["tokens"]

    shutil.copytree(ROOT / "examples" / "tiny-llama", another)
    (another / "README.md").write_text("Another model.")
    refused = reader.types("run", str(another), *asked, adapter, "--json")
    assert refused.code == 3 and "was trained on" in str(refused.error["message"]), refused.out
    base = reader.gets("resolve", release.ref)["variants"][0]["sha256"]  # type: ignore[index]
    digests = refused.error["details"]
    assert isinstance(digests, dict) and digests["expected"] == base != digests["actual"]
    model = reader.types("run", release.ref, *asked, release.ref, "--json")
    assert model.code == 2 and "is a model, not an adapter" in str(model.error["message"])


def test_a_licence_that_forbids_derivatives_forbids_training(release: Release, tmp_path: Path) -> None:
    machine = release.machine
    base = tiny.make(tmp_path / "base")
    published = machine.gets(
        "register-model", str(base), "--name", "frozen", "--license", "CC-BY-ND-4.0", "--variants", "safetensors"
    )
    recipe = tmp_path / "a-recipe.yaml"
    recipe.write_text(RECIPE.format(base=published["ref"], dataset="bafy"))
    refused = machine.types("train", str(recipe), "--out", str(tmp_path / "run"), "--json")
    assert refused.code == 1 and "CC-BY-ND-4.0, forbids derivatives" in str(refused.error["message"])
    assert not (tmp_path / "run").exists()
    adapter = write_adapter(tmp_path / "adapter")
    asked = ("--base", str(published["ref"]), "--name", "thawed", "--license", "apache-2.0", "--json")
    refused = machine.types("register-lora", str(adapter), *asked)
    assert refused.code == 1 and "CC-BY-ND-4.0, forbids derivatives" in str(refused.error["message"])


def test_bad_input_of_training(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "home")
    good = {
        "schema": "citrate.recipe/1",
        "base": str(ROOT / "examples" / "tiny-llama"),
        "method": "sft",
        "dataset": str(ROOT / "examples" / "datasets" / "polite.jsonl"),
        "steps": 4,
    }
    path = tmp_path / "a-recipe.yaml"
    for changes, code, word in (
        ({"stepz": 1}, 2, "a-recipe.yaml: stepz is no field that is known"),
        ({"base": "./nowhere"}, 4, "no such folder"),
        ({}, 2, "is a file of rows, not a dataset"),
    ):
        path.write_text(json.dumps({**good, **changes}))
        result = machine.types("train", str(path), "--out", str(tmp_path / "out"), "--json")
        assert result.code == code and word in str(result.error["message"]), (changes, result.out)
        assert result.error["hint"], changes
    for arguments, code, word in (
        (("train", str(tmp_path / "none.yaml")), 4, "no such recipe"),
        (("train", str(path), "--merged"), 2, "only reward models are merged here"),
        (("train", str(path), "--plot", "x.pdf"), 2, "is neither SVG nor PNG"),
        (("train", str(path), "--plot", str(tmp_path / "no" / "x.svg")), 2, "no such folder"),
        (("verify-training", str(tmp_path)), 4, "is no training run"),
        (("verify-training", str(tmp_path), "--seed", "dice"), 2, "is not hex"),
    ):
        result = machine.types(*arguments, "--json")
        assert result.code == code and word in str(result.error["message"]), (arguments, result.out)
    assert not (tmp_path / "out").exists(), "nothing is begun"
