"""Models: training, loading, engines, export, parity, reports, comparison. No Spark."""
