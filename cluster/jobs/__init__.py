"""Jobs: one of melray's commands, sent to a cluster together with melray's code.

    command         validate the command of a job and resolve its paths for the cluster
    variables       environment variables of a job
    versions        compare the cluster's Ray, Python and platform with those that melray needs
    shared_folders  local paths on a cluster of several hosts
    entrypoint      shell command of a job, and the resources that its process holds
    package         build the job package: a reproducible zip of the checkout and its pinned requirements
    submit          `melray submit`: check, package, upload, start
    details         jobs as the dashboard describes them
    log_stream      log of a job as it grows, over several connections if they are lost
    log_files       where logs are
    jobs            `melray jobs`: list, logs, stop

Errors are found before the upload: flags, paths, package size, versions, the token.
"""
