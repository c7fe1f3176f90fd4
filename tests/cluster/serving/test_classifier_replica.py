"""Groups of sounds at a replica: all results, and clips that do not wait for a decoder that hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cluster.serving import classifier_replica
from cluster.serving.classifier_replica import CRASHED, ClassifierReplica, ClassifierSettings
from cluster.serving.messages import Classification, Rejection, Sound
from tests.helpers.crashing import hang_or_analyze
from tests.helpers.serving import wav_bytes
from tests.helpers.sounds import RATE, tone

pytestmark = pytest.mark.timeout(120)


def collect(replica: ClassifierReplica, sounds: list[Sound]) -> list[list[tuple[int, object]]]:
    """Return the results of a group, as they are yielded together."""

    async def run() -> list[list[tuple[int, object]]]:
        return [results async for results in replica.classify_group(sounds)]

    return asyncio.run(run())


def test_group_has_the_results_of_its_sounds(classifier_run: Path) -> None:
    replica = ClassifierReplica(classifier_run, ClassifierSettings(max_seconds=20.0))
    contents = [wav_bytes(tone(300 + 200 * number, 0.5), RATE) for number in range(3)]
    contents += [b"no sound", wav_bytes(tone(400, 3.0), RATE)]
    sounds = [
        Sound("a.wav", content, wants_embeddings=number != 1) for number, content in enumerate(contents)
    ]
    results = dict(result for results in collect(replica, sounds) for result in results)
    assert sorted(results) == [0, 1, 2, 3, 4]
    assert results[3] == Rejection(422, "unreadable: Format not recognised")
    for index in (0, 1, 2, 4):
        alone = asyncio.run(replica.classify(sounds[index]))
        assert isinstance(alone, Classification) and isinstance(results[index], Classification)
        np.testing.assert_allclose(results[index].probabilities, alone.probabilities, atol=1e-6)
        if index == 1:
            assert results[index].embedding is None
        else:
            np.testing.assert_allclose(results[index].embedding, alone.embedding, atol=1e-5)
    assert results[0].windows is None and len(results[4].windows.starts) == 5


def test_clips_do_not_wait_for_a_decoder_that_hangs(
    classifier_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replica = ClassifierReplica(classifier_run, ClassifierSettings(max_seconds=20.0, decoders=2))
    clip = wav_bytes(tone(300, 0.5), RATE)
    monkeypatch.setattr(classifier_replica, "analyze", hang_or_analyze)
    gate = tmp_path / "gate"

    async def run() -> None:
        order = []
        async for results in replica.classify_group([Sound(str(gate), b"hangs"), Sound("", clip)]):
            order += results
            gate.touch()  # ends the decoder, only once the clip has its result
        assert [index for index, _ in order] == [1, 0]
        assert isinstance(order[0][1], Classification) and order[1][1] == Rejection(422, CRASHED)

    asyncio.run(run())
