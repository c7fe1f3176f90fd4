"""Vocoder network: samples from log-mel spectrograms, with which Griffin-Lim starts.

Vocos (Siuzdak 2023, arXiv 2306.00814) in small: ConvNeXt blocks over frames predict the magnitude and the
phase of each frequency, and an inverse Fourier transform makes the samples. Magnitudes are those of the mel
bands, spread evenly over each, times a predicted factor. It is trained without a discriminator, by the
multi-resolution loss of Parallel WaveGAN (Yamamoto et al. 2020).

Shape suffixes: B batch, M mel bands, T frames, F frequencies, N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.settings import VocoderConfig

# Smallest magnitude of a spectrum, 100 dB below full scale.
MIN_MAGNITUDE = 1e-5
# Smallest norm of a spectrum to which differences are relative, far below that of an audible sound.
MIN_NORM = 1e-2
# Bounds of the predicted logarithm of the factor.
MIN_LOG_FACTOR, MAX_LOG_FACTOR = -8.0, 4.0
# Scale of the spectrograms: values of 0 to -80 dB become 1 to -1.
CENTER_DB, SCALE_DB = -40.0, 40.0
# Weight of the log-mel error next to those of the spectra.
MEL_WEIGHT = 2.0


class _ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames and two linear layers, with a residual (Liu et al. 2022)."""

    def __init__(self, config: VocoderConfig):
        super().__init__()
        channels = config.channels
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = nn.Linear(channels, 3 * channels), nn.Linear(3 * channels, channels)
        self.scale_C = nn.Parameter(torch.full((channels,), 1 / config.blocks))

    def forward(self, features_BCT: Tensor) -> Tensor:
        hidden_BTC = self.norm(self.depthwise(features_BCT).mT)
        return features_BCT + (self.scale_C * self.narrow(F.gelu(self.wide(hidden_BTC)))).mT


class VocoderNetwork(nn.Module):
    """Maps log-mel spectrograms to samples.

    Args:
        config: architecture.
        filter_bank_MF: weights of each mel band.
        n_fft: length of the windows of the spectrograms, periodic Hann windows centered on each frame.
        hop_length: samples from one frame to the next.
    """

    spread_FM: Tensor
    window: Tensor

    def __init__(self, config: VocoderConfig, filter_bank_MF: Tensor, n_fft: int, hop_length: int):
        super().__init__()
        self.config, self.n_fft, self.hop_length = config, n_fft, hop_length
        n_mels, num_frequencies = filter_bank_MF.shape
        area_M = filter_bank_MF.sum(dim=1, keepdim=True).clamp_min(1e-20)
        spread_FM = (filter_bank_MF / filter_bank_MF.sum(dim=0).clamp_min(1e-20) / area_M).T.contiguous()
        self.register_buffer("spread_FM", spread_FM.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.first = nn.Conv1d(n_mels + config.noise_channels, config.channels, 7, padding=3)
        self.blocks = nn.Sequential(*(_ConvNeXtBlock(config) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(config.channels)
        self.last = nn.Linear(config.channels, 3 * num_frequencies)

    def forward(self, mel_BMT: Tensor, noise_BCT: Tensor) -> Tensor:
        """Return samples `[shape=(B, (T - 1) * hop_length)]` from the middle of the first frame on.

        Args:
            mel_BMT: log-mel power in dB, at most about 0: relative to the maximum of the clip.
            noise_BCT: standard normal noise, `noise_channels` of each frame.
        """
        return self.synthesize(self.predict(mel_BMT, noise_BCT), mel_BMT)

    def predict(self, mel_BMT: Tensor, noise_BCT: Tensor) -> Tensor:
        """Return logarithms of factors, and vectors in the direction of phases `[shape=(B, 3F, T)]`.

        This part may run in reduced precision.
        """
        input_BCT = torch.cat([(mel_BMT - CENTER_DB) / SCALE_DB, noise_BCT], dim=1)
        features_BCT = self.blocks(self.first(input_BCT))
        return self.last(self.norm(features_BCT.mT)).mT

    def synthesize(self, predicted: Tensor, mel_BMT: Tensor) -> Tensor:
        """Return the samples of predictions; the arguments are as those of `predict`."""
        log_factor_BFT, real_BFT, imaginary_BFT = predicted.float().chunk(3, dim=1)
        power_BFT = self.spread_FM @ 10 ** (mel_BMT / 10)
        magnitude_BFT = (power_BFT + MIN_MAGNITUDE**2).sqrt()
        magnitude_BFT = magnitude_BFT * log_factor_BFT.clamp(MIN_LOG_FACTOR, MAX_LOG_FACTOR).exp()
        spectrum_BFT = torch.polar(magnitude_BFT, torch.atan2(imaginary_BFT, real_BFT))
        return torch.istft(spectrum_BFT, self.n_fft, self.hop_length, window=self.window)


class VocoderLoss(nn.Module):
    """Distance of samples: of their spectra with several window lengths, and of their log-mel spectrograms.

    Of each spectrum it is the spectral convergence and the mean absolute difference of logarithms.

    Args:
        filter_bank_MF: weights of each mel band.
        n_fft: window length of the log-mel spectrograms.
        hop_length: their hop.
        windows: other window lengths, with hops of a quarter.
    """

    bank_MF: Tensor

    def __init__(self, filter_bank_MF: Tensor, n_fft: int, hop_length: int, windows: Sequence[int]):
        super().__init__()
        self.register_buffer("bank_MF", filter_bank_MF.float(), persistent=False)
        self.hops = {**{size: size // 4 for size in windows}, n_fft: hop_length}
        self.n_fft = n_fft
        for size in self.hops:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, generated_BN: Tensor, real_BN: Tensor) -> Tensor:
        """Return the mean over the batch."""
        total = torch.zeros((), device=generated_BN.device)
        for size, hop in self.hops.items():
            generated_BFT, real_BFT = (
                self._magnitude(samples, size, hop) for samples in (generated_BN, real_BN)
            )
            norm_B = real_BFT.norm(dim=(1, 2)).clamp_min(MIN_NORM)
            convergence_B = (real_BFT - generated_BFT).norm(dim=(1, 2)) / norm_B
            total = total + convergence_B.mean() + (real_BFT.log() - generated_BFT.log()).abs().mean()
            if size == self.n_fft:
                generated_BMT, real_BMT = (
                    (self.bank_MF @ magnitude**2).clamp_min(MIN_MAGNITUDE**2).log()
                    for magnitude in (generated_BFT, real_BFT)
                )
                total = total + MEL_WEIGHT * (real_BMT - generated_BMT).abs().mean()
        return total

    def _magnitude(self, samples_BN: Tensor, size: int, hop: int) -> Tensor:
        window = getattr(self, f"window_{size}")
        # Samples can be mirrored at their ends only if they are longer than half a window.
        pad_mode = "reflect" if samples_BN.shape[1] > size // 2 else "constant"
        spectrum_BFT = torch.stft(
            samples_BN, size, hop, window=window, pad_mode=pad_mode, return_complex=True
        )
        return spectrum_BFT.abs().clamp_min(MIN_MAGNITUDE)
