"""How text that others wrote is put into messages."""

import pickle

import pytest

from golem_ray.errors import (
    ConfigError,
    ExampleError,
    StorageError,
    as_storage_errors,
    one_line,
    printable,
    without_credentials,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:PW@host:80/x.wav?X-Amz-Signature=abc", "http://host:80/x.wav"),
        ("https://token@host/x.wav?abc", "https://host/x.wav"),
        ("https://host/x.wav?sig=a'b&token=(PW)#c", "https://host/x.wav"),
        ("s3://key:PW@bucket/x?versionId=3", "s3://bucket/x"),
        ("simplecache::https://u:PW@host/a b.wav?sig=1&t=2", "simplecache::https://host/a b.wav"),
        ("clip 1 (http://u:PW@host/x?a=b): missing", "clip 1 (http://host/x): missing"),
        ("http://host/x.wav?sig=1: expected", "http://host/x.wav: expected"),
        ("404, message='Not Found', url='http://u:PW@host/x?sig=1'", "404, message='Not Found', url='http://host/x'"),
        ("hf://datasets/user/clips@main/x.wav", "hf://datasets/user/clips@main/x.wav"),
        ("abfs://container@account/what?.wav", "abfs://container@account/what?.wav"),
        ("why?name=of@file.wav", "why?name=of@file.wav"),  # a local one
    ],
)
def test_uris_are_shown_without_user_password_and_query(text, shown):
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown
    for kind in (ConfigError, ExampleError):
        assert str(pickle.loads(pickle.dumps(kind(text)))) == shown
    with pytest.raises(StorageError) as found, as_storage_errors():
        raise ValueError(text)
    assert str(found.value) == one_line(ValueError(text)) == shown


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("a\x1b[31m\r\n\x9b\u202e\u2066.wav") == r"a\x1b[31m\r\n\x9b\u202e\u2066.wav"
    assert printable("naïve 東京 עברית.wav") == "naïve 東京 עברית.wav"
