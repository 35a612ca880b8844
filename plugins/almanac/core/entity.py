"""An entity: what is predicted for, named by one column or by several together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from almanac.errors import DataError, DescriptionError

Entity = str | tuple[str, ...]


def check_entity(entity: object, written: Collection[str]) -> None:
    """Checks the description of an entity: a column's name, or a tuple of two or more. A tuple of one is refused, so that a
    description has one spelling and one digest. `written`: the columns that Almanac writes beside it.

    Raises:
        DescriptionError: it is neither, a name is invalid or given twice, or Almanac writes a column of that name.
    """
    if isinstance(entity, str):
        names: tuple[object, ...] = (entity,)
    elif isinstance(entity, tuple) and len(entity) > 1:
        names = entity
    else:
        listed = tuple(entity) if isinstance(entity, tuple | list) else ()
        remedy = f" Write entity={listed if len(listed) > 1 else listed[0]!r}." if listed else ""
        raise DescriptionError(
            f"Pipeline.entity: expected the name of a column, or a tuple of two or more names; got {entity!r}.{remedy}"
        )
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise DescriptionError(f"Pipeline.entity: expected the name of a column, got {name!r}.")
    folded = [str(name).casefold() for name in names]
    if doubled := [str(name) for name in names if folded.count(str(name).casefold()) > 1]:
        raise DescriptionError(
            f"Pipeline.entity: expected different columns, got {in_words(map(repr, doubled))}, which are one name, because "
            "case is ignored. Remove one."
        )
    if taken := [str(name) for name in names if str(name).casefold() in {one.casefold() for one in written}]:
        raise DescriptionError(
            f"Pipeline.entity: got {taken[0]!r}, a column that Almanac writes itself (reserved: {', '.join(written)}). Rename "
            "the column in the functions that return it, or in the files."
        )


def keys_of(entity: Entity) -> tuple[str, ...]:
    """The columns that name an entity, in the order of the description."""
    return (entity,) if isinstance(entity, str) else tuple(entity)


def in_words(keys: Iterable[str]) -> str:
    """Names of columns, for messages: `customer`, `customer and shop`, `period, customer and shop`."""
    *others, last = keys
    return f"{', '.join(others)} and {last}" if others else last


def shown(values: Sequence[object]) -> str:
    """One entity by the values of its keys, for messages: `42`, or `(42, 'north')`."""
    return str(values[0]) if len(values) == 1 else str(tuple(values))


def labelled(keys: Sequence[str], values: Sequence[object]) -> str:
    """One entity with the names of its keys: `customer 42`, or `customer 42, shop north`."""
    return ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))


def requested(keys: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """The entity that a person names: `KEY=VALUE` for each key; for an entity of one column the value alone will do.

    Raises:
        DataError: a key is missing, unknown or given twice, or a text is no `KEY=VALUE`.
    """
    such = " ".join(f"--entity {key}=..." for key in keys)
    if len(keys) == 1:
        (key,) = keys
        if len(given) != 1:
            raise DataError(f"--entity: expected one value, of {key}; got {len(given)}. Write {such} once.")
        return {key: given[0].removeprefix(f"{key}=")}
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in keys:
            what = f"the column {key!r}" if equals else repr(text)
            raise DataError(f"--entity: expected {in_words(keys)}, which together name an entity; got {what}. Write {such}.")
        if key in found:
            raise DataError(f"--entity: got {key} twice ({found[key]!r} and {value!r}), expected it once. Write {such}.")
        found[key] = value
    if missing := [key for key in keys if key not in found]:
        raise DataError(
            f"--entity: expected {in_words(keys)}, which together name an entity; {in_words(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Write {such}."
        )
    return found
