"""Helpers shared by the tests.

- `audio_formats`: tones and noise in every audio format, and invalid audio files.
- `sounds`: small datasets of tones, their shards, and configurations that train within seconds.
- `soundscapes`, `source_sounds`: recordings with sounds at known times, and these sounds.
- `runs`: the weights of a training run.
- `html_page`: parsed report pages; self-containment and accessibility checks.
- `processes`: `melray` as a subprocess; killing drivers and Ray workers.
- `object_store`: local S3 and Google Cloud Storage servers.
- `autoscaling_cluster`: a Ray cluster whose autoscaler starts nodes as local processes.
- `growth`: when the nodes of a growing cluster join and first work.
"""
