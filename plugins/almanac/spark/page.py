"""The result of a suite as a page for people. It loads nothing; values and names from the data appear as text only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c2024; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { border-bottom: 1px solid #d9dde1; padding: .4rem .6rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; color: #565e66; }
th:first-child { width: 6rem; }
code { font: 13px/1.5 ui-monospace, monospace; }
.passed { color: #0a6b2d; } .failed { color: #b3261e; font-weight: 600; } .warning { color: #8a5300; font-weight: 600; }
"""
HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{HASH}'; base-uri 'none'; form-action 'none'"
OF_TABLE = "The table"


def page(name: str, results: Sequence[Mapping[str, Any]], severities: Sequence[str], found: Sequence[str]) -> str:
    """A suite's results as HTML, by column, failed ones first.

    Args:
        name: the suite's.
        results: each as Great Expectations' JSON.
        severities, found: the severity of each expectation, and how it failed, in words.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    kinds = []
    for result, severity, text in zip(results, severities, found, strict=True):
        arguments = result["expectation_config"]["kwargs"]
        kind = "passed" if result["success"] else "failed" if severity == "critical" else "warning"
        kinds.append(kind)
        group = str(arguments.get("column") or OF_TABLE)
        groups.setdefault(group, []).append((("failed", "warning", "passed").index(kind), _row(result, kind, text)))
    worst = sorted(groups, key=lambda group: (min(rank for rank, _ in groups[group]), group != OF_TABLE, group))
    failed, warned = kinds.count("failed"), kinds.count("warning")
    outcome = "Did not pass" if failed else "Passed"
    figures = f"{len(results)} expectations: {kinds.count('passed')} passed, {failed} failed, {warned} warned."
    tables = "\n".join(_table(group, [row for _, row in sorted(groups[group], key=lambda ranked: ranked[0])]) for group in worst)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(name)}: {outcome.lower()}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(name)}</h1>\n"
        f'<p><span class="{"failed" if failed else "passed"}">{outcome}.</span> {figures}</p>\n{tables}\n</body>\n</html>\n'
    )


def _table(group: str, rows: Sequence[str]) -> str:
    head = "<tr><th>Result</th><th>Expected</th><th>Found</th></tr>"
    return f"<h2>{escape(group)}</h2>\n<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>"


def _row(result: Mapping[str, Any], kind: str, text: str) -> str:
    config = result["expectation_config"]
    arguments = {key: value for key, value in config["kwargs"].items() if key not in ("batch_id", "column") and value is not None}
    wanted = config["type"].removeprefix("expect_").replace("_", " ")
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    observed = (result.get("result") or {}).get("observed_value")
    shown = text or ("" if observed is None else repr(observed))
    return (
        f'<tr><td class="{kind}">{kind}</td><td>{escape(wanted)}<br><code>{escape(given)}</code></td>'
        f"<td>{escape(shown)}</td></tr>"
    )
