"""Garbage on S3: files that a listing shows and no kept record names. Both are checked again before anything is deleted.

Safe while jobs run: a stage older than a day is not published, so a file that is older than a week and not visible cannot
become visible. Files that a commit of the last week replaced are kept for readers that may still need them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from urllib.parse import unquote

from almanac.core.garbage import RETENTION, Item, check_age, garbage, kind_of
from almanac.store.home import Home
from almanac.store.tables import Table
from almanac.store.versions import Manifest

WORKERS = 16
BATCH = 1000

Told = Callable[[int], None]


def collect(home: Home, *, older: timedelta = RETENTION, now: datetime | None = None) -> tuple[Item, ...]:
    """What may be deleted now, sorted by name. `now`: the store's time, by default.

    Raises:
        ValueError: `older` is less than a week.
        StoreError, IntegrityError: a kept record cannot be read, so the files it names are unknown.
    """
    check_age(older)
    now = now or home.objects.now(home.layout.home)
    # Listed before the records are read, so that files written meanwhile are not in the listing.
    listed = list(_listed(home))
    return garbage(listed, kept(home, now - older), now, older)


def delete(
    home: Home, items: Sequence[Item], *, older: timedelta = RETENTION, now: datetime | None = None, told: Told = lambda _: None
) -> tuple[Item, ...]:
    """Deletes the items that are still not named by any kept record, and returns them. A missing item is not an error.

    `told` is called with the number of items processed. Raises: as `collect`; items deleted by then stay deleted, so call again.
    """
    now = now or home.objects.now(home.layout.home)
    deleted: list[Item] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for begin in range(0, len(items), BATCH):
            batch = items[begin : begin + BATCH]
            sure = garbage(batch, kept(home, now - older), now, older)
            for item in pool.map(lambda item: _delete(home, item), sure):
                deleted.append(item)
                told(1)
            told(len(batch) - len(sure))
    return tuple(deleted)


def _delete(home: Home, item: Item) -> Item:
    home.objects.delete(item.uri)
    return item


def _listed(home: Home) -> Iterator[Item]:
    for folder in home.layout.data:
        for found in home.objects.walk(folder):
            if kind := kind_of(home.layout, found.uri):
                yield Item(kind=kind, uri=found.uri, bytes=found.size, modified=found.modified)


def kept(home: Home, since: datetime) -> set[str]:
    """The files that are visible or were replaced since then, and those that kept versions and visible predictions name.

    A version's features are the ones it was trained and judged on, even if its periods show other features by now.
    """
    tables = [home.predictions, *(home.features(name) for name in home.objects.folders(home.layout.definitions))]
    found: set[str] = set()
    with ThreadPoolExecutor(WORKERS) as pool:
        for uris in pool.map(lambda table: {*_visible(table), *_replaced(home, table, since)}, tables):
            found |= uris
        manifests = list(pool.map(home.versions.read, home.versions.names()))
        orders = [seen.order for seen in home.predictions.visible().values()]
        links = {uri for uris in pool.map(lambda manifest: _features_of(home, manifest), manifests) for uri in uris}
        links |= {placed.links["features"] for placed in pool.map(home.receipts.placed, orders)}
        for receipt in pool.map(home.receipts.read, sorted(links)):
            found |= {output.uri for output in receipt.outputs}
    return found | {file.uri for manifest in manifests for file in manifest.files.values()}


def _visible(table: Table) -> set[str]:
    return {f"{table.uri}/{unquote(path)}" for seen in table.visible().values() for path in seen.paths}


def _replaced(home: Home, table: Table, since: datetime) -> Iterator[str]:
    """The files that commits since then replaced: a reader that opened the table earlier may still need them."""
    for item in home.objects.walk(f"{table.uri}/_delta_log/"):
        if item.uri.endswith(".json") and item.modified >= since:
            for line in home.objects.get(item.uri).splitlines():
                if removed := json.loads(line).get("remove"):
                    yield f"{table.uri}/{unquote(removed['path'])}"


def _features_of(home: Home, manifest: Manifest) -> list[str]:
    """The publish receipts of the features that a version was trained and judged on."""
    links = home.receipts.read(manifest.receipt).links
    return [uri for name, uri in links.items() if name.startswith("features.")]
