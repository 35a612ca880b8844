"""Deliveries: projections of the predictions table to other systems."""
