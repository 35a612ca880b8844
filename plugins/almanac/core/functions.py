"""User functions: found by name, their arguments checked against what the description reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from almanac.core.label import Label
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.errors import DescriptionError, examples

Part = Population | FeatureGroup | Label
FIXED = ("estimators", "checks")


def function_of(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function of that name.

    Raises:
        DescriptionError: the module has no such function; the message lists those that it has.
    """
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise DescriptionError(
            f"Module {module.__name__!r} has no function {name!r} (it has: {examples(sorted(own), 20)}). "
            "Write it, or correct the name in the pipeline's description."
        )
    return found  # type: ignore[no-any-return]


def arguments(function: Callable[..., Any], part: Part, pipeline: Pipeline) -> tuple[str, ...]:
    """The arguments of a part's function: its sources and, optionally, `as_of` and the pipeline's parameters.

    Raises:
        DescriptionError: it does not take a source that the part reads, or it takes an unknown argument.
    """
    taken = tuple(inspect.signature(function).parameters)
    optional = ("as_of", *pipeline.parameters)
    unread = [name for name in part.reads if name not in taken]
    unknown = [name for name in taken if name not in part.reads and name not in optional]
    if unread or unknown:
        raise DescriptionError(
            f"Function {part.name!r} of pipeline {pipeline.name!r} takes ({', '.join(taken)}), but its description reads "
            f"({', '.join(part.reads)}). "
            + (f"It does not take {examples(unread)}. " if unread else "")
            + (f"Unknown arguments: {examples(unknown)}. " if unknown else "")
            + f"Besides what it reads it may take: {', '.join(optional)}. Make reads= and the signature agree."
        )
    return taken


def call(function: Callable[..., Any], part: Part, pipeline: Pipeline, given: Mapping[str, Any]) -> Any:
    """Calls a part's function with the arguments that it takes, from `given` (sources and `as_of`) and the parameters."""
    available = {**pipeline.parameters, **given}
    return function(**{name: available[name] for name in arguments(function, part, pipeline)})


def check_module(module: ModuleType, pipeline: Pipeline) -> None:
    """Checks that every function that the description names exists and takes what it reads. Raises: DescriptionError."""
    for part in pipeline.parts:
        arguments(function_of(module, part.name), part, pipeline)
    for name in FIXED:
        function_of(module, name)
