"""What a job's functions get: the Spark application that its orders share, and one order with everything it needs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import linecache
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from almanac.core.canonical import digest, encode, sha256
from almanac.core.functions import function_of
from almanac.core.pins import Pin
from almanac.core.pipeline import Pipeline
from almanac.core.receipts import Artifact, Order, Output, PlacedOrder, Receipt, RunInfo, Step, admit
from almanac.errors import AlmanacError, DescriptionError
from almanac.jobs.failures import plain
from almanac.store.home import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Result = TypeVar("Result")
LIBRARIES = (
    *("pyspark", "scikit-learn", "numpy", "pandas", "scipy", "pyarrow", "joblib"),
    *("onnxruntime", "skl2onnx", "great-expectations", "deltalake"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Pins:
    """The pins of a receipt, by source; and those that were looked up, with the names that their files have now."""

    receipt: Receipt
    all: Mapping[str, Pin]
    named: dict[str, Pin] = dataclasses.field(default_factory=dict)


class SparkJob:
    """What the orders of one Spark application share: its session, started on first use.

    Args:
        name: of the application, such as `features.stage`.
        session: a running session to use.
        orders: all orders of the job; what several of them need can be built at once.
    """

    def __init__(self, name: str, session: SparkSession | None = None, orders: Sequence[PlacedOrder] = ()) -> None:
        self.name, self._session, self.orders = name, session, tuple(orders)
        self.failed: list[tuple[Order, Exception]] = []  # in the order in which they failed
        self.made: dict[str, Any] = {}  # what one order's function made for later orders, by their digests
        self.pins: dict[str, Pins] = {}  # by the URI of their receipt
        self.later: Callable[[], None] | None = None  # imports what the job needs after its first query
        self._shipped = set[Path]()
        self.apart = False  # whether each order is built by itself from now on
        self._starting: Future[SparkSession] | None = None

    def after(self, placed: PlacedOrder) -> Sequence[PlacedOrder]:
        """The orders that follow one of the job's; none if it is not one of them."""
        return self.orders[self.orders.index(placed) + 1 :] if placed in self.orders else ()

    @cached_property
    def background(self) -> ThreadPoolExecutor:
        """Runs queries: two at once. Their results are awaited by `result`."""
        import pandas  # noqa: F401 - here: two threads that import one package at once can see half of it

        return ThreadPoolExecutor(2, "query")

    def result(self, query: Future[Result]) -> Result:
        """The result of a query in the background. While the first one runs, this thread imports what the job needs later."""
        later, self.later = self.later, None
        if later is not None:
            with contextlib.suppress(Exception):  # raised again where it is needed
                later()
        return query.result()

    def begin(self) -> None:
        """Starts the session in the background, while this process imports what else it needs: most of a start is the JVM's
        work. Does nothing if it was called before.
        """
        if self._session is not None or self._starting is not None:
            return
        # Imported here and not in the thread, for the same reason as in `background`.
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
        """The session, for callers that may turn out not to need one."""
        return self.spark

    def ship(self, name: str, packed: bytes) -> str:
        """Makes a user's module importable in tasks, because a model may hold its classes. Returns the name of its file there. A
        module is shipped once per job.
        """
        path = Path(self._folder.name) / f"{name}-{sha256(packed)[:16]}.zip"
        if path not in self._shipped:
            path.write_bytes(packed)
            self.spark.sparkContext.addPyFile(str(path))
            self._shipped.add(path)
        return path.name

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        # Kept until the job ends: a task that starts late fetches the file then.
        return tempfile.TemporaryDirectory(prefix="almanac-")

    @property
    def application(self) -> str:
        """The application's id; empty while no session was used."""
        return self.spark.sparkContext.applicationId if "spark" in self.__dict__ else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """One order, and everything that a step's function needs to run it.

    Args:
        pipeline: the description that the order was placed with.
        module: the user's module that the order names, imported.
        job: what the order shares with the other orders of the job.
    """

    home: Home
    placed: PlacedOrder
    pipeline: Pipeline
    module: ModuleType
    job: SparkJob
    run_info: RunInfo

    @property
    def order(self) -> Order:
        return self.placed.order

    @property
    def retried(self) -> bool:
        """Whether an earlier attempt at the job failed."""
        return self.run_info.attempt > 1

    def linked(self, name: str) -> Receipt:
        """The receipt that the order links under a name. Raises: NotFound."""
        return self.home.receipts.read(self.placed.links[name])

    def admitted(self, name: str, artifact: Artifact, step: Step) -> Receipt:
        """The receipt that the order links under a name: of that artifact, step and this order's period. Raises: NotAdmitted."""
        period = None if artifact is Artifact.SOURCES else self.order.period
        return admit(self.linked(name), artifact, step, pipeline=self.home.name, period=period)

    def call(self, name: str) -> Any:
        """The result of a user function without arguments: `estimators()`, `checks()`.

        Raises:
            DescriptionError: it is missing, or it failed.
        """
        function = function_of(self.module, name)
        try:
            return function()
        except AlmanacError:
            raise
        except Exception as error:
            raise DescriptionError(
                f"{name}() of {self.pipeline.name!r} failed: {plain(error)}. Correct it in the user's module; the next run uses "
                "the corrected one."
            ) from error

    def put(self, folder: str, name: str, body: bytes) -> Output:
        """Writes a file that the order made to the store."""
        uri = f"{folder}/{name}"
        self.home.objects.put(uri, body)
        return Output(name=name, uri=uri, bytes=len(body), sha256=sha256(body))

    def receipt(
        self,
        *,
        content: str = "",
        outputs: Sequence[Output] = (),
        findings: Sequence[str] = (),
        facts: object | None = None,
        passed: bool = True,
    ) -> Receipt:
        """The receipt of the order. `facts`: one of the classes of `core.facts`."""
        ended = dataclasses.replace(self.run_info, spark_application=self.job.application, ended=datetime.now(UTC))
        return Receipt(
            order=self.order,
            passed=passed,
            run_info=ended,
            content=content,
            outputs=tuple(outputs),
            links=self.placed.links,
            findings=tuple(findings),
            facts=encode(facts) or {},
        )


@contextlib.contextmanager
def context_of(home: Home, placed: PlacedOrder, job: SparkJob, run_info: RunInfo) -> Iterator[JobContext]:
    """The context of an order, with its user module imported. Raises: NotFound, IntegrityError."""
    pipeline = home.receipts.description(placed.description)
    with user_module(home.receipts.module(placed.order.module), pipeline.name) as module, _pickled_by_value(module):
        yield JobContext(home=home, placed=placed, pipeline=pipeline, module=module, job=job, run_info=run_info)


@contextlib.contextmanager
def _pickled_by_value(module: ModuleType) -> Iterator[None]:
    """Sends the module's functions to the Spark tasks by value: the tasks cannot import the module."""
    from pyspark import cloudpickle

    if module.__name__ in cloudpickle.list_registry_pickle_by_value():  # type: ignore[no-untyped-call]
        yield  # inside another order's context, which goes on
        return
    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not registered any more
            cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


def _remember_lines(name: str) -> None:
    """Keeps a module's text for tracebacks that are told when its zip is gone."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin:
        linecache.getlines(spec.origin, {"__name__": name, "__spec__": spec, "__loader__": spec.loader})


@contextlib.contextmanager
def user_module(packed: bytes, name: str) -> Iterator[ModuleType]:
    """The user's module as it was zipped with the order, importable under its name inside the context."""
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        path = Path(folder) / f"{name}.zip"
        path.write_bytes(packed)
        before = sys.modules.pop(name, None)
        sys.path.insert(0, str(path))
        try:
            sys.path_importer_cache.pop(str(path), None)
            _remember_lines(name)
            yield importlib.import_module(name)
        finally:
            sys.path.remove(str(path))
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before


def environment() -> dict[str, str]:
    """Distribution to version, for the distributions that shape a model."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(name: str) -> str:
    """Raises: PackageNotFoundError."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if name != "pyspark":
            raise
        import pyspark  # that of a Spark which pip did not install

        return pyspark.__version__


def environment_digest() -> str:
    return digest(environment())
