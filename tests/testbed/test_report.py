"""Progress lines on a terminal and in a log."""

import re
import sys

import pytest

from process_cosmos_testbed.report import Progress

STAMP = r"demo  \d\d:\d\d:\d\d +\d+\.\d s  "


def test_each_step_is_a_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    Progress("demo").say("phase 1")
    assert re.fullmatch(STAMP + "phase 1\n", capsys.readouterr().out)


def test_a_counter_is_a_line_for_each_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("demo")
    for done in range(1, 11):
        progress.count("leaks", done, 10)
    shown = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"leaks {done} of 10" for done in (2, 4, 6, 8, 10)]


def test_a_counter_overwrites_itself_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress = Progress("demo")
    for done in (1, 2):
        progress.count("leaks", done, 2)
    assert re.fullmatch(f"\r{STAMP}leaks 1 of 2\r{STAMP}leaks 2 of 2\n", capsys.readouterr().out)
