"""Sound classifier: training, evaluation and prediction. The GAN package holds the same file names.

In the order to read:

    config       settings of training
    loop         training loop of one worker: epoch, validation
    step         training step: inputs, gradients, weights
    state        training state: prepared, published to the run folder, restored from a checkpoint
    initial_weights  fine-tuning: weights of another run, frozen stages, learning rates of stages
    label_mode   whether a run is multi-label, as its dataset or as set
    multi_label  its targets and loss; multi_label_validation: its validation and thresholds
    train        `melray train-classifier`: one run, or several concurrently
    refit        training on all clips after the one with validation; ensemble_run: several models as one run
    inference    class probabilities from spectrograms
    evaluation_rows  clips to evaluate on: of the run's own split, or others that it was not trained on
    evaluate     `melray evaluate`: metrics and report on held-out or other labeled clips
    report       HTML report of an evaluation
    multi_label_evaluation  the same for multi-label models, with multi_label_report
    crossval     `melray crossval`: each fold held out once
    predict      `melray predict`: a resumable batch job over audio files
    predict_config     its settings
    prediction_plan    what it will write, checked before anything is predicted
    predictor_model    the model that predicts: one, an ensemble, or those of a cross-validation
    ensemble_calibration  temperature of an ensemble, and of the models of a cross-validation
    predict_stages     its stages: spectrograms, then probabilities
    predictions        its tables, of few and of thousands of classes
    merge              its tables become predictions.parquet, submission.csv and lists of conspicuous files
    window_settings    `--window`: grid of windows, thresholds
    recording_list     recordings, their lengths and windows
    window_stage       first stage: spectrograms of windows
    window_merge       tables of windows become windows.parquet, events and predictions of recordings:
    recording_results    windows of a recording, collected
    pooling              mean, maximum or noisy-or over windows
    events               events from overlapping windows
    annotation_files     events.csv, Raven tables, Audacity labels
    window_files         windows.parquet, windows.csv
    row_ids            ids of windows by a pattern
    window_submission  a sample submission whose ids name file and time
    sample_submission  reads a sample submission, and recognizes its columns
    clip_ids           finds clips by ids as others write them
    submission_values  labels, indices or probabilities: what a sample submission requests
    filled_values      values of a submission from predictions
    class_names        names of classes as others write them
    submission         submission.csv in the form of a sample submission
    baseline     linear baseline on the time-averaged spectrum

Principle: networks, losses and metrics are in `models/`; these files connect them to data, runs and cluster.
"""
