"""Almanac on one machine: an S3 server, Airflow, Spark and Java in one folder, for development and for trying it out."""
