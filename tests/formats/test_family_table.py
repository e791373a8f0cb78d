"""The table of families in the docs is what the code says."""

from __future__ import annotations

from family_table import END, PAGE, START, with_table

from citrate.formats.families import BY_CLASS, FAMILIES


def test_the_table_in_the_docs_is_what_the_code_says() -> None:
    page = PAGE.read_text()
    assert START in page
    assert END in page
    assert page == with_table(page), "run: python tests/formats/family_table.py"


def test_every_class_belongs_to_one_family() -> None:
    assert sum(len(family.class_names) for family in FAMILIES) == len(BY_CLASS)
