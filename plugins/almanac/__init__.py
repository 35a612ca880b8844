"""Almanac keeps models fresh: Airflow DAGs that retrain, score and roll back, with Spark jobs and everything on S3.

These are the nouns a user writes. To read the code, follow one thing through its doors:

1. `core/pipeline.py`    what a user describes
2. `core/receipts.py`    orders, receipts, and what they admit to
3. `doors/`              stage, audit, publish: one function a thing
4. `core/promotions.py`  which version is in force, and `core/rollback.py`
5. `store/`              how it is kept; `spark/` how it is computed
6. `airflow/dags.py`     the DAGs that chain it
"""

from almanac.core.aggregates import Aggregates
from almanac.core.audits import Audit
from almanac.core.deliveries import ParquetDelivery, PostgresDelivery
from almanac.core.gate import Gate, Slice
from almanac.core.late import Late
from almanac.core.pipeline import FeatureGroup, Pipeline, Population
from almanac.core.sampling import Sampling
from almanac.core.scoring import Scoring
from almanac.core.sources import EventSource, ReferenceSource
from almanac.core.window import Label, MovingWindow

__all__ = [
    "Aggregates",
    "Audit",
    "EventSource",
    "FeatureGroup",
    "Gate",
    "Label",
    "Late",
    "MovingWindow",
    "ParquetDelivery",
    "Pipeline",
    "Population",
    "PostgresDelivery",
    "ReferenceSource",
    "Sampling",
    "Scoring",
    "Slice",
]
