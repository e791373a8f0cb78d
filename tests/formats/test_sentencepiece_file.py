"""tokenizer.model is read as SentencePiece reads it, or refused, whatever its bytes are."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from edit_model import edited
from family_models import llama2, sentencepiece_bpe
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import FormatError
from citrate.formats import open_model
from citrate.formats.sentencepiece_file import NAME, read_scores
from citrate.formats.vocabulary import read_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pieces")
    sentencepiece_bpe(root)
    return root


def test_pieces_and_scores_are_those_of_sentencepiece(folder: Path) -> None:
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / NAME))
    wanted = [(reference.id_to_piece(i), reference.get_score(i)) for i in range(reference.vocab_size())]
    assert list(read_scores(folder)) == wanted


def test_no_file_has_no_scores(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == ()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(score: float, tmp_path: Path) -> None:
    piece = b"\x0a\x01x" + b"\x15" + struct.pack("<f", score)
    (tmp_path / NAME).write_bytes(b"\x0a" + bytes([len(piece)]) + piece)
    with pytest.raises(FormatError, match="a score that is no number"):
        read_scores(tmp_path)


@settings(max_examples=200)
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(data: st.DataObject, folder: Path, tmp_path: Path) -> None:
    raw = bytearray((folder / NAME).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / NAME).write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        pieces = read_scores(tmp_path)
    except FormatError:
        return
    assert len(pieces) <= len(raw)


@pytest.mark.models
def test_scores_do_not_come_from_another_tokenizers_file(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    llama2(tmp_path / "source")
    model = open_model(tmp_path / "source")
    own = read_vocabulary(model.root, model.config).lexicon.scores
    other = edited(model.root, tmp_path / "other")
    (other / NAME).write_bytes((other / NAME).read_bytes().replace(b"or", b"ro"))
    assert read_vocabulary(other, model.config).lexicon.scores == pytest.approx(own)
    assert read_scores(other) != read_scores(model.root)
