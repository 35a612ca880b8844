"""What runs inside Spark: DataFrame to DataFrame, safe in an executor. It never imports `store` and never commits."""
