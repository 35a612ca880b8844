"""`almanac check`: whether a pipeline's two files fit together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from almanac import pinning, user_module
from almanac.cli.console import AsJson, Folder, Name, app, out
from almanac.core.pipeline import Pipeline
from almanac.errors import SourceError
from almanac.project import Project
from almanac.store.copies import LocalCopies
from almanac.store.objects import Objects


@app.command(epilog="Examples: almanac check purchase_propensity; almanac check purchase_propensity --sources")
def check(
    name: Name,
    folder: Folder = Path(),
    with_sources: Annotated[
        bool, typer.Option("--sources", help="Also look at the sources' files, which needs access to them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Checks dags/PIPELINE.py and spark_jobs/PIPELINE.py against each other, in a second, without Airflow, Spark or a bucket.

    Finds what is wrong in the description, errors of syntax, functions that are missing, arguments that do not fit `reads`, and
    names that are not defined. The module is only read, not imported. Airflow checks the same when it parses the DAG file.
    """
    project = Project(folder)
    described = project.described(name)
    user_module.check(project.spark_jobs, described)
    notes = list(_notes(described)) if with_sources else []
    if as_json:
        print(json.dumps({"pipeline": name, "functions": sorted(part.name for part in described.parts), "sources": notes}))
    else:
        out().print(f"{name}: every function exists and takes what the description reads.")
        for note in notes:
            out().print(note, markup=False)


def _notes(pipeline: Pipeline) -> Iterator[str]:
    """What a pin would find in the sources now, or the error that it would raise."""
    objects = Objects()
    with TemporaryDirectory(prefix="almanac-") as folder:
        copies = LocalCopies(Path(folder))
        for name, source in pipeline.sources.items():
            try:
                yield from pinning.observe(objects, copies, name, source, asked=pipeline.columns_read(name)).notes
            except SourceError as error:
                yield str(error)
