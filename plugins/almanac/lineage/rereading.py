"""Reads objects again and checks them against their seal, or against the digest in their name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from almanac.core.canonical import opened, sha256
from almanac.lineage.findings import RESTORE, Finding, absent
from almanac.store.home import Home

Record = TypeVar("Record")
Progress = Callable[[str, int, int], None]


@dataclass
class Reading:
    """What was read so far. Many threads read objects; one thread records the findings."""

    home: Home
    pool: ThreadPoolExecutor
    progress: Progress | None
    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    volume: int = 0
    named_before: set[str] = field(default_factory=set)

    def bodies(self, kind: str, uris: Iterable[str]) -> Iterable[tuple[str, bytes | None]]:
        """Objects and their bytes, read lazily; None for a missing object."""
        listed = list(dict.fromkeys(uris))
        for number, (uri, body) in enumerate(zip(listed, self.pool.map(self.home.objects.find, listed), strict=True), start=1):
            self.checked[kind] += 1
            self.volume += len(body or b"")
            self.tell(kind, number, len(listed))
            yield uri, body

    def tell(self, kind: str, number: int, of: int) -> None:
        if self.progress is not None:
            self.progress(kind, number, of)

    def missing(self, uri: str, expected: str, advice: str = RESTORE) -> None:
        self.findings.append(absent(uri, expected, advice))

    def records(self, what: str, kind: type[Record], uris: Iterable[str]) -> dict[str, Record]:
        """Sealed records by URI; an altered or missing one is a finding."""
        found: dict[str, Record] = {}
        for uri, body in self.bodies(what, uris):
            if body is None:
                self.missing(uri, f"the {kind.__name__} that another record names")
                continue
            try:
                found[uri] = opened(kind, body)
            except ValueError as error:
                message = f"bytes that are not a valid {kind.__name__}: {error}"
                self.findings.append(Finding(uri=uri, found=message, expected="the record as it was written, with a valid seal"))
        return found

    def named(self, what: str, digests: Mapping[str, str]) -> None:
        """Checks objects whose name is their digest. `digests`: URI to SHA-256."""
        new = [uri for uri in digests if uri not in self.named_before]
        self.named_before.update(new)
        for uri, body in self.bodies(what, new):
            if body is None:
                self.missing(uri, f"the {what[:-1]} that orders name by its digest")
            elif sha256(body) != digests[uri]:
                self.findings.append(
                    Finding(uri=uri, found=f"SHA-256 {sha256(body)}", expected=f"SHA-256 {digests[uri]}, as in its name")
                )
