"""Sources in databases: copied in one transaction into Parquet files. Runs in an Airflow worker or the command line."""
