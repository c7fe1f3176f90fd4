"""Tests of the checks of `melray doctor`."""
