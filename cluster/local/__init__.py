"""Local cluster: several Ray nodes on this host, each on its own loopback address.

up_down    `melray cluster up`, `status` and `down`
start      start the nodes: ports, memory, environment, one `ray start` process each
processes  find and stop the processes of the cluster, including those that outlived their parent
"""
