"""`almanac new`: the first draft of a pipeline, from a look at its data."""

from __future__ import annotations

import keyword
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from almanac.cli.console import Folder, app, complain, out
from almanac.columns import AS_WRITTEN, common, plain
from almanac.core import draft
from almanac.core.draft import Column, Draft, Look
from almanac.core.folder import ENDINGS, is_hidden
from almanac.core.period import Every
from almanac.core.pipeline import IMPORTED, NAME
from almanac.core.sources import alike
from almanac.core.timezone import as_utc, check_timezone
from almanac.errors import DataError, DescriptionError, examples
from almanac.user_module import shown

ENDED = timedelta(days=100)  # without an event for so long, data count as finished
# Names that the drafted files use, so that no source, which is an argument and a fixture, may have them.
USED = frozenset(
    ("as_of", "request", "spark", "pytest", "sys", "functions", "F", "DataFrame", "SparkSession", "Path", "datetime", "days")
) | {"len", "set", "_known"}
SHADOWED = IMPORTED | {"pytest", "conftest"}
EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)


@app.command(epilog="Example: almanac new returning --data invoices/ --entity customer_id --event-time at --timezone UTC")
def new(
    name: Annotated[str, typer.Argument(metavar="PIPELINE", help="The new pipeline's name.")],
    data: Annotated[Path, typer.Option(help="A Parquet file of events, or a folder of such files.")],
    entity: Annotated[str, typer.Option(help="The column that names what is predicted for, such as a customer's id.")] = "",
    event_time: Annotated[str, typer.Option(help="The column that says when an event happened.")] = "",
    timezone: Annotated[str, typer.Option(help="The zone of event times without one, such as UTC or Europe/London.")] = "",
    every: Annotated[str, typer.Option(help="The length of a period: day, week, month or quarter.")] = "month",
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
    schema = _opened(paths[-1]).schema_arrow
    for given, option in ((entity, "--entity"), (event_time, "--event-time")):
        if not given or given not in schema.names:
            listed = examples((f"{one.name} ({one.type})" for one in schema), 40)
            raise DescriptionError(f"{option}: expected a column of the data, got {given or 'nothing'}. They have: {listed}.")
    if entity == event_time:
        raise DescriptionError(f"--entity: expected another column than --event-time, got {entity!r} for both. Name another.")
    _check_time(schema.field(event_time), timezone)
    _check_source(source := source or draft_name(data))
    complain(f"Looking at {len(paths)} files ...")
    look = _look(paths, schema, entity, event_time, timezone)
    column = look.column(entity, "--entity")
    if column.kind.startswith(draft.FLOATING) and not column.whole:
        raise DescriptionError(
            f"--entity: expected whole numbers or text, got {entity} ({column.kind}), which has fractions or numbers too large "
            "to be exact, so two entities could become one. Name another column, or write it as text."
        )
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
    _check_python(texts)
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        out().print(shown(file), markup=False)
    at = "" if folder == Path() else f" --folder {shlex.quote(str(folder))}"
    complain(
        f"{look.rows} rows from {look.low:%Y-%m-%d} to {look.high:%Y-%m-%d}. Next: `almanac up{at}`, "
        f"`almanac put {shlex.quote(str(data))} {source}{at}`, `almanac try {name} --period {drafted.retrain}{at}`."
    )


def draft_name(data: Path) -> str:
    """A source's name from that of a file or folder."""
    return data.resolve().name.split(".")[0].replace("-", "_").replace(" ", "_").lower()


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in SHADOWED or keyword.iskeyword(name):
        why = (
            "that a package has"
            if name in SHADOWED
            else "of Python's own"
            if keyword.iskeyword(name)
            else "with other characters"
        )
        raise DescriptionError(
            f"PIPELINE: expected lower-case letters, digits and _, got {name!r}, a name {why}. Choose another."
        )


def _check_source(source: str) -> None:
    if not source.isidentifier() or unicodedata.normalize("NFKC", source) != source:
        raise DescriptionError(f"--source: expected a name of letters, digits and _, got {source!r}. Give one with --source.")
    if keyword.iskeyword(source) or source in USED:
        raise DescriptionError(
            f"--source: expected a name that an argument can have, got {source!r}, which Python or the draft uses itself. Give "
            "another with --source."
        )


def _check_python(texts: Mapping[Path, str]) -> None:
    """Raises: DescriptionError, if a draft does not parse."""
    for file, text in texts.items():
        try:
            compile(text, str(file), "exec")
        except (SyntaxError, ValueError) as error:
            raise DescriptionError(
                f"{shown(file)}: the draft would not be valid Python ({error}). Nothing was written. Rename columns that have "
                "unusual characters in their names."
            ) from None


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


def _opened(path: Path) -> pq.ParquetFile:
    """A file whose columns have names that Spark can tell apart. Raises: DataError."""
    try:
        file = pq.ParquetFile(path, **AS_WRITTEN)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    if doubled := alike(file.schema_arrow.names):
        raise DataError(
            f"{path}: expected columns whose names differ in more than case, got {' and '.join(doubled[0])}, which Spark reads "
            "as one. Rename or leave out one of them."
        )
    return file


def _batches(path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet ({error}). Write it again, or leave it out.")


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
    check_timezone("--timezone", timezone or "UTC")


def _look(paths: list[Path], schema: pa.Schema, entity: str, event_time: str, timezone: str) -> Look:
    """Counts and bounds, read file by file. `schema`: that of the last file.

    Raises:
        DataError: a file cannot be read, or its entity or event time differs from that of others; or there is no event time.
    """
    rows, placeholders, whole, nulls = 0, 0, True, dict.fromkeys(schema.names, 0)
    kinds: dict[str, pa.DataType | None] = {field.name: field.type for field in schema}
    least: dict[str, Any] = {}
    times: list[int] = []
    now = datetime.now(UTC)
    for number, path in enumerate(paths, 1):
        if sys.stderr.isatty():
            print(f"\r{number}/{len(paths)}", end="", file=sys.stderr)
        file = _opened(path)
        kinds = {name: _agreed(kind, file.schema_arrow, name) for name, kind in kinds.items()}
        if odd := next((name for name in (entity, event_time) if kinds[name] is None), None):
            theirs = file.schema_arrow.field(odd).type if odd in file.schema_arrow.names else "no such column"
            raise DataError(
                f"{path}: expected {odd} of one type in all files, {schema.field(odd).type} as in {paths[-1].name}; got "
                f"{theirs}. Write this file again like the others, or leave it out."
            )
        for batch in _batches(path, file):
            rows += batch.num_rows
            for name in schema.names:
                if name not in batch.schema.names:
                    continue
                column = batch.column(name)
                nulls[name] += column.null_count
                if _is_number(column.type) and (found := _least(column)) is not None:
                    least[name] = min(found, least.get(name, found))
            whole = whole and _is_whole(batch.column(entity))
            known = _micros(batch.column(event_time))
            inside = known.filter(pc.and_(pc.greater(known, 0), pc.less_equal(known, _since_epoch(now + timedelta(days=1)))))
            placeholders += len(known) - len(inside)
            times += [one for one in pc.min_max(inside).as_py().values() if one is not None]
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    if not times:
        raise DataError(
            f"--event-time: {event_time} has no {'time between 1970 and today' if placeholders else 'value'} in {rows} rows. "
            "Name another column, or bring other data."
        )
    if placeholders:
        complain(
            f"warning: {event_time} has {placeholders} of {rows} times up to 1970-01-01 or in the future, usually "
            "placeholders. The draft's periods leave them out."
        )
    columns = [
        Column(
            name=name,
            kind="not the same in all files" if kind is None else str(kind),
            nulls=nulls[name] / rows if rows else 0.0,
            least=None if least.get(name) is None else float(least[name]),
            whole=whole or name != entity,
        )
        for name, kind in kinds.items()
    ]
    begin = EPOCH.replace(tzinfo=UTC) if schema.field(event_time).type.tz else EPOCH
    low, high = (min(as_utc(begin + one * MICROSECOND, timezone or None), now) for one in (min(times), max(times)))
    return Look(columns=columns, rows=rows, files=len(paths), low=low, high=high)


def _agreed(kind: pa.DataType | None, schema: pa.Schema, name: str) -> pa.DataType | None:
    """The type of a column in the files so far and this one; None if there is none for all."""
    if kind is None or name not in schema.names:
        return None
    theirs = schema.field(name).type
    return kind if theirs == kind else common(plain(kind), plain(theirs))


def _least(column: pa.Array) -> Any:
    return pc.min(column.cast(pa.float32()) if pa.types.is_float16(column.type) else column).as_py()


def _is_whole(column: pa.Array) -> bool:
    """Whether all numbers are whole, and each is another one as an int64."""
    if not _is_number(column.type):
        return True
    most = 2**63
    if pa.types.is_floating(column.type):
        most, column = 2 ** {16: 11, 32: 24, 64: 53}[column.type.bit_width], column.cast(pa.float64())
    if not pa.types.is_integer(column.type) and not pc.all(pc.equal(pc.floor(column), column), min_count=0).as_py():
        return False
    return all(abs(one) < most for one in pc.min_max(column).as_py().values() if one is not None)


def _micros(times: pa.Array) -> pa.Array:
    """Times as microseconds since 1970, without nulls; naive ones in their own zone."""
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.timestamp("us", times.type.tz), safe=False)  # Python's have no nanoseconds
    return times.cast(pa.int64()).drop_null()


def _since_epoch(moment: datetime) -> int:
    return (moment - EPOCH.replace(tzinfo=UTC)) // MICROSECOND


def _has_ended(newest: datetime) -> bool:
    """Whether the data are an old, finished set, by this machine's clock."""
    return datetime.now(UTC) - newest > ENDED


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
