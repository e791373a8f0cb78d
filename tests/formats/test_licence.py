"""Licences: the card first, then the LICENSE file, mapped to SPDX."""

from __future__ import annotations

from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, FormatError
from citrate.formats import find_licence, spdx_of, stated_spdx

APACHE = "Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/licenses/\n"


@pytest.mark.parametrize(
    ("name", "custom", "spdx"),
    [
        ("apache-2.0", "", "Apache-2.0"),
        ("Apache-2.0", "", "Apache-2.0"),
        ("MIT", "", "MIT"),
        ("cc-by-nc-4.0", "", "CC-BY-NC-4.0"),
        ("llama3.1", "", "LicenseRef-llama-3.1"),
        ("llama2", "", "LicenseRef-llama-2"),
        ("other", "My Own Licence!", "LicenseRef-my-own-licence"),
        ("other", "", "LicenseRef-other"),
        ("LicenseRef-Mine", "", "LicenseRef-Mine"),
        ("gpl-3.0-or-later", "", "GPL-3.0-or-later"),
    ],
)
def test_identifiers_become_spdx(name: str, custom: str, spdx: str) -> None:
    assert spdx_of(name, custom) == spdx


def test_the_card_wins_and_the_file_gives_the_text(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# Model\n")
    (tmp_path / "LICENSE").write_text("the full text")
    found = find_licence(tmp_path)
    assert found is not None
    assert (found.spdx, found.text, found.origin) == ("MIT", "the full text", "card")


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        (APACHE, "Apache-2.0"),
        ("Permission is hereby granted, free of charge, to any person ... without restriction", "MIT"),
        ("GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007", "GPL-3.0-only"),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date", "LicenseRef-llama-3.1"),
        ("Creative Commons Attribution-NonCommercial 4.0 International", "CC-BY-NC-4.0"),
        ("Do what I say.", "LicenseRef-custom"),
    ],
)
def test_texts_are_recognised(text: str, spdx: str, tmp_path: Path) -> None:
    (tmp_path / "LICENSE.md").write_text(text)
    found = find_licence(tmp_path)
    assert found is not None
    assert (found.spdx, found.origin, found.text) == (spdx, "file", text)


def test_no_licence_is_none(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A card without front matter\nlicense: mit\n")
    assert find_licence(tmp_path) is None
    (tmp_path / "README.md").write_text("---\ntags: [a]\n---\n")
    assert find_licence(tmp_path) is None


def test_a_card_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(FormatError, match="front matter is not valid YAML"):
        find_licence(tmp_path)


@pytest.mark.parametrize("licence", ["LicenseRef-\\ud800", "LicenseRef-a\\nb", "LicenseRef-" + "x" * 54])
def test_a_card_whose_licence_cannot_stand_on_chain_is_refused(licence: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f'---\nlicense: "{licence}"\n---\n')
    with pytest.raises(FormatError, match=r"^README\.md: .* is no licence: at most 64 characters of a line$"):
        find_licence(tmp_path)


@pytest.mark.parametrize("licence", ["", " ", "LicenseRef-a\nb", "LicenseRef-" + "x" * 54])
def test_a_flag_that_is_no_licence_is_refused(licence: str) -> None:
    with pytest.raises(ConfigError, match="licence"):
        stated_spdx(licence)


@pytest.mark.parametrize("value", ['!!int ""', '!!float ""', "!!bool maybe", "!!timestamp never", "2001-99-99", "!x y"])
def test_a_value_that_is_not_of_its_tag_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\nx: {value}\n---\n")
    with pytest.raises(FormatError, match="front matter is not valid YAML"):
        find_licence(tmp_path)


def test_a_card_made_to_blow_up_is_not_parsed(tmp_path: Path) -> None:
    bomb = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]"] + [f"{c}: &{c} [*a,*a,*a,*a,*a,*a]" for c in "bcdefgh"])
    (tmp_path / "README.md").write_text(f"---\n{bomb}\nlicense: apache-2.0\n---\n")
    found = find_licence(tmp_path)
    assert found is not None
    assert found.spdx == "Apache-2.0"
