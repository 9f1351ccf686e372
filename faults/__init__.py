"""Faults on a real system, one after another, and a judge after each: `make faults RUNS=200 SEED=1` (README.md)."""
