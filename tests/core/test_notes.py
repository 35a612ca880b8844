"""Notes: when two of them are one, and which are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from almanac.core.notes import Note, in_words, note_of, note_order
from almanac.core.receipts import Artifact, Order, RunInfo, Step
from tests.support.records import NOON, receipt


def order(text: str = "sales week", tags: tuple[str, ...] = ("campaign",), actor: str = "ann", **changes: Any) -> Order:
    about = {"pipeline": "shop", "period": "2017-06", "manifest": "m", "description": "d1", "module": "m1"}
    return note_order(text, tags, actor, **{**about, **changes})


def test_a_note_asks_for_what_one_person_says_of_one_manifest() -> None:
    said = order()

    assert (said.artifact, said.step, said.period) == (Artifact.MODEL, Step.NOTE, "2017-06")
    assert said.inputs == {"version": "m"}
    assert said.parameters == {"text": "sales week", "tags": ["campaign"], "actor": "ann"}


def test_the_same_text_by_the_same_person_is_the_same_order() -> None:
    assert order(" sales week\n", ("b", "a", "b")) == order("sales week", ("a", "b"))


@pytest.mark.parametrize("changes", [{"text": "other"}, {"tags": ()}, {"actor": "ben"}, {"manifest": "n"}])
def test_another_text_tag_person_or_version_is_another_order(changes: dict[str, Any]) -> None:
    assert order(**changes).digest != order().digest


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_note_without_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        order(text)

    assert str(refused.value) == "Note: expected a text, got none. Write what others should know about the version."


@pytest.mark.parametrize("tag", ["two words", "", "a,b"])
def test_a_tag_that_is_not_one_word_is_refused(tag: str) -> None:
    with pytest.raises(ValueError) as refused:
        order(tags=("fine", tag))

    assert str(refused.value) == (
        f"Tag: expected letters, digits and _ . : - without spaces, such as campaign-2017; got {tag!r}."
    )


def test_a_note_is_read_from_its_receipt_and_told_in_words() -> None:
    note = note_of(receipt(order(tags=("b", "a")), run_info=RunInfo(actor="ann", ended=NOON)))

    assert note == Note(text="sales week", tags=("a", "b"), actor="ann", at=NOON)
    assert in_words(note) == "ann, 2017-09-01: sales week [a, b]"
    assert in_words(dataclasses.replace(note, tags=(), at=None)) == "ann: sales week"
