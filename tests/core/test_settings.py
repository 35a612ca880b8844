"""Settings from the environment: a root that every reader takes for the same place, or none."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almanac.errors import DescriptionError, StoreError
from almanac.settings import Settings, connection_address


def root(text: str) -> str:
    return Settings.from_environment({"ALMANAC_ROOT": text}).root


@pytest.mark.parametrize("text", ["s3://almanac", "s3://almanac/a", "s3://a-b.c/team=x/_dev/v1.2-rc_3", "s3://almanac/a/"])
def test_a_root_of_plain_signs_is_taken(text: str) -> None:
    assert root(text) == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("s3://almanac/team#1", "team#1"),
        ("s3://almanac/what?", "what?"),
        ("s3://almanac/50%25", "50%25"),
        ("s3://almanac/50%", "50%"),
        ("s3://almanac/a b", "a b"),
        ("s3://almanac/a//b", ""),
        ("s3://almanac/../b", ".."),
        ("s3://almanac/./b", "."),
        ("s3://almanac/.hidden", ".hidden"),
        ("s3://almanac/ä", "ä"),
        ("s3://almanac/a\\b", "a\\b"),
        ("s3://almanac/a\n", "a\n"),
        ("s3://user:key@almanac/a", "user:key@almanac"),
    ],
)
def test_a_root_that_a_url_reads_otherwise_is_refused_by_its_part(text: str, part: str) -> None:
    with pytest.raises(StoreError) as refused:
        root(text)

    assert str(refused.value).startswith("ALMANAC_ROOT: expected folders of letters, digits and _ . - = ")
    assert f"got {part!r} in " in str(refused.value)


@pytest.mark.parametrize("text", ["", "s3://", "s3:///a", "/data", "https://almanac/a"])
def test_a_root_that_is_no_place_on_s3_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="ALMANAC_ROOT"):
        root(text)


@settings(derandomize=True)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_what_is_taken_is_the_same_as_text_as_a_key_and_as_a_url(tail: str) -> None:
    text = f"s3://almanac/{tail}"
    try:
        taken = root(text)
    except StoreError:
        return
    assert urlsplit(taken).path == quote(urlsplit(taken).path) == taken.removeprefix("s3://almanac")
    assert not re.search(r"//|/\.|\s", taken.removeprefix("s3://"))


def test_the_address_of_a_connection_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_CONNECTION_WARE_HOUSE_2", " postgresql://ann@db/shop ")
    assert connection_address("ware-house.2") == "postgresql://ann@db/shop"


def test_a_connection_without_an_address_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALMANAC_CONNECTION_WAREHOUSE", raising=False)
    with pytest.raises(DescriptionError) as refused:
        connection_address("warehouse")
    assert str(refused.value) == (
        "ALMANAC_CONNECTION_WAREHOUSE: expected the address of the database of connection 'warehouse', such as "
        "postgresql://user:password@host:5432/database, got nothing. Set it, or let the DAG read the source, which uses "
        "Airflow's connection."
    )
