import pytest

from golem_ray.config import NOUNS
from golem_ray.data.unusable import allowed, check_unusable, name_remarked
from golem_ray.errors import DataError


def test_bad_clips_are_allowed_up_to_a_share(caplog):
    records = [{"clip": f"clip {row}", "reason": "empty file"} for row in range(29)]
    assert allowed(0.58, 50) == 29
    check_unusable(records, 50, 0.58, NOUNS["speech"])
    assert "clips that cannot be used, 29 of 50: clip 0: empty file" in caplog.text
    assert "and 9 more" in caplog.text
    with pytest.raises(DataError, match="at most 28 of 50"):
        check_unusable(records, 50, 0.57, NOUNS["speech"])
    check_unusable([], 0, 0.0, NOUNS["speech"])


def test_texts_are_called_texts(caplog):
    records = [{"clip": "text 0", "reason": "empty"}]
    check_unusable(records, 5, 0.2, NOUNS["text"])
    name_remarked({3: "odd"}, lambda row: f"text {row}", 5, NOUNS["text"])
    assert caplog.messages == ["texts that cannot be used, 1 of 5: text 0: empty", "texts that are odd, 1 of 5: text 3"]
    with pytest.raises(DataError, match="at most 0 of 5 texts to be unusable"):
        check_unusable(records, 5, 0.0, NOUNS["text"])
