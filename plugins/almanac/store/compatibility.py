"""Checks that what a run will write fits what is already stored: the predictions' key keeps its name and type, `score` keeps its
meaning, and a feature group keeps its columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

import pyarrow as pa

from almanac.columns import key_kind
from almanac.core.canonical import sealed
from almanac.core.entity import in_words
from almanac.core.receipts import Order
from almanac.core.target import Target
from almanac.errors import DescriptionError, examples
from almanac.store.home import Home
from almanac.store.objects import record

AS_OF = "as_of"  # predictions have the keys first, then this
ADVICE = "Describe the change in a pipeline with another name; it gets its own tables"


def check(home: Home, definition: str, keys: Sequence[str], target: Target, *, without: Collection[str] = ()) -> None:
    """Checks that a description's predictions fit the visible ones. `without`: versions whose predictions will be replaced.

    Raises:
        DescriptionError: the key has another name or type, or the label has another kind but the same column.
    """
    written = home.written()
    if not written:
        return
    shown = home.predictions.shown()
    standing = list(takewhile(lambda name: name != AS_OF, shown.names))  # the keys
    if set(keys) != set(standing):
        raise DescriptionError(
            f"Pipeline.entity: expected the key of the visible predictions of {written[-1].period}, "
            f"{in_words(map(repr, standing))} (columns {', '.join(shown.names)}); got {in_words(map(repr, keys))}. {ADVICE}."
        )
    built = home.features(definition).shown()
    for key in keys:
        if key in built.names:
            check_key(home, built.field(key), f"Features of definition {definition}", shown)
    gone = {*without, *home.log().withdrawn}
    for version in dict.fromkeys(one.version for one in reversed(written) if one.version not in gone):
        theirs = home.versions.read(version).target
        if not set(theirs.columns) & set(target.columns):
            continue  # the columns do not overlap
        if theirs.kind != target.kind:
            period = max(one.period for one in written if one.version == version)
            raise DescriptionError(
                f"Label.kind: expected {theirs.kind!r}, as in version {version}, whose predictions of {period} are visible; got "
                f"{target.kind!r}. Column {theirs.columns[0]} would have two meanings. {ADVICE}."
            )
        return


def check_key(home: Home, key: pa.Field, what: str, shown: pa.Schema | None = None) -> None:
    """Checks that a key fits the visible predictions: whole numbers of any width, or text. `what`: whose key it is.

    Raises:
        DescriptionError: it does not fit.
    """
    shown = home.predictions.shown() if shown is None else shown
    if key.name not in shown.names:
        return
    found, expected = key_kind(key.type), key_kind(shown.field(key.name).type)
    if found != expected:
        raise DescriptionError(
            f"{what}: column {key.name!r} is {key.type} ({found}), expected {expected}, as in the visible predictions of "
            f"{home.name}. Restore the key's type in the source or the function. {ADVICE}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The features that a group returned for the first period built under a definition."""

    period: str
    names: tuple[str, ...]


def check_columns(home: Home, order: Order, names: Sequence[str]) -> None:
    """Checks that a group returns the same columns in every period of a definition: a model is trained on them by name. The
    period that set them may change them as long as no other period is visible, for when its data was corrected.

    Raises:
        DescriptionError: it returned other columns for the period that was built first.
    """
    uri = home.layout.columns(order.description, order.part)
    if (body := home.objects.find(uri)) is not None:
        _check_alike(home, order, record(Columns, body, uri), names)


def _check_alike(home: Home, order: Order, first: Columns, names: Sequence[str]) -> None:
    if first.names == tuple(names) or _may_decide(home, order, first):
        return
    new, gone = [name for name in names if name not in first.names], [name for name in first.names if name not in names]
    if new or gone:
        raise DescriptionError(
            f"Function {order.part!r} returned other columns for {order.period} than {_before(order, first)}: new are "
            f"{examples(new) or 'none'}, missing are {examples(gone) or 'none'}. Features of one definition must have the same "
            "columns in every period. Name them in the function. A pivot returns only the values that the period's rows "
            "happen to hold, unless you list them: pivot('category', ['food', 'toys']). If the data of "
            f"{first.period} was wrong, correct it and rebuild that period first."
        )


def keep_columns(home: Home, order: Order, names: Sequence[str]) -> None:
    """Stores the columns of a group, from the first period built. Raises: as `check_columns`."""
    uri, found = home.layout.columns(order.description, order.part), Columns(period=order.period, names=tuple(names))
    if home.objects.put_if_absent(uri, sealed(found)):
        return
    first = record(Columns, home.objects.get(uri), uri)
    _check_alike(home, order, first, names)
    if first.period == order.period and first != found:
        home.objects.put(uri, sealed(found))


def _may_decide(home: Home, order: Order, first: Columns) -> bool:
    return first.period == order.period and not home.features(order.description).visible().keys() - {order.period}


def _before(order: Order, first: Columns) -> str:
    return "before" if first.period == order.period else f"for {first.period}"
