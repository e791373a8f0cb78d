"""The table of families and formats in docs/formats.md, made from the code: `python tests/formats/family_table.py`."""

from __future__ import annotations

from pathlib import Path

from citrate.core.records import Format
from citrate.formats.families import FAMILIES
from citrate.formats.families.family import Family
from citrate.formats.mixtures import MIXTURES
from citrate.formats.mlx_affine import WRITTEN
from citrate.formats.tensorrt_llm import TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
START, END = "<!-- families: made by tests/formats/family_table.py -->\n", "<!-- end of families -->\n"


def table() -> str:
    """One line a family: what it is recognised by, and what each format can hold of it."""
    notes: list[str] = []
    lines = ["| family | models | class in config.json | GGUF | MLX | TensorRT-LLM |", "|---|---|---|---|---|---|"]
    for family in FAMILIES:
        classes = ", ".join(f"`{name}`" for name in family.class_names)
        cells = [_cell(family, format_, notes) for format_ in (Format.GGUF, Format.MLX, Format.TENSORRT_LLM)]
        lines.append(f"| {family.name} | {family.models} | {classes} | {' | '.join(cells)} |")
    gguf = ", ".join(f"`{name}`" for name in MIXTURES)
    mlx = ", ".join(f"`{name}`" for name in WRITTEN if name)
    tensorrt = ", ".join(f"`{name}@{target}`" for name, targets in TARGETS.items() for target in targets)
    legend = [f"Yes: GGUF as {gguf}; MLX as {mlx}, and unquantised as `mlx`; TensorRT-LLM as {tensorrt}.", ""]
    legend += ["No:", "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join([*lines, "", *legend, ""])


def _cell(family: Family, format_: Format, notes: list[str]) -> str:
    reason = family.refusals.get(format_, "")
    if not reason:
        return "yes"
    if reason not in notes:
        notes.append(reason)
    return f"no ({notes.index(reason) + 1})"


def with_table(page: str) -> str:
    """``page`` with the table between its marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return before + START + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
