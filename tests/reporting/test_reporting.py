"""How far the work is, and what was measured."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest

from keras_robust_prune.evaluation.results import Evaluation, Measure
from keras_robust_prune.reporting import progress as module
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO, monkeypatch: pytest.MonkeyPatch, delay: float, verbose: int = 1) -> str:
    """What 200 parts write that take no time, with the delays shortened to `delay` seconds."""
    monkeypatch.setattr(module, "DELAY", delay)
    monkeypatch.setattr(module, "BETWEEN_LINES", delay)
    with Progress("repair", 200, verbose, out) as progress:
        for _ in range(200):
            progress.update()
    return out.getvalue()


def test_a_line_moves_in_a_terminal_and_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), monkeypatch, 0.0)
    assert "\n" not in text
    assert "repair:   0%" in text
    assert text.rsplit("\r", 1)[1].strip() == ""


def test_lines_in_a_pipe_are_whole_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(io.StringIO(), monkeypatch, 0.0)
    assert "\r" not in text
    assert all(line.startswith("repair: ") for line in text.splitlines())
    assert 1 <= len(text.splitlines()) <= 201
    assert shown(io.StringIO(), monkeypatch, 60.0) == ""


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_stage_within_another_takes_its_line_and_says_both(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = kind()
    monkeypatch.setattr(module, "DELAY", 0.0)
    monkeypatch.setattr(module, "BETWEEN_LINES", 0.0)
    with Progress("pruning, step", 2, 1, out) as outer:
        outer.update()
        for _ in range(2):
            shown(out, monkeypatch, 0.0)
        text = out.getvalue()
    shares = [int(share) for share in re.findall(r"pruning, step 2 of 2, repair: +(\d+)%, ", text)]
    assert shares[0] == 50  # of the whole, of which one of two steps is done
    assert shares == sorted(shares)
    assert len(shares) >= 2
    assert not re.search(r"(^|\r)repair:", text, re.MULTILINE)
    assert "\x1b" not in text
    assert ("\n" in text) == (kind is io.StringIO)


def test_share_and_time_left_follow_from_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages of 30 and 60 seconds, of which the first takes 30 and the second is at half after 15."""
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    out = Terminal()
    with Progress("pruning", 1, 1, out) as whole:
        Progress.expect([("inputs", 30.0), ("left out", 99.0), ("distillation", 60.0)])
        with Progress("inputs", 10, 1, out) as stage:
            assert str(stage) == "pruning, inputs:   0%, 03:09 left"
            now += 30
            stage.update(10)
            assert str(stage) == "pruning, inputs:  16%, 02:39 left"
        with Progress("distillation", 10, 1, out) as stage:
            assert str(stage) == "pruning, distillation:  33%, 01:00 left"
            now += 15
            stage.update(5)
            assert str(stage) == "pruning, distillation:  75%, 00:15 left"  # by its own pace
            now += 45
            assert str(stage) == "pruning, distillation:  75%, 01:00 left"  # a share never falls
        assert whole.share == 0.75


def test_lines_that_stay_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(module.Lines, "written", time.monotonic())
    with Progress("pruning, step", 3, 1, out) as progress:
        assert not progress.say("step 1")
        assert progress.say("step 2", always=True)
        monkeypatch.setattr(module.Lines, "written", time.monotonic() - module.BETWEEN_LINES)
        assert progress.say("step 3")
        assert not progress.say("step 4")
    assert out.getvalue() == "step 2\nstep 3\n"
    with Progress("pruning, step", 3, 0, out) as silent:
        assert not silent.say("step 5", always=True)


@pytest.mark.parametrize("out", [Terminal(), io.StringIO()])
def test_short_work_and_silence_write_nothing(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(out, monkeypatch, 60.0) == ""
    assert shown(out, monkeypatch, 0.0, verbose=0) == ""


def test_a_share_is_a_measurement() -> None:
    measure = Measure("class", "attack", "pgd@0.1", np.array([True] * 8 + [False] * 2))
    (found,) = Evaluation("toy", 10, (measure,)).measurements
    assert (found.name, found.number, found.num_samples) == ("pgd@0.1", 0.8, 10)
    assert found.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's, of 8 in 10
    assert found.to_dict()["measured_on"] == "toy"
    with pytest.raises(ValueError, match="outside of its interval"):
        Measurement("accuracy", 0.5, 0.6, 0.7)
