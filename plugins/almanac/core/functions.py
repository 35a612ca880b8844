"""User functions: found by name, their arguments checked against what the description reads.

The same rules hold for a module's text, which is read when DAGs are parsed, and for the imported module of a Spark job.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import CodeType, ModuleType
from typing import Any, NamedTuple

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
    "__annotations__",
    "__cached__",
    "WindowsError",  # a builtin on Windows only
}
# Nodes with names of their own: what they bind is not bound in the module.
SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
NAME_ERROR = frozenset({"NameError"})
CATCHES_NAME_ERROR = NAME_ERROR | {"Exception", "BaseException"}
LOADS = frozenset({"LOAD_NAME", "LOAD_GLOBAL"})
STORES = frozenset({"STORE_NAME", "STORE_GLOBAL"})


class Names(NamedTuple):
    """What compiled code does with the names of its module."""

    used: list[tuple[str, int]]
    """With lines."""
    assigned: set[str]
    """By the module's own statements."""
    set_by_functions: set[str]
    """Through `global`."""


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

    What only running it could tell is let through: functions that are imported, assigned or decorated, and names that are used
    where a NameError is caught. The module is compiled and not run, so names are resolved as Python resolves them.

    Raises:
        DescriptionError: something does not fit. The message has all of it, each with `file` and its line.
    """
    try:
        tree = ast.parse(text.removeprefix("\ufeff"), file)  # the byte order mark that some editors write
        code = compile(tree, file, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line, what = (error.lineno or 1, error.msg) if isinstance(error, SyntaxError) else (1, str(error))
        raise DescriptionError(f"{file}, line {line}: {what}. Correct the syntax; nothing of the module can be used.") from None
    bound, names = _bound(tree), _names(code)
    problems = sorted((*_unfit_functions(tree, bound | names.set_by_functions, pipeline), *_undefined(tree, bound, names)))
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


def _unfit_functions(tree: ast.Module, bound: set[str], pipeline: Pipeline) -> Iterator[tuple[int, str]]:
    """The functions that do not fit the description, each with a line; `bound` are the names that more than a `def` binds."""
    defined: dict[str, list[ast.FunctionDef]] = {}
    for node in _in_module(tree):
        if isinstance(node, ast.FunctionDef):
            defined.setdefault(node.name, []).append(node)
    parts = {part.name: part for part in pipeline.parts}
    for name in (*parts, *FIXED):
        if name in bound:
            continue
        if name in defined:
            candidates = _in_force(tree, defined[name])
            unfit = [_unfit_definition(node, parts.get(name), pipeline) for node in candidates]
            if all(unfit):
                yield candidates[-1].lineno, unfit[-1]
        elif "*" not in bound:
            yield 1, _absent(pipeline.name, name, (own for own in defined if not own.startswith("_")))


def _in_force(tree: ast.Module, definitions: Sequence[ast.FunctionDef]) -> list[ast.FunctionDef]:
    """The definitions of one name that may be in force after import: the last, or all if the last is inside a branch."""
    in_order = sorted(definitions, key=lambda node: node.lineno)
    return in_order[-1:] if in_order[-1] in tree.body else in_order


def _unfit_definition(node: ast.FunctionDef, part: Part | None, pipeline: Pipeline) -> str:
    """What is wrong with the signature of a part's function, or of one that is called without arguments; empty if nothing is."""
    if node.decorator_list:
        return ""
    if part is not None:
        return _unfit(_parameters(node.args), part, pipeline)
    if not (required := _required(node.args)):
        return ""
    return (
        f"Function {node.name!r} of pipeline {pipeline.name!r} takes ({', '.join(required)}), but it is called without "
        "arguments. Make its signature empty, or give each argument a default."
    )


def _in_module(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run in the module's own scope: also those inside if, try, with and loops, not those of functions."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:  # not recursive: a chain of calls may be nested deeper than Python recurses
        node = waiting.pop()
        yield node
        if not isinstance(node, SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def _bound(tree: ast.Module) -> set[str]:
    """The names that a module binds by anything but `def`; `*` where it imports all of another module's, or binds by text."""
    bound = {name for node in _in_module(tree) for name in _names_bound(node) if name}
    return bound | {"*"} if any(_binds_by_text(node) for node in ast.walk(tree)) else bound


def _names_bound(node: ast.AST) -> list[str | None]:
    """The names that a node binds by anything but `def`; None for a pattern or a handler without a name."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return [name.asname or name.name.split(".")[0] for name in node.names]
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.ClassDef() | ast.AsyncFunctionDef() | ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
            return [node.name]
        case ast.MatchMapping():
            return [node.rest]
    return []


def _binds_by_text(node: ast.AST) -> bool:
    """Whether a node may bind names of the module that only running it could tell, as `globals()["name"] = 1` does."""
    match node:
        case ast.Name(id="globals" | "exec"):
            return True
        case ast.Call(func=ast.Name(id="vars" | "locals"), args=[], keywords=[]):
            return True
        case ast.Subscript(value=ast.Attribute(value=ast.Name(id="sys"), attr="modules")):  # for setattr, or an assignment
            return True
    return False


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


def _undefined(tree: ast.Module, bound: set[str], names: Names) -> Iterator[tuple[int, str]]:
    """The names that are used and defined nowhere, such as that of a module that is not imported, each with its first line."""
    if "*" in bound:
        return
    known = bound | names.assigned | names.set_by_functions | OF_MODULES
    tried = _lines_tried(tree, NAME_ERROR)
    known |= {name for name, line in names.used if line in tried}  # `try: spark` asks whether there is one, for all later uses
    let_through = _lines_tried(tree, CATCHES_NAME_ERROR)
    lines: dict[str, int] = {}
    for name, line in names.used:
        if name not in known and line not in let_through:
            lines[name] = min(line, lines.get(name, line))
    for name, line in lines.items():
        near = get_close_matches(name, sorted(known - OF_MODULES), 1)
        yield line, f"Name {name!r} is used and not defined. {f'Is {near[0]!r} meant? ' if near else ''}Import or define it."


def _lines_tried(tree: ast.Module, caught: Iterable[str]) -> set[int]:
    """The lines of the try bodies with a handler for one of these exceptions, or, if Exception is one of them, for all."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Try | ast.TryStar) and any(_catches(handler.type, caught) for handler in node.handlers)
        for line in range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1)
    }


def _catches(handled: ast.expr | None, caught: Iterable[str]) -> bool:
    if handled is None:
        return "Exception" in caught
    return any(isinstance(node, ast.Name) and node.id in caught for node in ast.walk(handled))


def _names(code: CodeType) -> Names:
    used: list[tuple[str, int]] = []
    assigned: set[str] = set()
    set_by_functions: set[str] = set()
    for block in _blocks(code):
        found = [one for one in dis.get_instructions(block) if one.opname in LOADS | STORES]
        set_by_functions |= {one.argval for one in found if one.opname == "STORE_GLOBAL"}
        own = {one.argval for one in found if one.opname == "STORE_NAME"}  # of the module, or of a class body
        if block is code:
            assigned, own = own, set()
        for one in found:
            if one.opname in LOADS and one.argval not in own and one.positions and one.positions.lineno:
                used.append((one.argval, one.positions.lineno))
    return Names(used, assigned, set_by_functions)


def _blocks(code: CodeType) -> Iterator[CodeType]:
    """Compiled code and that of all functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _blocks(constant)
