"""The text of a user's module, checked without importing it."""

from __future__ import annotations

from textwrap import dedent

import pytest

from almanac.core.functions import check_module, check_text
from almanac.errors import DescriptionError
from tests.core.test_functions import PIPELINE, module

WHOLE = """\
from pyspark.sql import functions as F


def customers(visits):
    return visits.select("customer").distinct()


def habits(people, visits, as_of):
    return visits.groupBy("customer").agg(F.count("*"))


def returns(visits, category):
    return visits


def estimators():
    return {}


def checks():
    return {}
"""


def refused(text: str) -> str:
    with pytest.raises(DescriptionError) as found:
        check_text(text, "spark_jobs/shop.py", PIPELINE)
    return str(found.value)


def test_a_text_that_fits_is_let_through() -> None:
    check_text(WHOLE, "spark_jobs/shop.py", PIPELINE)


def test_a_syntax_error_is_told_with_its_line() -> None:
    assert refused(WHOLE.replace("def returns(visits, category):", "def returns(visits, category)")) == (
        "spark_jobs/shop.py, line 12: expected ':'. Correct the syntax; nothing of the module can be used."
    )
    assert refused("a = 1\0").startswith("spark_jobs/shop.py, line 1: ")


def test_a_missing_function_is_told_with_those_there_are_and_the_nearest() -> None:
    assert refused(WHOLE.replace("def habits(", "def habit(")) == (
        "spark_jobs/shop.py, line 1: Module 'shop' has no function 'habits' (it has: checks, customers, estimators, habit, "
        "returns). Is 'habit' meant? Write it, or correct the name in the pipeline's description."
    )
    assert "has no function 'checks'" in refused(WHOLE.replace("def checks(", "def _checks("))


def test_arguments_are_held_against_what_is_read() -> None:
    assert refused(
        WHOLE.replace("def customers(visits)", "def customers(visit)").replace("return visits.select", "return visit.select")
    ) == (
        "spark_jobs/shop.py, line 4: Function 'customers' of pipeline 'shop' takes (visit), but its description reads (visits). "
        "It does not take visits. Unknown arguments: visit. Besides what it reads it may take: as_of, category, limit. Make "
        "reads= and the signature agree."
    )
    assert "takes (limit, seed)" not in refused(WHOLE.replace("def estimators()", "def estimators(seed, limit=3)"))
    assert "line 16: Function 'estimators' of pipeline 'shop' takes (seed), but it is called without arguments." in refused(
        WHOLE.replace("def estimators()", "def estimators(seed, limit=3)")
    )


def test_names_that_are_defined_nowhere_are_told_with_their_first_line() -> None:
    assert refused(WHOLE.replace("from pyspark.sql import functions as F\n", "\n")) == (
        "spark_jobs/shop.py, line 9: Name 'F' is used and not defined. Import or define it."
    )
    assert refused(WHOLE + "\nVISTS = 3\n\n\ndef _more():\n    return VISITS\n").endswith(
        "line 27: Name 'VISITS' is used and not defined. Is 'VISTS' meant? Import or define it."
    )


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    text = WHOLE.replace("def customers(visits)", "def customers(visit)").replace("def checks(", "def check(")
    lines = refused(text).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"spark_jobs/shop.py, line {number}" for number in (1, 4, 5)]


@pytest.mark.parametrize(
    "more",
    [
        "from helpers import *\nuse(anything)",
        "globals()['late'] = 1\nlate",
        "def f():\n    global made\n    made = 1\n\n\ndef g():\n    return made",
        "try:\n    import polars\nexcept ImportError:\n    polars = None\npolars",
        "for number in range(3):\n    pass\nnumber",
        "with open('x') as opened:\n    opened",
        "match 3:\n    case [first, *rest]:\n        print(first, rest)",
        "class A:\n    b = 1\n\n    def c(self):\n        return super(), __class__",
        "[one for one in range(3) if (last := one)]\nlast",
        "def f(a: 'Unknown'):\n    return __file__, __name__",
    ],
)
def test_names_that_only_running_it_could_tell_are_let_through(more: str) -> None:
    check_text(f"{WHOLE}\n\n{dedent(more)}\n", "spark_jobs/shop.py", PIPELINE)


def test_functions_that_are_imported_assigned_or_decorated_are_let_through() -> None:
    text = WHOLE.replace('def habits(people, visits, as_of):\n    return visits.groupBy("customer").agg(F.count("*"))\n', "")
    for more in (
        "from helpers import habits",
        "habits = make(F)\n\n\ndef make(_):\n    pass",
        "import functools\n\n\n@functools.cache\ndef habits(*given):\n    pass",
    ):
        check_text(f"{text}\n{more}\n", "spark_jobs/shop.py", PIPELINE)


def test_the_text_and_the_imported_module_are_held_against_the_same_rules() -> None:
    space: dict[str, object] = {}
    exec(compile(WHOLE.replace("from pyspark.sql import functions as F", "F = None"), "shop.py", "exec"), space)
    check_module(module(**{name: value for name, value in space.items() if callable(value)}), PIPELINE)
