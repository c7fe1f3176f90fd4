"""Work on a Ray cluster, for extraction, prediction, generation and training. In the order to read:

worker      a worker process: watchdog, memory allocator, how its loss is recognized
quarantine  finds the clips that crash their worker process
resources   what nodes have, what work requests, waiting for autoscaling; settings of training resources
batch_job   resumable jobs over many clips: work units in, one output file per unit

Principle: outputs appear atomically under names that determine their content, so any process may be lost at
any time and a rerun makes only what is missing. Errors that a user can fix travel as values, since Ray would
retry exceptions. Ray is imported inside functions only: it reads its environment when it is first imported.
"""
