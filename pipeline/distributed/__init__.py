"""Work on a Ray cluster, for extraction, prediction, generation and training. In the order to read:

worker          worker processes: watchdog, memory allocator
failures        errors of workers: lost processes, lack of GPU memory, bugs
attempt_record  what a lost attempt at a work unit leaves behind
quarantine      finds the clips that crash their worker process
resources       available and requested resources, waiting for autoscaling
devices         choice of CPUs or GPUs, device of a process, backend of a process group
resource_config settings of training resources
batch_job       resumable jobs over many clips: work units in, one output file per unit
attempts        limits attempts at a work unit whose worker process is lost again and again
ray_runner      runs the work units of a batch job by Ray Data

Principle: outputs appear atomically under names that determine their content, so any process may be lost at
any time and a rerun makes only what is missing. Errors of stages are returned as values, since Ray logs long
tracebacks of exceptions. Ray is imported inside functions only: it reads its environment when it is first
imported.
"""
