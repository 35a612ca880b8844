"""Benchmarks of Almanac: `make bench-scoring`, `make bench-features` against other tools, `make bench-retrain` against a script.

1. `scoring.py`, `features.py`, `retrain.py`  the commands: what is measured
2. `contestants/`               a small program for each way to score or build features, all with one interface
3. `race.py`                    runs them in turns, round after round
4. `agreement.py`               a time counts only if the scores are right
5. `figures.py`                 medians, ratios and their spread; `report.py` the results file, `picture.py` the charts
6. `rows.py`, `models.py`, `events.py`  the inputs; `fixed_cost.py` the cost of a job with nothing to do
7. `loop.py`                    the whole loop: a store, Airflow, DAG runs, the script that does the same; `shop.py` its files
8. `tracing/`, `spans.py`       what each process of a loop spent its time on, and the sums by task
"""
