"""What a run is to write fits what readers see of the predictions: the key keeps its name and type, `score` its meaning.

Looked at before anything is built.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from almanac.core.target import Target
from almanac.errors import DescriptionError
from almanac.store.home import Home

ADVICE = "Describe the change in a pipeline of another name: it has tables of its own"


def check(home: Home, definition: str, entity: str, target: Target, *, without: Collection[str] = ()) -> None:
    """Predictions of a description fit those that readers see. `without`: versions whose predictions are about to go.

    Raises:
        DescriptionError: the key has another name or type, or the label another kind under the same column.
    """
    written = home.written()
    if not written:
        return
    shown = home.predictions.shown()
    if entity not in shown.names:
        raise DescriptionError(
            f"Pipeline.entity: expected the key of the predictions of {written[-1].period}, which are visible with the columns "
            f"{', '.join(shown.names)}, got {entity!r}. {ADVICE}."
        )
    built = home.features(definition).shown()
    if entity in built.names:
        check_key(home, built.field(entity), f"Features of definition {definition}", shown)
    gone = {*without, *home.log().withdrawn}
    for version in dict.fromkeys(one.version for one in reversed(written) if one.version not in gone):
        theirs = home.versions.read(version).target
        if not set(theirs.columns) & set(target.columns):
            continue  # their columns stand beside each other
        if theirs.kind != target.kind:
            period = max(one.period for one in written if one.version == version)
            raise DescriptionError(
                f"Label.kind: expected {theirs.kind!r}, as of version {version}, whose predictions of {period} are visible, got "
                f"{target.kind!r}: one column {theirs.columns[0]} would mean two things. {ADVICE}."
            )
        return


def check_key(home: Home, key: pa.Field, what: str, shown: pa.Schema | None = None) -> None:
    """A key can stand in the predictions that readers see: whole numbers of any width, or text. `what`: whose key it is.

    Raises:
        DescriptionError: it cannot.
    """
    shown = home.predictions.shown() if shown is None else shown
    if key.name not in shown.names:
        return
    found, expected = _kind(key.type), _kind(shown.field(key.name).type)
    if found != expected:
        raise DescriptionError(
            f"{what}: column {key.name!r} is {key.type} ({found}), expected {expected}, as in the visible predictions of "
            f"{home.name}. Give the key its type back in the source or the function. {ADVICE}."
        )


def _kind(kind: pa.DataType) -> str:
    return "whole numbers" if pa.types.is_integer(kind) else "text"
