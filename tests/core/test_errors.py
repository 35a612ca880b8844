"""Error texts are bounded: a page of them helps nobody."""

from __future__ import annotations

import inspect

from almanac import errors
from almanac.errors import AlmanacError, CheckFailed, bounded, examples


def test_examples_are_named_up_to_a_limit_and_the_rest_is_counted() -> None:
    assert examples([]) == "none"
    assert examples("abc") == "a, b, c"
    assert examples(range(5)) == "0, 1, 2, 3, 4"
    assert examples(range(7)) == "0, 1, 2, 3, 4 (and 2 more)"
    assert examples(iter(range(3)), limit=1) == "0 (and 2 more)"


def test_findings_are_a_line_each_up_to_a_limit() -> None:
    assert bounded(["one", "two"]) == "- one\n- two"
    assert bounded(["one", "two", "three"], limit=2) == "- one\n- two\n- and 1 more: the full report is kept with the receipt"


def test_a_failed_audit_carries_all_its_findings_and_tells_some() -> None:
    error = CheckFailed("shop features.audit 2017-06", [f"finding {number}" for number in range(12)])

    assert len(error.findings) == 12
    assert str(error).splitlines()[0] == "shop features.audit 2017-06 did not pass its audit; nothing was published:"
    assert str(error).splitlines()[-1] == "- and 2 more: the full report is kept with the receipt"


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = {word for line in (errors.__doc__ or "").splitlines()[2:] for word in line.split()[:3] if word.isidentifier()}
    classes = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__}

    assert all(issubclass(kind, AlmanacError) for kind in classes.values())
    assert set(classes) <= drawn
