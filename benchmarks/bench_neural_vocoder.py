"""A small neural vocoder, trained on the clips of a dataset, against melray's Griffin-Lim.

    python -m benchmarks.bench_neural_vocoder --esc10 ESC-10 --out FOLDER [--minutes 60 --threads 2]

The network is Vocos (Siuzdak 2023) in small: ConvNeXt blocks over frames, which predict magnitude and phase
of each frequency, and an inverse Fourier transform. It is trained for a given time on folds 1 to 4, with the
multi-resolution STFT loss of Parallel WaveGAN (Yamamoto et al. 2020) and the log-mel error, without a
discriminator, and scored on fold 5. A third row starts Griffin-Lim at the output of the network.

Errors are mean absolute differences in dB, as in `bench_vocoder`: of the log-mel spectrogram that the vocoder
was given, and of spectra with windows of 256, 512 and 1024 samples. Training goes on in FOLDER after an
interruption.

Shape suffixes: B batch, M mel bands, T frames, F frequencies, N samples, C channels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.bench_vocoder import FEATURES, LEVEL, MEL, mean_difference
from benchmarks.common import save_result
from pipeline.audio.decode import decode
from pipeline.audio.mel import filter_bank_of, log_mel
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import fix_length

TEST_FOLD = "5"
WINDOWS = (256, 512, 1024)
SEGMENT_FRAMES, BATCH_SIZE = 87, 8  # 2 s
CHANNELS, BLOCKS, NOISE_CHANNELS = 256, 6, 16
LEARNING_RATE, WARMUP_STEPS = 1e-3, 200
FLOOR = 1e-5  # -100 dB
SAVE_EVERY_S = 60.0


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames and two linear layers, with a residual (Liu et al. 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(CHANNELS, CHANNELS, 7, padding=3, groups=CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.wide, self.narrow = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(3 * CHANNELS, CHANNELS)
        self.scale_C = nn.Parameter(torch.full((CHANNELS,), 1 / BLOCKS))

    def forward(self, features_BCT: Tensor) -> Tensor:
        hidden_BTC = self.norm(self.depthwise(features_BCT).mT)
        return features_BCT + (self.scale_C * self.narrow(F.gelu(self.wide(hidden_BTC)))).mT


class NeuralVocoder(nn.Module):
    """Maps log-mel spectrograms in dB `[shape=(B, M, T)]` to samples `[shape=(B, (T - 1) * hop)]`.

    Magnitudes are those of the mel bands, spread evenly over each, times a predicted factor; phases are
    predicted. Channels of noise let sounds without definite phases have random ones.
    """

    window_N: Tensor
    spread_FM: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank_MF = torch.from_numpy(filter_bank_of(MEL)).float()
        spread_FM = (bank_MF / bank_MF.sum(dim=0).clamp_min(1e-20) / bank_MF.sum(dim=1, keepdim=True)).T
        self.register_buffer("spread_FM", spread_FM.contiguous())
        self.register_buffer("window_N", torch.hann_window(MEL.n_fft))
        self.first = nn.Conv1d(MEL.n_mels + NOISE_CHANNELS, CHANNELS, 7, padding=3)
        self.blocks = nn.Sequential(*(ConvNeXtBlock() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(CHANNELS)
        self.last = nn.Linear(CHANNELS, 3 * (MEL.n_fft // 2 + 1))

    def forward(self, mel_BMT: Tensor, noise_BCT: Tensor) -> Tensor:
        features_BCT = self.blocks(self.first(torch.cat([mel_BMT / 40 + 1, noise_BCT], dim=1)))
        outputs = self.last(self.norm(features_BCT.mT)).mT.chunk(3, dim=1)
        log_gain_BFT, real_BFT, imaginary_BFT = outputs
        power_BFT = self.spread_FM @ 10 ** (mel_BMT / 10)
        magnitude_BFT = (power_BFT + FLOOR**2).sqrt() * log_gain_BFT.clamp(-8, 4).exp()
        phase_BFT = torch.atan2(imaginary_BFT, real_BFT)
        spectrum_BFT = torch.polar(magnitude_BFT, phase_BFT)
        return torch.istft(spectrum_BFT, MEL.n_fft, MEL.hop_length, window=self.window_N)


class Losses:
    """Training loss: spectra of several window lengths, and the log-mel spectrogram."""

    def __init__(self) -> None:
        self._bank_MF = torch.from_numpy(filter_bank_of(MEL)).float()
        self._windows = {size: torch.hann_window(size) for size in (*WINDOWS, MEL.n_fft)}

    def __call__(self, made_BN: Tensor, true_BN: Tensor) -> Tensor:
        total = torch.zeros(())
        for size, window in self._windows.items():
            hop = MEL.hop_length if size == MEL.n_fft else size // 4
            made_BFT, true_BFT = (
                torch.stft(samples, size, hop, window=window, return_complex=True).abs().clamp_min(FLOOR)
                for samples in (made_BN, true_BN)
            )
            convergence = (true_BFT - made_BFT).norm(dim=(1, 2)) / true_BFT.norm(dim=(1, 2))
            total = total + convergence.mean() + (true_BFT.log() - made_BFT.log()).abs().mean()
            if size == MEL.n_fft:
                made_BMT, true_BMT = (
                    (self._bank_MF @ magnitude**2).clamp_min(FLOOR**2).log()
                    for magnitude in (made_BFT, true_BFT)
                )
                total = total + 2 * (true_BMT - made_BMT).abs().mean()
        return total


def read_clips(esc10: Path) -> dict[bool, np.ndarray]:
    """Return samples `[shape=(clips, num_samples)]`: False of the training folds, True of the test fold."""
    clips: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for path in sorted(esc10.glob("*/*.ogg")):
        samples = fix_length(decode(path, MEL.sample_rate), FEATURES.num_samples)
        clips[path.name.startswith(TEST_FOLD)].append(
            samples * np.float32(LEVEL / max(np.abs(samples).max(), 1e-6))
        )
    return {is_test: np.stack(of_fold) for is_test, of_fold in clips.items()}


def sample_batch(clips: np.ndarray, mels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Sample segments of random clips and levels: log-mel spectrograms and their samples."""
    rows = rng.integers(len(clips), size=BATCH_SIZE)
    starts = rng.integers(mels.shape[2] - SEGMENT_FRAMES + 1, size=BATCH_SIZE)
    gains_db = rng.uniform(-20, 0, BATCH_SIZE).astype(np.float32)
    length, hop = (SEGMENT_FRAMES - 1) * MEL.hop_length, MEL.hop_length
    mel_BMT = np.stack(
        [mels[row, :, start : start + SEGMENT_FRAMES] for row, start in zip(rows, starts, strict=True)]
    )
    samples_BN = np.stack(
        [clips[row, start * hop : start * hop + length] for row, start in zip(rows, starts, strict=True)]
    )
    return (
        torch.from_numpy(np.maximum(mel_BMT + gains_db[:, None, None], -100.0)),
        torch.from_numpy(samples_BN * 10 ** (gains_db[:, None] / 20)),
    )


def train(network: NeuralVocoder, clips: np.ndarray, mels: np.ndarray, options: argparse.Namespace) -> int:
    """Train for `options.minutes`, including those before an interruption; return the number of steps."""
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, betas=(0.8, 0.99))
    losses, path, step, seconds = Losses(), options.out / "network.pt", 0, 0.0
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds = saved["step"], saved["seconds"]
    last = saved_at = time.monotonic()
    while seconds < 60 * options.minutes:
        rng = np.random.default_rng([0, step])
        mel_BMT, samples_BN = sample_batch(clips, mels, rng)
        noise = torch.from_numpy(
            rng.standard_normal((BATCH_SIZE, NOISE_CHANNELS, SEGMENT_FRAMES), np.float32)
        )
        progress = seconds / (60 * options.minutes)
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        loss = losses(network(mel_BMT, noise), samples_BN)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        step += 1
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        if now - saved_at > SAVE_EVERY_S or seconds >= 60 * options.minutes:
            saved_at = now
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step, "seconds": seconds}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
            print(f"step {step:,}, {seconds / 60:.1f} min, loss {loss.item():.3f}", flush=True)
    return step


class StartedVocoder(Vocoder):
    """Griffin-Lim that starts at given samples instead of noise."""

    samples: Tensor
    """Samples `[shape=(1, N)]`."""

    def _initial_spectrum(self, target_BTM: Tensor, stft: Any, seeds: list[int]) -> Tensor:
        # The target is relative to its maximum.
        spectrum_BTF = stft.forward(stft.pad(self.samples))
        power = self._bank.to_mel(spectrum_BTF.abs() ** 2).amax()
        return spectrum_BTF / power.clamp_min(1e-20).sqrt()


def spectrum_db(samples: np.ndarray, window: int) -> np.ndarray:
    """Compute magnitudes in dB."""
    return librosa.amplitude_to_db(np.abs(librosa.stft(samples, n_fft=window)), amin=1e-7, top_db=None)


def score(clips: np.ndarray, mels: np.ndarray, invert: Callable[[int], np.ndarray]) -> dict[str, float]:
    """Return the mean errors in dB of a vocoder, and the milliseconds per clip."""
    rows, start = [], time.perf_counter()
    made = [invert(number) for number in range(len(clips))]
    milliseconds = 1000 * (time.perf_counter() - start) / len(clips)
    for samples, clip, mel in zip(made, clips, mels, strict=True):
        errors = {"mel": mean_difference(log_mel(MEL)(samples), mel)}
        for window in WINDOWS:
            errors[f"window {window}"] = mean_difference(
                spectrum_db(samples, window), spectrum_db(clip, window)
            )
        rows.append(errors)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {
        "milliseconds": milliseconds
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clips = read_clips(options.esc10)
    mels = {
        is_test: np.stack([log_mel(MEL)(clip) for clip in of_fold]).astype(np.float32)
        for is_test, of_fold in clips.items()
    }
    network = NeuralVocoder()
    steps = train(network, clips[False], mels[False], options)
    torch.set_num_threads(1)
    test_mels = mels[True]
    plain, started = Vocoder(MEL), StartedVocoder(MEL)

    @torch.no_grad()
    def by_network(number: int) -> np.ndarray:
        noise = np.random.default_rng(number).standard_normal(
            (1, NOISE_CHANNELS, test_mels.shape[2]), np.float32
        )
        made = network(torch.from_numpy(test_mels[number][None]), torch.from_numpy(noise))[0]
        return np.pad(made.numpy(), (0, FEATURES.num_samples))[: FEATURES.num_samples]

    def by_griffin_lim(number: int) -> np.ndarray:
        return plain(torch.from_numpy(test_mels[number][None]), FEATURES.num_samples, number)[0].numpy()

    def by_both(number: int) -> np.ndarray:
        started.samples = torch.from_numpy(by_network(number)[None])
        return started(torch.from_numpy(test_mels[number][None]), FEATURES.num_samples)[0].numpy()

    methods = {"Griffin-Lim": by_griffin_lim, "network": by_network, "Griffin-Lim from the network": by_both}
    result: dict[str, Any] = {
        "minutes": options.minutes,
        "threads": options.threads,
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "test_clips": len(test_mels),
    }
    save_result(
        "neural_vocoder",
        result | {name: score(clips[True], test_mels, invert) for name, invert in methods.items()},
    )


if __name__ == "__main__":
    main()
