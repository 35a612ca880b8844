"""The index of a pipeline's receipts. `impact` uses it to follow dependencies downwards.

Receipts link upwards. The index holds a short entry for each of them, so that the links can be followed downwards without
reading ten thousand receipts. It is derived: if it is lost or altered, it is rebuilt from the receipts.
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
    """A source file as a pin recorded it. If it is delivered again under the same name, it is another file."""

    uri: str
    size: int
    etag: str


class IndexedReceipt(NamedTuple):
    """One receipt, in short.

    `key` is its name below receipts/ without the suffix, `ARTIFACT/STEP/ORDER-ATTEMPT`; `inputs` are the numbers of the
    receipts that it depends on; `files` are the numbers of the source files that it could read, as spans: `0-3 7`.
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
    """The receipts of a pipeline, each identified by its number, and the tables that they point into.

    Args:
        files: the source files in any pin.
        versions: version to the number of the receipt that trained it.

    Raises:
        ValueError: the index has another schema.
    """

    receipts: tuple[IndexedReceipt, ...] = stored_as("steps", default=())
    files: tuple[SourceFile, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA}, got {self.schema}")
        object.__setattr__(self, "receipts", tuple(IndexedReceipt(*item) for item in self.receipts))
        object.__setattr__(self, "files", tuple(SourceFile(*file) for file in self.files))

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Key to number."""
        return {item.key: number for number, item in enumerate(self.receipts)}

    @cached_property
    def published(self) -> frozenset[tuple[str, str]]:
        """(artifact, stage order) of everything whose publish is indexed; these identify visible partitions."""
        return frozenset(
            (item.artifact, self.receipts[number].order)
            for item in self.receipts
            if item.step == "publish"
            for number in item.inputs
            if self.receipts[number].step == "stage"
        )

    @cached_property
    def dependants(self) -> Mapping[int, tuple[int, ...]]:
        """Receipt to the receipts that depend on it directly."""
        found: dict[int, list[int]] = {}
        for number, item in enumerate(self.receipts):
            for needed in item.inputs:
                found.setdefault(needed, []).append(number)
        return {number: tuple(listed) for number, listed in found.items()}

    def below(self, start: Iterable[int]) -> set[int]:
        """The given receipts, and everything that depends on them."""
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
    """What readers see now: period to order for the predictions table, definition to the same for each features table, and
    the promotion log."""

    predictions: Mapping[str, str]
    features: Mapping[str, Mapping[str, str]]
    log: Log


def spans(numbers: Iterable[int]) -> str:
    """Numbers as spans: `0-3 7`. Files that are adjacent in time mostly have adjacent numbers."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def within(number: int, text: str) -> bool:
    """Whether spans contain a number."""
    return any(int(span.split("-")[0]) <= number <= int(span.split("-")[-1]) for span in text.split())
