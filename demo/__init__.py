"""The demo: Almanac on one machine, with a real S3 server, a real scheduler and a real data set. `python -m demo`.

Read __main__ (what happens) and story (the months that are played), then what they use: seaweed (the S3 server), java,
spark_conf, landing (the raw data), scheduler (Airflow), progress (the display), processes (start them and leave none behind).
"""
