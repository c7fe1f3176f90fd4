"""Local cluster: several Ray nodes on this host, reachable from this host only.

up_down     `melray cluster up`, `status` and `down`
start       start the process that runs the nodes: ports, memory, environment
supervisor  that process: starts one node after another, ends with all of them
processes   find and stop the processes of the cluster, also after a crash; where they listen
"""
