"""Evaluation: predictions, metrics, intervals, tests and verdicts."""
