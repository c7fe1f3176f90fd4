"""Work in processes of this host or on Ray, for extraction, prediction, generation and training.

In the order to read:

worker          worker processes: watchdog, memory allocator, stages that are built once
this_host       CPUs and GPUs of this host
processes       pool of worker processes of this host
child_process   what these do with the calls that they receive
execution       where the work of a command runs: on this host if it is small, else on Ray
failures        errors of workers: lost processes, lack of GPU memory, bugs
attempt_record  what a lost attempt at a work unit leaves behind
quarantine      finds the clips that crash their worker process
resources       available and requested resources, waiting for autoscaling
devices         choice of CPUs or GPUs, device of a process, backend of a process group
resource_config settings of training resources
unit_size       clips of a work unit
unit_digests    digests of all that determines the output of a unit, for its name
clip_list       files from which workers read the clips of a unit
work_unit       neighboring clips of a job that become one output file
batch_job       resumable jobs over many clips: work units in, one output file per unit
attempts        limits attempts at a work unit whose worker process is lost again and again
unit_sequence   runs units one after another that read and upload while others are computed
ray_runner      runs the work units of a batch job by Ray Data
process_runner  runs the work units of a small batch job in processes of this host
ordered_map     reads before a batch job is planned: on Ray if they are much work
ray_metrics     metrics of running work for Ray's dashboard
ray_names       names that Ray accepts

Principle: outputs appear atomically under names that determine their content, so any process may be lost at
any time and a rerun makes only what is missing. Errors of stages are returned as values, since Ray logs long
tracebacks of exceptions. Ray is imported inside functions only: it reads its environment when it is first
imported.
"""
