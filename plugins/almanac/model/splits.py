"""A tree ensemble scored with numpy alone, without walking its trees.

For a block of rows, each distinct split of the ensemble is evaluated once, and its answers are kept as bits, a row a bit. Then,
level by level and in all trees at once, the rows that reach a node are parted between its children by an AND and an XOR. The
leaves of a tree are numbered from left to right. A bit of the number of the leaf that a row reaches is the OR of the largest
subtrees in which all numbers have this bit. At last the numbers of a few trees together look up the sum of their leaves' values.

The time grows with the number of splits and not with the depth of the trees. A row's score does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from almanac.model.trees import Ensemble, Unsupported

Places = npt.NDArray[np.intp]
Column = npt.NDArray[np.float32]
Answers = npt.NDArray[np.bool_]
# The rows of a block: halved, for a large ensemble, until its bits take about that many bytes, but not beyond the least rows.
BLOCK_ROWS, BLOCK_BYTES, LEAST_ROWS = 8192, 16 << 20, 4096
WORD = 64
# Within these bounds numpy took at most 0.7 of onnxruntime's time, on two busy cores. They choose the engine, the same in every
# run.
SPLITS_A_TREE, SPLITS = 60, 16_000
# How many thresholds a block is compared with at once.
AT_ONCE = 64
# The most bits of a leaf's number, which is a byte; and of the numbers of the trees that look up one sum together.
NUMBER_BITS, TABLE_BITS = 8, 12


class Conditions(Protocol):
    """Conditions on one column. NaN meets none."""

    @property
    def column(self) -> int: ...

    def __len__(self) -> int: ...

    def met(self, values: Column, out: Answers) -> Answers:
        """Whether each value meets each condition, of shape (conditions, values)."""


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Either `x <= threshold` or `x > threshold`, for each threshold."""

    column: int
    above: bool
    thresholds: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.thresholds)

    def met(self, values: Column, out: Answers) -> Answers:
        compare = np.greater if self.above else np.less_equal
        return compare(values, self.thresholds[:, None], out=out)


@dataclass(frozen=True, slots=True)
class Memberships:
    """`x` is one of some categories.

    Args:
        categories: all that any of the conditions names, in order, and NaN.
        table: whether each one meets each condition; NaN, and with it any other value, meets none.
    """

    column: int
    categories: Column
    table: Answers

    def __len__(self) -> int:
        return len(self.table)

    def met(self, values: Column, out: Answers) -> Answers:
        last = len(self.categories) - 1
        places = np.searchsorted(self.categories[:last], values)
        places[self.categories[places] != values] = last
        return np.take(self.table, places, axis=1, out=out, mode="clip")


@dataclass(frozen=True, slots=True)
class Level:
    """The nodes of one level, of all trees, that part their rows: those that meet the condition go to `met`."""

    nodes: Places
    met: Places
    unmet: Places


class Splits:
    """The sums of an ensemble's leaves. It reuses its arrays: one thread at a time may use it.

    Raises: Unsupported: a tree has more than 256 leaves.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._base = ensemble.base
        trees = len(ensemble.roots)
        condition_of, self._asked = _conditions(ensemble)
        conditions = sum(map(len, self._asked))
        levels = list(_levels(ensemble))
        numbers = _Numbers(ensemble, levels)
        slots = _slots(ensemble, levels)
        self._levels = [(condition_of[level.nodes], slots[level.nodes], slots[level.met[0]]) for level in levels]

        self._bits = numbers.bits
        order, self._tables = _tables(ensemble, numbers)
        planes, parts = numbers.planes(order)
        self._spelled, self._rounds = _rounds(planes, slots[parts])

        reached, spelled = trees + sum(2 * len(level.nodes) for level in levels), self._bits * len(order)
        self.rows = BLOCK_ROWS
        while self.rows > LEAST_ROWS and self.rows // 8 * (conditions + reached + 16 * spelled) > BLOCK_BYTES:
            self.rows //= 2
        words = self.rows // WORD
        widest = max((len(level.nodes) for level in levels), default=0)
        self._answers = np.zeros((conditions, words), np.uint64)
        self._reached = np.zeros((reached, words), np.uint64)
        self._reached[:trees] = ~np.uint64(0)
        self._planes = np.zeros((self._bits, len(order), words), np.uint64)
        self._one, self._other = (np.empty((max(widest, len(self._spelled)), words), np.uint64) for _ in range(2))
        self._compared = np.empty((AT_ONCE, self.rows), np.bool_)
        self._looked_up = np.empty(self.rows)

    def sums(self, columns: Sequence[Column]) -> npt.NDArray[np.float64]:
        """The sums, of shape (outputs, rows), for the columns of the ensemble's matrix."""
        rows = len(columns[0])
        found = np.empty((len(self._base), rows))
        for begin in range(0, rows, self.rows):
            block = [column[begin : begin + self.rows] for column in columns]
            count = len(block[0])
            if count < self.rows:
                block = [np.concatenate([column, np.zeros(self.rows - count, np.float32)]) for column in block]
            found[:, begin : begin + count] = self._block(block)[:, :count]
        return found

    def _block(self, columns: Sequence[Column]) -> npt.NDArray[np.float64]:
        self._compare(columns)
        self._descend()
        self._spell()
        return self._look_up()

    def _compare(self, columns: Sequence[Column]) -> None:
        begin = 0
        for some in self._asked:
            met = some.met(columns[some.column], self._compared[: len(some)])
            self._answers[begin : begin + len(some)] = np.packbits(met, axis=1, bitorder="little").view(np.uint64)
            begin += len(some)

    def _descend(self) -> None:
        for conditions, nodes, begin in self._levels:
            count = len(nodes)
            answers = np.take(self._answers, conditions, axis=0, out=self._one[:count], mode="clip")
            rows = np.take(self._reached, nodes, axis=0, out=self._other[:count], mode="clip")
            met = np.bitwise_and(answers, rows, out=self._reached[begin : begin + count])
            np.bitwise_xor(met, rows, out=self._reached[begin + count : begin + 2 * count])

    def _spell(self) -> None:
        spelled = self._one[: len(self._spelled)]
        for number, parts in enumerate(self._rounds):
            if number == 0:
                np.take(self._reached, parts, axis=0, out=spelled, mode="clip")
            else:
                more = np.take(self._reached, parts, axis=0, out=self._other[: len(parts)], mode="clip")
                np.bitwise_or(spelled[: len(parts)], more, out=spelled[: len(parts)])
        self._planes.reshape(-1, spelled.shape[1])[self._spelled] = spelled

    def _look_up(self) -> npt.NDArray[np.float64]:
        # A byte for each row and bit, 0 or 1; eight of them are shifted as one word.
        planes = np.unpackbits(self._planes.view(np.uint8), axis=2, bitorder="little").view(np.uint64)
        words = planes[-1]
        for plane in planes[-2::-1]:
            np.left_shift(words, 1, out=words)
            np.bitwise_or(words, plane, out=words)
        numbers: npt.NDArray[np.integer] = words.view(np.uint8)
        together = len(numbers) // len(self._tables)
        if together > 1:
            numbers, alone = numbers[0::together].astype(np.uint16), numbers
            for place in range(1, together):
                np.left_shift(numbers, self._bits, out=numbers)
                np.bitwise_or(numbers, alone[place::together], out=numbers)
        found = np.repeat(self._base[:, None], self.rows, axis=1)
        for number, tables in zip(numbers, self._tables, strict=True):
            for output, table in tables:
                found[output] += np.take(table, number, out=self._looked_up, mode="clip")
        return found


def check_few(ensemble: Ensemble) -> None:
    """Raises: Unsupported: there are so many splits that walking the trees may be as fast."""
    trees, splits = len(ensemble.roots), sum(map(len, _conditions(ensemble)[1]))
    if splits > min(SPLITS_A_TREE * trees, SPLITS):
        raise Unsupported(f"trees: {trees}, distinct splits: {splits}, more than {SPLITS_A_TREE} a tree or {SPLITS} in all")


def _conditions(ensemble: Ensemble) -> tuple[Places, list[Conditions]]:
    """The condition of each node that splits, and all distinct ones, by column. NaN meets none, so where it goes to `yes`, the
    condition is that a row goes to `no`.
    """
    condition_of = np.full(len(ensemble.feature), -1, np.intp)
    found: list[Conditions] = [*_comparisons(ensemble, condition_of)]
    return condition_of, [*found, *_memberships(ensemble, condition_of, sum(map(len, found)))]


def _comparisons(ensemble: Ensemble, condition_of: Places) -> Iterator[Comparisons]:
    kind = np.dtype([("column", np.int32), ("above", np.bool_), ("threshold", np.float32)])
    keys = np.empty(len(ensemble.feature), kind)
    keys["column"], keys["above"], keys["threshold"] = ensemble.feature, ensemble.missing, ensemble.threshold
    splits = (ensemble.feature >= 0) & (ensemble.group < 0)
    distinct, condition_of[splits] = np.unique(keys[splits], return_inverse=True)
    changes = np.flatnonzero((np.diff(distinct["column"]) != 0) | (np.diff(distinct["above"]) != 0)) + 1
    for alike in np.split(distinct, changes):
        for at in range(0, len(alike), AT_ONCE):
            some = alike[at : at + AT_ONCE]
            yield Comparisons(int(some["column"][0]), bool(some["above"][0]), some["threshold"].copy())


def _memberships(ensemble: Ensemble, condition_of: Places, begin: int) -> Iterator[Memberships]:
    splits = np.flatnonzero(ensemble.group >= 0)
    for column in np.unique(ensemble.feature[splits]):
        nodes = splits[ensemble.feature[splits] == column]
        members = ensemble.members[ensemble.group[nodes]]
        categories = np.append(np.unique(members[~np.isnan(members)]), np.float32(np.nan))
        table = (members[:, :, None] == categories).any(axis=1)
        distinct, places = np.unique(table, axis=0, return_inverse=True)
        condition_of[nodes] = begin + places
        for at in range(0, len(distinct), AT_ONCE):
            yield Memberships(int(column), categories, distinct[at : at + AT_ONCE])
        begin += len(distinct)


def _levels(ensemble: Ensemble) -> Iterator[Level]:
    nodes: Places = ensemble.roots[ensemble.feature[ensemble.roots] >= 0].astype(np.intp)
    while len(nodes):
        turned, yes, no = ensemble.missing[nodes], ensemble.yes[nodes], ensemble.no[nodes]
        level = Level(nodes, np.where(turned, no, yes), np.where(turned, yes, no))
        yield level
        below = np.concatenate([level.met, level.unmet])
        nodes = below[ensemble.feature[below] >= 0]


def _slots(ensemble: Ensemble, levels: Sequence[Level]) -> Places:
    """Where the rows are kept that reach a node: the roots first, then each level's children."""
    order = np.concatenate([ensemble.roots, *(part for level in levels for part in (level.met, level.unmet))])
    slots = np.full(len(ensemble.feature), -1, np.intp)
    slots[order] = np.arange(len(order))
    return slots


class _Numbers:
    """The leaves of each tree, numbered from left to right: a node's leaves have the `count` numbers from `first`."""

    def __init__(self, ensemble: Ensemble, levels: Sequence[Level]) -> None:
        nodes = len(ensemble.feature)
        self.tree, self.parent = np.full(nodes, -1, np.intp), np.full(nodes, -1, np.intp)
        self.first, self.count = np.zeros(nodes, np.intp), np.ones(nodes, np.intp)
        self.tree[ensemble.roots] = np.arange(len(ensemble.roots))
        for level in reversed(levels):
            self.count[level.nodes] = self.count[level.met] + self.count[level.unmet]
        for level in levels:
            for children in (level.met, level.unmet):
                self.tree[children], self.parent[children] = self.tree[level.nodes], level.nodes
            self.first[level.met] = self.first[level.nodes]
            self.first[level.unmet] = self.first[level.nodes] + self.count[level.met]
        largest = int(self.count.max())
        self.bits = max(1, (largest - 1).bit_length())
        if self.bits > NUMBER_BITS:
            raise Unsupported(f"a tree has {largest} leaves, more than {1 << NUMBER_BITS}")

    def planes(self, order: Places) -> tuple[Places, Places]:
        """The largest subtrees in which all numbers have a bit: the bit's plane, and the node. A plane is one bit of one tree."""
        planes, nodes = [], []
        position = np.argsort(order)
        for bit in range(self.bits):
            begin, end = self.first >> bit, (self.first + self.count - 1) >> bit
            whole = (begin == end) & (begin & 1 == 1)
            found = np.flatnonzero(whole & ~whole[self.parent])
            planes.append(bit * len(order) + position[self.tree[found]])
            nodes.append(found)
        return np.concatenate(planes), np.concatenate(nodes)


def _rounds(planes: Places, parts: Places) -> tuple[Places, list[Places]]:
    """Planes with parts, those with the most first; and rounds: the n-th holds the n-th part of each plane that has so many."""
    known, inverse, counts = np.unique(planes, return_inverse=True, return_counts=True)
    most_first = np.argsort(-counts, kind="stable")
    rank = np.argsort(most_first)[inverse]
    in_order = np.argsort(rank, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts[most_first])[:-1]])
    rounds = []
    for number in range(int(counts.max(initial=0))):
        having = starts[counts[most_first] > number] + number
        rounds.append(parts[in_order[having]])
    return known[most_first], rounds


def _tables(ensemble: Ensemble, numbers: _Numbers) -> tuple[Places, list[list[tuple[int, npt.NDArray[np.float64]]]]]:
    """The order of the trees, with some that add nothing at its end; and for each few of them the sums, by output."""
    trees, outputs = len(ensemble.roots), ensemble.values.shape[1]
    together = max(1, TABLE_BITS // numbers.bits)
    padded = trees + -trees % together
    leaves = np.flatnonzero(ensemble.feature < 0)
    values = np.zeros((padded, 1 << numbers.bits, outputs))
    values[numbers.tree[leaves], numbers.first[leaves]] = ensemble.values[leaves]
    speaks = values[:trees].any(axis=1)
    order = np.append(np.lexsort(speaks.T), np.arange(trees, padded))  # trees of one output are together
    values = values[order]
    sums = values[0::together]
    for place in range(1, together):
        sums = (sums[:, :, None] + values[place::together, None]).reshape(len(sums), -1, outputs)
    tables = [
        [(output, np.ascontiguousarray(table[:, output])) for output in range(outputs) if table[:, output].any()]
        for table in sums
    ]
    return order, tables
