"""User functions: found by name, their arguments checked against what the description reads.

The same rules hold for a module's text, which is read when DAGs are parsed, and for the imported module of a Spark job.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from almanac.core.label import Label
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.errors import DescriptionError, examples

Part = Population | FeatureGroup | Label
FIXED = ("estimators", "checks")
# Defined in every module. `__path__` and the like are not: a user's module is a file.
OF_MODULES = frozenset(vars(builtins)) | {
    "__file__",
    "__name__",
    "__doc__",
    "__spec__",
    "__loader__",
    "__package__",
    "__builtins__",
}


def function_of(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function of that name.

    Raises:
        DescriptionError: the module has no such function; the message lists those that it has.
    """
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise DescriptionError(_absent(module.__name__, name, own))
    return found  # type: ignore[no-any-return]


def arguments(function: Callable[..., Any], part: Part, pipeline: Pipeline) -> tuple[str, ...]:
    """The arguments of a part's function: its sources and, optionally, `as_of` and the pipeline's parameters.

    Raises:
        DescriptionError: it does not take a source that the part reads, or it takes an unknown argument.
    """
    taken = tuple(inspect.signature(function).parameters)
    if unfit := _unfit(taken, part, pipeline):
        raise DescriptionError(unfit)
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


def check_text(text: str, file: str, pipeline: Pipeline) -> None:
    """Checks the text of the user's module without importing it: its syntax, that every function that the description names
    exists and takes what it reads, and that every name that is used is defined.

    What only running it could tell is let through: functions that are imported, assigned or decorated.

    Raises:
        DescriptionError: something does not fit. The message has all of it, each with `file` and its line.
    """
    try:
        tree = ast.parse(text, file)
        scopes = symtable.symtable(text, file, "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line, what = (error.lineno or 1, error.msg) if isinstance(error, SyntaxError) else (1, str(error))
        raise DescriptionError(f"{file}, line {line}: {what}. Correct the syntax; nothing of the module can be used.") from None
    problems = sorted((*_unfit_functions(tree, pipeline), *_undefined(tree, scopes)))
    if problems:
        raise DescriptionError("\n".join(f"{file}, line {line}: {what}" for line, what in problems))


def _unfit(taken: Sequence[str], part: Part, pipeline: Pipeline) -> str:
    """What is wrong with the arguments that a part's function takes; empty if nothing is."""
    optional = ("as_of", *pipeline.parameters)
    unread = [name for name in part.reads if name not in taken]
    unknown = [name for name in taken if name not in part.reads and name not in optional]
    if not unread and not unknown:
        return ""
    return (
        f"Function {part.name!r} of pipeline {pipeline.name!r} takes ({', '.join(taken)}), but its description reads "
        f"({', '.join(part.reads)}). "
        + (f"It does not take {examples(unread)}. " if unread else "")
        + (f"Unknown arguments: {examples(unknown)}. " if unknown else "")
        + f"Besides what it reads it may take: {', '.join(optional)}. Make reads= and the signature agree."
    )


def _absent(module: str, name: str, own: Iterable[str]) -> str:
    near = get_close_matches(name, (there := sorted(own)), 1)
    return (
        f"Module {module!r} has no function {name!r} (it has: {examples(there, 20)}). "
        f"{f'Is {near[0]!r} meant? ' if near else ''}Write it, or correct the name in the pipeline's description."
    )


def _unfit_functions(tree: ast.Module, pipeline: Pipeline) -> Iterator[tuple[int, str]]:
    """The functions that do not fit the description, each with a line."""
    defined = {node.name: node for node in _statements(tree.body) if isinstance(node, ast.FunctionDef)}
    bound = set(_bound(tree))
    for part in pipeline.parts:
        if (node := defined.get(part.name)) is None:
            if not bound & {part.name, "*"}:
                yield 1, _absent(pipeline.name, part.name, (name for name in defined if not name.startswith("_")))
        elif not node.decorator_list and (unfit := _unfit(_parameters(node.args), part, pipeline)):
            yield node.lineno, unfit
    for name in FIXED:
        if (node := defined.get(name)) is None:
            if not bound & {name, "*"}:
                yield 1, _absent(pipeline.name, name, (own for own in defined if not own.startswith("_")))
        elif not node.decorator_list and (required := _required(node.args)):
            yield (
                node.lineno,
                f"Function {name!r} of pipeline {pipeline.name!r} takes ({', '.join(required)}), but it is called without "
                "arguments. Make its signature empty, or give each argument a default.",
            )


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that bind its names: also those inside if, try, with and loops, not those of functions."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)
            for case in getattr(node, "cases", ()):
                yield from _statements(case.body)


def _bound(tree: ast.Module) -> Iterator[str]:
    """The names that a module imports or assigns; `*` where it imports all of another module's, or assigns names by text."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.asname or name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif not isinstance(node, ast.FunctionDef):
            yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store))
    if any(isinstance(node, ast.Name) and node.id in ("globals", "exec", "vars", "setattr") for node in ast.walk(tree)):
        yield "*"


def _parameters(given: ast.arguments) -> list[str]:
    """The names of a function's parameters, in the order of `inspect.signature`."""
    return [
        *(one.arg for one in (*given.posonlyargs, *given.args)),
        *((given.vararg.arg,) if given.vararg else ()),
        *(one.arg for one in given.kwonlyargs),
        *((given.kwarg.arg,) if given.kwarg else ()),
    ]


def _required(given: ast.arguments) -> list[str]:
    """The parameters that have no default."""
    positional = [one.arg for one in (*given.posonlyargs, *given.args)]
    keywords = [one.arg for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    return [*positional[: len(positional) - len(given.defaults)], *keywords]


def _undefined(tree: ast.Module, scopes: symtable.SymbolTable) -> Iterator[tuple[int, str]]:
    """The names that are used and defined nowhere, such as that of a module that is not imported, each with its first line."""
    bound = set(_bound(tree))
    if "*" in bound:
        return
    known = bound | OF_MODULES | {symbol.get_name() for symbol in scopes.get_symbols() if _defines(symbol)}
    used = set()
    for scope in _scopes(scopes):
        for symbol in scope.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                known.add(symbol.get_name())
            elif symbol.is_referenced() and (symbol.is_global() or scope is scopes):
                used.add(symbol.get_name())
    missing = used - known
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in missing:
            lines[node.id] = min(node.lineno, lines.get(node.id, node.lineno))
    for name, line in lines.items():
        near = get_close_matches(name, sorted(known - OF_MODULES), 1)
        yield line, f"Name {name!r} is used and not defined. {f'Is {near[0]!r} meant? ' if near else ''}Import or define it."


def _defines(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _scopes(scope: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield scope
    for child in scope.get_children():
        yield from _scopes(child)
