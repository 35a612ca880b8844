"""Audits of sources: a source is checked before anything is built from it, and rows that fail may be set aside."""

from __future__ import annotations

from dataclasses import dataclass

from almanac.errors import DescriptionError


@dataclass(frozen=True, slots=True)
class Audit:
    """The source is checked by its suite in the module's `checks()["sources"]`, on the pinned files that a run may read.

    Args:
        quarantine: a failed check of severity critical blocks. With a share, such as 0.01, rows that fail a row check are set
            aside instead, as long as they are at most that share of the checked rows, and nothing built later sees them.

    Raises:
        DescriptionError: the share is not from 0 to 1.
    """

    quarantine: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.quarantine, bool) or not isinstance(self.quarantine, int | float) or not 0 <= self.quarantine <= 1:
            raise DescriptionError(
                f"Audit.quarantine: expected a share from 0 to 1, such as 0.01 for one row in 100; got {self.quarantine!r}."
            )

    @property
    def sets_aside(self) -> bool:
        return self.quarantine > 0
