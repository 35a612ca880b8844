"""docs/sources.md is true: its Python runs, its tables are the map, and its errors are those that a pin raises."""

from __future__ import annotations

import io
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Csv, EventSource, ReferenceSource
from almanac.columns import common, plain, seen
from almanac.core import folder
from almanac.core.folder import FileKind
from almanac.errors import SourceError
from almanac.store.objects import Objects
from tests.support.observing import observe

AT = pa.array([datetime(2017, 5, 1)], pa.timestamp("us"))
KINDS = {
    "a dictionary of text": pa.dictionary(pa.int8(), pa.string()),
    "arrow.json": pa.json_(),
    "arrow.uuid": pa.uuid(),
    "fixed_size_binary": pa.binary(4),
    "decimal32": pa.decimal32(9, 2),
    "decimal64": pa.decimal64(9, 2),
    "decimal128": pa.decimal128(9, 2),
    "decimal256": pa.decimal256(9, 2),
    "timestamp": pa.timestamp("ns"),
    "duration": pa.duration("ns"),
    "halffloat": pa.float16(),
    "float": pa.float32(),
    "double": pa.float64(),
    "decimal128(10, 2)": pa.decimal128(10, 2),
    "decimal128(12, 4)": pa.decimal128(12, 4),
}


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "docs" / "sources.md").read_text()


def rows(text: str, heading: str) -> list[tuple[str, str]]:
    """The rows of the first table below a heading."""
    return re.findall(r"^\| (.*?) \| (.*?) \|$", text.split(f"## {heading}")[1].split("\n## ")[0], re.MULTILINE)[1:]


def kind(name: str) -> pa.DataType:
    return KINDS.get(name) or pa.type_for_alias(name)


def test_the_sources_are_described_as_shown(text: str) -> None:
    shown = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = []
    for described in shown:
        names: dict[str, Any] = {}
        exec(compile(described, "sources", "exec"), names)
        found.append([one for one in names.values() if isinstance(one, EventSource | ReferenceSource)])

    assert len(shown) == 8 and all(found), "each example describes a source"
    assert found[0][0].fill == {"channel": None}


def test_what_is_data_is_as_the_table_says(text: str) -> None:
    fates = {
        "read": {FileKind.DATA, FileKind.UNNAMED},
        "not read": {FileKind.OTHER, FileKind.UNNAMED},
        "no data": {FileKind.NOTHING},
    }
    for names, fate in rows(text, "What is data"):
        for name in re.findall(r"`([^`]+)`", names):
            expected = next((kinds for words, kinds in fates.items() if fate.startswith(words)), None)
            if expected is None:
                assert "refused" in fate
                assert name == ".parquet" or folder.table([name.replace("*", "v1") + ("0" if name.endswith("/") else "")])
            else:
                assert folder.kind(name, 1000) in expected, name


def test_types_become_what_the_table_says(text: str) -> None:
    for names, fate in rows(text, "Which types become what"):
        found = re.findall(r"`([^`]+)`", names) + (["a dictionary of text"] if "a dictionary of text" in names else [])
        told = re.findall(r"`([^`]+)`", fate)
        for place, name in enumerate(found):
            became = str(seen(plain(kind(name))))
            assert became.startswith(name if fate == "the same" else told[place if len(told) == len(found) > 1 else 0]), name


def test_types_of_two_files_are_together_what_the_table_says(text: str) -> None:
    for names, fate in rows(text, "Files that differ"):
        found = re.findall(r"`([^`]+)`", names)
        if len(found) == 2:
            together = common(*(plain(kind(name)) for name in found))
            assert fate.startswith("refused") if together is None else fate == f"`{together!s}`"


def parquet(**columns: Any) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.table({"at": AT, **columns}), body)
    return body.getvalue()


def odd_names() -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([AT, pa.array([1]), pa.array([1])], names=["at", "amount", "AMOUNT"]), body)
    return body.getvalue()


SCENES: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "cast": ({"a.parquet": parquet(amount=[1])}, {"cast": {"amount": "date"}}),
    "where": ({"a.parquet": parquet(amount=[1])}, {"where": "state = 'paid'"}),
    "csv": ({"a.csv": b"at,amount\n2017-05-01,x\n"}, {"format": Csv({"at": "timestamp", "amount": "long"})}),
    "empty": ({"2017-05.parquet": b""}, {}),
    "a table": ({"a.parquet": parquet(), "_delta_log/00000000000000000000.json": b"{}"}, {}),
    "passed over": ({"a.parquet": parquet(), "2017-05.parquet.bak": parquet()}, {}),
    "unreadable": ({"a.parquet": parquet(opened=pa.array([1], pa.time64("us")))}, {}),
    "types": ({"a.parquet": parquet(amount=[1]), "b.parquet": parquet(amount=["1"])}, {}),
    "later": ({"a.parquet": parquet(), "b.parquet": parquet(channel=["web"])}, {}),
    "names": ({"a.parquet": odd_names()}, {}),
    "epoch": ({"a.parquet": parquet(at=[1])}, {}),
    "naive": ({"a.parquet": parquet()}, {"timezone": None}),
}


@pytest.mark.store
def test_the_errors_are_those_that_a_pin_raises(text: str, objects: Objects, root: str) -> None:
    shown = re.findall(r"^```text\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)
    told = []
    for name, (files, fields) in SCENES.items():
        uri = f"{root}/{name.replace(' ', '-')}/"
        for file, body in files.items():
            objects.put(f"{uri}{file}", body)
        source = EventSource(uri, event_time="at", **{"timezone": "UTC", **fields})
        asked = ("at", "opened") if name == "unreadable" else ()
        try:
            told += observe(objects, "visits", source, asked=asked).notes
        except SourceError as error:
            told.append(str(error))
        told[-1] = told[-1].replace(uri, "s3://shop/visits/")

    assert shown == told
