"""Benchmarks of melray against peers and limits; `python -m benchmarks AUDIO` runs those of one node.

- `common`: WAV conversion, timing, hardware and result files.
- `bench_extract`, `bench_memory`, `bench_vocoder`, `bench_predict`: jobs on audio files.
- `bench_train`, `bench_gan`: training steps against bare PyTorch loops.
- `bench_recipe`, `bench_seeds`, `bench_calibration`, `bench_epoch_choice`: settings, seeds, calibration and
  protocol of the classifier.
- `bench_tune`, `bench_search_gain`: efficiency and gain of hyperparameter search.
- `bench_gan_recipe`, `bench_gain`, `bench_vocoder_heard`: settings of the GAN; generated clips as additional
  training data; resynthesized and generated sounds as a classifier hears them.
- `bench_gpu`: checks and benchmarks on a GPU (`make gpu`), whose parts are `gpu_*`.
- `bench_scale`, `bench_submit`: number of clips and nodes; latency of a cluster job.
- `bench_cluster_up`, `bench_growth`: start of a local cluster under load; use of nodes that are added.

Each measures both sides in one process tree and saves `results/<name>.json` with command, hardware and date.
"""
