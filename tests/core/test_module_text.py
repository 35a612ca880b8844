"""The text of a user's module, checked without importing it."""

from __future__ import annotations

from textwrap import dedent, indent

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
        "def f():\n    global np\n    import numpy as np\n\n\ndef g():\n    return np",
        "def f():\n    global made\n\n    def made():\n        pass\n\n\ndef g():\n    return made()",
        "class A:\n    name = __qualname__, __module__",
        "__annotations__, __cached__, WindowsError",
        "def f():\n    m: Model = 1\n    m.x: Model = 2\n    return m",
        "try:\n    spark\nexcept NameError:\n    spark = None",
        "try:\n    display\n    shown = True\nexcept NameError:\n    shown = False\nif shown:\n    display(1)",
        "def f():\n    try:\n        return spark\n    except (NameError, AttributeError):\n        return None",
        "def f():\n    try:\n        return spark\n    except Exception:\n        pass\n\n\ndef g(spark):\n    return spark",
        "def f():\n    try:\n        return spark\n    except:\n        return None",
        "def f(a=(late := 1)):\n    return late",
        "match {}:\n    case {'a': 1, **rest}:\n        rest",
        "import sys\nsetattr(sys.modules[__name__], 'late', 1)\nlate",
        "import sys\nthis = sys.modules[__name__]\nthis.late = 1\nlate",
        "vars()['late'] = 1\nlate",
        "locals()['late'] = 1\nlate",
        "exec('late = 1')\nlate",
        "late: int\n\n\ndef f():\n    return late",
        "chain = F" + ".col('a')" * 400,
    ],
)
def test_names_that_only_running_it_could_tell_are_let_through(more: str) -> None:
    check_text(f"{WHOLE}\n\n{dedent(more)}\n", "spark_jobs/shop.py", PIPELINE)


def test_no_annotation_is_evaluated_where_annotations_are_postponed() -> None:
    more = "def f(a: Unknown) -> Unknown:\n    return a\n\n\nclass A:\n    b: Unknown\n\n\nc: Unknown = 1"
    assert "Name 'Unknown' is used and not defined" in refused(f"{WHOLE}\n\n{more}\n")
    check_text(f"from __future__ import annotations\n{WHOLE}\n\n{more}\n", "spark_jobs/shop.py", PIPELINE)


def test_a_byte_order_mark_is_let_through() -> None:
    check_text(f"\ufeff{WHOLE}", "spark_jobs/shop.py", PIPELINE)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("return 1", "line 23: 'return' outside function. Correct the syntax"),
        ("break", "line 23: 'break' outside loop. Correct the syntax"),
        ("def f():\n    await g()", "line 24: 'await' outside async function. Correct the syntax"),
        ("def f(a, a):\n    pass", "line 23: duplicate argument 'a' in function definition. Correct the syntax"),
        (
            "class A:\n    def b(self, o):\n        setattr(self, 'c', vars(o))\n        return absent",
            "line 26: Name 'absent' is used and not defined.",
        ),
        ("import sys\n'a' in sys.modules\nabsent", "line 25: Name 'absent' is used and not defined."),
        ("try:\n    absent\nexcept ValueError:\n    pass", "line 24: Name 'absent' is used and not defined."),
        ("try:\n    pass\nexcept NameError:\n    absent", "line 26: Name 'absent' is used and not defined."),
        ("try:\n    absent\nexcept Exception:\n    pass\nabsent", "line 27: Name 'absent' is used and not defined."),
        ("class A:\n    b = 1\n\n    def c(self):\n        return b", "line 27: Name 'b' is used and not defined."),
        ("def f():\n    local = 1\n\n\nlocal", "line 27: Name 'local' is used and not defined."),
        ("if F:\n\n    def f():\n        local = 1\n\n    local", "line 28: Name 'local' is used and not defined."),
    ],
)
def test_errors_that_need_no_run_are_found(more: str, message: str) -> None:
    assert refused(f"{WHOLE}\n{more}\n").startswith(f"spark_jobs/shop.py, {message}")


HABITS = 'def habits(people, visits, as_of):\n    return visits.groupBy("customer").agg(F.count("*"))\n'
FIT = "def habits(people, visits):\n    pass\n"
UNFIT = "def habits(people):\n    pass\n"


def branches(first: str, second: str) -> str:
    return f"if F:\n{indent(first, '    ')}else:\n{indent(second, '    ')}"


@pytest.mark.parametrize(
    "more",
    [
        "from helpers import habits",
        "habits = make(F)\n\n\ndef make(_):\n    pass",
        "import functools\n\n\n@functools.cache\ndef habits(*given):\n    pass",
        f"import functools\n\n\n{UNFIT}\n\nhabits = functools.partial(habits, days=90)",
        f"{UNFIT}\n\nhabits = F.udf(habits)",
        f"{UNFIT}\n\nfrom fast import habits",
        f"{UNFIT}\n\ntry:\n    from fast import habits\nexcept ImportError:\n    pass",
        f"{UNFIT}\n\n{FIT}",
        branches(FIT, UNFIT),
        branches(UNFIT, FIT),
        f"try:\n    import polars\n\n{indent(UNFIT, '    ')}except ImportError:\n{indent(FIT, '    ')}",
        f"{UNFIT}\n\nif F:\n{indent(FIT, '    ')}",
        f"def setup():\n    global habits\n\n{indent(FIT, '    ')}\n\nsetup()",
        f"{UNFIT}\n\ndef setup():\n    global habits\n    from fast import habits\n\n\nsetup()",
        "match [F]:\n    case [habits]:\n        pass",
        "match [F]:\n    case [_, *habits]:\n        pass",
        "match {}:\n    case {**habits}:\n        pass",
        "match F:\n    case object() as habits:\n        pass",
        "import sys\nsetattr(sys.modules[__name__], 'habits', F)",
    ],
)
def test_functions_whose_signature_only_running_it_could_tell_are_let_through(more: str) -> None:
    check_text(f"{WHOLE.replace(HABITS, '')}\n{more}\n", "spark_jobs/shop.py", PIPELINE)


@pytest.mark.parametrize(
    ("more", "line"),
    [(f"{FIT}\n\n{UNFIT}", 25), (branches(UNFIT, UNFIT), 25), (f"{branches(FIT, FIT)}\n\n{UNFIT}", 29)],
)
def test_a_function_that_is_defined_again_is_held_against_what_is_read(more: str, line: int) -> None:
    assert refused(f"{WHOLE.replace(HABITS, '')}\n{more}\n").startswith(
        f"spark_jobs/shop.py, line {line}: Function 'habits' of pipeline 'shop' takes (people), but its description reads "
    )


@pytest.mark.parametrize(
    "more", ["def setup(habits):\n    vars(habits)", "class A:\n    habits = 1", "[habits for habits in [F]]"]
)
def test_a_name_that_is_bound_elsewhere_is_no_function_of_the_module(more: str) -> None:
    assert "has no function 'habits'" in refused(f"{WHOLE.replace(HABITS, '')}\n{more}\n")


def test_the_text_and_the_imported_module_are_held_against_the_same_rules() -> None:
    space: dict[str, object] = {}
    exec(compile(WHOLE.replace("from pyspark.sql import functions as F", "F = None"), "shop.py", "exec"), space)
    check_module(module(**{name: value for name, value in space.items() if callable(value)}), PIPELINE)
