"""Tests of console output: log messages, progress and live displays, on a terminal and elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from pipeline.io import console as module
from pipeline.io.console import LiveDisplay, Progress, duration, logger, setup_logging, shows_progress
from pipeline.io.errors import UserError
from tests.helpers.processes import wait_until


class Clock:
    """Clock that tests advance."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def separate_logger(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Undo what a command, run earlier in this process, or a test changes in the logger."""
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.INFO)
    caplog.set_level("INFO", logger="melray")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Replace stderr by a text buffer that is not a terminal."""
    return use_console(monkeypatch, terminal=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Replace stderr by a terminal that writes to a text buffer."""
    return use_console(monkeypatch, terminal=True)


def use_console(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> StringIO:
    file = StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, highlight=False, soft_wrap=True)
    monkeypatch.setattr(module, "console", console)
    return file


class TestLogging:
    def test_setup_logging_hides_lower_levels(self, output: StringIO) -> None:
        setup_logging("warning")
        logger.info("resuming from epoch 3")
        logger.warning("disk almost full")
        logger.error("no such file")
        assert output.getvalue() == "warning: disk almost full\nerror: no such file\n"

    def test_setup_logging_twice_logs_each_message_once(self, output: StringIO) -> None:
        setup_logging("error")
        setup_logging("debug")
        logger.debug("20 clips")
        logger.info("[bold] is not markup")
        assert output.getvalue() == "20 clips\n[bold] is not markup\n"

    def test_long_message_stays_on_one_line(self, output: StringIO) -> None:
        setup_logging()
        logger.info("x" * 300)
        assert output.getvalue() == "x" * 300 + "\n"

    @pytest.mark.parametrize(("level", "expected"), [("info", True), ("debug", True), ("warning", False)])
    def test_shows_progress_depends_on_level(
        self, level: module.LogLevel, expected: bool, terminal: StringIO
    ) -> None:
        setup_logging(level)
        assert shows_progress() is expected


class TestProgress:
    def test_line_has_counts_rate_and_time_left(self, output: StringIO, clock: Clock) -> None:
        progress = Progress("extracting", 4000, "clips")
        for _ in range(2):
            clock.now += 5
            progress.add(750)
        assert progress.line() == "extracting: 1,500 of 4,000 clips, 150 clips/s, 17 s left"
        assert progress.line("3 rejected").endswith("left, 3 rejected")

    def test_resumed_units_do_not_count_for_the_rate(self, output: StringIO, clock: Clock) -> None:
        progress = Progress("extracting", 400, "clips", done=300)
        for _ in range(2):
            clock.now += 2
            progress.add(30)
        assert (progress.done, progress.rate) == (360, 15.0)

    def test_first_result_gives_no_estimate(self, output: StringIO, clock: Clock) -> None:
        progress = Progress("extracting", 4000, "clips")
        assert progress.line() == "extracting: 0 of 4,000 clips"
        clock.now += 10
        progress.add(100)
        assert progress.line("3 rejected") == "extracting: 100 of 4,000 clips, 3 rejected"

    @pytest.mark.parametrize("workers", [1, 4, 32])
    @pytest.mark.parametrize("start_s", [0.0, 3.0, 30.0])
    def test_estimates_are_right_from_the_first(
        self, workers: int, start_s: float, output: StringIO, clock: Clock
    ) -> None:
        """Workers start within `start_s` to `start_s + 1` seconds; each then finishes a unit every 4 s."""
        begin, units = clock.now, 40 * workers
        times = sorted(begin + start_s + i % workers / workers + 4 * (i // workers + 1) for i in range(units))
        progress = Progress("extracting", units, "units")
        for now in times[:-1]:
            clock.now = now
            progress.add(1)
            if (rate := progress.rate) is not None:
                left = (progress.total - progress.done) / rate
                assert left == pytest.approx(times[-1] - now, rel=0.5, abs=5)
        assert progress.rate is not None

    def test_finished_work_has_no_speed(
        self, output: StringIO, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        Progress("extracting", 151, "clips", done=151).finish()
        progress = Progress("extracting", 151, "clips")
        clock.now += 0.02
        progress.add(151)
        progress.finish()
        assert caplog.messages == [
            "extracting: 151 clips already finished",
            "extracting: 151 clips in 0.0 s",
        ]

    def test_log_lines_are_limited_in_frequency(
        self, output: StringIO, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        progress = Progress("predicting", 100, "files")
        for _ in range(100):
            clock.now += module.PROGRESS_S / 20
            progress.add(1)
        counts = [message.split()[1] for message in caplog.messages]
        assert counts == ["20", "40", "60", "80", "100"]

    def test_finish_logs_total_time_and_note(
        self, output: StringIO, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        progress = Progress("extracting", 4000, "clips", done=1000)
        clock.now += 20
        progress.add(3000)
        caplog.clear()
        progress.finish("2 rejected")
        assert caplog.messages == [
            "extracting: 4,000 clips (1,000 of them earlier) in 20 s (150 clips/s), 2 rejected"
        ]

    def test_terminal_shows_a_bar_instead_of_lines(self, terminal: StringIO, clock: Clock) -> None:
        setup_logging()
        with Progress("extracting", 160, "clips") as progress:
            for _ in range(4):
                clock.now += module.PROGRESS_S
                progress.add(40, "1 rejected")
            progress.finish()
        text = terminal.getvalue()
        for part in ("━", "160/160", "8.0 clips/s, 0.0 s left, 1 rejected"):
            assert part in text
        assert "extracting: 160 clips in 20 s (8.0 clips/s)" in text

    def test_bar_is_removed_when_work_fails(self, terminal: StringIO, clock: Clock) -> None:
        setup_logging()
        stdout = sys.stdout
        with pytest.raises(RuntimeError), Progress("extracting", 160, "clips") as progress:
            progress.add(40)
            raise RuntimeError
        assert "\x1b[?25h" in terminal.getvalue()  # shows the cursor again
        assert sys.stdout is stdout

    def test_quiet_level_shows_nothing(self, terminal: StringIO, clock: Clock) -> None:
        setup_logging("warning")
        progress = Progress("extracting", 2, "clips")
        clock.now += 2 * module.PROGRESS_S
        progress.add(2)
        progress.finish()
        assert terminal.getvalue() == ""


class EpochDisplay(LiveDisplay):
    """Logs each appended event once."""

    def __init__(self) -> None:
        super().__init__(interval_s=0.001)
        self.events: list[str] = []
        self.updates = 0

    def _log_events(self) -> bool:
        self.updates += 1
        events, self.events = self.events, []
        for event in events:
            logger.info("%s", event)
        return bool(events)

    def _log_heartbeat(self) -> None:
        logger.info("still running")

    def _render(self) -> Text:
        return Text("epoch 2 of 10")


def wait_for_updates(display: EpochDisplay) -> None:
    """Wait until the display has completed an update that began after this call."""
    updates = display.updates
    wait_until(lambda: display.updates >= updates + 2, 10)


class TestLiveDisplay:
    def test_events_are_logged_once_and_at_the_end(
        self, output: StringIO, caplog: pytest.LogCaptureFixture
    ) -> None:
        with EpochDisplay() as display:
            display.events.append("epoch 1")
            wait_for_updates(display)
            assert caplog.messages == ["epoch 1"]
            display._stop.set()
            display._thread.join()
            display.events.append("epoch 2")
        assert caplog.messages == ["epoch 1", "epoch 2"]

    def test_heartbeat_follows_a_quiet_period(
        self, output: StringIO, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        with EpochDisplay() as display:
            for _ in range(2):
                clock.now += module.HEARTBEAT_S + 1
                wait_for_updates(display)
            assert caplog.messages == ["still running"] * 2
            clock.now += module.HEARTBEAT_S - 1
            display.events.append("epoch 1")
            wait_for_updates(display)
            clock.now += module.HEARTBEAT_S - 1
            wait_for_updates(display)
        assert caplog.messages == ["still running", "still running", "epoch 1"]

    def test_terminal_renders_state_and_logs_events_above(self, terminal: StringIO) -> None:
        setup_logging()
        with EpochDisplay() as display:
            wait_until(lambda: "epoch 2 of 10" in terminal.getvalue(), 10)
            display.events.append("epoch 1: accuracy 90 %")
            wait_until(lambda: "accuracy" in terminal.getvalue(), 10)
        assert "epoch 1: accuracy 90 %\n" in terminal.getvalue()

    def test_quiet_level_renders_nothing(self, terminal: StringIO) -> None:
        setup_logging("warning")
        with EpochDisplay() as display:
            display.events.append("epoch 1")
            wait_for_updates(display)
        assert terminal.getvalue() == ""

    def test_error_in_the_block_stops_the_display(self, output: StringIO) -> None:
        with pytest.raises(KeyboardInterrupt), EpochDisplay() as display:
            raise KeyboardInterrupt
        assert not display._thread.is_alive()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (4.04, "4.0 s"),
        (12.6, "13 s"),
        (60.0, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (3600.0, "1 h 0 min"),
        (7530.0, "2 h 5 min"),
    ],
)
def test_duration_uses_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text

    @pytest.mark.parametrize("part", ["_log_events", "_render", "_log_heartbeat"])
    @pytest.mark.parametrize("error", [KeyError("train_loss"), UserError("damaged"), OSError("gone")])
    @pytest.mark.parametrize("screen", ["output", "terminal"])
    def test_display_error_does_not_end_the_work(
        self,
        part: str,
        error: Exception,
        screen: str,
        request: pytest.FixtureRequest,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        request.getfixturevalue(screen)
        display = EpochDisplay()

        def fail() -> None:
            raise error

        setattr(display, part, fail)
        with display:
            clock.now += 2 * module.HEARTBEAT_S
            result = "trained"
            time.sleep(0.02)
        assert result == "trained"
        assert not display._thread.is_alive()
        warnings = [text for text in caplog.messages if text.startswith("progress cannot be shown")]
        assert len(warnings) <= 1
        if part == "_log_events":
            assert warnings[0].startswith(f"progress cannot be shown ({type(error).__name__}: ")

    def test_hanging_display_does_not_hang_the_work(
        self, output: StringIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "DISPLAY_TIMEOUT_S", 0.05)
        display, end = EpochDisplay(), threading.Event()
        monkeypatch.setattr(display, "_log_events", lambda: end.wait(10))
        with display:
            time.sleep(0.02)
        assert display._thread.is_alive()
        end.set()


def test_lost_stderr_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    file = StringIO()
    monkeypatch.setattr(module, "console", Console(file=file))
    setup_logging()
    file.close()
    logger.warning("this line is lost")
