"""Delta tables without a JVM, and the second atomic primitive: a commit that replaces one period. The only module that imports
deltalake.

Data files are staged in the table's folder under names that begin with their order. They become visible with a commit that
carries `Transaction("period/P", fence + 1)`, so two publishers of one period conflict even if the period is new.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from almanac.core.layout import order_of, staged_file
from almanac.core.receipts import Order, Output
from almanac.errors import Conflict, DataError, StoreError
from almanac.files import locate

PARTITION = "period"
# Staged files must survive a checkpoint's clean-up of the log for as long as a rollback may look back.
RETENTION = {"delta.logRetentionDuration": "interval 3650 days"}

Answer = TypeVar("Answer")

ATTEMPTS_BESIDE_OTHERS = 30
THREADS = 4
# The wider integer types that can hold the values of each.
WIDTHS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
WIDER = {kind: WIDTHS[number + 1 :] for number, kind in enumerate(WIDTHS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """One visible period of a table: the order that staged its files, and the files (paths within the table)."""

    period: str
    order: str
    paths: tuple[str, ...]
    rows: int
    bytes: int
    stats: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A publishing commit: its metadata and its time."""

    version: int
    metadata: Mapping[str, str]
    at: datetime


class Table:
    """A plain Delta table partitioned by `period`: Spark, DuckDB, Polars and Trino can read it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def create(self, columns: pa.Schema) -> None:
        """Creates the table, empty, unless it exists. Called before the first stage, so that staged files have a folder."""
        if self._open() is None:
            schema = _with_partition(columns)
            try:
                create_table_with_add_actions(
                    self.uri,
                    schema,
                    [],
                    mode="ignore",
                    partition_by=[PARTITION],
                    configuration=RETENTION,
                    # A retry would create the table again on top of the one that came first.
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            except DeltaError as error:
                if self._open() is None:
                    raise StoreError(f"{self.uri}: the table could not be created: {_first_line(error)}") from error

    def columns(self) -> list[str]:
        """The columns of the table without the partition column; none while there is no table."""
        return self._ask(lambda table: [field.name for field in table.schema().fields if field.name != PARTITION], [])

    def shown(self) -> pa.Schema:
        """The visible columns without the partition column; none while no period is visible."""
        nothing = pa.schema([])
        return self._ask(lambda table: _columns(table) if _seen(table) else nothing, nothing)

    def fitting(self, columns: pa.Schema) -> pa.Schema:
        """The columns as they must be staged: integers widened to the visible type.

        Raises:
            DataError: a column has another type than the visible one.
        """
        return _fitting(self.uri, self.shown(), columns)

    def staging(self, order: Order) -> tuple[str, str]:
        """The folder that an order stages into, and the prefix of its file names."""
        folder, stem = f"{self.uri}/{staged_file(order.period, order.digest, '')}".removesuffix("-.parquet").rsplit("/", 1)
        return folder, stem

    def fence(self, period: str) -> int:
        """How often a period has been published."""
        return self._ask(lambda table: _fence(table, period), 0)

    def visible(self) -> dict[str, Visible]:
        """What readers see: period to files, sorted by period."""
        return self._ask(_seen, {})

    def standing(self, periods: Iterable[str] = ()) -> tuple[dict[str, Visible], dict[str, int]]:
        """What readers see, with the fences of the visible and the given periods, all from one table version."""
        listed = list(periods)

        def look(table: DeltaTable) -> tuple[dict[str, Visible], dict[str, int]]:
            seen = _seen(table)
            names = sorted({*seen, *listed})
            with ThreadPoolExecutor(THREADS) as pool:  # a lookup takes milliseconds, outside Python
                return seen, dict(zip(names, pool.map(lambda period: _fence(table, period), names), strict=True))

        nothing: tuple[dict[str, Visible], dict[str, int]] = ({}, dict.fromkeys(listed, 0))
        return self._ask(look, nothing)

    def publish(self, period: str, files: Sequence[Output], *, fence: int, metadata: Mapping[str, str]) -> None:
        """Replaces a period with staged files, in one commit. `metadata` holds the `order` of the publish. The commit adds
        new columns of the files to the table's schema.

        Raises:
            DataError: a column has another type than in the visible periods.
            Conflict: another run published the period since its fence was read; nothing became visible.
            StoreError: the commit failed, or collided with commits of other periods too often; nothing became visible.
        """
        met: CommitFailedError | None = None
        columns = _columns_of(files[0].uri) if files else pa.schema([])
        for attempt in range(ATTEMPTS_BESIDE_OTHERS):
            table = self._open()
            if table is None:
                raise StoreError(f"{self.uri}: the table does not exist. Staging a period creates it; stage the period again.")
            if _fence(table, period) != fence:
                raise Conflict(_beaten(self.uri, period))
            try:
                _replace(table, period, files, _schema(table, columns), fence, metadata)
                return
            except CommitFailedError as error:
                met = error
                # Delta reports a conflict even if the other commit replaced another period. Only the fence decides.
                time.sleep(random.uniform(0, 0.02 * (1 + attempt)))
            except DeltaError as error:
                raise StoreError(
                    f"{self.uri}: the commit of {period} failed: {_first_line(error)}. Nothing became visible. Try again."
                ) from error
        raise StoreError(
            f"{self.uri}: {ATTEMPTS_BESIDE_OTHERS} commits of {period} in a row collided with commits of other periods. "
            "Nothing became visible. Try again when fewer runs publish at a time."
        ) from met

    def commit_of(self, order: str) -> Commit | None:
        """The commit that carried a publish order, if there is one."""
        found: list[Commit] = self._ask(_commits, [])
        return next((commit for commit in found if commit.metadata.get("order") == order), None)

    def version(self) -> int:
        """The table's Delta version; -1 when there is none."""
        return self._ask(lambda table: table.version(), -1)

    def _ask(self, ask: Callable[[DeltaTable], Answer], absent: Answer) -> Answer:
        """The table's answer; `absent` if there is no table. Raises: StoreError, also for errors that deltalake raises late."""
        table = self._open()
        if table is None:
            return absent
        try:
            return ask(table)
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _open(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.uri)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(f"{self.uri}: the table cannot be read: {_first_line(error)}. Check the store and its credentials.")


def _app(period: str) -> str:
    return f"{PARTITION}/{period}"


def _fence(table: DeltaTable, period: str) -> int:
    return table.transaction_version(_app(period)) or 0


def _columns(table: DeltaTable) -> pa.Schema:
    """The columns of a table without the partition column."""
    return pa.schema([field for field in pa.schema(table.schema().to_arrow()) if field.name != PARTITION])


def _columns_of(uri: str) -> pa.Schema:
    """The columns of a staged file. Raises: StoreError."""
    system, path = locate(uri)
    try:
        return pq.read_schema(path, filesystem=system)
    except (OSError, pa.ArrowInvalid) as error:
        message = " ".join(str(error).split())
        raise StoreError(f"{uri}: the staged file cannot be read ({message}). Nothing became visible. Stage it again.") from error


def _schema(table: DeltaTable, columns: pa.Schema) -> Schema:
    """The schema of a table that also holds files of these columns. Raises: DataError."""
    # A timestamp without a zone needs a table feature that this table lacks, and the period column is the partition's.
    stored = [field for field in columns if field.name != PARTITION and not _is_naive(field.type)]
    shown, columns = _columns(table), pa.schema(stored)
    if columns and not _seen(table) and set(shown) != set(columns):
        return _with_partition(columns)  # columns of a stage that was never published bind nothing
    _fitting(table.table_uri, shown, columns)
    added = [field.with_nullable(True) for field in columns if field.name not in shown.names]
    return _with_partition([*shown, *added]) if added else table.schema()


def _is_naive(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind)) and kind.tz is None


def _with_partition(columns: Iterable[pa.Field]) -> Schema:
    return Schema.from_arrow(pa.schema([*columns, pa.field(PARTITION, pa.string())]))


def _fitting(uri: str, shown: pa.Schema, columns: pa.Schema) -> pa.Schema:
    fields = []
    for field, found in zip(columns, pa.schema(Schema.from_arrow(columns).to_arrow()), strict=True):
        kept = found.type if field.name not in shown.names else shown.field(field.name).type
        if kept == found.type:
            fields.append(field)
        elif kept in WIDER.get(found.type, ()):
            fields.append(field.with_type(kept))
        else:
            raise DataError(
                f"{uri.rstrip('/')}: column {field.name!r} is {found.type}, expected {kept}, as in the visible periods. Nothing "
                "became visible. Restore the column's type, or describe the change in a pipeline with another name."
            )
    return pa.schema(fields)


def _replace(
    table: DeltaTable, period: str, files: Sequence[Output], schema: Schema, fence: int, metadata: Mapping[str, str]
) -> None:
    table.create_write_transaction(
        [_action(period, output) for output in files],
        "overwrite",
        schema,
        [PARTITION],
        partition_filters=[(PARTITION, "=", period)],
        commit_properties=CommitProperties(
            custom_metadata=dict(metadata), app_transactions=[Transaction(_app(period), fence + 1)]
        ),
        post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
    )


def _action(period: str, output: Output) -> AddAction:
    stats = {
        "numRecords": output.rows,
        "minValues": {name: bounds[0] for name, bounds in output.stats.items()},
        "maxValues": {name: bounds[1] for name, bounds in output.stats.items()},
    }
    return AddAction(output.name, output.bytes, {PARTITION: period}, int(time.time() * 1000), True, json.dumps(stats))


def _seen(table: DeltaTable) -> dict[str, Visible]:
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row[f"partition.{PARTITION}"]), []).append(row)
    return {period: _visible(period, found[period]) for period in sorted(found)}


def _visible(period: str, rows: Sequence[Mapping[str, Any]]) -> Visible:
    stats = {key.removeprefix("min."): value for key, value in rows[0].items() if key.startswith("min.")}
    paths = tuple(sorted(str(row["path"]) for row in rows))
    return Visible(
        period=period,
        order=order_of(paths[0]),
        paths=paths,
        rows=sum(int(row["num_records"] or 0) for row in rows),
        bytes=sum(int(row["size_bytes"]) for row in rows),
        stats=stats,
    )


def _commits(table: DeltaTable) -> list[Commit]:
    return [
        Commit(
            version=int(item["version"]),
            metadata={key: str(value) for key, value in item.items()},
            at=datetime.fromtimestamp(item["timestamp"] / 1000, tz=UTC),
        )
        for item in table.history()
    ]


def _first_line(error: Exception) -> str:
    """An error message of deltalake without its Rust backtrace."""
    return str(error).strip().splitlines()[0].rstrip(".")


def _beaten(uri: str, period: str) -> str:
    return (
        f"{uri}: another run published {period} since this run staged it. Nothing from this run became visible. "
        "Start the run again: it does only what is still missing."
    )
