"""Training infrastructure shared by all model families.

In the order to read:

    config           settings shared by all training runs
    run_content      what a folder of `--run` holds
    run_folder       files of a run
    run              start and end of a run; data of a finished one
    failed_start     removes the records of a run that fails before its first epoch
    train_command    what all commands that train a run have in common
    finished_run     a run for programs and notebooks
    launch           training loops: of one worker on this host or as Ray tasks, of several by Ray Train
    single_worker_runs  runs of one worker each: processes of this host, or Ray tasks
    ray_train        runs of several workers
    worker_process   what a worker process of a run does
    epoch_reports    metrics of each epoch for Ray Train
    world            process group: rank, device, collectives
    optim            precision, learning rate, weight-decay groups, optimizer state
    compile          torch.compile, where it can work
    step_inputs      inputs of a step: packed, copied to a GPU at once, prepared ahead
    step_runner      steps as CUDA graphs, gradients in one buffer
    placement        spectrograms on all nodes, or shares of them
    tensor_file      tensors with metadata: safetensors, written atomically
    checkpoint       checkpoints of a run: the newest intact one is read
    epoch_results    checkpoint, model and log of an epoch; the model of a run that was killed between them
    epoch_position   checkpoints within an epoch: by time, and when a node is to be taken away
    model_file       models: weights with all that inference needs
    loaded_model     what a model that is ready for use states about itself
    format_version   version of all these files; others are refused
    log              metrics.jsonl and TensorBoard
    notes            what the workers of a run have to say, for the console of the command
    progress         progress of runs on the console
    trackers/        `--log-to`: runs in MLflow and Weights & Biases
    export/          `melray export`: models as ONNX or torch files

Principle: a run is defined by its settings and the content of its shards. Interrupted at any point, it
resumes from its last epoch and ends with the same weights. Ray is used in `ray_train`, `single_worker_runs`
and `epoch_reports` only.
"""
