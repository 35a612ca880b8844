"""Almanac keeps models fresh: Airflow DAGs that retrain, score and roll back, with Spark jobs and everything on S3.

This module exports what a user describes a pipeline with. The rest is write-audit-publish: features, models, the champion and
predictions are staged where no reader looks, audited as they were staged, and published in one atomic step. An order says what to
make, a receipt records the result, and each step requires the receipt of the step before.

The rooms, in the order to read them:

1. `core/`        the rules, pure. `pipeline` (what a user describes), `receipts` (orders and receipts), `promotions` (which
                  version is in force), `rollback`
2. `runs/`        in an Airflow worker or the command line, without Spark: `plan`, `pin`, `orders`, `publish`, `rollback`, `redo`
3. `jobs/`        in a Spark driver: `run` finds the function of an order; a file for each artifact has its stage and audit
4. `spark/`       in Spark's tasks: reading, features, checks, scoring; `model/` training and engines, which know no Spark
5. `store/`       how all of it is kept on S3: objects, Delta tables, receipts, versions, the promotion log
6. `airflow/`     the DAGs that chain it: `dags`, `operators`, and in `tasks` what each task does
7. `lineage/`     what is asked later: `explain`, `impact`, `verify`
8. `deliveries/`  predictions copied to other systems, whose nouns are in `core/deliveries`: a file for each kind of place
9. `cli/`         the command `almanac`

docs/glossary.md explains the terms, docs/formats.md what is stored, docs/adr the decisions.
"""

from almanac.core.aggregates import Aggregates
from almanac.core.audits import Audit
from almanac.core.deliveries import ParquetDelivery, PostgresDelivery
from almanac.core.formats import Csv, Delta, Iceberg, JsonLines, Parquet
from almanac.core.gate import Gate, Slice
from almanac.core.label import Label
from almanac.core.late import Late
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.core.sampling import Sampling
from almanac.core.scoring import Scoring
from almanac.core.sources import EventSource, ReferenceSource
from almanac.core.window import MovingWindow

__all__ = [
    "Aggregates",
    "Audit",
    "Csv",
    "Delta",
    "EventSource",
    "FeatureGroup",
    "Gate",
    "Iceberg",
    "JsonLines",
    "Label",
    "Late",
    "MovingWindow",
    "Parquet",
    "ParquetDelivery",
    "Pipeline",
    "Population",
    "PostgresDelivery",
    "ReferenceSource",
    "Sampling",
    "Scoring",
    "Slice",
]
