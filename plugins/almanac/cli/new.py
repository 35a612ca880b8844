"""`almanac new`: the first draft of a pipeline, from a look at its data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from almanac.cli.console import Folder, app, complain, out
from almanac.columns import AS_WRITTEN
from almanac.core import draft
from almanac.core.draft import Column, Draft, Look
from almanac.core.folder import ENDINGS, is_hidden
from almanac.core.period import Every
from almanac.core.pipeline import IMPORTED, NAME
from almanac.core.sources import as_utc
from almanac.errors import DataError, DescriptionError, examples
from almanac.user_module import shown

ENDED = timedelta(days=100)  # without an event for so long, data count as finished


@app.command(epilog="Example: almanac new returning --data invoices/ --entity customer_id --event-time at --timezone UTC")
def new(
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="The new pipeline's name.")],
    data: Annotated[Path, typer.Option(help="A Parquet file of events, or a folder of such files.")],
    entity: Annotated[str, typer.Option(help="The column that names what is predicted for, such as a customer's id.")] = "",
    event_time: Annotated[str, typer.Option(help="The column that says when an event happened.")] = "",
    timezone: Annotated[str, typer.Option(help="The zone of event times without one, such as UTC or Europe/London.")] = "",
    every: Annotated[str, typer.Option(help="The length of a period: day, week or month.")] = "month",
    source: Annotated[str, typer.Option(help="The source's name; that of the file or folder, if not given.")] = "",
    folder: Folder = Path(),
) -> None:
    """Looks at data and writes dags/PIPELINE.py, spark_jobs/PIPELINE.py and tests/test_PIPELINE.py, which run as they are.

    The draft predicts whether an entity comes back; its comments say what to change. Existing files are never overwritten.
    """
    _check_name(name)
    files = {
        folder / "dags" / f"{name}.py": draft.dag_file,
        folder / "spark_jobs" / f"{name}.py": draft.module_file,
        folder / "tests" / f"test_{name}.py": draft.test_file,
    }
    if there := [shown(file) for file in files if file.exists()]:
        raise DescriptionError(f"{examples(there)}: expected no such file. Choose another name, or move the file away.")
    paths = list(_parquet(data))
    schema = _schema(paths)
    for given, option in ((entity, "--entity"), (event_time, "--event-time")):
        if given not in schema.names:
            listed = examples((f"{one.name} ({one.type})" for one in schema), 40)
            raise DescriptionError(f"{option}: expected a column of the data, got {given or 'nothing'}. They have: {listed}.")
    _check_time(schema.field(event_time), timezone)
    complain(f"Looking at {len(paths)} files ...")
    look = _look(paths, schema, event_time, timezone)
    source = source or draft_name(data)
    if not source.isidentifier():
        raise DescriptionError(f"--source: expected a name of letters, digits and _, got {source!r}. Give one with --source.")
    column = look.column(entity, "--entity")
    drafted = Draft(
        name=name,
        source=source,
        entity=column,
        event_time=event_time,
        timezone=timezone,
        every=_every(every),
        look=look,
        ended=_has_ended(look.high),
    )
    texts = {file: write(drafted) for file, write in files.items()}  # all or none
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        out().print(shown(file), markup=False)
    complain(
        f"{look.rows} rows from {look.low:%Y-%m-%d} to {look.high:%Y-%m-%d}. Next: `almanac up`, `almanac put {data} {source}`, "
        f"`almanac try {name} --period {drafted.retrain}`."
    )


def draft_name(data: Path) -> str:
    """A source's name from that of a file or folder."""
    return data.resolve().name.split(".")[0].replace("-", "_").replace(" ", "_").lower()


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in IMPORTED:
        why = "that a package has" if name in IMPORTED else "with other characters"
        raise DescriptionError(
            f"PIPELINE: expected lower-case letters, digits and _, got {name!r}, a name {why}. Choose another."
        )


def _every(every: str) -> Every:
    try:
        return Every(every)
    except ValueError:
        raise DescriptionError(f"--every: expected one of {', '.join(one.value for one in Every)}; got {every!r}.") from None


def _parquet(data: Path) -> Iterator[Path]:
    """The Parquet files. Raises: DataError, if there are none."""
    listed = [data] if data.is_file() else sorted(data.rglob("*")) if data.is_dir() else []
    below = data.parent if data.is_file() else data
    found = [one for one in listed if one.is_file() and not is_hidden(one.relative_to(below).as_posix())]
    wanted = [one for one in found if one.name.lower().endswith(ENDINGS)]
    if not wanted:
        others = examples([one.name for one in found])
        raise DataError(
            f"{data}: expected a Parquet file or a folder with some, found: {others}. Write your data as Parquet first: "
            "pandas.read_csv('data.csv', parse_dates=['time']).to_parquet('data.parquet')"
        )
    yield from wanted


def _schema(paths: list[Path]) -> pa.Schema:
    try:
        return pq.read_schema(paths[-1])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{paths[-1]} cannot be read as Parquet ({error}). Write it again, or leave it out.") from None


def _check_time(column: pa.Field, timezone: str) -> None:
    if not pa.types.is_timestamp(column.type):
        raise DescriptionError(
            f"--event-time: expected a column of timestamps, got {column.name} ({column.type}). Name another, or convert it: "
            f"frame[{column.name!r}] = pandas.to_datetime(frame[{column.name!r}])"
        )
    if column.type.tz is None and not timezone:
        raise DescriptionError(
            f"--timezone: expected the zone of {column.name}, whose times have none, got nothing. Such as --timezone UTC, or "
            "--timezone Europe/London if they are local times of London."
        )
    try:
        ZoneInfo(timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise DescriptionError(f"--timezone: expected a name such as 'UTC' or 'Europe/London', got {timezone!r}.") from None


def _look(paths: list[Path], schema: pa.Schema, event_time: str, timezone: str) -> Look:
    """Counts and bounds, read file by file."""
    rows, nulls = 0, dict.fromkeys(schema.names, 0)
    least: dict[str, Any] = {}
    times: list[datetime] = []
    for number, path in enumerate(paths, 1):
        if sys.stderr.isatty():
            print(f"\r{number}/{len(paths)}", end="", file=sys.stderr)
        for batch in pq.ParquetFile(path, **AS_WRITTEN).iter_batches():
            rows += batch.num_rows
            for name in schema.names:
                if name not in batch.schema.names:
                    continue
                column = batch.column(name)
                nulls[name] += column.null_count
                if _is_number(column.type) and (found := pc.min(column).as_py()) is not None:
                    least[name] = min(found, least.get(name, found))
            if event_time in batch.schema.names:
                moments = batch.column(event_time)
                moments = moments.cast(pa.timestamp("us", moments.type.tz), safe=False)  # Python's have no nanoseconds
                times += [one for one in pc.min_max(moments).as_py().values() if one is not None]
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    if not times:
        raise DataError(f"--event-time: {event_time} has no value in {rows} rows. Name another column, or bring other data.")
    columns = [
        Column(
            name=field.name,
            kind=str(field.type),
            nulls=nulls[field.name] / rows if rows else 0.0,
            least=None if least.get(field.name) is None else float(least[field.name]),
        )
        for field in schema
    ]
    low, high = (as_utc(one, timezone or None) for one in (min(times), max(times)))
    return Look(columns=columns, rows=rows, files=len(paths), low=low, high=high)


def _has_ended(newest: datetime) -> bool:
    """Whether the data are an old, finished set, by this machine's clock."""
    return datetime.now(UTC) - newest > ENDED


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
