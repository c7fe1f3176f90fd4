"""Pictures of many spectrograms: any shape, any name, the same each time, and moving."""

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


def some_mels(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=shape) * 20 - 40).astype(np.float32)


def picture(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image


def light(png: bytes) -> np.ndarray:
    return np.asarray(picture(png).convert("L"), np.int32)


@pytest.fixture
def no_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where matplotlib takes a text for a formula."""

    def refuse(self: object, text: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{text!r} is taken for a formula")

    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", refuse)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 16, 20), (10, 4, 16, 20), (1, 5, 16, 20), (2, 2, 5, 3), (1, 1, 1, 1), (2, 1, 128, 216)],
    ids=str,
)
def test_any_number_of_spectrograms_of_any_shape_makes_a_picture(shape: tuple[int, ...]) -> None:
    assert len(picture(grid(some_mels(*shape))).convert("RGB").getcolors(1 << 20)) > 5
    assert picture(spectrogram_png(some_mels(*shape)[0, 0], MelConfig(n_mels=shape[2]), "dog"))


def test_more_rows_and_columns_make_a_larger_picture() -> None:
    small, wide, high = (picture(grid(some_mels(*shape, 8, 10))).size for shape in ((1, 1), (1, 2), (3, 1)))
    assert wide[0] > small[0] and wide[1] == small[1]
    assert high[1] > small[1] and high[0] == small[0]


def test_the_same_spectrograms_make_the_same_bytes() -> None:
    mels = some_mels(2, 1, 16, 20)
    first = grid(mels)
    assert grid(mels.copy()) == grid(mels.astype(np.float64)) == first
    assert grid(mels, ["class 0", "another"]) != first
    assert grid(mels, title="epoch 2") != first
    assert spectrogram_png(mels[0, 0], MelConfig(n_mels=16), "dog") == spectrogram_png(
        mels[0, 0], MelConfig(n_mels=16), "dog"
    )


def test_louder_is_lighter_and_nowhere_darker() -> None:
    quiet = np.full((2, 2, 8, 10), -60.0)
    before = light(grid(quiet))
    for cell in ((0, 1), (1, 0)):
        loud = quiet.copy()
        loud[cell] = -20.0
        change = light(grid(loud)) - before
        assert change.min() == 0 and change.max() > 50
        y, x = (places.mean() for places in np.nonzero(change))
        assert (y > before.shape[0] / 2, x > before.shape[1] / 2) == (cell[0] == 1, cell[1] == 1)


def test_low_bands_lie_below_and_time_goes_to_the_right() -> None:
    def place(band: slice, frame: slice) -> tuple[float, float]:
        mel = np.full((1, 1, 8, 10), -60.0)
        mel[0, 0, band, frame] = -10.0
        y, x = np.nonzero(light(grid(mel)) - light(grid(np.full((1, 1, 8, 10), -60.0))))
        return y.mean(), x.mean()

    whole = slice(None)
    assert place(slice(0, 2), whole)[0] > place(slice(6, 8), whole)[0] + 20
    assert place(whole, slice(0, 2))[1] < place(whole, slice(8, 10))[1] - 50


def test_one_scale_holds_for_all_and_what_is_beyond_has_its_end() -> None:
    mels = some_mels(1, 2, 8, 10)
    mels[0, 0, 0, 0], mels[0, 1, 0, 0] = SCALE
    beyond = mels.copy()
    beyond[0, 0, 0, 0], beyond[0, 1, 0, 0] = -500.0, 500.0
    assert grid(beyond) == grid(mels)
    assert grid(mels + 10) != grid(mels)


def test_values_that_are_no_numbers_make_a_picture_too() -> None:
    mels = some_mels(2, 2, 8, 10)
    mels[0, 0], mels[1, 1, 3] = np.nan, -np.inf
    assert picture(grid(mels))


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout not applied")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_name_breaks_a_picture_or_is_a_formula(name: str, no_formulas: None) -> None:
    assert picture(grid(some_mels(2, 1, 8, 10), [name, "dog"]))
    assert picture(spectrogram_png(some_mels(8, 10), MelConfig(n_mels=8), name))


@pytest.mark.parametrize("title", ["$a$", "$\\frac{$"])
def test_no_title_breaks_a_grid_or_is_a_formula(title: str, no_formulas: None) -> None:
    assert picture(grid(some_mels(1, 1, 8, 10), title=title))


def test_the_finder_of_formulas_finds_them(no_formulas: None) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0, 0, "$a$")
    with pytest.raises(AssertionError, match="taken for a formula"):
        FigureCanvasAgg(figure).draw()


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., list[Path]]:
    """Makes files of grey pictures, each with a bar at a place of its own."""

    def make(*places: int, size: tuple[int, int] = (120, 80)) -> list[Path]:
        paths = []
        for number, place in enumerate(places):
            image = Image.new("RGB", size, "grey")
            image.paste("white", (10 * place, 10, 10 * place + 8, 60))
            image.save(path := tmp_path / f"{number}.png")
            paths.append(path)
        return paths

    return make


def times(path: Path) -> list[int]:
    """How long each frame of an animation stands, in milliseconds."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        found = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            found.append(image.info["duration"])
        return found


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_animation_has_as_many_frames_as_there_are_pictures_and_rests_on_the_last(
    count: int, pictures: Callable[..., list[Path]], tmp_path: Path
) -> None:
    write_animation(tmp_path / "progress.gif", pictures(*range(count)))
    found = times(tmp_path / "progress.gif")
    assert len(found) == count and len(set(found[:-1])) <= 1
    assert all(found[-1] > other for other in found[:-1])


def test_frames_are_the_pictures_in_their_order(pictures: Callable[..., list[Path]], tmp_path: Path) -> None:
    places = [4, 0, 9, 2]
    write_animation(tmp_path / "progress.gif", pictures(*places))
    with Image.open(tmp_path / "progress.gif") as image:
        assert image.size == (120, 80) and image.info["loop"] == 0
        for frame, place in enumerate(places):
            image.seek(frame)
            brightest = np.asarray(image.convert("L"), float)[30].reshape(12, 10).mean(axis=1).argmax()
            assert brightest == place


def test_grids_of_epochs_become_frames(tmp_path: Path) -> None:
    """Also where nothing but the title changes."""
    for epoch in range(3):
        (tmp_path / f"{epoch}.png").write_bytes(grid(some_mels(1, 2, 8, 10), title=f"epoch {epoch}"))
    write_animation(tmp_path / "progress.gif", [tmp_path / f"{epoch}.png" for epoch in range(3)])
    assert len(times(tmp_path / "progress.gif")) == 3


def test_equal_pictures_stand_as_long_as_different_ones(
    pictures: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """Pillow joins them into one frame; its time is theirs."""
    write_animation(tmp_path / "a.gif", pictures(0, 1, 2, 3))
    write_animation(tmp_path / "b.gif", pictures(0, 1, 1, 3))
    assert sum(times(tmp_path / "a.gif")) == sum(times(tmp_path / "b.gif"))


def test_wide_pictures_are_made_smaller_and_keep_their_form(
    pictures: Callable[..., list[Path]], tmp_path: Path
) -> None:
    write_animation(tmp_path / "wide.gif", pictures(0, 1, size=(3 * MAX_WIDTH, 300)))
    with Image.open(tmp_path / "wide.gif") as image:
        assert image.size == (MAX_WIDTH, 100)
