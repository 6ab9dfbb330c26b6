import io
import logging

import pytest

from golem_ray import progress
from golem_ray.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_loss_beside_it(monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar("training", 100, "epochs")
    bar.update(10, "loss 2.5000")
    bar.update(100, "loss 0.1250")
    bar.close()
    text = terminal.getvalue()
    assert "training: 100%" in text
    assert "100/100" in text
    assert "loss 0.1250" in text
    assert not caplog.records


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
