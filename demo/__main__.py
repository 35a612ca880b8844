"""`python -m demo`: sets everything up in one folder, plays the story, prints the UI's address. See `make demo`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from almanac.local import java, scheduler, seaweed, spark_conf
from almanac.local.processes import InUse
from almanac.local.scheduler import NotUp
from demo import landing
from demo.story import DAGS, PIPELINE, Astray, Story

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Exit code 0 only if every run ended as expected; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Plays Almanac's main use on real data: retrain, score, a bad version, a rollback.",
        epilog="Example: make demo KEEP=no",
    )
    parser.add_argument("--folder", type=Path, default=Path(".almanac"), help="the folder for all state (default: %(default)s)")
    parser.add_argument("--keep", choices=("yes", "no"), default="yes", help="stay up until Ctrl-C (default: %(default)s)")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    try:
        return _play(arguments.folder.resolve(), arguments.keep == "yes", console)
    except KeyboardInterrupt:
        console.print("\nStopped. `make demo` resumes from here, `make clean` removes everything.")
        return 130
    except (NotUp, seaweed.NotStarted, java.NoJava, InUse, Astray) as error:
        console.print(f"\n{error}", style="red", markup=False)
        return 1


def _play(folder: Path, keep: bool, console: Console) -> int:
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with ExitStack() as running:
        console.print("Starting an S3 server with its own keys ...")
        store = seaweed.start(folder / "store")
        running.callback(store.stop)
        # Deliver the data and prepare Spark while Airflow creates its database.
        pool = running.enter_context(ThreadPoolExecutor())
        delivered = pool.submit(landing.deliver, store)
        spark = pool.submit(_spark, folder)
        console.print("Preparing data, Java and Spark; starting Airflow's database, scheduler, DAG processor and API server ...")
        airflow, environment = scheduler.start(folder / "airflow", PROJECT, store, spark.result)
        running.callback(airflow.stop)
        airflow.wait_for_dags(DAGS)
        delivered.result()
        console.print(f"Everything is up after {time.monotonic() - began:.0f} s. The UI: {airflow.address}")
        story = Story(airflow, store, environment, console, folder / "story.json")
        story.tell()
        story.tables()
        console.print(f"\nDone in {time.monotonic() - began:.0f} s: every run ended as expected.", style="green")
        if keep:
            login = f"user {scheduler.USER}, password {airflow.password}"
            console.print(f"\nThe Airflow UI: [bold]{airflow.address}[/bold]  {login}")
            console.print(f"See the DAGs {PIPELINE}_*. Ctrl-C stops everything.")
            while True:
                time.sleep(3600)
    return 0


def _spark(folder: Path) -> dict[str, str]:
    return spark_conf.environment(folder / "spark", java.java_home(folder / "java"))


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
