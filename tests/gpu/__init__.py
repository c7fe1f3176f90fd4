"""Checks on a GPU, skipped without one; `make gpu` runs them concurrently, a process per file."""
