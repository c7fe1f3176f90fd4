"""`melray serve`: trained runs over HTTP, on Ray Serve.

    config          settings of the command
    serve           the command: checks, Ray session, deployments, HTTP server, shutdown
    models          which runs are served, and under which names
    http_server     HTTP server in the process of the command
    token           file of the bearer token
    app             HTTP interface; its paths are in classify_routes and clip_routes
    classification_json   the response to /classify
    served          models as the HTTP interface sees them
    security        access (token, host names, other sites' pages) and headers of every response
    uploads         reads an uploaded file within limits of size and time
    parameters      refuses unknown query parameters
    requests        concurrent requests of a model; results that several requests share
    groups          concurrent requests that are sent to a replica together
    page_files      files of the page `page/`, and where they are
    reference       page `/docs`, made from the OpenAPI schema
    examples        real clips of a run's dataset
    deployments     replicas of Ray Serve, and calls of them
    classifier_replica, generator_replica   what a replica does, without Ray
    clip_media      images of clips
    decoders        worker processes of a replica, which decode
    analysis        from the bytes of a file to spectrograms, within a limit of length
    messages        what is sent between the server and its replicas

The HTTP server runs in the process of the command, and calls the replicas: a request that the limits refuse
never reaches Ray, an upload is read no faster than it is used, and the address is one of the host on which
the command was started, wherever the replicas are. Only `deployments` imports Ray Serve, so all else is
tested without it.
"""
