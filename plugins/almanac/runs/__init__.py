"""An Airflow worker or the command line: plan, pin, orders, publish, promotions, rollback, redo. No Spark."""
