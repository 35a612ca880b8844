"""The three doors, one function a thing: `stage` and `audit` work in a Spark driver, `publish` in an Airflow worker.

`plan` and `pin` come before them: what is missing, and what it may be made from. `orders` places what they found.
"""
