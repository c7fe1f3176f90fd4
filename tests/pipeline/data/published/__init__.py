"""Tests of pipeline/data/published."""
