"""The ways to score that are compared. Each is a program that `answering.py` drives, in an environment of its own."""
