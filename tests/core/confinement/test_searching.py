"""A stranger's regular expressions: found or not, and none of them holds us up."""

from __future__ import annotations

import time

import pytest

from citrate.core.confinement import searching
from citrate.core.errors import ConfigError, FormatError


def test_each_search_has_its_answer_in_its_order() -> None:
    searches = [
        ("Ahoy", "Ahoy!"),
        ("^b", "abc"),
        (r"(?i)OSLO\.$", "It is Oslo."),
        ("^b", "abc"),
        ("é+", "née"),
        ("", ""),
    ]
    assert searching.found(searches) == (True, False, True, False, True, True)
    assert searching.found([]) == ()


def test_one_that_backtracks_for_ever_is_an_error_that_quotes_it() -> None:
    started = time.process_time()
    with pytest.raises(FormatError, match=r"looking for '\(a\+\)\+\$' takes more than 0.2 s") as caught:
        searching.found([("a", "a"), ("(a+)+$", "a" * 40 + "!")], seconds=0.2)
    assert "must" in caught.value.hint and time.process_time() - started < 30, "the work was a child's"


@pytest.mark.parametrize("pattern", ["(", "a{1,99999999999}", "(" * 20_000, "[b-a]", "*"])
def test_one_that_is_none_is_an_error_of_who_wrote_it(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is no regular expression") as caught:
        searching.require_sound(["fine", pattern])
    assert "\n" not in caught.value.message and len(caught.value.message) < 400
