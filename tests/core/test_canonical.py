"""One way to write a record down: equal records give equal bytes, and what cannot be read is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac.core.canonical import decode, digest, dumps, encode, later, opened, sealed, sha256

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Circle:
    radius: float
    kind: Literal["circle"] = "circle"


@dataclass(frozen=True, slots=True)
class Square:
    side: float
    kind: Literal["square"] = "square"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    name: str
    at: datetime | None = None
    takes: timedelta = timedelta(0)
    colour: Colour = Colour.RED
    shapes: tuple[Circle | Square, ...] = ()
    named: Mapping[str, Circle | Square] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


WHOLE = Drawing(
    name="é",
    at=datetime(2017, 6, 1, 12, 30, tzinfo=UTC),
    takes=timedelta(days=1, milliseconds=1),
    shapes=(Circle(1.5), Square(2.0)),
    named={"b": Square(1.0), "a": Circle(2.0)},
    facts={"x": [1, None, {"y": 0.5}]},
)


def test_a_record_is_written_with_sorted_keys_no_spaces_and_in_utf_8() -> None:
    assert dumps(WHOLE).decode() == (
        '{"at":"2017-06-01T12:30:00+00:00","colour":"red","facts":{"x":[1,null,{"y":0.5}]},"name":"é",'
        '"named":{"a":{"kind":"circle","radius":2.0},"b":{"kind":"square","side":1.0}},'
        '"shapes":[{"kind":"circle","radius":1.5},{"kind":"square","side":2.0}],"takes":86400.001}'
    )


def test_the_order_of_keys_does_not_matter_and_that_of_lists_does() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest((1, 2)) == digest([1, 2])


def test_a_digest_is_the_sha_256_of_the_bytes() -> None:
    assert digest({"b": 1, "a": None}) == hashlib.sha256(b'{"a":null,"b":1}').hexdigest()
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"metric": number})


@settings(max_examples=50)
@given(value=JSON)
def test_written_values_are_read_as_equal_and_written_again_as_the_same_bytes(value: Any) -> None:
    assert json.loads(dumps(value)) == value
    assert dumps(json.loads(dumps(value))) == dumps(value)


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode(Drawing, json.loads(dumps(WHOLE))) == WHOLE
    assert decode(Drawing, encode(Drawing(name="plain"))) == Drawing(name="plain")


def test_absent_fields_take_their_defaults() -> None:
    assert decode(Drawing, {"name": "plain"}) == Drawing(name="plain")


@dataclass(frozen=True, slots=True)
class Sign:
    text: str
    colour: str = "red"
    size: int = later(1)
    marks: tuple[str, ...] = later(())


def test_a_later_field_is_left_out_while_it_has_its_default() -> None:
    assert encode(Sign("stop")) == {"text": "stop", "colour": "red"}
    assert encode(Sign("stop", size=2, marks=("a",))) == {"text": "stop", "colour": "red", "size": 2, "marks": ["a"]}
    assert digest(Sign("stop")) == digest({"text": "stop", "colour": "red"})
    for sign in (Sign("stop"), Sign("stop", size=2), Sign("stop", marks=("a",))):
        assert decode(Sign, encode(sign)) == sign


def test_an_unknown_field_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="Circle has no field colour, width") as refused:
        decode(Circle, {"radius": 1.0, "width": 2, "colour": "red"})

    assert str(refused.value) == "Circle has no field colour, width (known: kind, radius)"


def test_a_missing_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Drawing lacks name") as refused:
        decode(Drawing, {"takes": 1.0})

    assert str(refused.value) == "Drawing lacks name (it has: takes)"


@pytest.mark.parametrize("shape", [{"kind": "triangle"}, {"radius": 1.0}])
def test_a_record_of_an_unknown_kind_is_refused_with_those_that_are_known(shape: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"kind: expected one of 'circle', 'square'; got "):
        decode(Drawing, {"name": "x", "shapes": [shape]})


@pytest.mark.parametrize("value", [None, 3, [], "text", {"name": "x", "shapes": 3}, {"name": "x", "named": [1]}])
def test_what_is_no_such_record_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="Drawing"):
        decode(Drawing, value)


def test_an_unknown_member_of_an_enum_is_refused() -> None:
    with pytest.raises(ValueError, match="'blue' is not a valid Colour"):
        decode(Drawing, {"name": "x", "colour": "blue"})


# --- seals ---


def test_a_sealed_record_holds_its_own_digest_beside_its_fields() -> None:
    assert sealed(Circle(1.5)) == b'{"kind":"circle","radius":1.5,"seal":"%s"}' % digest(Circle(1.5)).encode()
    assert json.loads(sealed(WHOLE)) == {**encode(WHOLE), "seal": digest(WHOLE)}


def test_a_sealed_record_is_opened_as_it_was_written() -> None:
    assert opened(Drawing, sealed(WHOLE)) == WHOLE
    assert sealed(opened(Drawing, sealed(WHOLE))) == sealed(WHOLE)


def test_no_altered_byte_of_a_sealed_record_is_opened() -> None:
    body = sealed(Circle(1.5))
    for place in range(len(body)):
        with pytest.raises(ValueError):
            opened(Circle, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])


@pytest.mark.parametrize("body", [b'{"kind":"circle","radius":1.5}', b"[]", b"3"])
def test_a_record_without_a_seal_is_not_opened(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it has no seal$"):
        opened(Circle, body)


def test_a_field_taken_away_added_or_changed_breaks_the_seal() -> None:
    whole = json.loads(sealed(Circle(1.5)))
    for altered in ({**whole, "radius": 1.0}, {**whole, "width": 1}, {key: whole[key] for key in ("kind", "seal")}):
        with pytest.raises(ValueError, match=r"^its seal does not match its fields$"):
            opened(Circle, json.dumps(altered).encode())


def test_a_record_of_another_kind_is_not_opened_although_its_seal_fits() -> None:
    with pytest.raises(ValueError, match="Circle has no field side"):
        opened(Circle, sealed(Square(2.0)))
