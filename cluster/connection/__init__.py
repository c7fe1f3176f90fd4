"""Connection to Ray: which cluster a command uses, with which token, and the session in which it runs.

    token        authentication tokens: create, read, hand to Ray
    local_state  file with addresses, token and processes of the cluster of `melray cluster up`
    address      meaning of --address: a dashboard for jobs, or an address for `ray.init`
    dashboard    HTTP client of the Ray dashboard, errors in one line
    nodes        nodes of a cluster with their total and used resources
    session      context manager around `ray.init` and `ray.shutdown`

A token is stored in a file that only its owner can read; it is never printed, logged or sent with a job.
"""
