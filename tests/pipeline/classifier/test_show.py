"""`melray show`: events at their times, audio in the page or referred to, errors in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cluster.arguments.common_flags import CommonFlags
from cluster.arguments.flags import parse
from cluster.model_commands import show as show_command
from pipeline.classifier.command_configs import ShowConfig
from pipeline.classifier.show import show
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.io.errors import UserError
from tests.helpers.html_page import Page, parse_checked
from tests.helpers.sounds import RATE, tone, train_config
from tests.pipeline.report.recording_pages import read_data
from tests.pipeline.report.test_clips import decode_audio


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a classifier of the tones 0 (300 Hz), 1 (600 Hz) and 2 (1200 Hz), with clips of 1 s."""
    config = train_config(shards, tmp_path_factory.mktemp("show") / "run", epochs=30, batch_size=8)
    begin_run(config)
    train_in_process(config)
    return config.run


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 5 s of tone 0, then 7 s of tone 2."""
    path = tmp_path_factory.mktemp("recordings") / "two tones.flac"
    soundfile.write(path, np.concatenate([tone(310, 5.0), tone(1220, 7.0)]), RATE)
    return path


def show_page(run: Path, recording: Path, out: Path, **settings: object) -> tuple[str, Page]:
    show(ShowConfig(recording=recording, run=run, out=out, **settings))
    text = out.read_text(encoding="utf-8")
    return text, Page(text)


def test_events_have_their_times(
    run: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, page = show_page(run, recording, tmp_path / "a" / "show.html")
    parse_checked(text)
    data = read_data(text)
    events = [(data["names"][index], start, end) for start, end, index, _ in data["events"]]
    assert [name for name, *_ in events] == ["tone 0", "tone 2"]
    np.testing.assert_allclose([times for _, *times in events], [[0, 5], [5, 12]], atol=0.6)
    assert len(data["curves"][0]["scores"]) == 23
    assert page.tables[0][1][:4] == ["0:00.0", *page.tables[0][1][1:3], "tone 0"]
    samples, rate, _ = decode_audio(page.find_all("audio")[0]["src"] or "")
    assert (samples.size, rate) == (12 * RATE, RATE)
    assert "2 events in 12 s\npage: " in capsys.readouterr().out


def test_hop_and_threshold_select_windows_and_events(run: Path, recording: Path, tmp_path: Path) -> None:
    text, page = show_page(run, recording, tmp_path / "show.html", hop=0.75, threshold=1.0)
    assert len(read_data(text)["curves"][0]["scores"]) == 16
    assert read_data(text)["events"] == [] and "No event" in page.text


def test_hop_that_leaves_gaps_is_refused(run: Path, recording: Path, tmp_path: Path) -> None:
    """An event would span audio that no window has seen."""
    with pytest.raises(UserError, match=r"^--hop 2: leaves gaps between windows of 1 s; lower it to 1$"):
        show_page(run, recording, tmp_path / "show.html", hop=2.0)


def test_command_line_takes_recording_first(run: Path, recording: Path, tmp_path: Path) -> None:
    arguments = [str(recording), "--run", str(run), "--out", str(tmp_path / "x.html")]
    config = parse(ShowConfig, "show", arguments)
    assert config.recording == recording
    assert show_command(config, CommonFlags()) == 0
    assert (tmp_path / "x.html").is_file()


def test_longer_audio_is_referred_to(run: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "show.html"
    _, page = show_page(run, recording, out, max_audio_mb=0.001)
    (audio,) = page.find_all("audio")
    relative = os.path.relpath(recording, tmp_path)
    assert audio["src"] == relative.replace(" ", "%20")
    assert f"Plays the file {relative}, which must stay there." in page.words
    assert "--max-audio-mb (now 0.001)" in page.words


def test_audio_of_events_is_in_the_page_of_a_longer_recording(run: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "long.wav", tmp_path / "show.html"
    quiet = 0.01 * np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32)
    soundfile.write(path, np.concatenate([quiet, tone(1220, 4.0), quiet]), RATE)
    text, page = show_page(run, path, out, max_audio_mb=0.06, threshold=0.8)
    data = read_data(text)
    event = next(e for e in data["events"] if abs(e[0] - 60) < 1)
    part = next(part for part in data["audio"] if part[0] < event[0] < part[1])
    samples, rate, _ = decode_audio(part[2])
    start = (event[0] + event[1]) / 2 - part[0] - 0.25
    spectrum = np.abs(np.fft.rfft(samples[round(start * rate) :][: rate // 2]))
    assert 2 * spectrum.argmax() == pytest.approx(1220, abs=4)
    assert sum(len(part[2]) for part in data["audio"]) < 60_000 * 4 / 3 + 100
    count = len(data["events"])
    assert re.search(rf"In the page is the audio of \d+ of {count} events? \(\d+", page.words)
    assert "Plays the file long.wav, which must stay there." in page.words


def test_large_audio_is_a_file_next_to_the_page(
    run: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.classifier.show.MAX_EMBEDDED_BYTES", 1000)
    out = tmp_path / "a.html"
    _, page = show_page(run, recording, out)
    (audio,) = page.find_all("audio")
    assert audio["src"] == "a_audio.ogg"
    assert soundfile.info(tmp_path / "a_audio.ogg").frames == 12 * RATE
    assert "Plays the file a_audio.ogg, which must stay next to the page." in page.words


def test_file_that_browsers_cannot_play_has_no_player(run: Path, recording: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.aiff"
    soundfile.write(copy, tone(310, 3.0), RATE)
    _, page = show_page(run, copy, tmp_path / "show.html", max_audio_mb=0)
    assert not page.find_all("audio")
    assert "No audio: browsers do not play .aiff files." in page.words


@pytest.mark.parametrize("content", [None, b"", b"not audio" * 100])
def test_unusable_recording_is_one_line(content: bytes | None, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*a\.wav: [^\n]+$"):
        show(ShowConfig(recording=path, run=run, out=tmp_path / "show.html"))
    assert not (tmp_path / "show.html").exists()


@pytest.mark.parametrize("kind", ["audacity", "raven", "csv", "names"])
def test_annotations_are_shown_for_comparison(kind: str, run: Path, recording: Path, tmp_path: Path) -> None:
    path = (
        tmp_path
        / {"audacity": "a.txt", "raven": "a.selections.txt", "csv": "all.csv", "names": "names.csv"}[kind]
    )
    relative = os.path.relpath(recording, tmp_path)
    lines = {
        "audacity": ["1.5\t4.0\ttone 0", "6.0\t20.0\ttone 1"],
        "raven": [
            "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies",
            "1\t6\t20\ttone 1",
            "2\t1.5\t4\ttone 0",
        ],
        "names": [
            "filename,label,start,end",
            f"{recording.name},tone 0,1.5,4",
            "another.flac,tone 0,5,6",
            f"{recording.name},tone 1,6,20",
        ],
        "csv": ["path,label,start,end", f"{relative},tone 0,1.5,4", f"{relative},tone 1,6,20"],
    }
    path.write_text("\n".join(lines[kind]) + "\n")
    text, page = show_page(run, recording, tmp_path / "show.html", annotations=path)
    data = read_data(text)
    assert [(s, e, data["names"][index]) for s, e, index in data["annotations"]] == [
        (1.5, 4.0, "tone 0"),
        (6.0, 12.0, "tone 1"),
    ]
    events, missed, _ = page.tables
    assert [row[-1] for row in events[1:]] == ["yes", "no"]
    assert [row[-1] for row in missed[1:]] == ["tone 1"]


@pytest.mark.parametrize("column", ["path", "filename"])
def test_recording_is_found_by_its_name_in_a_table_elsewhere(
    column: str, run: Path, recording: Path, tmp_path: Path
) -> None:
    """As `predict --annotations` and `extract --annotations` find it in the same table; of any split."""
    table = tmp_path / "tables" / "all.csv"
    table.parent.mkdir()
    rows = [
        f"{column},label,start,end,split",
        f"{recording.name},tone 0,1.5,4,test",
        "another.flac,tone 1,5,6,train",
    ]
    table.write_text("\n".join(rows))
    text, _ = show_page(run, recording, tmp_path / "show.html", annotations=table)
    assert [event[:2] for event in read_data(text)["annotations"]] == [[1.5, 4.0]]


def test_table_without_the_recording_is_refused(run: Path, recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.wav"
    soundfile.write(other, tone(310), RATE)
    (tmp_path / "all.csv").write_text("path,label,start,end\nb.wav,tone 0,0,1\n")
    with pytest.raises(UserError, match=r"--annotations .*all\.csv: has no row of .*two tones\.flac"):
        show_page(run, recording, tmp_path / "show.html", annotations=tmp_path / "all.csv")


def test_annotations_are_not_searched(run: Path, recording: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--annotations auto: .*; here give the file with the events of .*"):
        show_page(run, recording, tmp_path / "show.html", annotations="auto")


def test_page_replaces_no_other_file(run: Path, recording: Path, tmp_path: Path) -> None:
    content = recording.read_bytes()
    with pytest.raises(UserError, match=r"^--out .*two tones.flac: exists, and is no page by its name"):
        show(ShowConfig(recording=recording, run=run, out=recording))
    audio = tmp_path / "rec_audio.ogg"
    audio.write_bytes(content)
    with pytest.raises(UserError, match=r"may be written to .*rec_audio.ogg, which is the recording"):
        show(ShowConfig(recording=audio, run=run, out=tmp_path / "rec.html"))
    assert recording.read_bytes() == audio.read_bytes() == content


def test_folders_in_place_of_files_are_refused(run: Path, recording: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out .*: is a folder; give a file, such as .*two tones\.html$"):
        show(ShowConfig(recording=recording, run=run, out=tmp_path))
    with pytest.raises(UserError, match=r"--annotations .*: is a folder; give the file with the events of"):
        show(ShowConfig(recording=recording, run=run, out=tmp_path / "x.html", annotations=tmp_path))
