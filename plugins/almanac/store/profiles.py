"""The profiles of features that audits kept."""

from __future__ import annotations

from datetime import UTC, datetime

from almanac.core.profile import Profile
from almanac.core.receipts import Artifact, Step
from almanac.errors import NotFound
from almanac.store.home import Home
from almanac.store.objects import record

PROFILE = "profile.json"
NEVER = datetime.min.replace(tzinfo=UTC)


def newest(home: Home, count: int) -> list[Profile]:
    """The profiles of the newest periods whose features were audited and found good, so many of the definition that was audited
    last; in the order of the periods. Of a period audited more than once the last audit's.

    Raises:
        NotFound: there is none.
    """
    audits = [
        (receipt.run_info.ended or NEVER, receipt.order, output)
        for receipt in home.receipts.listed(Artifact.FEATURES, Step.AUDIT)
        for output in receipt.outputs
        if receipt.passed and output.name == PROFILE
    ]
    if not audits:
        raise NotFound(
            f"No features of {home.name!r} were audited yet, so there is no profile to draft checks from. Run "
            f"{home.name}_retrain once, with checks() that asks for nothing."
        )
    audits.sort(key=lambda audit: audit[0])
    definition = audits[-1][1].description
    found = {order.period: output.uri for _, order, output in audits if order.description == definition}
    return [record(Profile, home.objects.get(found[period]), found[period]) for period in sorted(found)[-count:]]
