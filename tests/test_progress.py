import io
import logging
import time

import pytest

from golem_ray import progress
from golem_ray.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_loss_beside_it(monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "_SHOWN_AFTER_S", 0)
    bar = ProgressBar("training", 100, "epochs")
    bar.update(10, "loss 2.5000")
    bar.update(100, "loss 0.1250")
    bar.close()
    text = terminal.getvalue()
    assert "training: 100%" in text
    assert "100/100" in text
    assert "loss 0.1250" in text
    assert not caplog.records


def test_what_is_done_at_once_shows_no_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar("training", 100, "epochs")
    bar.update(100)
    bar.close()
    assert terminal.getvalue() == ""


def test_what_takes_long_is_said_while_it_is_waited_for(caplog):
    caplog.set_level(logging.INFO, logger="golem_ray")
    with progress.waiting_for("what is there at once"):
        pass
    with progress.waiting_for("the moon", after_s=0.01):
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        assert caplog.messages == ["waiting for the moon"]
    assert len(caplog.records) == 1


def test_without_a_terminal_there_are_few_plain_lines(monkeypatch, caplog):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    caplog.set_level(logging.INFO, logger="golem_ray")
    bar = ProgressBar("embedding", 100, "clips")
    for done in range(1, 101):
        now += 0.2  # 20 s in all
        bar.update(done, "1 bad")
    bar.close()
    lines = [record.message for record in caplog.records]
    assert lines[0] == "embedding: 25 of 100 clips, 1 bad, 5 a second, 15 s to go"
    assert lines[-1] == "embedding: 100 of 100 clips, 1 bad, in 20 s"
    assert 4 <= len(lines) <= 5
    assert all("embedding: " in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (125, "2 min"), (5940, "99 min"), (12240, "3.4 h")]
)
def test_durations_are_in_a_unit_that_fits(seconds, words):
    assert progress._duration(seconds) == words
