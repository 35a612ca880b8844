"""The feature profiles that audits stored."""

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
    """The profiles of the newest `count` periods whose features passed an audit, for the definition that was audited last; sorted
    by period. If a period was audited more than once, its last profile counts.

    Raises:
        NotFound: there is no profile.
    """
    audits = [
        (receipt.run_info.ended or NEVER, receipt.order, output)
        for receipt in home.receipts.listed(Artifact.FEATURES, Step.AUDIT)
        for output in receipt.outputs
        if receipt.passed and output.name == PROFILE
    ]
    if not audits:
        raise NotFound(
            f"No features of {home.name!r} have been audited yet, so there is no profile to draft checks from. Run "
            f"{home.name}_retrain once, with a checks() that checks nothing."
        )
    audits.sort(key=lambda audit: audit[0])
    definition = audits[-1][1].description
    found = {order.period: output.uri for _, order, output in audits if order.description == definition}
    return [record(Profile, home.objects.get(found[period]), found[period]) for period in sorted(found)[-count:]]
