"""Deliveries to PostgreSQL are transactions: whoever is killed, sent away or kept waiting, a period is whole, with its note."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from almanac.deliveries import postgres
from almanac.errors import StoreError, Unreachable
from tests.support.scores import Ask, Scores, Target

pytestmark = pytest.mark.store


def test_readers_see_the_old_rows_until_the_new_ones_are_there(
    scores: Scores, in_postgres: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.publish("2017-07", customers=6)
    in_postgres.deliver(scores)
    old, seen, real = in_postgres.seen(), [], postgres.fetched
    scores.publish("2017-07", customers=4)

    @contextmanager
    def looking(*asked: Any) -> Iterator[Any]:
        with real(*asked) as found:
            yield found
        seen.append(in_postgres.seen())  # the old rows are deleted, some of the new ones copied

    monkeypatch.setattr(postgres, "fetched", looking)
    in_postgres.deliver(scores)

    assert seen == [old, old]
    assert in_postgres.seen() == scores.seen() != old


class Killed(BaseException):
    """The process is gone."""


def statements(monkeypatch: pytest.MonkeyPatch, left: int) -> list[int]:
    """Lets so many statements of a deliverer through; then its process is gone, and with it its connection. Counts them."""
    real, count = postgres.PostgresPlace.apply, [0]

    def apply(self: postgres.PostgresPlace, change: Any) -> Any:
        execute, copy = self._connection.execute, self._copy

        def counted(work: Callable[..., Any], *asked: Any) -> Any:
            if count[0] == left:
                self._connection.close()
                raise Killed
            count[0] += 1
            return work(*asked)

        with monkeypatch.context() as patch:
            patch.setattr(self._connection, "execute", lambda *asked: counted(execute, *asked), raising=False)
            patch.setattr(self, "_copy", lambda *asked: counted(copy, *asked), raising=False)
            return real(self, change)

    monkeypatch.setattr(postgres.PostgresPlace, "apply", apply)
    return count


def test_a_kill_between_any_two_statements_changes_nothing_and_the_next_run_mends_it(
    scores: Scores, in_postgres: Target, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where tables are made: a period is there whole, with its note, or nothing of it is."""
    wider = scores.rows("b", 3).append_column("rank", pa.array([1, 2, 3], pa.int64()))
    lap, old, killed = 0, in_postgres.seen(), True
    for publish in (lambda: scores.publish("2017-07", customers=6), lambda: scores.publish("2017-07", wider)):
        publish()
        lap, killed = 0, True
        while killed:
            with monkeypatch.context() as patch:
                statements(patch, lap)
                try:
                    in_postgres.deliver(scores)
                    killed = False
                except Killed:
                    lap += 1
                    assert in_postgres.seen() == old
                    assert in_postgres.outstanding(scores) == ["2017-07"]
        assert lap >= 8
        old = in_postgres.seen()
        assert old == scores.seen()
    assert ask("SELECT count(rank) FROM scores") == [(3,)]


def test_a_database_that_ends_the_connection_is_told_and_the_next_run_mends_it(
    scores: Scores, in_postgres: Target, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.publish("2017-07")
    real = postgres.fetched

    @contextmanager
    def ending(*asked: Any) -> Iterator[Any]:
        ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'almanac'")
        with real(*asked) as found:
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "fetched", ending)
        with pytest.raises(Unreachable) as refused:
            in_postgres.deliver(scores)
    assert str(refused.value).startswith("Delivery 'warehouse': the database stopped the transaction (")
    assert str(refused.value).endswith("). This period was not changed. Try again.")
    assert in_postgres.seen() == []

    in_postgres.deliver(scores)
    assert in_postgres.seen() == scores.seen()


def test_who_holds_the_table_for_too_long_is_told_as_such(
    scores: Scores, in_postgres: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.publish("2017-07")
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 0.2)
    with psycopg.connect(in_postgres.address) as other:
        other.execute(postgres.LOCK, ["almanac_deliveries/scores"])
        with pytest.raises(StoreError) as refused:
            in_postgres.deliver(scores)

    assert str(refused.value) == (
        "Delivery 'warehouse': another session has locked table scores for 0.2 seconds. Nothing was changed. Find the "
        "session in pg_locks, and try again when it has ended."
    )
    in_postgres.deliver(scores)
    assert in_postgres.seen() == scores.seen()
