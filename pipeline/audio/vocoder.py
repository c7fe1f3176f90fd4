"""Vocoder: audio from log-mel spectrograms.

A mel spectrogram lacks the phases and the distribution of power within each mel band. Fast Griffin-Lim
(Perraudin, Balazs and Søndergaard 2013) estimates phases for fixed magnitudes. This module estimates both
jointly, in the spirit of Masuyama, Ueno and Ono (2023, arXiv 2307.12232): each iteration scales the spectrum
of the current signal toward the target mel power. On ESC-10 the remaining error is a fifth of that of
librosa, which fixes the magnitudes first.

Shape suffixes: B batch, M mel bands, T frames, F frequencies, N samples of a clip or a window, L padded
samples, R rows (B x T), K hops of H samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.device_batches import device_batch_size, to_device
from pipeline.audio.loudness import MAX_PEAK
from pipeline.audio.mel import AMIN, MelConfig, filter_bank_of
from pipeline.audio.mel_filters import hann_window

# Floor of `pipeline.audio.mel` in dB, and a tolerance for the float16 rounding of shards.
SILENT_DB = 10 * math.log10(AMIN)
FLOOR_TOLERANCE_DB = 0.1

MOMENTUM = 0.99  # as in librosa; does not converge above 1
# Exponent of the power correction: 1 needs a third more iterations for the same error, 2 oscillates.
CORRECTION_EXPONENT = 1.5
# Maximum power correction per iteration: ratios to near-zero power are meaningless.
MAX_POWER_CORRECTION = 100.0
# Power relative to the maximum of a clip, far below single precision.
TINY = 1e-20
# Minimum sum of squared windows: dividing by less, at the edge of a single window, would amplify errors.
MIN_WINDOW_SUM = 0.05
BANDS_PER_BLOCK = 32
# Spectrum values of a batch on a GPU, which takes 1 GB for them (`BYTES_PER_VALUE`). More are no faster: each
# operation already takes far longer than its launch.
MAX_BATCH_VALUES, BYTES_PER_VALUE = 2**24, 64
# Threads that generate the noise of a batch, which takes one CPU longer than a GPU needs for everything else.
NOISE_THREADS = 8


class Vocoder:
    """Converts log-mel spectrograms to audio; holds the filter bank and the window on a device.

    Args:
        config: settings of the spectrograms.
        iterations: Griffin-Lim iterations; twice the number leaves about 60 % of the error.
        device: device of the computation.

    Raises:
        ValueError: fewer than one iteration.
    """

    def __init__(self, config: MelConfig, iterations: int = 32, device: torch.device | str = "cpu"):
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.config = config
        self.iterations = iterations
        self.device = torch.device(device)
        self._bank = _MelBank(config, self.device)
        self._window = torch.from_numpy(hann_window(config.n_fft)).float().to(self.device)

    @torch.no_grad()
    def __call__(self, mel_BMT: Tensor, num_samples: int, seed: int | Sequence[int] = 0) -> Tensor:
        """Synthesize samples whose log-mel spectrograms approximate `mel_BMT`.

        Levels follow the spectrogram; a clip whose peak would exceed 0.97 is attenuated as a whole. Values at
        the floor, `top_db` below the maximum of the clip or -100 dB, are upper bounds. A clip with no value
        above -100 dB becomes zeros. Frequencies outside the mel bands are silent.

        On a CPU with a fixed number of threads, the samples of a clip depend only on its spectrogram and its
        seed, bit for bit. On a GPU the last bits may depend on the batch size. Nothing but the check of the
        spectrograms waits for the GPU.

        Args:
            mel_BMT: log-mel power in dB, as computed by `pipeline.audio.mel`; any float type.
            num_samples: clip length; must match the number of frames.
            seed: non-negative seed of the noise that initializes the phases; one for all clips, or one per
                clip.

        Returns:
            Samples `[shape=(B, num_samples)]`, float32.

        Raises:
            ValueError: wrong shape or number of seeds, or a value that is not finite.
        """
        seeds = [seed] * len(mel_BMT) if isinstance(seed, int | np.integer) else list(seed)
        self._check(mel_BMT, num_samples, seeds)
        samples_BN = torch.empty(len(seeds), num_samples, device=self.device)
        batch_size = self.batch_size(num_samples)
        for start in range(0, len(seeds), batch_size):
            batch = slice(start, start + batch_size)
            samples_BN[batch] = self._synthesize(
                to_device(mel_BMT[batch], self.device).float(), num_samples, seeds[batch]
            )
        return samples_BN

    def batch_size(self, num_samples: int) -> int:
        """Return the number of clips of `num_samples` that are synthesized at once."""
        # On a CPU one clip at a time: it stays in the cache, and is independent of the rest of the batch.
        clip_values = self.config.num_frames(num_samples) * (self.config.n_fft // 2 + 1)
        most = max(1, MAX_BATCH_VALUES // clip_values)
        return device_batch_size(BYTES_PER_VALUE * clip_values, self.device, cpu=1, most=most)

    def _check(self, mel_BMT: Tensor, num_samples: int, seeds: list[int]) -> None:
        shape = (self.config.n_mels, self.config.num_frames(num_samples))
        if num_samples < 1 or mel_BMT.ndim != 3 or tuple(mel_BMT.shape[1:]) != shape:
            raise ValueError(
                f"{num_samples} samples need spectrograms of shape (B, {shape[0]}, {shape[1]}), "
                f"got {tuple(mel_BMT.shape)}"
            )
        if len(seeds) != len(mel_BMT):
            raise ValueError(f"need one seed per spectrogram ({len(mel_BMT)}), got {len(seeds)}")
        invalid_B = ~mel_BMT.isfinite().flatten(1).all(dim=1)
        if invalid_B.any():
            index = int(invalid_B.int().argmax())
            raise ValueError(
                f"spectrogram {index} of {len(mel_BMT)} has values that are not finite (NaN or infinity)"
            )

    def _synthesize(self, mel_BMT: Tensor, num_samples: int, seeds: list[int]) -> Tensor:
        """Synthesize a batch of clips `[shape=(B, num_samples)]` at once."""
        # Power relative to the maximum of each clip cannot overflow, whatever values a network generates.
        top_B = mel_BMT.amax(dim=(1, 2))
        floor_B = (top_B - (self.config.top_db or math.inf)).clamp_min(SILENT_DB) + FLOOR_TOLERANCE_DB
        target_BTM = 10 ** ((mel_BMT - top_B[:, None, None]).mT.contiguous() / 10)
        floor_mask_BTM = mel_BMT.mT <= floor_B[:, None, None]
        padded_BL = self._griffin_lim(
            target_BTM, floor_mask_BTM, _Stft(self._window, self.config.hop_length, num_samples), seeds
        )
        half = self.config.n_fft // 2
        samples_BN = padded_BL[:, half : half + num_samples]
        implied_gain_B = torch.where(top_B > SILENT_DB + FLOOR_TOLERANCE_DB, 10 ** (top_B.double() / 20), 0.0)
        max_gain_B = MAX_PEAK / samples_BN.abs().amax(dim=1).double().clamp_min(TINY)
        return samples_BN * torch.minimum(implied_gain_B, max_gain_B).float()[:, None]

    def _griffin_lim(
        self, target_BTM: Tensor, floor_mask_BTM: Tensor, stft: _Stft, seeds: list[int]
    ) -> Tensor:
        """Estimate a padded signal `[shape=(B, L)]` of the target mel power, an upper bound where masked."""
        max_ratio_BTM = torch.where(floor_mask_BTM, 1.0, MAX_POWER_CORRECTION)
        spectrum_BTF = self._initial_spectrum(target_BTM.masked_fill(floor_mask_BTM, 0.0), stft, seeds)
        previous_BTF = torch.zeros_like(spectrum_BTF)
        for _ in range(self.iterations):
            projected_BTF = stft.forward(stft.inverse(spectrum_BTF))
            power_BTF = _power(projected_BTF)
            ratio_BTM = torch.minimum(
                target_BTM / self._bank.to_mel(power_BTF).add_(TINY), max_ratio_BTM
            ).pow_(CORRECTION_EXPONENT)
            # TINY avoids denormal numbers in silent frames, which slow down the CPU.
            power_BTF.mul_(self._bank.spread(ratio_BTM)).add_(TINY)
            momentum_BTF = torch.sub(
                projected_BTF, previous_BTF, alpha=MOMENTUM / (1 + MOMENTUM), out=previous_BTF
            )
            spectrum_BTF = _set_power(momentum_BTF, power_BTF)
            previous_BTF = projected_BTF
        return stft.inverse(spectrum_BTF)

    def _initial_spectrum(self, target_BTM: Tensor, stft: _Stft, seeds: list[int]) -> Tensor:
        """Return a spectrum with the phases of noise, and the power distributed evenly over each band.

        Corrections of the power at this stage would be lost, the iterations make them.
        """
        power_BTF = self._bank.spread(target_BTM / self._bank.area_M).add_(TINY)
        return _set_power(stft.forward(self._noise(stft, seeds)), power_BTF)

    def _noise(self, stft: _Stft, seeds: list[int]) -> Tensor:
        """Generate padded white noise `[shape=(B, L)]`, whose phases are consistent between frames."""
        noise = np.empty((len(seeds), stft.num_samples), np.float32)

        def fill(i: int) -> None:
            np.random.default_rng(seeds[i]).standard_normal(dtype=np.float32, out=noise[i])

        if len(seeds) == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(min(NOISE_THREADS, len(seeds))) as threads:
                list(threads.map(fill, range(len(seeds))))
        return stft.pad(to_device(noise, self.device))


class _MelBank:
    """Mel filter bank `(n_mels, num_frequencies)`, 98 % zeros, as dense blocks."""

    def __init__(self, config: MelConfig, device: torch.device):
        bank_MF = torch.from_numpy(filter_bank_of(config))
        normalized_MF = bank_MF / bank_MF.sum(dim=0).clamp_min(TINY)
        self.area_M = bank_MF.sum(dim=1).clamp_min(TINY).to(device)
        self._shape = bank_MF.shape
        self._blocks = []
        for first in range(0, config.n_mels, BANDS_PER_BLOCK):
            bands = slice(first, first + BANDS_PER_BLOCK)
            nonzero = bank_MF[bands].any(dim=0).nonzero()
            if len(nonzero):  # bands narrower than the frequency resolution may have no weight at all
                span = slice(int(nonzero[0]), int(nonzero[-1]) + 1)
                weights_FM = bank_MF[bands, span].T.contiguous().to(device)
                spread_MF = normalized_MF[bands, span].contiguous().to(device)
                self._blocks.append((bands, span, weights_FM, spread_MF))

    def to_mel(self, power_BTF: Tensor) -> Tensor:
        """Compute the power in each band `[shape=(B, T, n_mels)]`."""
        power_RF = power_BTF.flatten(0, 1)
        mel_RM = power_RF.new_zeros(len(power_RF), self._shape[0])
        for bands, span, weights_FM, _ in self._blocks:
            torch.mm(power_RF[:, span], weights_FM, out=mel_RM[:, bands])
        return mel_RM.view(*power_BTF.shape[:2], -1)

    def spread(self, value_BTM: Tensor) -> Tensor:
        """Average band values at each frequency by its weights, zero outside bands `[shape=(B, T, F)]`."""
        value_RM = value_BTM.flatten(0, 1)
        spread_RF = value_RM.new_zeros(len(value_RM), self._shape[1])
        for bands, span, _, spread_MF in self._blocks:
            spread_RF[:, span].addmm_(value_RM[:, bands], spread_MF)
        return spread_RF.view(*value_BTM.shape[:2], -1)


class _Stft:
    """Short-time Fourier transform of padded signals of one length, and its least-squares inverse.

    The inverse is that of Griffin and Lim (1984). A padded signal `[shape=(B, L)]` has half a window of zeros
    in front, and zeros at the end up to whole hops beyond the last window.
    """

    def __init__(self, window: Tensor, hop_length: int, num_samples: int):
        self.num_samples = num_samples
        self._window, self._hop, self._half = window, hop_length, len(window) // 2
        self._num_frames = 1 + num_samples // hop_length
        # Up to the end of the last window, and one more hop for samples that no window covers.
        self._num_hops = self._num_frames - (-len(window) // hop_length)
        window_sum_L = self._overlap_add((window**2).expand(1, self._num_frames, -1))[0]
        inside_L = self.pad(torch.ones(1, num_samples, device=window.device))[0]
        self._scale_L = inside_L / window_sum_L.clamp_min(MIN_WINDOW_SUM)

    def pad(self, samples_BN: Tensor) -> Tensor:
        """Pad samples to `[shape=(B, L)]`."""
        return F.pad(samples_BN, (self._half, self._num_hops * self._hop - self._half - self.num_samples))

    def forward(self, padded_BL: Tensor) -> Tensor:
        """Compute the complex spectrum of each window `[shape=(B, T, F)]`."""
        windows_BTN = padded_BL.unfold(1, len(self._window), self._hop)[:, : self._num_frames]
        return torch.fft.rfft(windows_BTN * self._window)

    def inverse(self, spectrum_BTF: Tensor) -> Tensor:
        """Compute the padded signal whose spectrum is nearest in the least-squares sense."""
        frames_BTN = torch.fft.irfft(spectrum_BTF, n=len(self._window)).mul_(self._window)
        return self._overlap_add(frames_BTN).mul_(self._scale_L)

    def _overlap_add(self, frames_BTN: Tensor) -> Tensor:
        """Sum overlapping windows to a padded signal `[shape=(B, L)]`."""
        sum_BKH = frames_BTN.new_zeros(len(frames_BTN), self._num_hops, self._hop)
        for offset, hop_BTH in enumerate(frames_BTN.split(self._hop, dim=2)):
            sum_BKH[:, offset : offset + self._num_frames, : hop_BTH.shape[2]] += hop_BTH
        return sum_BKH.flatten(1)


def _power(spectrum_BTF: Tensor) -> Tensor:
    # Squaring the real view is much faster than abs().
    squares = torch.view_as_real(spectrum_BTF).square()
    return squares[..., 0] + squares[..., 1]


def _set_power(spectrum_BTF: Tensor, power_BTF: Tensor) -> Tensor:
    """Scale a spectrum to a positive power in place; keep its phases."""
    gain_BTF = _power(spectrum_BTF).add_(TINY).div_(power_BTF).rsqrt_()
    return spectrum_BTF.mul_(gain_BTF)


@lru_cache(maxsize=4)
def _vocoder(config: MelConfig, iterations: int) -> Vocoder:
    return Vocoder(config, iterations)


def mel_to_audio(
    mel: np.ndarray, config: MelConfig, num_samples: int, *, iterations: int = 32, seed: int = 0
) -> np.ndarray:
    """Synthesize one log-mel spectrogram in dB `[shape=(n_mels, num_frames)]` on the CPU.

    Returns:
        Samples `[shape=(num_samples,)]`, float32.

    Raises:
        ValueError: as for `Vocoder`.
    """
    return _vocoder(config, iterations)(torch.from_numpy(np.asarray(mel))[None], num_samples, seed)[0].numpy()
