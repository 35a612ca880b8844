"""A Spark driver: one file for each artifact, with its `stage` and its `audit`. `run` starts them, `context` is their input."""
