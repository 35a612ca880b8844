"""Benchmarks the whole loop: one retrain, then one score, through a real scheduler, against a script. `make bench-retrain`.

nothing   from an empty lake: the retrain builds the features of its four snapshots, the score those of its period
there     the next month's retrain and score, whose features were all built before; the gate compares two versions

The script is one Spark application that does the same by hand (`contestants/retrain_script.py`), with the same Spark settings and
the same files in the same store. Both must find the same ROC AUC, or the times count for nothing. Of Almanac's wall time, each
second is told by task.

To reach: at the demo's size at most 2.5 times the script's wall time, at 20 times that at most 1.3 times; a score at most 25 s.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import figures, kept, spans
from benchmarks.figures import Figure
from benchmarks.loop import Loop
from benchmarks.race import REPOSITORY, Failed
from benchmarks.scoring import about, interrupt, some_of, today
from benchmarks.spans import RunTimes, TaskSeconds

RESULTS = REPOSITORY / "benchmarks" / "results" / "retrain.json"
CASES = NOTHING, THERE = ("nothing", "there")
# To the digits that ROC AUC is told with.
SAME = 5e-5
MONTHS = {
    NOTHING: {"period": "2017-07", "training": ["2017-03", "2017-04", "2017-05"], "holdout": "2017-06", "score": "2017-08"},
    THERE: {"period": "2017-08", "training": ["2017-04", "2017-05", "2017-06"], "holdout": "2017-07", "score": "2017-09"},
}
EXAMPLES = """examples:
  python -m benchmarks.retrain                                  the demo's size and 20 times that; an hour on two cores
  python -m benchmarks.retrain --times 1 --rounds 1 --results /tmp/try.json
  python -m benchmarks.retrain --times 1 --parts nothing --rounds 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A DAG run: its wall time, where it went, and its tasks."""

    seconds: float
    kinds: dict[str, float]
    tasks: Sequence[TaskSeconds]

    @classmethod
    def of(cls, run: RunTimes, loop: Loop) -> Timed:
        tasks = spans.of_run(run, list(loop.traced()))
        return cls(seconds=run.seconds, kinds=spans.along(run, tasks), tasks=tasks)

    @property
    def applications(self) -> int:
        return sum(task.application for task in self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One turn of Almanac and of the script."""

    retrain: Timed
    score: Timed
    script: dict[str, Any]
    roc_auc: float

    @property
    def almanac(self) -> float:
        """Seconds of both runs."""
        return self.retrain.seconds + self.score.seconds


@dataclass
class Session:
    """A running measurement; results are saved after every round."""

    results: Path
    parts: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def keep(self, case: str, times: int, rounds: Sequence[Round], missing: Sequence[str]) -> None:
        self.parts[f"{case}-{times}"] = {**part(case, times, rounds), "untimed": list(missing)}
        kept.results(self.results, report(self.parts, about()))


def part(case: str, times: int, rounds: Sequence[Round]) -> dict[str, Any]:
    """The part for the results file: seconds of each round; by task, those of the round in the middle."""
    middle = sorted(rounds, key=lambda one: one.almanac)[(len(rounds) - 1) // 2]
    runs = {name: getattr(middle, name) for name in ("retrain", "score")}
    return {
        "date": today(),
        "case": case,
        "times": times,
        "roc_auc": round(middle.roc_auc, 4),
        "estimator": middle.script["estimator"],
        "rows_scored": middle.script["rows"],
        "seconds": {
            "almanac": [round(one.almanac, 2) for one in rounds],
            "retrain": [round(one.retrain.seconds, 2) for one in rounds],
            "score": [round(one.score.seconds, 2) for one in rounds],
            "script": [round(one.script["wall"], 2) for one in rounds],
        },
        "script_wall": round(middle.script["wall"], 2),
        "script": {name: round(seconds, 2) for name, seconds in middle.script["seconds"].items()},
        **{
            name: {
                "seconds": round(run.seconds, 2),
                "applications": run.applications,
                "kinds": _rounded(run.kinds),
                "tasks": [_rounded(asdict(task)) for task in run.tasks],
            }
            for name, run in runs.items()
        },
    }


def _rounded(found: Any) -> Any:
    """The same with seconds to two digits."""
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    return round(found, 2) if isinstance(found, float) else found


def ratios(parts: dict[str, Any]) -> dict[str, Figure]:
    """Almanac's seconds to the script's, and the seconds of the score, of each case and size."""
    found = {}
    for name, measured in parts.items():
        found[f"time_vs_script.{name}"] = figures.ratio(measured["seconds"]["almanac"], measured["seconds"]["script"])
        found[f"score_seconds.{name}"] = Figure.of(measured["seconds"]["score"])
    return found


def report(parts: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The content of the results file: the figures, then everything that they come from."""
    found = ratios(parts)
    return {
        **{name: round(figure.value, 2) for name, figure in found.items()},
        "spread": {name: _rounded(asdict(figure)) for name, figure in found.items()},
        "about": about,
        "parts": parts,
    }


def nothing(loop: Loop) -> Round:
    """A retrain and a score from an empty lake. Raises: Failed."""
    months = MONTHS[NOTHING]
    loop.empty()
    retrained = Timed.of(loop.run("retrain", period=months["period"]), loop)
    scored = Timed.of(loop.run("score", period=months["score"]), loop)
    return _agreed(loop, months, retrained, scored, loop.script(**months))


def there(loop: Loop) -> Round:
    """The next month's retrain and score, after `nothing`. Features that are missing are built before. Raises: Failed."""
    before, months = MONTHS[NOTHING], MONTHS[THERE]
    first = _version(loop, before["period"])
    loop.run("score", **{"from": months["holdout"], "to": months["score"], "version": first["version"]})
    loop.script(build=[months["holdout"], months["score"]])
    retrained = Timed.of(loop.run("retrain", period=months["period"]), loop)
    # Named, because a version that the gate rejects would find its period already scored.
    scored = Timed.of(loop.run("score", period=months["score"], version=_version(loop, months["period"])["version"]), loop)
    return _agreed(loop, months, retrained, scored, loop.script(**months, champion=before["period"]))


def _version(loop: Loop, period: Any) -> dict[str, Any]:
    return next(row for row in loop.almanac("versions") if row["period"] == period)


def _agreed(loop: Loop, months: dict[str, Any], retrained: Timed, scored: Timed, script: dict[str, Any]) -> Round:
    """The round, if both fitted the same model. Raises: Failed."""
    version = _version(loop, months["period"])
    area = float(loop.almanac("show", version["version"])["manifest"]["metrics"]["roc_auc"])
    if abs(area - script["metrics"]["roc_auc"]) > SAME:
        raise Failed(
            f"ROC AUC of {months['period']}: expected {area:.4f}, as Almanac has it; got {script['metrics']['roc_auc']:.4f}"
        )
    return Round(retrain=retrained, score=scored, script=script, roc_auc=area)


def measure(session: Session, loop: Loop, times: int, rounds: int, cases: Sequence[str]) -> None:
    """Rounds of both cases in turns."""
    done: dict[str, list[Round]] = {case: [] for case in CASES}
    for number in range(1, rounds + 1):
        for case, turn in ((NOTHING, nothing), (THERE, there)):
            if case not in cases and case == THERE:
                continue
            try:
                found = turn(loop)
            except Failed as error:
                session.failed[f"{case}-{times}"] = str(error)
                session.tell(f"times {times} {case} {number}/{rounds}  FAILED: {error}")
                return
            done[case].append(found)
            session.tell(
                f"times {times} {case:8} {number}/{rounds}  retrain {found.retrain.seconds:.1f} s, score "
                f"{found.score.seconds:.1f} s, script {found.script['wall']:.1f} s, ROC AUC {found.roc_auc:.4f}"
            )
            if case in cases:
                session.keep(case, times, done[case], spans.missing(loop.traced()))


def main() -> int:
    """Exit code 1 if a run failed or the two did not agree, 130 after Ctrl-C; finished rounds are saved."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, interrupt)
    session = Session(asked.results)
    if asked.results.exists():
        session.parts = json.loads(asked.results.read_text())["parts"]
    try:
        for times in asked.times:
            with Loop.open(asked.folder.resolve() / "retrain" / f"times-{times}", times, session.tell) as loop:
                measure(session, loop, times, asked.rounds, asked.parts)
    except KeyboardInterrupt:
        session.tell(f"Stopped. The rounds so far are in {asked.results}.")
        return 130
    for name in [f"{case}-{times}" for times in asked.times for case in asked.parts]:
        if name in session.parts:
            print(told(session.parts[name]))
    for name, text in session.failed.items():
        print(f"failed: {name}: {text}", file=sys.stderr)
    return 1 if session.failed else 0


def told(measured: dict[str, Any]) -> str:
    """A part as text: a line for each task, with its seconds by kind."""
    seconds = measured["seconds"]
    of = {name: median(seconds[name]) for name in seconds}
    lines = [
        f"\n{measured['case']}, times {measured['times']}: Almanac {of['almanac']:.1f} s, script {of['script']:.1f} s, "
        f"{figures.ratio(seconds['almanac'], seconds['script']).value:.2f} times; score {of['score']:.1f} s"
    ]
    for name in ("retrain", "score"):
        run = measured[name]
        lines.append(f"{name}: {run['seconds']:.1f} s, {run['applications']} Spark applications; * is on the critical path")
        for task in run["tasks"]:
            kinds = ", ".join(f"{kind} {spent:.1f}" for kind, spent in task["kinds"].items() if spent >= 0.05)
            mark = "*" if task["critical"] else " "
            beside = f"; {task['calls']} S3 calls in {task['calls_seconds']:.1f} s" if task["calls"] else ""
            beside += f"; Spark's tasks read for {task['reading']:.1f} s" if task["reading"] else ""
            lines.append(f" {mark} {task['task']:32} {task['seconds']:6.1f} s after {task['waited']:4.1f} s: {kinds}{beside}")
        kinds = ", ".join(f"{spans.KINDS[kind]} {spent:.1f}" for kind, spent in run["kinds"].items() if spent >= 0.05)
        lines.append(f"   along the critical path: {kinds}")
    lines.append("script: " + ", ".join(f"{phase} {spent:.1f}" for phase, spent in measured["script"].items()))
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrain",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--times", type=int, nargs="+", default=[1, 20], help="sizes: so many times the demo's households (default: 1 20)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of Almanac and of the script (default: %(default)s)")
    parser.add_argument("--parts", type=some_of(CASES), default=CASES, help=f"what to measure, of {','.join(CASES)}")
    parser.add_argument(
        "--folder", type=Path, default=Path(".almanac/bench"), help="stores, Airflow and logs (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results; measured parts replace those in it")
    asked = parser.parse_args()
    if asked.rounds < 1 or min(asked.times) < 1:
        parser.error("--rounds, --times: expected 1 or more")
    return asked


if __name__ == "__main__":
    sys.exit(main())
