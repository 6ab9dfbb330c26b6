import pytest

from golem_ray.data.unusable import allowed, check_unusable
from golem_ray.errors import DataError


def test_bad_clips_are_allowed_up_to_a_share(caplog):
    records = [{"clip": f"clip {row}", "reason": "empty file"} for row in range(29)]
    assert allowed(0.58, 50) == 29
    check_unusable(records, 50, 0.58)
    assert "clips that cannot be used, 29 of 50: clip 0: empty file" in caplog.text
    assert "and 9 more" in caplog.text
    with pytest.raises(DataError, match="at most 28 of 50"):
        check_unusable(records, 50, 0.57)
    check_unusable([], 0, 0.0)
