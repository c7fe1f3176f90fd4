"""Tests of the job package and of submission."""
