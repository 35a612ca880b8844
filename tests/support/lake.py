"""Iceberg tables of a test: a catalog in a SQLite file, tables on the test's S3 server."""

from __future__ import annotations

import os

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table

from almanac.store.objects import Objects


def catalog(address: str, name: str = "lake") -> Catalog:
    """A catalog; `address`: of SQLAlchemy."""
    return load_catalog(
        name, type="sql", uri=address, **{"s3.endpoint": os.environ["AWS_ENDPOINT_URL"], "client.region": "us-east-1"}
    )


def hint(objects: Objects, table: Table) -> None:
    """Writes what the table's newest metadata file is, for readers without its catalog."""
    folder, _, name = table.metadata_location.rpartition("/")
    objects.put(f"{folder}/version-hint.text", name.encode())
