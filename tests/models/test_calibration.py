"""Temperature scaling: fitted in parts, it finds the temperature that a distribution was distorted by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.calibration import TEMPERATURES, best_temperature, likelihood_at_temperatures
from models.metrics import classification_metrics, score_clips


def sample_logits(
    temperature: float, clips: int = 20_000, classes: int = 10
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits whose calibrated probabilities are those of `logits / temperature`, and labels."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(clips, classes, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.3, 0.62, 1.0, 1.7, 5.0])
def test_temperature_is_found_and_calibrates(temperature: float) -> None:
    logits, labels = sample_logits(temperature)
    parts = [
        likelihood_at_temperatures(logits[part], labels[part], len(labels))
        for part in (slice(7000), slice(7000, None))
    ]
    found = best_temperature(sum(parts).numpy())  # type: ignore[union-attr]
    assert found == pytest.approx(temperature, rel=0.03)
    probabilities = (logits / found).softmax(1).numpy()
    assert classification_metrics(score_clips(probabilities, labels.numpy()), "abcdefghij")["ece"] < 0.02


@pytest.mark.parametrize("clips", [4, 40, 400])
def test_clips_that_are_all_correct_are_no_proof_of_certainty(clips: int) -> None:
    labels = torch.arange(clips) % 4
    logits = 3 * torch.eye(4)[labels]
    temperature = best_temperature(likelihood_at_temperatures(logits, labels, clips).numpy())
    confidence = (logits / temperature).softmax(1).amax(1)
    assert float(confidence.mean()) == pytest.approx(1 - 0.75 / (clips + 2), abs=0.02)


def test_clips_that_are_all_wrong_get_even_probabilities() -> None:
    logits = 10 * torch.eye(4)
    likelihood = likelihood_at_temperatures(logits, torch.arange(4).roll(1), 4).numpy()
    assert best_temperature(likelihood) == pytest.approx(TEMPERATURES[-1], rel=0.2)
    assert np.isfinite(likelihood_at_temperatures(logits * 1e4, torch.arange(4), 4).numpy()).all()
