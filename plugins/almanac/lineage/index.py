"""The index of a pipeline's receipts, and what it is for: `impact`, the way downwards from whatever something depends on.

Receipts link upwards. The index holds a short step for each of them, so that the same links can be followed downwards
without reading ten thousand receipts. It is derived: lost or altered, it is built from the receipts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from almanac.core.canonical import stored_as
from almanac.core.promotions import Log

SCHEMA = 1


class SourceFile(NamedTuple):
    """A source file as some pin saw it. Delivered again under its name it is another one."""

    uri: str
    size: int
    etag: str


class IndexedReceipt(NamedTuple):
    """One receipt, in short.

    `key` is its name below receipts/ without the suffix, `THING/DOOR/ORDER-ATTEMPT`; `inputs` are the numbers of the steps
    that it depends on; `files` are the numbers of the source files that it could see, as spans: `0-3 7`.
    """

    key: str
    period: str
    part: str
    definition: str
    version: str
    dag: str
    run: str
    inputs: tuple[int, ...]
    files: str

    @property
    def artifact(self) -> str:
        return self.key.split("/", 1)[0]

    @property
    def step(self) -> str:
        return self.key.split("/", 2)[1]

    @property
    def order(self) -> str:
        return self.key.rsplit("/", 1)[-1].rsplit("-", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Index:
    """The steps of a pipeline, each known by its number, and the tables that they point into.

    Args:
        files: the source files that any pin saw.
        versions: version to the number of the step that trained it.

    Raises:
        ValueError: it is of another schema.
    """

    receipts: tuple[IndexedReceipt, ...] = stored_as("steps", default=())
    files: tuple[SourceFile, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"its schema is {self.schema}, this Almanac writes {SCHEMA}")
        object.__setattr__(self, "receipts", tuple(IndexedReceipt(*item) for item in self.receipts))
        object.__setattr__(self, "files", tuple(SourceFile(*file) for file in self.files))

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Key to number."""
        return {item.key: number for number, item in enumerate(self.receipts)}

    @cached_property
    def published(self) -> frozenset[tuple[str, str]]:
        """Thing and stage order of everything whose publish is known: what a visible partition is known by."""
        return frozenset(
            (item.artifact, self.receipts[number].order)
            for item in self.receipts
            if item.step == "publish"
            for number in item.inputs
            if self.receipts[number].step == "stage"
        )

    @cached_property
    def dependants(self) -> Mapping[int, tuple[int, ...]]:
        """Step to the steps that depend on it directly."""
        found: dict[int, list[int]] = {}
        for number, item in enumerate(self.receipts):
            for needed in item.inputs:
                found.setdefault(needed, []).append(number)
        return {number: tuple(listed) for number, listed in found.items()}

    def below(self, start: Iterable[int]) -> set[int]:
        """The steps themselves, and everything that depends on them."""
        found, left = set(start), list(start)
        while left:
            new = [number for number in self.dependants.get(left.pop(), ()) if number not in found]
            found.update(new)
            left.extend(new)
        return found

    def select(self, wanted: Callable[[IndexedReceipt], bool]) -> list[int]:
        return [number for number, item in enumerate(self.receipts) if wanted(item)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What readers see now: period to order of the predictions table, definition to the same of each features table; and
    the promotion log."""

    predictions: Mapping[str, str]
    features: Mapping[str, Mapping[str, str]]
    log: Log


def spans(numbers: Iterable[int]) -> str:
    """Numbers as spans: `0-3 7`. Files that lie side by side in time mostly have numbers side by side."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def within(number: int, text: str) -> bool:
    """Whether spans hold a number."""
    return any(int(span.split("-")[0]) <= number <= int(span.split("-")[-1]) for span in text.split())
