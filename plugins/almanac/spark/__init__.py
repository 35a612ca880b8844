"""What runs inside Spark: DataFrame to DataFrame, safe in an executor. Imports `core` only; never commits."""
