"""Command line of melray, connection to Ray, jobs, local cluster and self-check.

    cli             entry point `melray`: global flags, errors in one line, exit codes
    arguments/      command line -> configuration; help texts; registry of all commands
    process         what libraries expect of a process: standard streams, user name, home folder, caches
    shadowing       files of the user that have the name of a package
    output_encoding output on streams that cannot represent every character
    commands        run a command, in a Ray session if it needs one
    model_commands  `evaluate` and `generate`, which need a Ray session only for large amounts of work
    demo            `melray demo`: the whole pipeline on synthetic sounds
    connection/     address, token, dashboard client, nodes, Ray session
    jobs/           `melray submit` and `melray jobs`
    local/          `melray cluster`: several nodes on this host
    serving/        `melray serve`: trained runs over HTTP, on Ray Serve
    doctor/         `melray doctor`: checks of host, cluster and storage
    launch/         configurations for AWS, Google Cloud and Kubernetes; Dockerfiles; set-up scripts of nodes

Principle: pipeline and tune define what a command computes; this package defines how it is called and where
it runs. Modules that need Ray or torch are imported only for the command that is run.
"""
