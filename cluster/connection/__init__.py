"""Connection to Ray: which cluster a command uses, with which token, and the session in which it runs.

    token        authentication tokens: create, read, hand to Ray
    local_state  file with addresses, token and processes of the cluster of `melray cluster up`
    address      meaning of --address: a dashboard for jobs, or an address for `ray.init`
    dashboard    HTTP client of the Ray dashboard, errors in one line
    loopback     makes Ray's servers on this host listen on 127.0.0.1 only
    proxy        requests to private hosts without a proxy, and to any host without ~/.netrc
    nodes        nodes of a cluster with their total and used resources
    temp_folder  folders for Ray's files, with a short path, deleted also if the process was killed
    shared_folders  local paths of a command: the same on all hosts of the cluster
    search_path  search path of Ray's workers, without the driver's folder
    session      context manager around `ray.init` and `ray.shutdown`
    execution    when a command opens its session: at once, once its work is worth it, or never

A token is stored in a file that only its owner can read; it is never printed, logged or sent with a job.
"""
