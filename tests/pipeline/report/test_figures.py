"""Images of spectrograms: any shape and name, reproducible bytes, and the training animation."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.audio.mel import MelConfig
from pipeline.report.figures import MAX_WIDTH, spectrogram_grid_png, spectrogram_png, write_animation

SCALE = (-80.0, 0.0)
NAMES = [
    "$a$",
    "$\\frac{$",
    "5 $ or 6 $",
    "a\nb",
    "",
    " ",
    "x" * 300,
    *r"$ a_b^c \alpha %s{0} <b>&amp; süß 🐕 狗".split(),
]


def grid(mels: np.ndarray, names: list[str] | None = None, title: str = "epoch 1") -> bytes:
    config = MelConfig(n_mels=mels.shape[2])
    return spectrogram_grid_png(mels, names or [f"class {i}" for i in range(len(mels))], config, SCALE, title)


def random_mels(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=shape) * 20 - 40).astype(np.float32)


def decode(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image


def lightness(png: bytes) -> np.ndarray:
    return np.asarray(decode(png).convert("L"), np.int32)


@pytest.fixture
def no_mathtext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if matplotlib parses a text as a formula."""

    def fail(self: object, text: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{text!r} is parsed as a formula")

    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", fail)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 16, 20), (10, 4, 16, 20), (1, 5, 16, 20), (2, 2, 5, 3), (1, 1, 1, 1), (2, 1, 128, 216)],
    ids=str,
)
def test_any_shape_makes_an_image(shape: tuple[int, ...]) -> None:
    assert len(decode(grid(random_mels(*shape))).convert("RGB").getcolors(1 << 20)) > 5
    assert decode(spectrogram_png(random_mels(*shape)[0, 0], MelConfig(n_mels=shape[2]), "dog"))


def test_more_rows_and_columns_make_larger_images() -> None:
    small, wide, high = (decode(grid(random_mels(*shape, 8, 10))).size for shape in ((1, 1), (1, 2), (3, 1)))
    assert wide[0] > small[0] and wide[1] == small[1]
    assert high[1] > small[1] and high[0] == small[0]


def test_same_spectrograms_make_identical_bytes() -> None:
    mels = random_mels(2, 1, 16, 20)
    first = grid(mels)
    assert grid(mels.copy()) == grid(mels.astype(np.float64)) == first
    assert grid(mels, ["class 0", "another"]) != first
    assert grid(mels, title="epoch 2") != first
    assert spectrogram_png(mels[0, 0], MelConfig(n_mels=16), "dog") == spectrogram_png(
        mels[0, 0], MelConfig(n_mels=16), "dog"
    )


def test_louder_cells_are_lighter_in_their_position() -> None:
    quiet = np.full((2, 2, 8, 10), -60.0)
    before = lightness(grid(quiet))
    for cell in ((0, 1), (1, 0)):
        loud = quiet.copy()
        loud[cell] = -20.0
        change = lightness(grid(loud)) - before
        assert change.min() == 0 and change.max() > 50
        y, x = (indices.mean() for indices in np.nonzero(change))
        assert (y > before.shape[0] / 2, x > before.shape[1] / 2) == (cell[0] == 1, cell[1] == 1)


def test_low_bands_are_below_and_time_is_rightward() -> None:
    def center(band: slice, frame: slice) -> tuple[float, float]:
        """Return the mean y and x of the pixels that change with a loud band or frame."""
        mel = np.full((1, 1, 8, 10), -60.0)
        mel[0, 0, band, frame] = -10.0
        y, x = np.nonzero(lightness(grid(mel)) - lightness(grid(np.full((1, 1, 8, 10), -60.0))))
        return y.mean(), x.mean()

    everything = slice(None)
    assert center(slice(0, 2), everything)[0] > center(slice(6, 8), everything)[0] + 20
    assert center(everything, slice(0, 2))[1] < center(everything, slice(8, 10))[1] - 50


def test_all_cells_share_a_scale_that_clips_values() -> None:
    mels = random_mels(1, 2, 8, 10)
    mels[0, 0, 0, 0], mels[0, 1, 0, 0] = SCALE
    beyond = mels.copy()
    beyond[0, 0, 0, 0], beyond[0, 1, 0, 0] = -500.0, 500.0
    assert grid(beyond) == grid(mels)
    assert grid(mels + 10) != grid(mels)


def test_values_that_are_not_finite_make_an_image() -> None:
    mels = random_mels(2, 2, 8, 10)
    mels[0, 0], mels[1, 1, 3] = np.nan, -np.inf
    assert decode(grid(mels))


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_not_parsed_as_formulas(name: str, no_mathtext: None) -> None:
    assert decode(grid(random_mels(2, 1, 8, 10), [name, "dog"]))
    assert decode(spectrogram_png(random_mels(8, 10), MelConfig(n_mels=8), name))


@pytest.mark.parametrize("title", ["$a$", "$\\frac{$"])
def test_titles_are_not_parsed_as_formulas(title: str, no_mathtext: None) -> None:
    assert decode(grid(random_mels(1, 1, 8, 10), title=title))


def test_fixture_detects_formulas(no_mathtext: None) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0, 0, "$a$")
    with pytest.raises(AssertionError, match="parsed as a formula"):
        FigureCanvasAgg(figure).draw()


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Return a function that writes gray images, each with a white bar at a position."""

    def make(*positions: int, size: tuple[int, int] = (120, 80)) -> list[Path]:
        paths = []
        for number, position in enumerate(positions):
            image = Image.new("RGB", size, "gray")
            image.paste("white", (10 * position, 10, 10 * position + 8, 60))
            image.save(path := tmp_path / f"{number}.png")
            paths.append(path)
        return paths

    return make


def frame_durations(path: Path) -> list[int]:
    """Return the duration of each frame of an animation in milliseconds."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        durations = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            durations.append(image.info["duration"])
        return durations


@pytest.mark.parametrize("count", [1, 2, 7])
def test_animation_has_all_frames_and_lingers_on_the_last(
    count: int, make_images: Callable[..., list[Path]], tmp_path: Path
) -> None:
    write_animation(tmp_path / "progress.gif", make_images(*range(count)))
    durations = frame_durations(tmp_path / "progress.gif")
    assert len(durations) == count and len(set(durations[:-1])) <= 1
    assert all(durations[-1] > other for other in durations[:-1])


def test_frames_are_the_images_in_order(make_images: Callable[..., list[Path]], tmp_path: Path) -> None:
    positions = [4, 0, 9, 2]
    write_animation(tmp_path / "progress.gif", make_images(*positions))
    with Image.open(tmp_path / "progress.gif") as image:
        assert image.size == (120, 80) and image.info["loop"] == 0
        for frame, position in enumerate(positions):
            image.seek(frame)
            brightest = np.asarray(image.convert("L"), float)[30].reshape(12, 10).mean(axis=1).argmax()
            assert brightest == position


def test_grids_that_differ_in_title_become_frames(tmp_path: Path) -> None:
    for epoch in range(3):
        (tmp_path / f"{epoch}.png").write_bytes(grid(random_mels(1, 2, 8, 10), title=f"epoch {epoch}"))
    write_animation(tmp_path / "progress.gif", [tmp_path / f"{epoch}.png" for epoch in range(3)])
    assert len(frame_durations(tmp_path / "progress.gif")) == 3


def test_equal_images_keep_the_total_duration(make_images: Callable[..., list[Path]], tmp_path: Path) -> None:
    """Pillow merges equal frames into one with the sum of their durations."""
    write_animation(tmp_path / "a.gif", make_images(0, 1, 2, 3))
    write_animation(tmp_path / "b.gif", make_images(0, 1, 1, 3))
    assert sum(frame_durations(tmp_path / "a.gif")) == sum(frame_durations(tmp_path / "b.gif"))


def test_wide_images_shrink_and_keep_their_aspect_ratio(
    make_images: Callable[..., list[Path]], tmp_path: Path
) -> None:
    write_animation(tmp_path / "wide.gif", make_images(0, 1, size=(3 * MAX_WIDTH, 300)))
    with Image.open(tmp_path / "wide.gif") as image:
        assert image.size == (MAX_WIDTH, 100)
