"""Jobs: one of melray's commands, sent to a cluster together with melray's code.

    package   build the job package: a reproducible zip of the checkout and its pinned requirements
    command   validate the command of a job and resolve its paths for the cluster
    submit    `melray submit`: package, upload, start
    jobs      `melray jobs`: list, logs, stop; exit code of a job

Errors are found before the upload: flags, paths, package size, Ray's version, the token.
"""
