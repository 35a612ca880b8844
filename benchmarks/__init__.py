"""What Almanac does and what others do, measured beside each other: `make bench-scoring`.

1. `scoring.py`       what is measured, and the command
2. `contestants/`     a small program for each way to score, all with one interface
3. `race.py`          lets them run in turns, round after round
4. `agreement.py`     a time counts only when the scores are right
5. `figures.py`       medians, ratios and their spread; `report.py` what is kept of them, `picture.py` how it looks
6. `rows.py`, `models.py`  what is scored, and with what; `fixed_cost.py` what a job costs that has nothing to do
"""
