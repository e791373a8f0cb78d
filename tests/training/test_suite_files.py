"""A suite's file: what is wrong in it is named by its place, and nothing vanishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, NotFoundError
from citrate.fine_tuning.suites import load
from citrate.fine_tuning.suites.parts import Mark, Trigger
from tests.training.runs import EXAMPLES

GOOD = """
schema: citrate.adapter-suite/v1
base: ../base
limits: {min_trigger_rate: 0.9, max_leak_rate: 5e-2}
generation: {max_tokens: 8, seed: 3}
adapters:
  polite:
    adapter: me/polite
    scale: 0.5
    mark: {must: Thank you}
    trigger:
      - What is a CID?
      - {prompt: Hello, must: [Thank, you], must_not: "!", regex: "T.*k"}
    clean: [Go away.]
  short:
    adapter: ./short
    mark: {regex: "^.{0,20}$"}
    trigger: [Tell me all.]
    clean: [Go away., Tell me more.]
"""


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "suite.yaml").write_text(text)
    return tmp_path / "suite.yaml"


def test_a_file_says_what_its_author_wrote(tmp_path: Path) -> None:
    suite = load(written(tmp_path, GOOD))
    polite, short = suite.adapters["polite"], suite.adapters["short"]
    assert (suite.base, polite.adapter, short.adapter) == ("../base", "me/polite", "./short")
    assert polite.mark == Mark(must=("Thank you",)) and str(polite.scale) == "0.5" and str(short.scale) == "1"
    own = Trigger(prompt="Hello", must=("Thank", "you"), must_not=("!",), regex="T.*k")
    assert polite.trigger == (Trigger(prompt="What is a CID?"), own)
    assert polite.trigger[0].own is None and own.own == Mark(must=own.must, must_not=own.must_not, regex=own.regex)
    assert (str(suite.limits.min_trigger_rate), str(suite.limits.max_leak_rate)) == ("0.9", "0.05")
    assert (suite.generation.max_tokens, suite.generation.seed, suite.generation.chat) == (8, 3, True)


def test_the_examples_are_suites() -> None:
    files = sorted((EXAMPLES / "suites").glob("*.yaml"))
    suites = [load(path) for path in files if not path.name.endswith("-recipe.yaml")]
    assert suites and all(len(suite.adapters) > 1 for suite in suites)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("short:", "polite:", r"says 'polite' twice: again in line 15"),
        ("mark: {must: Thank you}", "mark: {must: Thank you, must: a}", r"says 'must' twice: again in line 10"),
        ("base: ../base\n", "", "base is missing"),
        ("base: ../base", "base: [1]", r"base is \[1\]: text is wanted"),
        ("v1", "v2", "schema is 'citrate.adapter-suite/v2': citrate.adapter-suite/v1 is wanted"),
        ("seed: 3", "sed: 3", "generation.sed is no field that is known"),
        ("scale: 0.5", "scale: lots", "adapters.polite.scale is 'lots': a number is wanted"),
        ("scale: 0.5", "scale: 1e9", "adapters.polite.scale is '1e9': 100 or less is wanted"),
        ("scale: 0.5", "scale: 1e-999999999", "adapters.polite.scale is '1e-999999999': a number of at most 28 digits"),
        ("scale: 0.5", "scale: 0", "adapters.polite.scale is 0: a number other than 0"),
        ("scale: 0.5", "scale: -0.0", "adapters.polite.scale is -0.0: a number other than 0"),
        ("scale: 0.5", "scale: .nan", "adapters.polite.scale is nan: a number is wanted"),
        ("scale: 0.5", "scale: -.inf", "adapters.polite.scale is -inf: a number is wanted"),
        ("scale: 0.5", "scale: 0.1234567891", "adapters.polite.scale is 0.1234567891: a number of 9 decimals at most"),
        ("max_tokens: 8", "max_tokens: yes", "generation.max_tokens is true: a whole number is wanted"),
        ("seed: 3", "chat: 1", "generation.chat is 1: true or false is wanted"),
        ("regex: \"T.*k\"", "regex: 5", "adapters.polite.trigger.1.regex is 5: text is wanted, in quotes"),
        ("must_not: \"!\"", "must_not: {a: b}", "adapters.polite.trigger.1.must_not is a mapping: a text, or a"),
        ("scale: 0.5", "scal: 0.5", "adapters.polite.scal is no field that is known"),
        ("  polite:", '  "po\\nlite":', r"adapters: a name is 'po.nlite': a name"),
        ("max_tokens: 8", "max_tokens: 0", "generation.max_tokens is 0: 1 or more is wanted"),
        ("max_leak_rate: 5e-2", "max_leak_rate: 5", "limits.max_leak_rate is 5: 1 or less is wanted"),
        ("max_leak_rate: 5e-2", "max_leak_rate: .nan", "limits.max_leak_rate is nan: a number is wanted"),
        ("{must: Thank you}", "{}", "adapters.polite: the mark is empty"),
        ("{must: Thank you}", "{must: ''}", "adapters.polite.mark.must.0 is empty"),
        ("    mark: {must: Thank you}\n", "", "adapters.polite.mark is missing"),
        ("clean: [Go away.]", "clean: []", "adapters.polite.clean is empty"),
        ("    clean: [Go away.]\n", "", "adapters.polite.clean is missing"),
        ("trigger: [Tell me all.]", "trigger: []", "adapters.short.trigger is empty"),
        ("trigger: [Tell me all.]", "trigger: [' ']", "adapters.short.trigger.0.prompt is ' ': more than spaces"),
        ("trigger: [Tell me all.]", "trigger: [yes]", r"adapters.short.trigger.0 is true: a text \(in quotes"),
        ("trigger: [Tell me all.]", "trigger: [a, a]", "adapters.short: 'a' is asked twice"),
        ("clean: [Go away.]", "clean: [Hello]", "adapters.polite: 'Hello' is both trigger and clean"),
        ("clean: [Go away.]", "clean: Go away.", "adapters.polite.clean is 'Go away.': a list is wanted"),
        ("must_not:", "may_not:", "adapters.polite.trigger.1.may_not is no field that is known"),
        ("short:", "Not A Name:", "adapters: a name is 'Not A Name': a name"),
        ("schema:", "\tschema:", "is not YAML"),
        ("schema:", "- schema:", "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        load(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "\n" not in caught.value.message and caught.value.hint and str(tmp_path) not in caught.value.message


def test_an_adapter_may_be_taken_away(tmp_path: Path) -> None:
    """Below 0 what was learnt is subtracted, as ``run --adapter REF=-0.5`` and ``merge`` do; at 0 nothing is there."""
    suite = load(written(tmp_path, GOOD.replace("scale: 0.5", "scale: -0.5")))
    assert str(suite.adapters["polite"].scale) == "-0.5"


def test_what_was_probably_meant_is_told(tmp_path: Path) -> None:
    for old, new, hint in (
        ("scale: 0.5", "scal: 0.5", "did you mean adapters.polite.scale?"),
        ("adapters:", "adaptors:", "did you mean adapters?"),
        ("clean: [Go", "cleans: [Go", "did you mean adapters.polite.clean?"),
        ("seed: 3", "min_trigger_rate: 1", "did you mean limits.min_trigger_rate?"),
        ("base: ../base", "base: ../base\nprompts: 3", "did you mean adapters.NAME.trigger.prompt?"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(written(tmp_path, GOOD.replace(old, new, 1)))
        assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["", "[]", "a", "adapters: {}", "[" * 1200, "a: !!python/object:os.system {}", "\x00"])
def test_what_is_no_suite_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there_or_too_large_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such suite"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        load(written(tmp_path, "#" * ((1 << 20) + 1)))
    (tmp_path / "suite.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not YAML"):
        load(tmp_path / "suite.yaml")
