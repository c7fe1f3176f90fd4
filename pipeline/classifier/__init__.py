"""Sound classifier: training, evaluation and prediction. The GAN package has similar file names.

In the order to read:

    config       settings of training
    loop         training loop of one worker: epoch, validation
    step         training step: inputs, gradients, weights
    schedule     learning rate of each step, and the last epoch
    prepare      data, network and optimizer; state: what changes; saved_state: model and checkpoints
    initial_weights  fine-tuning: weights of another run, frozen stages, learning rates of stages
    multi_label/  classifiers of several labels: targets, loss, validation, evaluation
    train        `melray train-classifier`: one run, or several concurrently
    refit        training on all clips after the one with validation; ensemble_run: several models as one run
    inference    class probabilities from spectrograms
    ensemble_of_runs  `melray ensemble`: trained runs as one
    evaluation_rows  clips to evaluate on: of the run's own split, or others that it was not trained on
    evaluate     `melray evaluate`: metrics and report on held-out or other labeled clips
    report       HTML report of an evaluation; report_page: of both kinds; examples: clips of each class
    crossval     `melray crossval`: each fold held out once
    sound_classifier  a model that is ready for audio, in one process; sound_results, file_table: its results
    predict      `melray predict`: a resumable batch job over audio files
    prediction/  its settings, plan, stages and tables
    predictor_model  the model that predicts: one, an ensemble, or those of a cross-validation
    ensemble_calibration  temperature of an ensemble, and of the models of a cross-validation
    windows/     `--window`: from windows of recordings to events
    submission/  submission.csv as a sample submission asks for it
    export       `melray export`; export_clips: its clips, export_checks: its checks against predict
    show         `melray show`: page of a recording; true_events: its annotations; clip_audio: audio of rows
    baseline     linear baseline on the time-averaged spectrum

Principle: networks, losses and metrics are in `models/`; these files connect them to data, runs and cluster.
"""
