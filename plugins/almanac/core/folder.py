"""A source's folder: which of its files are data, and whether it is a table whose own log decides that instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from urllib.parse import unquote

ENDINGS = (".parquet", ".parq", ".pq")
PACKED = ("", ".gz", ".bz2", ".zst")  # endings of compressed text
CSV_ENDINGS = tuple(f"{ending}{packed}" for ending in (".csv", ".tsv") for packed in PACKED)
JSON_ENDINGS = tuple(f"{ending}{packed}" for ending in (".jsonl", ".ndjson", ".json") for packed in PACKED)
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark name the folder of null
MAGIC = (b"PAR1", b"PARE")  # a Parquet file begins with one of these; the second marks an encrypted file
LEAST_BYTES = 12  # the smallest size of a Parquet file
# The name of a log folder, and the kind of table that it belongs to.
LOGS = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "_spark_metadata": "the sink of a Spark stream"}
ICEBERG, HUDI_PARTITION = "an Iceberg table", ".hoodie_partition_metadata"


class FileKind(Enum):
    """What a file is by its name and size."""

    DATA = "data"  # has a Parquet extension
    UNNAMED = "unnamed"  # no extension: data if its bytes are Parquet, as Athena, Hive or Spark write it
    OTHER = "other"  # another extension: not data
    NOTHING = "nothing"  # part of an unfinished write, hidden, or a folder's own entry


def kind(path: str, size: int, endings: tuple[str, ...] = ENDINGS) -> FileKind:
    """What a file is. `path`: within the source's folder; `endings`: of its format."""
    name = path.rsplit("/", 1)[-1]
    if not name or is_hidden(path):
        return FileKind.NOTHING
    if name.lower().endswith(endings):
        return FileKind.DATA
    if size < LEAST_BYTES:
        return FileKind.NOTHING
    return FileKind.OTHER if "." in name else FileKind.UNNAMED


def is_named_like(path: str) -> bool:
    """Whether another extension follows that of Parquet, as for a file that was compressed again or set aside."""
    return any(f"{ending}." in path.rsplit("/", 1)[-1].lower() for ending in ENDINGS)


def is_data_of_another_kind(path: str) -> bool:
    """Whether a file's name is that of data in another format."""
    name = path.rsplit("/", 1)[-1].lower().removesuffix(".gz")
    return name.endswith((".csv", ".tsv", ".json", ".jsonl", ".orc", ".avro", ".xlsx"))


def partitions(path: str) -> dict[str, str | None]:
    """The columns that the folders of a path are named for, as Hive does, with their values as text: `dt` and `2017-05-01` for
    `dt=2017-05-01/a.parquet`. Percent signs escape characters; None is null.
    """
    parts = (part.partition("=") for part in path.split("/")[:-1])
    found = {unquote(name): unquote(value) for name, sign, value in parts if sign and name}
    return {name: None if value == NULL_PARTITION else value for name, value in found.items()}


def is_hidden(path: str) -> bool:
    """Whether Spark's readers skip a path: a part begins with a dot, or with _ unless it is a partition such as `_x=1`."""
    return any(_is_hidden_part(part) for part in path.split("/"))


def _is_hidden_part(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part) or part.endswith("._COPYING_")


def table(paths: Iterable[str]) -> tuple[str, str] | None:
    """The format of the table in a folder, and the path that shows it; None for plain files."""
    for path in paths:
        if found := _format(path.split("/")):
            return found, path
    return None


def _format(parts: list[str]) -> str:
    for place, part in enumerate(parts):
        if place < len(parts) - 1 and part in LOGS:
            return LOGS[part]
        if part == "metadata" and place == len(parts) - 2 and _is_iceberg(parts[-1]):
            return ICEBERG
        if place == len(parts) - 1 and part.startswith(HUDI_PARTITION):
            return LOGS[".hoodie"]
        if _is_hidden_part(part):
            return ""
    return ""


def _is_iceberg(name: str) -> bool:
    return name == "version-hint.text" or ".metadata.json" in name


def logs_above(uri: str) -> Iterator[tuple[str, str]]:
    """Where the log of a table would be if the folder were only a part of it: the table's folder, and that of its log."""
    parts = uri.removeprefix("s3://").rstrip("/").split("/")
    for end in range(1, len(parts)):
        above = f"s3://{'/'.join(parts[:end])}/"
        yield from ((above, f"{above}{name}/") for name in LOGS)
        if parts[end] == "data":  # where Iceberg stores a table's files
            yield above, f"{above}metadata/"
