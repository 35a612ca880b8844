"""Failures in plain words: what an exception says about its order, where in the user's code it was raised, and whether the
store is to blame instead.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Callable, Iterator

from almanac import errors
from almanac.errors import AlmanacError, StoreError

LONGEST_FINDING = 2000


def plain(error: BaseException) -> str:
    """An error in a sentence or two; only the last line of an executor's traceback."""
    if isinstance(error, AlmanacError):
        return str(error)
    name, message = _raised_in_a_task(error) or (type(error).__name__, str(error).strip())
    return (message if hasattr(errors, name) else f"{name}: {message}")[:LONGEST_FINDING]


def class_of(error: Exception) -> str:
    """The name of an error's class; if a Spark task raised the error, the class that was raised there."""
    return (_raised_in_a_task(error) or (type(error).__name__,))[0]


def lost_store(error: Exception) -> StoreError | None:
    """The store's error if the store made a Spark task fail; else None."""
    name, message = _raised_in_a_task(error) or ("", "")
    kind = getattr(errors, name, None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, StoreError) else None


def user_lines(error: BaseException, shown: Callable[[str], str]) -> list[str]:
    """The traceback of an error, of the user's code alone; the line that raised it comes last. Empty if none of that is in it.

    Args:
        shown: what a person calls a file; empty if it is not the user's.
    """
    frames: list[tuple[str, int, str]] = []
    one: BaseException | None = error
    while one is not None:
        frames += [(frame.filename, frame.lineno or 1, frame.name) for frame in traceback.extract_tb(one.__traceback__)]
        frames += _frames_in_a_task(str(one))
        one = one.__cause__
    return [
        line
        for file, number, function in dict.fromkeys(frames)
        if shown(file)
        for line in (f"{shown(file)}, line {number}, in {function}:", f"    {linecache.getline(file, number).strip()}")
    ]


def _frames_in_a_task(text: str) -> Iterator[tuple[str, int, str]]:
    """The frames of a Spark task's traceback that stands in an error's text: file, line, function."""
    if "Traceback (most recent call last)" in text:
        for file, number, function in re.findall(r'^  File "(.+)", line (\d+), in (.+)$', text, re.MULTILINE):
            yield file, int(number), function


def _raised_in_a_task(error: BaseException) -> tuple[str, str] | None:
    """Name and text of the Spark task's error that this error reports; None if it reports none."""
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text:
        return None
    lines = re.findall(r"^(?:[\w.]+\.)?(\w+): (.+)$", text, re.MULTILINE)
    raised = [(name, message) for name, message in lines if name.endswith(("Error", "Exception")) or hasattr(errors, name)]
    return raised[-1] if raised else (type(error).__name__, text.splitlines()[-1])
