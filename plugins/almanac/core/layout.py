"""Every key and path below the root, computed here and nowhere else.

ROOT is a URI such as `s3://bucket/prefix`, NAME a pipeline's name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one pipeline's files are. Every result is a URI."""

    root: str
    pipeline: str

    @property
    def home(self) -> str:
        return f"{self.root.rstrip('/')}/{self.pipeline}"

    def description(self, digest: str) -> str:
        return f"{self.home}/descriptions/{digest}.json"

    def module(self, digest: str) -> str:
        """The user's module, zipped, as a run used it."""
        return f"{self.home}/modules/{digest}.zip"

    def copies(self, key: str) -> str:
        """The folder of what a pin copied: rows of a database, or a text file that was converted. Nothing deletes it."""
        return f"{self.home}/copies/{key}/"

    def order(self, digest: str) -> str:
        return f"{self.home}/orders/{digest}.json"

    def receipts(self, artifact: str, step: str) -> str:
        return f"{self.home}/receipts/{artifact}/{step}/"

    def receipt(self, artifact: str, step: str, order: str, attempt: int) -> str:
        return f"{self.receipts(artifact, step)}{order}-{attempt}.json"

    def report(self, order: str, unique: str, name: str) -> str:
        """A report of one run of an order; the receipt names the one that counts."""
        return f"{self.home}/reports/{order}/{unique}/{name}"

    def features(self, definition: str) -> str:
        """The Delta table of one feature definition."""
        return f"{self.home}/features/{definition}"

    def columns(self, definition: str, group: str) -> str:
        """The columns that a feature group gives in every period of a definition."""
        return f"{self.home}/columns/{definition}/{group}.json"

    @property
    def predictions(self) -> str:
        """The Delta table of predictions."""
        return f"{self.home}/predictions"

    def part(self, order: str, unique: str) -> str:
        """The rows of a feature group, read by the order that combines the groups."""
        return f"{self.home}/parts/{order}/{unique}"

    def partials(self, shape: str) -> str:
        """The partial sums of aggregates of one shape: a folder for each block of a source, and in it a record and files.

        They are stored beside parts: gc deletes old ones, and a job that needs them computes them again.
        """
        return f"{self.home}/parts/partials-{shape}/"

    def version(self, key: str, name: str) -> str:
        """The copy of an older version of a source's file, as long as it is needed. `key`: a digest that identifies it."""
        return f"{self.home}/parts/versions/{key}/{name}"

    @property
    def data(self) -> tuple[str, ...]:
        """The folders that hold data files, and with them everything that gc may delete."""
        return tuple(f"{self.home}/{name}/" for name in ("features", "models", "parts", "predictions"))

    @property
    def models(self) -> str:
        return f"{self.home}/models/"

    def model(self, version: str, unique: str) -> str:
        """The folder of one training's files; only the one that the manifest names is the version's."""
        return f"{self.models}{version}/{unique}"

    def manifest(self, version: str) -> str:
        return f"{self.models}{version}/manifest.json"

    def signature(self, version: str, digest: str) -> str:
        """The signature of the manifest with this SHA-256: two concurrent publishers each sign their own."""
        return f"{self.models}{version}/manifest-{digest}.sig"

    @property
    def promotions(self) -> str:
        return f"{self.home}/promotions/"

    def promotion(self, sequence: int) -> str:
        return f"{self.promotions}{sequence:08d}.json"

    def rollback(self, run: str) -> str:
        """The plan of a run's rollback, stored before anything changes. `run`: a digest of the run's name."""
        return f"{self.rollbacks}{run}.json"

    @property
    def rollbacks(self) -> str:
        return f"{self.home}/rollbacks/"

    @property
    def deliveries(self) -> str:
        """Which description the last run that delivered had."""
        return f"{self.home}/deliveries.json"

    @property
    def definitions(self) -> str:
        """The folder that holds a features table for each definition."""
        return f"{self.home}/features/"

    def pack(self, what: str) -> str:
        """Small objects of one kind packed into one, for readers of all of them. It is derived: if lost, it is built again."""
        return f"{self.home}/packs/{what}.json"

    @property
    def index(self) -> str:
        """The index of receipts. It is derived: if lost, it is built again."""
        return f"{self.home}/index.json"


def staged_file(period: str, order: str, unique: str) -> str:
    """A data file inside a table. Its name begins with the order that made it, so a partition shows where it comes from."""
    return f"period={period}/{order}-{unique}.parquet"


def order_of(path: str) -> str:
    """The order that made a table's data file."""
    return path.rsplit("/", 1)[-1].split("-", 1)[0]


def version_id(period: str, order: str) -> str:
    return f"{period}-{order[:8]}"


def trained_for(version: str) -> str:
    """The period that a version was trained for."""
    return version.rpartition("-")[0]


def pipelines(root: str) -> str:
    return f"{root.rstrip('/')}/"
