"""What is tried again on storage that fails, and what is not."""

import pytest

from golem_ray import storage


class Refused(Exception):
    """As an HTTP library has it."""

    status = 404


class Busy(Exception):
    status = 503


def not_found(cause):
    error = FileNotFoundError("s3://bucket/clip")
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were taken, without taking them."""
    taken = []
    monkeypatch.setattr(storage.time, "sleep", taken.append)
    return taken


def failing(error, times):
    """A call that fails so often, and the number of times that it was made."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "content"

    return call, calls


@pytest.mark.parametrize(
    "error", [OSError("reset"), ConnectionError(), TimeoutError(), not_found(Busy()), RuntimeError("a store's own")]
)
def test_what_may_pass_is_tried_again_a_few_times_and_ever_later(error, pauses):
    call, calls = failing(error, 3)
    assert storage.retried(call) == "content"
    assert len(calls) == 4
    assert 0.1 <= pauses[0] <= 0.3 < 0.5 <= pauses[1] <= 1.5 < 2 <= pauses[2] <= 6
    call, calls = failing(error, 99)
    with pytest.raises(type(error)):
        storage.retried(call)
    assert len(calls) == 4


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), not_found(Refused()), PermissionError(), IsADirectoryError(), ValueError("a URI")]
)
def test_what_will_not_pass_is_not_tried_again(error, pauses):
    call, calls = failing(error, 1)
    with pytest.raises(type(error)):
        storage.retried(call)
    assert (len(calls), pauses) == (1, [])
