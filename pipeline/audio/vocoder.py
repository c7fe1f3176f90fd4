"""From a log-mel spectrogram back to sound.

A mel spectrogram keeps neither the phases nor where in its band a power lies. Fast Griffin-Lim (Perraudin, Balazs and
Søndergaard 2013) finds phases for magnitudes that are given. Here both are found together, in the spirit of Masuyama,
Ueno and Ono (2023, arXiv 2307.12232): each step takes the spectrum of the sound so far, and scales it until its mel
power is the wanted one. On ESC-10 that leaves a fifth of librosa's error, which fixes the magnitudes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.mel import AMIN, MelConfig

# No sample's magnitude is greater: a little below full scale, which a lossy encoder or a resampler may overshoot.
PEAK = 0.97
# At or below this level in dB, `pipeline.audio.mel` tells no power from another; and float16, as shards hold it, blurs the edge.
SILENT_DB = 10 * math.log10(AMIN)
FLOOR_TOLERANCE_DB = 0.1

MOMENTUM = 0.99  # librosa's; more than 1 no longer settles
CORRECTION_EXPONENT = (
    1.5  # exponent of a correction of power: 1 takes about a third more steps to the same error, 2 swings
)
MAX_POWER_CORRECTION = 100.0  # of power in one step: where the sound so far has none, a ratio says nothing
TINY = 1e-20  # of power relative to a clip's loudest; far below what single precision resolves beside it
MIN_WINDOW_SUM = (
    0.05  # of the summed squared windows: less, at the edge of a lone window, would blow up what is there
)
BANDS_AT_ONCE = 32
VALUES_AT_ONCE = 2**24

# A level that people speak at (ITU-T P.56), in dB RMS, and the stretch of time in seconds in which it is measured.
TARGET_RMS_DB = -26.0
LOUDEST_SECONDS = 0.4
# A sound whose peak is below one step of a 16-bit file is none.
SILENCE_PEAK = 2.0**-15


class Vocoder:
    """Turns log-mel spectrograms into sound; holds the filter bank and the window on a device.

    Args:
        config: how the spectrograms were made.
        iterations: of Griffin-Lim; twice as many leave about six tenths of the error.
        device: where the work is done.

    Raises:
        ValueError: when there is less than one iteration.
    """

    def __init__(self, config: MelConfig, iterations: int = 32, device: torch.device | str = "cpu"):
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {iterations}")
        self.config = config
        self.iterations = iterations
        self.device = torch.device(device)
        self._bank = _MelBank(config, self.device)
        self._window = (
            torch.from_numpy(librosa.filters.get_window("hann", config.n_fft)).float().to(self.device)
        )

    @torch.no_grad()
    def __call__(self, mel_BMT: Tensor, num_samples: int, seed: int | Sequence[int] = 0) -> Tensor:
        """Samples `[shape=(B, num_samples)]`, float32, whose log-mel spectrograms are about `mel_BMT`.

        Levels are those that the spectrogram implies; a clip whose peak would be above 0.97 is made quieter as a whole.
        What lies at the floor, `top_db` below the clip's loudest value or at -100 dB, may become anything as quiet or
        quieter. A clip that is nowhere above -100 dB becomes zeros. Frequencies outside the bands are silent.

        On the CPU, with one number of threads, a clip's samples depend on its spectrogram and its seed alone, to the
        last bit. On a GPU they may differ in the last bits with the size of the batch.

        Args:
            mel_BMT: log-mel power in dB `[shape=(B, n_mels, num_frames)]`, as `pipeline.audio.mel` makes it; any float type.
            num_samples: length of each clip, which must have that many frames.
            seed: not negative; of the noise that the phases start from; one for all clips, or one for each.

        Raises:
            ValueError: when a shape or the number of seeds is wrong, or a value is not finite.
        """
        seeds = [seed] * len(mel_BMT) if isinstance(seed, int | np.integer) else list(seed)
        self._check(mel_BMT, num_samples, seeds)
        samples_BN = torch.empty(len(seeds), num_samples, device=self.device)
        # One clip at a time stays in a CPU's cache, and knows nothing of its neighbours.
        clip_values = mel_BMT.shape[2] * (self.config.n_fft // 2 + 1)
        group = 1 if self.device.type == "cpu" else max(1, VALUES_AT_ONCE // clip_values)
        for start in range(0, len(seeds), group):
            some = slice(start, start + group)
            samples_BN[some] = self._sound(
                mel_BMT[some].to(self.device, torch.float32), num_samples, seeds[some]
            )
        return samples_BN

    def _check(self, mel_BMT: Tensor, num_samples: int, seeds: list[int]) -> None:
        want = (self.config.n_mels, self.config.num_frames(num_samples))
        if num_samples < 1 or mel_BMT.ndim != 3 or tuple(mel_BMT.shape[1:]) != want:
            raise ValueError(
                f"{num_samples} samples need spectrograms of shape (B, {want[0]}, {want[1]}), not {tuple(mel_BMT.shape)}"
            )
        if len(seeds) != len(mel_BMT):
            raise ValueError(f"{len(mel_BMT)} spectrograms need as many seeds, not {len(seeds)}")
        broken_B = ~mel_BMT.isfinite().flatten(1).all(dim=1)
        if broken_B.any():
            raise ValueError(
                f"spectrogram {int(broken_B.int().argmax())} of {len(mel_BMT)} has values that are not finite (NaN or infinity)"
            )

    def _sound(self, mel_BMT: Tensor, num_samples: int, seeds: list[int]) -> Tensor:
        """Samples of some clips at once `[shape=(B, num_samples)]`."""
        # Relative to each clip's loudest value no power overflows, whatever a network made up.
        top_B = mel_BMT.amax(dim=(1, 2))
        floor_B = (top_B - (self.config.top_db or math.inf)).clamp_min(SILENT_DB) + FLOOR_TOLERANCE_DB
        wanted_BTM = 10 ** ((mel_BMT - top_B[:, None, None]).mT.contiguous() / 10)
        quiet_BTM = mel_BMT.mT <= floor_B[:, None, None]
        padded_BL = self._griffin_lim(
            wanted_BTM, quiet_BTM, _Overlap(self._window, self.config.hop_length, num_samples), seeds
        )
        half = self.config.n_fft // 2
        samples_BN = padded_BL[:, half : half + num_samples]
        implied_B = torch.where(top_B > SILENT_DB + FLOOR_TOLERANCE_DB, 10 ** (top_B.double() / 20), 0.0)
        allowed_B = PEAK / samples_BN.abs().amax(dim=1).double().clamp_min(TINY)
        return samples_BN * torch.minimum(implied_B, allowed_B).float()[:, None]

    def _griffin_lim(
        self, wanted_BTM: Tensor, quiet_BTM: Tensor, overlap: _Overlap, seeds: list[int]
    ) -> Tensor:
        """Sound with the wanted mel power, or in quiet places with no more; padded `[shape=(B, L)]`."""
        most_BTM = torch.where(quiet_BTM, 1.0, MAX_POWER_CORRECTION)
        # Each band's power spread over it; corrections at this stage would be lost, the loop makes them anyway.
        power_BTF = self._bank.spread(wanted_BTM.masked_fill(quiet_BTM, 0.0) / self._bank.area_M).add_(TINY)
        spectrum_BTF = _set_power(overlap.spectrum(self._noise(overlap, seeds)), power_BTF)
        before_BTF = torch.zeros_like(spectrum_BTF)
        for _ in range(self.iterations):
            sound_BTF = overlap.spectrum(overlap.sound(spectrum_BTF))
            power_BTF = _power(sound_BTF)
            ratio_BTM = torch.minimum(wanted_BTM / self._bank.gather(power_BTF).add_(TINY), most_BTM).pow_(
                CORRECTION_EXPONENT
            )
            # The added bit keeps the silence between sounds from values so small that processors slow down.
            power_BTF.mul_(self._bank.spread(ratio_BTM)).add_(TINY)
            ahead_BTF = torch.sub(sound_BTF, before_BTF, alpha=MOMENTUM / (1 + MOMENTUM), out=before_BTF)
            spectrum_BTF = _set_power(ahead_BTF, power_BTF)
            before_BTF = sound_BTF
        return overlap.sound(spectrum_BTF)

    def _noise(self, overlap: _Overlap, seeds: list[int]) -> Tensor:
        """White noise, padded `[shape=(B, L)]`: phases that fit together from one frame to the next."""
        noise = np.stack(
            [np.random.default_rng(seed).standard_normal(overlap.num_samples, np.float32) for seed in seeds]
        )
        return overlap.pad(torch.from_numpy(noise).to(self.device))


class _MelBank:
    """The mel filter bank `(n_mels, num_frequencies)`, cut into dense pieces: 98 in 100 of its values are zero."""

    def __init__(self, config: MelConfig, device: torch.device):
        bank_MF = torch.from_numpy(
            librosa.filters.mel(
                sr=config.sample_rate,
                n_fft=config.n_fft,
                n_mels=config.n_mels,
                fmin=config.fmin,
                fmax=config.fmax,
            )
        )
        share_MF = bank_MF / bank_MF.sum(dim=0).clamp_min(TINY)
        self.area_M = bank_MF.sum(dim=1).clamp_min(TINY).to(device)
        self._shape = bank_MF.shape
        self._pieces = []
        for first in range(0, config.n_mels, BANDS_AT_ONCE):
            bands = slice(first, first + BANDS_AT_ONCE)
            used = bank_MF[bands].any(dim=0).nonzero()
            if len(used):  # bands narrower than the distance of two frequencies may miss them all
                span = slice(int(used[0]), int(used[-1]) + 1)
                weights_FM = bank_MF[bands, span].T.contiguous().to(device)
                self._pieces.append((bands, span, weights_FM, share_MF[bands, span].contiguous().to(device)))

    def gather(self, power_BTF: Tensor) -> Tensor:
        """Power in each band `[shape=(B, T, n_mels)]`."""
        power_RF = power_BTF.flatten(0, 1)
        mel_RM = power_RF.new_zeros(len(power_RF), self._shape[0])
        for bands, span, weights_FM, _ in self._pieces:
            torch.mm(power_RF[:, span], weights_FM, out=mel_RM[:, bands])
        return mel_RM.view(*power_BTF.shape[:2], -1)

    def spread(self, value_BTM: Tensor) -> Tensor:
        """The mean of the bands' values at each frequency, by its weights in them `[shape=(B, T, F)]`; outside of all zero."""
        value_RM = value_BTM.flatten(0, 1)
        spread_RF = value_RM.new_zeros(len(value_RM), self._shape[1])
        for bands, span, _, share_MF in self._pieces:
            spread_RF[:, span].addmm_(value_RM[:, bands], share_MF)
        return spread_RF.view(*value_BTM.shape[:2], -1)


class _Overlap:
    """Spectra of overlapping windows over padded sound of one length, and the way back (Griffin and Lim 1984).

    Padded sound `[shape=(B, L)]` has half a window of zeros in front, and zeros behind, up to whole hops and beyond the
    last window.
    """

    def __init__(self, window: Tensor, hop_length: int, num_samples: int):
        self.num_samples = num_samples
        self._window, self._hop, self._half = window, hop_length, len(window) // 2
        self._frames = 1 + num_samples // hop_length
        # In hops: what the last window reaches into, and one more for samples that no window reaches.
        self._length = self._frames - (-len(window) // hop_length)
        cover_L = self._add((window**2).expand(1, self._frames, -1))[0]
        inside_L = self.pad(torch.ones(1, num_samples, device=window.device))[0]
        self._scale_L = inside_L / cover_L.clamp_min(MIN_WINDOW_SUM)

    def pad(self, samples_BN: Tensor) -> Tensor:
        """Padded sound."""
        return F.pad(samples_BN, (self._half, self._length * self._hop - self._half - self.num_samples))

    def spectrum(self, padded_BL: Tensor) -> Tensor:
        """Complex spectrum of each window `[shape=(B, T, F)]`."""
        return torch.fft.rfft(
            padded_BL.unfold(1, len(self._window), self._hop)[:, : self._frames] * self._window
        )

    def sound(self, spectrum_BTF: Tensor) -> Tensor:
        """The padded sound whose spectrum is nearest, in least squares."""
        return self._add(torch.fft.irfft(spectrum_BTF, n=len(self._window)).mul_(self._window)).mul_(
            self._scale_L
        )

    def _add(self, frames_BTN: Tensor) -> Tensor:
        """The sum of all windows, each at its place; padded."""
        sum_BKH = frames_BTN.new_zeros(len(frames_BTN), self._length, self._hop)
        for number, part_BTH in enumerate(frames_BTN.split(self._hop, dim=2)):
            sum_BKH[:, number : number + self._frames, : part_BTH.shape[2]] += part_BTH
        return sum_BKH.flatten(1)


def _power(spectrum_BTF: Tensor) -> Tensor:
    # Squares of real and imaginary parts as they lie in memory: far faster than abs().
    squares = torch.view_as_real(spectrum_BTF).square()
    return squares[..., 0] + squares[..., 1]


def _set_power(spectrum_BTF: Tensor, power_BTF: Tensor) -> Tensor:
    """Gives a spectrum another power, which is positive; keeps its phases; in place."""
    gain_BTF = _power(spectrum_BTF).add_(TINY).div_(power_BTF).rsqrt_()
    return spectrum_BTF.mul_(gain_BTF)


def normalize_loudness(samples_BN: Tensor, sample_rate: int) -> Tensor:
    """Clips `[shape=(B, num_samples)]` at a level at which a listener hears each of them; new samples.

    A clip whose loudest 0.4 s have less than -26 dB RMS is raised to that, but only so far that its peak stays at or
    below 0.97. A clip with a higher peak is lowered to it. Others stay as they are, and so does what is silent: a peak below
    2^-15, the step of a 16-bit file.
    """
    window = min(samples_BN.shape[1], round(LOUDEST_SECONDS * sample_rate))
    energy_BN = F.avg_pool1d(samples_BN.square()[:, None], window, max(1, window // 4))[:, 0]
    peak_B = samples_BN.abs().amax(dim=1)
    raise_B = (10 ** (TARGET_RMS_DB / 20) / energy_BN.amax(dim=1).clamp_min(TINY).sqrt()).clamp_min(1.0)
    gain_B = torch.minimum(raise_B, PEAK / peak_B.clamp_min(TINY))
    return samples_BN * torch.where(peak_B < SILENCE_PEAK, 1.0, gain_B)[:, None]


@lru_cache(maxsize=4)
def _vocoder(config: MelConfig, iterations: int) -> Vocoder:
    return Vocoder(config, iterations)


def mel_to_audio(
    mel: np.ndarray, config: MelConfig, num_samples: int, *, iterations: int = 32, seed: int = 0
) -> np.ndarray:
    """Samples `[shape=(num_samples,)]`, float32, of one log-mel spectrogram in dB `[shape=(n_mels, num_frames)]`, on the CPU.

    Raises:
        ValueError: as `Vocoder` does.
    """
    return _vocoder(config, iterations)(torch.from_numpy(np.asarray(mel))[None], num_samples, seed)[0].numpy()
