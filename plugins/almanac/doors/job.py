"""A Spark job: orders' URIs in, a door called for each, receipts out. What `spark_jobs/steps/` start."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from almanac import errors
from almanac.core.canonical import decode, digest, sha256
from almanac.core.functions import function_of
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Order, Output, Placed, Receipt, Witness
from almanac.errors import AlmanacError, Conflict, DescriptionError, StoreError
from almanac.settings import GARBAGE, Settings
from almanac.store.home import Home
from almanac.store.objects import Objects
from almanac.store.receipts import read_order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LIBRARIES = (
    *("pyspark", "scikit-learn", "numpy", "pandas", "scipy", "pyarrow", "joblib"),
    *("onnxruntime", "skl2onnx", "great-expectations", "deltalake"),
)
LONGEST_FINDING = 2000


class Bench:
    """What the orders of one job share: the Spark session, started when first asked for.

    `orders` are all that the job was given: what several of them need can be made at once.
    """

    def __init__(self, name: str, session: SparkSession | None = None, orders: Sequence[Placed] = ()) -> None:
        self.name, self._session, self.orders = name, session, tuple(orders)
        self._starting: Future[SparkSession] | None = None

    def begin(self) -> None:
        """Lets the session start in the background, while this process imports what else it needs: most of a start is the
        JVM's work. Once it was begun or asked for, this does nothing.
        """
        if self._session is not None or self._starting is not None:
            return
        # Imported here and not in the thread: two threads that import one package at once can see half of it.
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.appName(f"almanac {self.name}")
        self._starting = ThreadPoolExecutor(1, "spark").submit(builder.getOrCreate)

    @cached_property
    def spark(self) -> SparkSession:
        self.begin()
        session = self._session or self._starting.result()  # type: ignore[union-attr]  # begun above
        session.conf.set("spark.sql.session.timeZone", "UTC")
        return session

    def session(self) -> SparkSession:
        """The session, for what may turn out not to need one."""
        return self.spark

    def ship(self, name: str, packed: bytes) -> str:
        """Brings a user's module to the tasks, because a model may hold its classes, and gives the file's name there. Once, for
        the whole job.
        """
        path = Path(self._shipped.name) / f"{name}-{sha256(packed)[:16]}.zip"
        if not path.exists():
            path.write_bytes(packed)
            self.spark.sparkContext.addPyFile(str(path))
        return path.name

    @cached_property
    def _shipped(self) -> tempfile.TemporaryDirectory[str]:
        # Kept until the job ends: a task that starts late fetches the file then.
        return tempfile.TemporaryDirectory(prefix="almanac-")

    @property
    def application(self) -> str:
        return self.spark.sparkContext.applicationId if "spark" in self.__dict__ else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One order on the bench: what it asks, and everything that a door needs to carry it out."""

    home: Home
    placed: Placed
    pipeline: Pipeline
    module: ModuleType
    bench: Bench
    witness: Witness

    @property
    def order(self) -> Order:
        return self.placed.order

    def linked(self, name: str) -> Receipt:
        """The receipt that the order links under a name. Raises: NotFound."""
        return self.home.receipts.read(self.placed.links[name])

    def asked(self, name: str) -> Any:
        """What a function of the user's module gives that takes nothing: `estimators()`, `checks()`.

        Raises:
            DescriptionError: it is missing, or failed.
        """
        function = function_of(self.module, name)
        try:
            return function()
        except AlmanacError:
            raise
        except Exception as error:
            raise DescriptionError(
                f"{name}() of {self.pipeline.name!r} failed: {plain(error)}. Correct it in the user's module; the next run takes "
                "the new one."
            ) from error

    def put(self, folder: str, name: str, body: bytes) -> Output:
        """Keeps a file that the order gave."""
        uri = f"{folder}/{name}"
        self.home.objects.put(uri, body)
        return Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body))

    def receipt(
        self,
        *,
        content: str = "",
        outputs: Sequence[Output] = (),
        findings: Sequence[str] = (),
        facts: Mapping[str, Any] | None = None,
        passed: bool = True,
    ) -> Receipt:
        """What came of the order, signed by its witness."""
        signed = dataclasses.replace(self.witness, spark_application=self.bench.application, ended=datetime.now(UTC))
        links = {name: uri for name, uri in self.placed.links.items() if "/receipts/" in uri}
        return Receipt(
            order=self.order,
            passed=passed,
            witness=signed,
            content=content,
            outputs=tuple(outputs),
            links=links,
            findings=tuple(findings),
            facts=dict(facts or {}),
        )


Carry = Callable[[Work], Receipt]


def main(carry: Carry, arguments: Sequence[str] | None = None, *, spark: bool = True) -> None:
    """Carries out orders and keeps their receipts. Exits with 1 when one did not pass; the others are still done.

    `spark` says whether the door always needs a Spark session, which is then begun at once.
    """
    parser = argparse.ArgumentParser(description="Carries out Almanac orders: a step that spark-submit starts.")
    parser.add_argument("orders", nargs="+", metavar="ORDER_URI", help="s3://.../orders/DIGEST.json")
    parser.add_argument("--witness", default="{}", help="who asks, as JSON: dag, run, task, attempt, actor")
    asked = parser.parse_args(arguments)
    # What a short job imports is most of its objects, and looking for garbage among them a fifth of the time.
    gc.set_threshold(GARBAGE)
    witness = decode(Witness, {**json.loads(asked.witness), "environment": environment_digest(), "commit": commit()})
    root = Settings.from_environment().root
    bench = Bench(Path(sys.argv[0]).stem)
    if spark:
        bench.begin()
    objects = Objects()
    failed = False
    bench.orders = tuple(read_order(objects, uri) for uri in asked.orders)
    for number, placed in enumerate(bench.orders, start=1):
        home = Home.of(root, placed.order.pipeline, objects)
        print(f"almanac: {number} of {len(asked.orders)}: {placed.order}", flush=True)
        receipt = carry_out(home, placed, carry, bench, witness)
        print(f"almanac: {'passed' if receipt.passed else 'did not pass'}: {home.receipts.uri(receipt)}", flush=True)
        for finding in receipt.findings:
            print(f"almanac: {finding}", flush=True)
        failed = failed or not receipt.answered
    if failed:
        sys.exit(1)


def carry_out(home: Home, placed: Placed, carry: Carry, bench: Bench, witness: Witness) -> Receipt:
    """Carries out one order, once: an order that was answered before gives its receipt. A failure is a receipt too.

    Raises:
        StoreError, Conflict: these say nothing about the order, so nothing is kept of them.
    """
    done = home.receipts.done(placed.order)
    if done is not None:
        return done
    began = dataclasses.replace(witness, began=datetime.now(UTC))
    try:
        with work_on(home, placed, bench, began) as work:
            receipt = carry(work)
    except (StoreError, Conflict):
        raise
    except Exception as error:
        traceback.print_exc()
        if lost := _lost_store(error):
            raise lost from error
        receipt = Receipt(
            order=placed.order,
            passed=False,
            witness=dataclasses.replace(began, ended=datetime.now(UTC)),
            findings=(plain(error),),
            facts={"error": (_raised_in_a_task(error) or (type(error).__name__,))[0]},
        )
    return home.receipts.keep(receipt)


@contextlib.contextmanager
def work_on(home: Home, placed: Placed, bench: Bench, witness: Witness) -> Iterator[Work]:
    pipeline = home.receipts.description(placed.links["description"])
    with user_module(home.receipts.module(placed.order.module), pipeline.name) as module, _pickled_by_value(module):
        yield Work(home=home, placed=placed, pipeline=pipeline, module=module, bench=bench, witness=witness)


@contextlib.contextmanager
def _pickled_by_value(module: ModuleType) -> Iterator[None]:
    """Its functions go to the Spark tasks whole: they cannot import the module that they come from."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not registered any more
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def user_module(packed: bytes, name: str) -> Iterator[ModuleType]:
    """The user's module as it was zipped with the order, importable under its name for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        path = Path(folder) / f"{name}.zip"
        path.write_bytes(packed)
        before = sys.modules.pop(name, None)
        sys.path.insert(0, str(path))
        try:
            importlib.invalidate_caches()
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(path))
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before


def plain(error: Exception) -> str:
    """An error in one plain sentence or two: of an executor's traceback only the last line is told."""
    if isinstance(error, AlmanacError):
        return str(error)
    name, message = _raised_in_a_task(error) or (type(error).__name__, str(error).strip())
    return (message if hasattr(errors, name) else f"{name}: {message}")[:LONGEST_FINDING]


def _raised_in_a_task(error: Exception) -> tuple[str, str] | None:
    """The name and text of the error in a Spark task that this one tells of."""
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text:
        return None
    lines = re.findall(r"^(?:[\w.]+\.)?(\w+): (.+)$", text, re.MULTILINE)
    raised = [(name, told) for name, told in lines if name.endswith(("Error", "Exception")) or hasattr(errors, name)]
    return raised[-1] if raised else (type(error).__name__, text.splitlines()[-1])


def _lost_store(error: Exception) -> StoreError | None:
    """What a Spark task raised, where it was the store that failed it."""
    name, message = _raised_in_a_task(error) or ("", "")
    kind = getattr(errors, name, None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, StoreError) else None


def environment() -> dict[str, str]:
    """Library to version, of what shapes a model."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def environment_digest() -> str:
    return digest(environment())


def commit() -> str:
    """The git commit of the code that runs, where it runs from a checkout; else ALMANAC_COMMIT, else nothing."""
    if given := os.environ.get("ALMANAC_COMMIT"):
        return given
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
