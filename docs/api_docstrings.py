"""How the reference reads our docstrings, where they are written for people who read the code: a griffe extension."""

from __future__ import annotations

import re
from typing import Any

import griffe

# One description for several arguments: `split, values: a column ...`, with the lines that continue it.
TOGETHER = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +.*)*)$", re.MULTILINE)
# A paragraph of columns, `latest      takes what is there`, or of a tree's branches.
ALIGNED = re.compile(r"^(?:\S+ {2,}\S.*|.*[├└│].*|\S+)$")


class OurDocstrings(griffe.Extension):
    """Shows each argument by itself, aligned text as it is written, and the default of a field as its value."""

    def on_instance(self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if obj.docstring is not None:
            obj.docstring.value = TOGETHER.sub(_apart, _fenced(obj.docstring.value))

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, agent: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """`later(default)` is a default with a note for the JSON: see `almanac.core.canonical.later`."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) == "later":
            attr.value = value.arguments[0]


def _apart(found: re.Match[str]) -> str:
    return "\n".join(f"{found['indent']}{name}: {found['text']}" for name in found["names"].split(", "))


def _fenced(text: str) -> str:
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        aligned = len(lines) > 1 and all(ALIGNED.match(line) for line in lines)
        paragraphs.append(f"```text\n{paragraph}\n```" if aligned else paragraph)
    return "\n\n".join(paragraphs)
