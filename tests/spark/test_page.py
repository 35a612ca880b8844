"""The page of a suite's results: what it says, and that nothing in it is more than text."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import great_expectations.expectations as gxe
import pyarrow as pa
import pytest

from almanac.spark import checks, page, rows

pytestmark = pytest.mark.spark

HOSTILE = "<script src=//evil.example/x.js></script><img onerror=alert(1)>\"'&"


def nowhere() -> Any:
    raise AssertionError("no session is needed")


def of(table: pa.Table, *expectations: Any, name: str = "shop_features_2017-05") -> str:
    return checks.run(rows.of_table(nowhere, table), list(expectations), name).html


def test_what_failed_comes_first_and_each_says_what_was_expected_and_found() -> None:
    table = pa.table({"a": pa.array([1.0, 2.0]), "b": pa.array([1.0, 20.0])})
    html = of(
        table,
        gxe.ExpectColumnValuesToNotBeNull(column="a"),
        gxe.ExpectColumnValuesToBeBetween(column="b", max_value=10),
        gxe.ExpectColumnValuesToBeBetween(column="a", max_value=1, severity="warning"),
        gxe.ExpectTableRowCountToEqual(value=2),
    )

    assert "<h1>shop_features_2017-05</h1>" in html
    assert '<span class="failed">Did not pass.</span> 4 expectations: 2 passed, 1 failed, 1 warned.' in html
    assert re.findall("<h2>(.+?)</h2>", html) == ["b", "a", "The table"]
    assert re.findall('<td class="(.+?)">', html) == ["failed", "warning", "passed", "passed"]
    assert "<td>column values to be between<br><code>max_value=10.0</code></td>" in html
    assert "1 of 2 rows (50 %), such as 20.0</td>" in html


def test_names_and_values_from_data_are_text_alone() -> None:
    table = pa.table({HOSTILE: [HOSTILE, None], "plain": [HOSTILE, "b"]})
    html = of(
        table,
        gxe.ExpectColumnValuesToNotBeNull(column=HOSTILE),
        gxe.ExpectColumnValuesToBeInSet(column="plain", value_set=["b"]),
        name=HOSTILE,
    )

    assert "evil.example" in html
    assert "<script" not in html and "<img" not in html
    assert not set(re.findall(r"<(\w+)", html)) - {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span"),
        *("table", "thead", "tbody", "tr", "th", "td", "br", "code"),
    }


def test_it_loads_nothing_and_its_policy_allows_its_own_style_alone() -> None:
    html = of(pa.table({"a": [1.0]}), gxe.ExpectColumnValuesToNotBeNull(column="a"))

    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="(.+?)">', html)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == page.POLICY
    assert f"default-src 'none'; style-src 'sha256-{hashed}'" in policy
    assert not re.search(r"""\b(src|href|style|url)\s*[=(]""", html.replace(style, ""))
    assert "http" not in html.replace("http-equiv", "")
