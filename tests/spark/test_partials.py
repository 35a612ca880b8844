"""The buckets of partial sums: where those that are stored are found again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from almanac.spark import partials


def test_the_bucket_of_an_entity_of_one_column_is_what_it_was_when_sums_were_first_kept() -> None:
    # As computed by the release 0.1.0: other buckets would mix with those of files that are kept.
    for kind in (pa.int64(), pa.int32()):
        rows = pa.table({"customer": pa.array([1, 2, 3, 4, 5, 600], kind)})
        assert partials._buckets(rows, ["customer"]).tolist() == [5, 2, 0, 4, 4, 1]
    assert partials._buckets(pa.table({"customer": ["a", "b", "048", "48"]}), ["customer"]).tolist() == [6, 0, 2, 4]


def test_the_bucket_of_an_entity_of_several_columns_depends_on_all_of_them_and_not_on_their_width() -> None:
    customers, shops = np.repeat(np.arange(200), 5), np.tile(list("abcde"), 200)
    rows = pa.table({"customer": pa.array(customers, pa.int64()), "shop": pa.array(shops, pa.string())})
    found = partials._buckets(rows, ["customer", "shop"])

    narrow = rows.set_column(0, "customer", rows["customer"].cast(pa.int16()))
    assert (partials._buckets(narrow, ["customer", "shop"]) == found).all()
    sizes = np.bincount(found.astype(np.int64), minlength=partials.BUCKETS)
    assert sizes.min() > 80  # of 125 each
    assert len(set(found[:5])) > 1 and len(set(found[::5])) > 1
