"""Conditional GAN for spectrograms: training, evaluation, generation.

Modules in reading order:

config                        settings of `melray train-gan`
variety                       warnings about training clips that a GAN cannot learn from
data_checks                   requirements on the training rows
real_variety                  variety of real clips, to which that of generated ones is compared
selection_clips               clips that select the best epoch, and those that score it
initial_networks              networks of another GAN, from which training starts
networks                      both networks with their first weights, and their optimizers
state                         training state of one worker: prepare, publish, restore
loop                          training loop: epoch, collapse, snapshots
step                          training step: inputs, discriminator, generator
schedule                      weights of losses and factor of the learning rates in each step
collapse                      collapse detection from the metrics of an epoch
rollback                      return to the last good checkpoint after a collapse
snapshots                     samples every few epochs: audio, images, scores
train                         command `train-gan`: start, resume or report a run
reference_classifier          embed and classify clips with a reference classifier
train_reference_classifier    configuration and training of the reference classifiers
sampling                      from a seed to a spectrogram to audio
sound_generator               a generator that makes clips in one process
clip_generator                stages of `generate`: generate the clips of a work unit, write their files
generation_folder             output folder of `generate`: what may be replaced
generate                      command `generate`: batch job that writes audio or shards
evaluation_metrics            metrics of generated clips, relative to held-out real ones
evaluate                      command `evaluate` for generators
report_inputs                 collect the clips and figures of the HTML report
report                        HTML report

Principle: the steps in `step` are plain functions of the state. Random numbers are sampled for the global
batch, seeded by run, rollback, epoch and batch: results for different numbers of workers differ only by
rounding errors.
"""
