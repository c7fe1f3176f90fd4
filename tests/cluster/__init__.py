"""Tests of the command line, of jobs and the doctor, and of the launch files; no cluster is needed."""
