"""Tests of cluster/connection."""
