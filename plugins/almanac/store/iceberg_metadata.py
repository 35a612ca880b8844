"""The metadata of Iceberg tables: which file of it is current, by a catalog or by the table's folder.

`iceberg://CATALOG/namespace.table` is found by its catalog, which pyiceberg knows by its own configuration
(`PYICEBERG_CATALOG__...` in the environment, `.pyiceberg.yaml`). `s3://bucket/table/` is found by its folder, which only shows
the newest metadata file: for a table that a catalog commits, only the catalog knows which file is current, so name the catalog.
The files themselves are always read with the store and the credentials of the environment.
"""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, NotInstalledError
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.utils.config import Config

from almanac import files
from almanac.core.sources import CATALOG
from almanac.errors import AccessRefused, AlmanacError, SourceError, SourceMissing, Unreachable, examples
from almanac.store.objects import Objects

HINT = "version-hint.text"
METADATA = re.compile(r"v?(\d+)(-[^/]*?)?(\.gz)?\.metadata\.json(\.gz)?")
PASSWORD = re.compile(r"://\S*@")  # of an address in an error's text
SECRETS = ("uri", "password", "token", "credential", "secret", "key")  # words in the names of settings that are not shown


@dataclass(frozen=True, slots=True)
class Opened:
    """A table as its newest metadata file describes it.

    Args:
        io: reads the files of the metadata.
        text: what messages call the table.
        notes: what a person should know of it, in plain words.
    """

    metadata: TableMetadata
    io: FileIO
    text: str
    notes: tuple[str, ...] = ()


def opened(objects: Objects, name: str, uri: str) -> Opened:
    """The table of a source, by its catalog or its folder.

    Raises:
        SourceMissing: there is no such table.
        SourceError: its metadata, or the catalog's configuration, cannot be read.
        Unreachable, AccessRefused: the catalog or the store does not give it.
    """
    return _of_catalog(name, uri) if uri.startswith(CATALOG) else _of_folder(objects, name, uri)


def _of_catalog(name: str, uri: str) -> Opened:
    """A table by its catalog. Raises: SourceMissing, SourceError, Unreachable."""
    catalog, _, identifier = uri.removeprefix(CATALOG).partition("/")
    config = Config()  # reads the environment now; `load_catalog` alone has it as it was when pyiceberg was imported
    configured = config.get_catalog_config(catalog)
    if configured is None:
        raise SourceError(
            f"Source {name!r}: pyiceberg has no configuration of the catalog {catalog!r} of {uri} (found: "
            f"{examples(sorted(config.get_known_catalogs()))}). Set PYICEBERG_CATALOG__{catalog.upper()}__URI and the like, or "
            "write it into ~/.pyiceberg.yaml, where Airflow's workers and the command line run. In the environment a _ in a "
            "catalog's name stands for a -."
        )
    try:
        with load_catalog(catalog, **{**_reaching(), **configured}) as found:  # type: ignore[arg-type]
            table = found.load_table(identifier)
    except (NoSuchTableError, NoSuchNamespaceError) as error:
        raise SourceMissing(
            f"Source {name!r} is missing: the catalog {catalog!r} has no table {identifier}. Deliver it, or correct the source's "
            "uri."
        ) from error
    except (NotInstalledError, ImportError, ValueError, TypeError) as error:
        raise SourceError(
            f"Source {name!r}: the table {uri} cannot be read ({_why(error, configured)}). Check the catalog's configuration, "
            "PYICEBERG_CATALOG__... or ~/.pyiceberg.yaml."
        ) from None  # its text may hold a password
    except Exception as error:  # each kind of catalog has a client with errors of its own
        raise Unreachable(
            f"{uri}: the catalog does not give the table ({_why(error, configured)}). Check that it is running, and its "
            "credentials."
        ) from None
    return Opened(table.metadata, table.io, f"the Iceberg table {uri}")


def _of_folder(objects: Objects, name: str, uri: str) -> Opened:
    """A table by its folder. Raises: SourceMissing, SourceError."""
    text = f"the Iceberg table {uri}"
    with reading(name, text):  # its properties could name another store, or a class to import: they do not say how it is read
        place, notes = _newest(objects, name, uri)
        body = objects.get(place)
        metadata = TableMetadataUtil.parse_raw((gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode())
        return Opened(metadata, PyArrowFileIO(_reaching()), text, notes)


def _newest(objects: Objects, name: str, uri: str) -> tuple[str, tuple[str, ...]]:
    """The newest metadata file of a folder, and notes.

    It is the one that `version-hint.text` names, or a successor without a gap, as the hint is written after it; without a hint,
    the one with the highest version. Raises: SourceMissing, SourceError.
    """
    versions = dict[int, list[str]]()
    for item in objects.walk(f"{uri}metadata/"):
        if found := METADATA.fullmatch(item.uri.removeprefix(f"{uri}metadata/")):
            versions.setdefault(int(found[1]), []).append(item.uri)
    if not versions:
        raise SourceMissing(
            f"Source {name!r} is missing: {uri} is no Iceberg table (it has no metadata/*.metadata.json). Deliver it, or correct "
            "the source's uri or format."
        )
    hint = (objects.find(f"{uri}metadata/{HINT}") or b"").decode(errors="replace").strip()
    if hint and not hint.isdecimal():
        named = [
            place for some in versions.values() for place in some if place.rsplit("/", 1)[-1] in (hint, f"{hint}.metadata.json")
        ]
        if not named:
            raise SourceError(
                f"Source {name!r}: {uri}metadata/{HINT} names {hint!r}, which is not there (found: "
                f"{examples(sorted(place.rsplit('/', 1)[-1] for some in versions.values() for place in some))}). Correct the "
                "hint, or read the table by its catalog: iceberg://CATALOG/namespace.table."
            )
        return named[0], ()
    version = int(hint) if hint and int(hint) in versions else max(versions)
    while version + 1 in versions:
        version += 1
    if len(versions[version]) > 1:
        raise SourceError(
            f"Source {name!r}: {uri}metadata/ has {len(versions[version])} files of version {version} "
            f"({examples(sorted(place.rsplit('/', 1)[-1] for place in versions[version]))}), and only the table's catalog knows "
            "which is current. Read it by its catalog: iceberg://CATALOG/namespace.table."
        )
    (place,) = versions[version]
    if hint or place.rsplit("/", 1)[-1].startswith("v"):  # a table that is committed by its files' names
        return place, ()
    return place, (
        f"Source {name!r}: {uri} is read by its newest metadata file, {place.rsplit('/', 1)[-1]}. If a catalog commits the "
        "table, a commit that failed can have left that file; name the catalog: iceberg://CATALOG/namespace.table.",
    )


def _reaching() -> dict[str, str]:
    """How pyiceberg reaches the store where its own configuration does not say: by the environment, as all readers here do."""
    found = {"s3.connect-timeout": "5", "s3.request-timeout": "30"}
    if endpoint := files.endpoint():
        found["s3.endpoint"] = endpoint
    if region := files.region() or (endpoint and "us-east-1"):
        found["client.region"] = region
    return found


@contextlib.contextmanager
def reading(name: str, text: str) -> Iterator[None]:
    """Wraps the reading of a table's metadata and deletes; failures inside become errors in plain words.

    Raises:
        SourceError, Unreachable.
    """
    try:
        yield
    except AlmanacError:
        raise
    except FileNotFoundError as error:
        raise SourceError(
            f"Source {name!r}: a file that the metadata of {text} names is gone ({_why(error)}). Restore it, or roll the table "
            "back."
        ) from error
    except PermissionError as error:
        raise AccessRefused(
            f"Source {name!r}: the store refuses to give the metadata of {text} ({_why(error)}). Check the credentials."
        ) from error
    except OSError as error:
        raise Unreachable(
            f"Source {name!r}: the metadata of {text} cannot be read ({_why(error)}). Check the store and its credentials."
        ) from error
    except Exception as error:  # what pyiceberg raises for what it cannot read has no common class
        raise SourceError(
            f"Source {name!r}: {text} cannot be read ({_why(error)}). If it uses a feature that pyiceberg does not know, deliver "
            "a copy without it."
        ) from error


def _why(error: Exception, configured: Mapping[str, object] | None = None) -> str:
    """What an error says, without the secrets of a catalog's configuration."""
    text = " ".join((str(error) or type(error).__name__).split())
    for name, value in (configured or {}).items():
        if value and any(word in name for word in SECRETS):
            text = text.replace(str(value), "...")
    return PASSWORD.sub("://...@", text)[:300]
