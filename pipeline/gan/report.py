"""The report of a trained GAN: what it draws beside what is real, to look at and to listen to, in one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report import page
from pipeline.report.charts import History, best_epoch, describe_epochs, format_number, line_chart, lines
from pipeline.report.clips import (
    Scale,
    audio_player,
    color_bar,
    decibel_scale,
    gallery_figure,
    spectrogram_data_uri,
)
from pipeline.report.confusion import COLOR_NOTE, confusion_chart, top_confusions
from pipeline.report.page import Section, escape, percent

if TYPE_CHECKING:
    from pipeline.audio.features import FeatureConfig
    from pipeline.audio.mel import MelConfig

# Of the strip over the epochs: columns, and pixels of a picture (bands, frames), twice as many as it is shown with.
MAX_STAGES = 8
SMALL_PICTURE = (64, 108)
# Drawn clips seem copied if more than this part of them lies closer to a training clip than 99 % of held-out clips do, or if
# their mean distance is less than this part of the held-out clips'. Of real clips 1 % lie so close; but where few are held out
# that limit is little more than their least distance, and real ones too pass it: by 3 / clips only once in 20 times.
COPIED_PART, COPIED_RATIO = 0.05, 0.5


@dataclass(frozen=True)
class Sound:
    """A clip to look at and to listen to: `mel` is in dB `[shape=(n_mels, num_frames)]`, `samples` in [-1, 1] `[shape=(num_samples,)]`."""

    name: str
    mel: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class ClassSounds:
    """Real and drawn clips of a class."""

    label: str
    real: Sequence[Sound]
    drawn: Sequence[Sound]


@dataclass(frozen=True)
class NearestPair:
    """A drawn clip and the real training clip that the judge finds most like it.

    Their distance is in units of a held-out real clip's mean distance to its nearest training clip.
    """

    label: str
    drawn: Sound
    real: Sound
    distance: float


@dataclass(frozen=True)
class EpochSnapshot:
    """What the same latents give after an epoch, one clip a class: `mels` in dB `[shape=(C, n_mels, num_frames)]`."""

    epoch: int
    mels: np.ndarray


def write_gan_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping[str, Any] | None,
    history: History,
    classes: Sequence[ClassSounds],
    stages: Sequence[EpochSnapshot],
    neighbours: Sequence[NearestPair],
    features: FeatureConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page in full or not at all; parts for which there is nothing are left out.

    Args:
        path: the HTML file; its folder is made.
        title: heading of the page.
        summary: short facts of the run, shown under the title.
        metrics: what `pipeline.gan.evaluate.figures` returns; none before the run is scored.
        history: one entry per epoch, as `pipeline.gan.loop` writes them; not every epoch has `recognised` and `frechet`.
        classes: real and drawn clips of each class, made to sound alike.
        stages: samples of some epochs, the classes in the same order; up to 8 are shown, evenly spread.
        neighbours: drawn clips beside their nearest training clips.
        features: how the spectrograms were made.
        settings: further resolved settings, nested, listed beside those of `features`.
    """
    scale = _scale(classes, stages, neighbours)
    sections = [_class_section(classes, features.mel, scale)] if classes else []
    if classes and stages:
        sections.append(_progress_section(classes, _thinned(stages), scale))
    if metrics is not None:
        sections.append(_judge_section(metrics))
    if metrics is not None or neighbours:
        sections.append(_copy_section(metrics, neighbours, features.mel, scale))
    sections.append(_curve_section(history))
    sections.append(
        Section(
            "Settings",
            page.settings({**(settings or {}), "features": features.to_dict()}, "All resolved settings"),
        )
    )
    headline = _unscored(history) if metrics is None else _headline(metrics)
    page.write_page(path, page.render_page(title, sections, summary, headline))


def _scale(
    classes: Sequence[ClassSounds], stages: Sequence[EpochSnapshot], neighbours: Sequence[NearestPair]
) -> Scale:
    """One scale for all pictures, so that they compare: that of the real clips, for drawn ones may be of any loudness."""
    real = [sound.mel for one in classes for sound in one.real] + [pair.real.mel for pair in neighbours]
    drawn = [sound.mel for one in classes for sound in one.drawn] + [stage.mels for stage in stages]
    return decibel_scale(real or drawn)


def _headline(metrics: Mapping[str, Any]) -> str:
    frechet, nearest = metrics["frechet"], metrics["nearest"]
    verdict = "may be copying" if _copies(metrics) else "no sign of copying"
    return page.cards(
        [
            (
                "Recognised",
                percent(metrics["class_accuracy"]),
                f"of {metrics['clips']:,} drawn clips; of real ones {percent(metrics['class_accuracy_real'])}, the ceiling",
            ),
            (
                "Fréchet distance",
                format_number(round(frechet["generated"], 2)),
                f"lower is better; untrained {format_number(round(frechet['untrained'], 2))}, real clips {format_number(round(frechet['real'], 2))}",
            ),
            (
                "Density",
                f"{metrics['density']:.2f}",
                f"how true to life the clips are; real clips {metrics['real_density']:.2f}",
            ),
            (
                "Coverage",
                percent(metrics["coverage"]),
                f"how much of the variety is there; real clips {percent(metrics['real_coverage'])}",
            ),
            (
                "Nearest training clip",
                f"{nearest['ratio']:.2f}\u202f×",
                f"as far off as it is from a held-out real clip: {verdict}",
            ),
        ]
    )


def _unscored(history: History) -> str:
    """How to get the figures, and what is known without them."""
    how = "<p>Not scored yet: <code>melray evaluate --run RUN</code>, with the folder of this run, adds the figures to this page.</p>"
    best = best_epoch(history)
    if best is None:
        return page.panel(how)
    kept = next(entry for entry in history if entry["epoch"] == best)
    figures = [("Kept", f"epoch {best}", f"of {len(history)}")]
    judge = "by the judge that chose the epoch"
    if kept.get("class_accuracy") is not None:
        figures.append(("Recognised", percent(kept["class_accuracy"]), judge))
    if kept.get("frechet") is not None:
        figures.append(
            ("Fréchet distance", format_number(round(kept["frechet"], 2)), f"{judge}; lower is better")
        )
    return page.cards(figures) + page.panel(how)


def _class_section(classes: Sequence[ClassSounds], mel: MelConfig, scale: Scale) -> Section:
    parts = []
    for one in classes:
        real = [_figure("real", one.label, sound, mel, scale) for sound in one.real]
        drawn = [_figure("drawn", one.label, sound, mel, scale) for sound in one.drawn]
        parts.append(f"<h3>{escape(one.label)}</h3>{_beside(_row(real), _row(drawn))}")
    note = (
        "Real training clips, then drawn ones, all in the same colours. The real ones too are played from their "
        "spectrograms: what sounds different is the generator's doing."
    )
    return Section("Real and drawn, class by class", color_bar(scale) + "".join(parts), note)


def _figure(kind: str, label: str, sound: Sound, mel: MelConfig, scale: Scale) -> str:
    """A clip's spectrogram with its player; `kind` is real or drawn."""
    said = f"{kind} {label}: {sound.name}"
    heard = audio_player(sound.samples, mel.sample_rate, f"Sound of {said}")
    return gallery_figure(
        f'<b class="{kind}">{kind}</b>', sound.name, sound.mel, mel, scale, f"Spectrogram of {said}", heard
    )


def _row(figures: Sequence[str]) -> str:
    """Figures side by side; on a narrow screen they scroll, and the players in them take the keyboard there."""
    return f'<div class="gallery row">{"".join(figures)}</div>' if figures else '<p class="note">None.</p>'


def _beside(first: str, second: str) -> str:
    """Two parts, the second twice as wide; one above the other where there is less room."""
    return f'<div class="group"><div>{first}</div><div>{second}</div></div>'


def _thinned(stages: Sequence[EpochSnapshot]) -> list[EpochSnapshot]:
    """The first, the last, and evenly between them, in the order of their epochs."""
    ordered = sorted(stages, key=lambda stage: stage.epoch)
    chosen = np.linspace(0, len(ordered) - 1, min(len(ordered), MAX_STAGES)).round().astype(int)
    return [ordered[i] for i in chosen]


def _progress_section(
    classes: Sequence[ClassSounds], stages: Sequence[EpochSnapshot], scale: Scale
) -> Section:
    rows = []
    for i, one in enumerate(classes):
        pictures = [_small(stage.mels[i], scale, f"{one.label}, epoch {stage.epoch}") for stage in stages]
        real = _small(one.real[0].mel, scale, f"{one.label}, a real clip") if one.real else "–"
        rows.append([escape(one.label), *pictures, real])
    head = ["class", *(f"epoch {stage.epoch}" for stage in stages), "real"]
    body = page.table(head, rows, "One clip of each class by epoch, and a real one to compare", "strip")
    note = "What the averaged generator makes of the same latents as it learns; time runs to the right, frequency upwards."
    return Section("Progress", page.panel(color_bar(scale) + body), note)


def _small(mel: np.ndarray, scale: Scale, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="{spectrogram_data_uri(mel, scale, SMALL_PICTURE)}">'


def _judge_section(metrics: Mapping[str, Any]) -> Section:
    per_class = metrics["per_class"]
    names = [entry["name"] for entry in per_class]
    rows = []
    for entry in sorted(
        per_class, key=lambda entry: (entry["class_accuracy"], entry["confidence"], entry["name"])
    ):
        ratios = [page.bar(entry[key]) for key in ("class_accuracy", "confidence")]
        taken = "–" if entry["most_confused_with"] is None else escape(entry["most_confused_with"])
        rows.append([escape(entry["name"]), *ratios, taken, f"{entry['clips']:,}"])
    head = ["class", "class accuracy", "confidence", "most often taken for", "clips#"]
    scores = page.table(head, rows, "Drawn clips by class, the least recognised first")
    note = (
        "A classifier of the real clips, which had no part in the training, listens to the drawn ones. Each row holds the clips drawn "
        f"for one class; {COLOR_NOTE}. Confidence is the mean probability of the class asked for."
    )
    if worst := top_confusions(metrics["confusion"], names):
        note += f" Most frequent: {worst}."
    chart = confusion_chart(metrics["confusion"], names, "asked for", "heard as")
    return Section("What the judge hears", page.panel(chart) + page.panel(scores), note)


def _copies(metrics: Mapping[str, Any]) -> bool:
    """Whether drawn clips lie closer to training clips than chance brings real ones."""
    limit = max(COPIED_PART, 3 / metrics["frechet"]["held_out_clips"])
    return (
        metrics["nearest"]["copies"] > limit * metrics["clips"] or metrics["nearest"]["ratio"] < COPIED_RATIO
    )


def _copies_in_words(metrics: Mapping[str, Any]) -> str:
    nearest = metrics["nearest"]
    verdict = "This may be copying" if _copies(metrics) else "This shows no sign of copying"
    return (
        f"{verdict}: the judge finds a drawn clip {nearest['generated']:.3g} away from its nearest training clip on average, and a "
        f"held-out real clip {nearest['held_out']:.3g}. Of {metrics['clips']:,} drawn clips {nearest['copies']:,} lie closer to a "
        f"training clip than 99\u202f% of the {metrics['frechet']['held_out_clips']:,} held-out clips do; of real ones, 1\u202f% would."
    )


def _copy_section(
    metrics: Mapping[str, Any] | None, neighbours: Sequence[NearestPair], mel: MelConfig, scale: Scale
) -> Section:
    note = "Does the generator only repeat what it learnt from? Drawn clips beside the training clips most like them, the closest first."
    parts = [] if metrics is None else [page.panel(f"<p>{escape(_copies_in_words(metrics))}</p>")]
    for pair in sorted(neighbours, key=lambda pair: pair.distance):
        words = (
            f'<h3>{escape(pair.label)}</h3><p class="big">{pair.distance:.2f}\u202f×</p>'
            '<p class="note">the usual distance of a real clip from its nearest training clip</p>'
        )
        figures = [
            _figure("drawn", pair.label, pair.drawn, mel, scale),
            _figure("real", pair.label, pair.real, mel, scale),
        ]
        parts.append(_beside(words, _row(figures)))
    return Section("Copies?", "".join(parts), note)


def _curve_section(history: History) -> Section:
    best = best_epoch(history)

    def chart(
        title: str,
        y_text: Callable[[float], str] = format_number,
        y_range: tuple[float, float] | None = None,
        **names: str,
    ) -> str:
        found = lines(history, **names)
        return line_chart(title, found, "epoch", y_text, y_range, best) if found else ""

    charts = [
        chart("Losses", discriminator_loss="discriminator", generator_loss="generator"),
        chart("Scores", real_score="real clips", fake_score="drawn clips"),
        chart("Fréchet distance", frechet="Fréchet distance"),
        chart("Class accuracy", lambda value: percent(value, 0), (0.0, 1.0), class_accuracy="class accuracy"),
        chart("Diversity", diversity="diversity", augment_p="augmentation"),
        chart("Learning rate", learning_rate="learning rate"),
    ]
    note = describe_epochs(history)
    note += "." if best is None else f"; the dashed upright line marks the one kept, epoch {best}."
    if not any(charts):
        return Section("Training curves", "", note)
    note += " Diversity is that within a class, as part of the real clips'; augmentation is the chance of a change before the discriminator looks."
    if lines(history, frechet=""):
        note += " Fréchet distance and recognition are by the judge that chooses the epoch, which is not the final one."
    return Section(
        "Training curves",
        page.panel(f'<div class="charts">{"".join(charts)}</div>') + _collapses(history),
        note,
    )


def _collapses(history: History) -> str:
    """What went wrong on the way, a sentence each."""
    found = [entry["collapse"] for entry in history if entry.get("collapse")]
    if not found:
        return ""
    items = "".join(f"<li>{escape(text[:1].upper() + text[1:])}.</li>" for text in found)
    words = (
        "After each collapse the training went back to its last good checkpoint, and on at half the rates."
    )
    return page.panel(f"<p>{words}</p><ul>{items}</ul>")
