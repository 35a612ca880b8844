"""The demo: Almanac on one machine, with a real S3 server, a real scheduler and a real data set. `python -m demo`.

Read __main__ (what happens), then story (the months that are played), then what they stand on: seaweed (the S3 server),
java, spark_conf, landing (the raw data), scheduler (Airflow), progress (what is shown), processes (and that nothing is
left behind).
"""
