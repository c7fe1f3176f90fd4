"""`melray doctor`: check what commands need, one line per check, with a hint for each problem.

doctor   the command: which checks run, report as text or JSON
check    result of a check: ok, warn or fail
host     Python, packages, CPUs, memory, GPUs, disk, audio decoding
cluster  nodes, access control, ports, clock
storage  write, read and delete a file; throughput
"""
