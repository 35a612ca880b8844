"""A Spark job as spark-submit starts it: orders in, receipts out; what it does with the user's module and with failures."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac.core.canonical import sealed, sha256
from almanac.core.receipts import Output, PlacedOrder, Receipt, RunInfo
from almanac.errors import DataError, DescriptionError, IntegrityError, NotAdmitted
from almanac.jobs import context, failures, run
from almanac.jobs.context import SparkJob
from almanac.runs import orders, plan, publish
from almanac.user_module import module_zip
from tests.support import shop as shops
from tests.support.world import World

IN_A_TASK = """\
An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "worker.py", line 1, in main
FileNotFoundError: [Errno 2] s3://almanac/x.parquet

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "arrow.py", line 2, in open_parquet
{last}
"""


# Telling failures


def test_an_error_of_ours_is_told_as_it_is() -> None:
    assert failures.plain(DataError("Population 'customers' has no entity.")) == "Population 'customers' has no entity."


def test_an_error_of_somebody_else_is_told_with_its_kind_and_not_at_length() -> None:
    assert failures.plain(KeyError("amount")) == "KeyError: 'amount'"
    assert len(failures.plain(ValueError("x" * 10_000))) == 2000


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("almanac.errors.SourceError: s3://almanac/x.parquet: the file is gone.", "s3://almanac/x.parquet: the file is gone."),
        ("almanac.errors.Unreachable: s3://almanac: no answer.", "s3://almanac: no answer."),
        ("almanac.errors.Conflict: somebody else was first.", "somebody else was first."),
        ("ValueError: amount is no money", "ValueError: amount is no money"),
        ("pyspark.errors.exceptions.base.PySparkRuntimeError: [X] no", "PySparkRuntimeError: [X] no"),
    ],
)
def test_of_an_error_in_a_spark_task_the_last_of_its_causes_is_told(last: str, told: str) -> None:
    assert failures.plain(RuntimeError(IN_A_TASK.format(last=last))) == told


# The user's module


def test_a_user_module_is_importable_under_its_name_for_as_long_as_it_is_needed() -> None:
    before, path = sys.modules.get("shop"), list(sys.path)
    stranger = ModuleType("shop")
    sys.modules["shop"] = stranger
    try:
        with context.user_module(shops.zipped("ANSWER = 42\n"), "shop") as module:
            import shop  # type: ignore[import-not-found]

            assert shop is module and shop.ANSWER == 42
        assert sys.modules["shop"] is stranger
        assert sys.path == path
    finally:
        sys.modules.pop("shop")
        if before is not None:
            sys.modules["shop"] = before


def test_two_user_modules_of_one_name_follow_each_other() -> None:
    answers = []
    for text in ("ANSWER = 1\n", "ANSWER = 2\n"):
        with context.user_module(shops.zipped(text), "shop") as module:
            answers.append(module.ANSWER)
    assert answers == [1, 2]


def test_equal_modules_give_equal_zips_and_a_missing_one_is_named(tmp_path: Path) -> None:
    assert shops.zipped("A = 1\n") == shops.zipped("A = 1\n") != shops.zipped("A = 2\n")
    with pytest.raises(DescriptionError) as refused:
        module_zip(tmp_path, "shop")
    assert str(refused.value) == (
        f"Pipeline 'shop' has no module: shop.py is not in {tmp_path}. Create it there with the user functions, or set "
        "ALMANAC_SPARK_JOBS to the folder that has it."
    )


# Orders in, receipts out


def start(world: World, monkeypatch: pytest.MonkeyPatch, placed: list[PlacedOrder], step: str = "features.stage") -> None:
    """Starts a job as spark-submit does."""
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    uris = [world.shop.home.receipts.place(one) for one in placed]
    run.main([step, *uris, "--run-info", json.dumps({"dag": "shop_score", "run": "manual", "attempt": 2})])


@pytest.mark.store
@pytest.mark.spark
def test_a_job_carries_out_the_other_orders_although_one_fails_and_then_ends_with_1(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.shop.code(**{"def habits(": "def habit("})
    wrong, right = world.group("habits"), world.group("traits")

    with pytest.raises(SystemExit) as ended:
        start(world, monkeypatch, [wrong, right])

    find = world.shop.home.receipts.find
    failed, passed = find(wrong.order), find(right.order)
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert failed is not None and not failed.passed and passed is not None and passed.passed
    assert "almanac: 1 of 2: shop features.stage.habits 2017-05\nalmanac: failed: s3://" in printed
    assert printed.count("DescriptionError: Module 'shop' has no function 'habits'") == 1
    assert "almanac: 2 of 2: shop features.stage.traits 2017-05\nalmanac: passed: s3://" in printed


@pytest.mark.store
@pytest.mark.spark
@pytest.mark.parametrize(
    ("body", "function", "text", "error"),
    [
        ("raise KeyError('amount')", "habits", "raise KeyError('amount')", "Function 'habits' of 'shop' failed for "),
        ("import nowhere", "habits", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_an_error_of_several_periods_is_told_once_at_the_end_with_the_users_lines_alone(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    body: str,
    function: str,
    text: str,
    error: str,
) -> None:
    world.shop.code(**{"    age = F.datediff": f"    {body}\n    age = F.datediff"})

    with pytest.raises(SystemExit):
        start(world, monkeypatch, [world.group("habits", "2017-04"), world.group("habits", "2017-05")])

    printed, errors = capfd.readouterr()
    told = printed[printed.index("almanac: shop features.stage.habits 2017-04, 2017-05 failed:") :]
    assert told.count("\n") == 4 and error in told
    assert re.search(rf"  spark_jobs/shop.py, line \d+, in {function}:\n      {re.escape(text)}\n  DescriptionError: ", told)
    assert printed.count(error) == 1
    assert "Traceback" not in printed + errors


@pytest.mark.store
@pytest.mark.spark
def test_an_error_in_a_task_names_the_users_line_that_ran_there(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.shop.code(**{
        "def habits(": "def _broken(n):\n    return 1 // (n - n)\n\n\ndef habits(",
        'F.sum("amount")': 'F.sum(F.udf(_broken, "long")("amount"))',
    })  # fmt: skip

    with pytest.raises(SystemExit):
        start(world, monkeypatch, [world.group("habits")])

    told = capsys.readouterr().out
    assert re.search(
        r"  spark_jobs/shop.py, line \d+, in _broken:\n +return 1 // \(n - n\)\n  ZeroDivisionError: integer ", told
    ), told[-3000:]


@pytest.mark.store
@pytest.mark.spark
def test_an_error_of_almanacs_own_code_has_its_whole_traceback(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> Receipt:
        raise RuntimeError("a bug")

    world.shop.code(**{"def traits(": "\ndef traits("})

    monkeypatch.setattr(run, "function_for", lambda _: broken)
    with pytest.raises(SystemExit):
        start(world, monkeypatch, [world.group("habits")])

    told = capsys.readouterr().out
    assert "  Traceback (most recent call last):" in told and ", in broken" in told and "RuntimeError: a bug" in told


@pytest.mark.store
@pytest.mark.spark
def test_a_receipt_says_who_asked_when_it_was_made_and_by_which_spark_application(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.shop.code(**{"def traits(": "\ndef traits("})
    placed = world.group("traits")

    start(world, monkeypatch, [placed])

    receipt = world.shop.home.receipts.done(placed.order)
    assert receipt is not None
    run_info = receipt.run_info
    assert (run_info.dag, run_info.run, run_info.attempt) == ("shop_score", "manual", 2)
    assert run_info.spark_application == world.shop.spark.sparkContext.applicationId
    assert run_info.began is not None and run_info.ended is not None and run_info.began <= run_info.ended
    assert run_info.environment == context.environment_digest()


@pytest.mark.store
@pytest.mark.spark
def test_a_job_does_not_carry_out_an_order_that_was_altered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home, placed = world.shop.home, world.group("traits")
    uri = home.receipts.place(placed)
    home.objects.put(uri, sealed(replace(placed, order=replace(placed.order, period="2017-04"))))
    before = world.changed()

    with pytest.raises(IntegrityError, match=r"the order was altered and is not run\. Place it again"):
        start(world, monkeypatch, [placed])
    assert world.changed() == before


@pytest.mark.store
@pytest.mark.spark
@pytest.mark.parametrize("name", ["halved", "thirded", "quartered"])  # by the same workers, from modules of the same name
def test_a_model_may_hold_functions_of_the_users_module(world: World, name: str) -> None:
    shop = world.shop
    shop.code(**{
        "def estimators():": f"def {name}(rows):\n    return rows / 2\n\n\ndef estimators():",
        '"logistic": make_pipeline(': f'"{name}": make_pipeline(FunctionTransformer({name}), ',
        "    return {\n": "    from sklearn.preprocessing import FunctionTransformer\n\n    return {\n",
        '"tree": make_pipeline(SimpleImputer(), DecisionTreeClassifier(max_depth=3, random_state=0)),': "",
    })  # fmt: skip
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    planned = replace(planned, build=(), definition=shop.home.versions.read(world.old).definition)
    staged = shop.run([orders.model(shop.home, planned, world.pin(planned))])
    audited = shop.run(orders.audits(shop.home, staged))
    read = shop.home.receipts.read
    manifest = publish.model(shop.home, read(staged["2017-07"]), read(audited["2017-07"]), RunInfo())

    scored, _ = shop.stage_score("2017-08", version=manifest.version)

    assert manifest.estimator == name
    assert scored.facts["version"] == manifest.version


# Audits of what was staged wrong


def forged(world: World, receipt: Receipt, **changes: Any) -> str:
    """The URI of a stage's receipt that tells something else, of another attempt."""
    other = replace(receipt, attempt=9, **changes)
    uri = world.shop.home.receipts.uri(other)
    world.shop.home.objects.put(uri, sealed(other))
    return uri


def put(world: World, output: Output, rows: pa.Table) -> Output:
    body = io.BytesIO()
    pq.write_table(rows, body)
    uri = f"{output.uri}.forged"
    world.shop.home.objects.put(uri, body.getvalue())
    return replace(output, uri=uri, bytes=len(body.getvalue()), sha256=sha256(body.getvalue()), rows=rows.num_rows)


@pytest.mark.store
@pytest.mark.spark
def test_the_audit_of_predictions_finds_every_kind_of_wrong_row(world: World) -> None:
    home = world.shop.home
    staged = home.receipts.read(world.scored.links["staged"])
    good = pq.read_table(io.BytesIO(home.objects.get(staged.outputs[0].uri)))
    wrong = pa.table(
        {
            "customer": pa.array([1, 1, None, 4, 5], pa.int64()),
            "as_of": good["as_of"][:5],
            "score": pa.array([float("nan"), 1.5, -0.1, None, 0.5], pa.float64()),
            "model_version": pa.array([world.old] * 4 + ["another"], pa.string()),
            "order": good["order"][:5],
        },
        good.schema.remove_metadata(),
    )
    uri = forged(world, staged, content="other", outputs=(put(world, staged.outputs[0], wrong),))
    (placed,) = orders.audits(home, {"2017-07": uri})

    audited = world.shop.attempt(placed)

    told = "\n".join(audited.findings)
    assert not audited.passed and "error" not in audited.facts
    assert len(audited.findings) == 6
    assert "expect_table_row_count_to_equal(value=59) failed: observed 5" in told
    assert "expect_column_values_to_not_be_null(column='customer') failed: 1 of 5 rows" in told
    assert "expect_column_values_to_be_unique(column='customer') failed: 2 of 5 rows" in told
    assert "expect_column_values_to_not_be_null(column='score') failed: 2 of 5 rows" in told  # NaN is null
    assert "expect_column_values_to_be_between(column='score', min_value=0.0, max_value=1.0) failed: 2 of 5 rows" in told
    assert "expect_column_distinct_values_to_equal_set(column='model_version'" in told and "such as another" in told


@pytest.mark.store
@pytest.mark.spark
def test_a_model_whose_training_rows_are_others_when_they_are_scored_is_not_published(world: World) -> None:
    home, before = world.shop.home, world.shop.state()
    staged = home.receipts.read(home.versions.read(world.old).receipt)
    trained = pq.read_table(io.BytesIO(home.objects.get(staged.output("trained.parquet").uri)))
    visits = [*trained["visits"].to_pylist()]
    visits[0] += 1
    altered = trained.set_column(trained.schema.get_field_index("visits"), "visits", pa.array(visits, pa.float32()))
    others = [output for output in staged.outputs if output.name != "trained.parquet"]
    uri = forged(world, staged, content="other", outputs=(*others, put(world, staged.output("trained.parquet"), altered)))
    (placed,) = orders.audits(home, {"2017-06": uri})

    audited = world.shop.attempt(placed)

    (finding,) = audited.findings
    assert not audited.passed and "error" not in audited.facts
    assert finding.startswith(f"Skew: 1 of {trained.num_rows} sampled training rows have other values when scoring reads")
    assert f"visits of customer {trained['customer'][0]} in 2017-03 was {visits[0]}, is now {visits[0] - 1}." in finding
    assert set(trained["snapshot"].to_pylist()) == {"2017-03", "2017-04"}
    with pytest.raises(NotAdmitted):
        publish.model(home, home.receipts.read(uri), audited, RunInfo())
    assert world.shop.state() == before


def test_a_bench_that_nobody_asked_for_spark_has_started_none() -> None:
    assert SparkJob("idle").application == ""
