"""Networks, losses, batch augmentation and metrics: single-device code without Ray or file access.

In the order to read:

- `config`: `Config`, the base class of all configurations; `ConfigError`.
- `settings`: settings of everything below, without torch.
- `classifier`: convolutional classifier of log-mel spectrograms; `backbones/` has its architectures.
- `modulation`: what it sees besides the spectrogram: how fast levels fluctuate.
- `texture`: its second head, which sees `texture_statistics` alone.
- `repetition`: repeats short clips instead of their padding.
- `ensemble`: several classifiers that predict as one.
- `norm`: its normalization layers, such as batch norm over all workers.
- `fold_batch_norms`: makes batch norms a part of the convolutions, for prediction.
- `augmentation_params`: parameters of batch augmentation, sampled for each clip.
- `batch_augment`: MixUp, SpecAugment, shift, stretch and gain by these parameters.
- `device_batches`: batches of inference on a device, and copies there.
- `schedule`, `ema`: learning rate schedule and average of the weights.
- `confusion`: correct and confused clips by class, accuracy and macro-F1.
- `metrics`: all metrics of predicted probabilities, with log loss and calibration.
- `event_metrics`: F1 of detected events and of segments.
- `ranking_metrics`, `bootstrap`: metrics of ranking, and confidence intervals.
- `multi_label_loss`, `multi_label_metrics`, `group_bootstrap`: of classifiers with a probability per class.
- `calibration`: temperature scaling of probabilities.
- `signal_path`, `exported_generator`: what exported models have besides their networks.
- `gan`: conditional generator and discriminator.
- `gan_losses`, `gan_augment`: adversarial losses, gradient penalty and adaptive augmentation.
- `gan_metrics`: Fréchet distance, density, coverage and diversity of generated clips.

Principle: every module is testable without Ray. Spectrograms are in dB at every interface,
randomness is passed in, and tensor names end with their axes (`mel_BMT`); each file lists the letters.
Training loops that use these modules are in `pipeline/classifier` and `pipeline/gan`.
"""
