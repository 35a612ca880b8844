"""Rows of a source as user code sees them: with the description's names and types, every timestamp in UTC, and nothing outside
the cut. One function, `cut_rows`, does that for every reader.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from almanac import chunks, columns
from almanac.columns import UTC_TIME, of_batch
from almanac.core import where
from almanac.core.pins import Pin
from almanac.core.sources import Cut, EventSource, ReferenceSource, Source
from almanac.core.where import Among, Both, Condition, Either, IsNull, Like, Not, Test, Value
from almanac.errors import SourceError

WHOLE = Cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a reader sees of a source.

    Args:
        shown: the columns that it gets, as `columns.schema_of` gives them.
        hidden: columns that only the cut, or the source's `where`, needs.
        cut: as `Pin.held_at` has it for a reference with snapshots.
    """

    source: Source
    shown: pa.Schema
    hidden: pa.Schema = field(default_factory=lambda: pa.schema([]))
    cut: Cut = WHOLE

    @property
    def stored(self) -> list[str]:
        """The columns to read, by their stored names."""
        names = self.source.stored
        return [names.get(name, name) for name in (*self.shown.names, *self.hidden.names)]

    def of(self, names: Sequence[str]) -> View:
        """The same for a reader that gets only some of the columns; the others are read if the cut or `where` needs them."""
        needed = {*self.source.times, *self.source.tested} if self.cut != WHOLE else set(self.source.tested)
        both = [*self.shown, *self.hidden]
        shown = pa.schema([self.shown.field(name) for name in names], self.shown.metadata)
        hidden = [one for one in both if one.name in needed and one.name not in names]
        return replace(self, shown=shown, hidden=pa.schema(hidden, self.shown.metadata))


def view_of(source: Source, pin: Pin, names: Sequence[str] = (), cut: Cut | None = None) -> View:
    """What a reader sees of a pinned source inside a cut: the columns in `names`, else those that the source names, else all.

    Raises:
        SourceError: Spark cannot read one of them.
    """
    plain = plain_of(pin)
    wanted = list(names or source.needed or plain.names)
    others = [name for name in dict.fromkeys((*source.times, *source.tested)) if name not in wanted]
    if cut is not None and cut.at is not None and pin.snapshots is not None:
        cut = pin.held_at(cut.at)
    return View(
        source=source,
        shown=columns.schema_of(source, plain, pin.source, wanted),
        hidden=columns.schema_of(source, plain, pin.source, others),
        cut=cut or WHOLE,
    )


def plain_of(pin: Pin) -> pa.Schema:
    """The plain types of a pinned source's columns."""
    if pin.schema:
        return columns.unpacked(pin.schema)
    found = chunks.open_parquet(pin.files[0].place).schema_arrow  # a pin from before pins held types
    return pa.schema([(field.name, columns.plain(field.type)) for field in found])


def cut_rows(batch: pa.RecordBatch, view: View, carried: Sequence[str] = ()) -> pa.RecordBatch:
    """The rows of a batch as it is stored that a reader sees.

    Args:
        carried: further columns of the batch that the result has as they are.

    Raises:
        SourceError: a value does not fit its column's type, or cannot be cast to it.
    """
    source, schema = view.source, view.shown
    if view.hidden.names:
        schema = pa.schema([*view.shown, *view.hidden], view.shown.metadata)
    found = of_batch(batch, schema, source.zone, source.stored)
    for name in carried:
        found = found.append_column(name, batch.column(name))
    found = keep(found, source, view.cut)
    return found.select([*view.shown.names, *carried]) if view.hidden.names else found


def keep(batch: pa.RecordBatch, source: Source, cut: Cut) -> pa.RecordBatch:
    """The rows of a batch, in the description's names and types, that meet the source's `where` and are inside a cut."""
    masks = [met(where.parsed(source.where), batch)] if source.where else []
    time = source.event_time if isinstance(source, EventSource) else source.snapshots
    if time and cut.low is not None:
        masks.append(pc.greater_equal(batch.column(time), pa.scalar(cut.low, UTC_TIME)))
    if time and cut.high is not None:
        masks.append(pc.less(batch.column(time), pa.scalar(cut.high, UTC_TIME)))
    if isinstance(source, EventSource) and cut.known is not None and source.knowledge_time:
        masks.append(pc.less(batch.column(source.knowledge_time), pa.scalar(cut.known, UTC_TIME)))
    if isinstance(source, ReferenceSource) and cut.at is not None and source.valid_from:
        masks += _valid(batch, source, pa.scalar(cut.at, UTC_TIME))
    found = batch.filter(functools.reduce(pc.and_kleene, masks)) if masks else batch
    if isinstance(source, ReferenceSource) and cut.at is not None and source.valid_to in batch.schema.names:
        place = found.schema.get_field_index(source.valid_to)  # of each row left it lies in the future, which nobody knew
        found = found.set_column(place, found.schema.field(place), pa.nulls(found.num_rows, found.schema.field(place).type))
    return found


def _valid(batch: pa.RecordBatch, source: ReferenceSource, at: pa.Scalar) -> list[pa.Array]:
    """Masks of the rows that hold just before a moment."""
    begin = batch.column(source.valid_from)
    masks = [pc.or_kleene(begin.is_null(), pc.less(begin, at))]
    if source.valid_to:
        end = batch.column(source.valid_to)
        masks.append(pc.or_kleene(end.is_null(), pc.greater_equal(end, at)))
    return masks


SIGNS = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def met(condition: Condition, batch: pa.RecordBatch) -> pa.Array:
    """Whether each row meets a condition, by SQL's rules: null where that is unknown."""
    if isinstance(condition, Both):
        return pc.and_kleene(met(condition.first, batch), met(condition.second, batch))
    if isinstance(condition, Either):
        return pc.or_kleene(met(condition.first, batch), met(condition.second, batch))
    if isinstance(condition, Not):
        return pc.invert(met(condition.condition, batch))
    column = batch.column(condition.column)
    if isinstance(condition, IsNull):
        return column.is_null()
    if pa.types.is_null(column.type):
        return pa.nulls(batch.num_rows, pa.bool_())
    if isinstance(condition, Like):
        return pc.match_like(column, condition.pattern)
    if isinstance(condition, Among):
        tests = (_compared(column, "=", value) for value in condition.values)
        return functools.reduce(pc.or_kleene, tests)
    return _compared(column, condition.sign, condition.value)


def _compared(column: pa.Array, sign: str, value: Value) -> pa.Array:
    kind = column.type
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value() and abs(value) < 2**63
        if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not whole):
            return SIGNS[sign](column.cast(pa.float64(), safe=False), float(value))
        scalar = pa.scalar(int(value), pa.int64()) if whole else pa.scalar(value)
        return SIGNS[sign](column.cast(pa.int64()) if pa.types.is_integer(kind) else column, scalar)
    if isinstance(value, date) and not isinstance(value, datetime) and pa.types.is_timestamp(kind):
        return SIGNS[sign](column, pa.scalar(datetime(value.year, value.month, value.day), pa.timestamp("us")).cast(UTC_TIME))
    return SIGNS[sign](column, pa.scalar(value, UTC_TIME if isinstance(value, datetime) else None))


def check_where(name: str, source: Source, schema: pa.Schema) -> None:
    """Checks that the columns of a source's `where` exist and can be compared with its values. `schema`: the plain types.

    Raises:
        SourceError: one cannot.
    """
    if not source.where:
        return
    for test in where.tests(where.parsed(source.where)):
        if test.column not in schema.names:
            raise SourceError(
                f"Source {name!r}: where={source.where!r} names column {test.column!r}, which it does not have (it has: "
                f"{', '.join(sorted(schema.names)[:30])}). Correct the description; names are those that rename= gives."
            )
        kind = schema.field(test.column).type
        if expected := _unfit(test, kind):
            raise SourceError(
                f"Source {name!r}: where={source.where!r} expects {test.column} as {expected}, got {kind}. Correct the "
                f"condition, or declare the type with cast={{{test.column!r}: ...}}."
            )


def _unfit(test: Test, kind: pa.DataType) -> str:
    """What a test expects instead of a type; empty if the type fits."""
    kinds = pa.types
    if isinstance(test, IsNull) or kinds.is_null(kind):
        return ""
    if isinstance(test, Like):
        return "" if kinds.is_string(kind) else "text"
    for value in test.values if isinstance(test, Among) else (test.value,):
        if isinstance(value, bool):
            fits, expected = kinds.is_boolean(kind), "true or false"
        elif isinstance(value, str):
            fits, expected = kinds.is_string(kind), "text"
        elif isinstance(value, Decimal):
            fits, expected = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind), "a number"
        elif isinstance(value, datetime):
            fits, expected = kinds.is_timestamp(kind), "a timestamp"
        else:
            fits, expected = kinds.is_date(kind) or kinds.is_timestamp(kind), "a date or a timestamp"
        if not fits:
            return expected
    return ""
