"""Benchmarks of Almanac against other tools: `make bench-scoring` and `make bench-features`.

1. `scoring.py`, `features.py`  the commands: what is measured
2. `contestants/`               a small program for each way to score or build features, all with one interface
3. `race.py`                    runs them in turns, round after round
4. `agreement.py`               a time counts only if the scores are right
5. `figures.py`                 medians, ratios and their spread; `report.py` the results file, `picture.py` the charts
6. `rows.py`, `models.py`, `events.py`  the inputs; `fixed_cost.py` the cost of a job with nothing to do
"""
