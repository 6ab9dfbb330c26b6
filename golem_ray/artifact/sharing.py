"""An artifact in a repository of the Hugging Face Hub: fetched from one, or pushed to one in a single commit.

Does not know what the files say, nor which files there are: jobs/push.py does.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from golem_ray import hub
from golem_ray.errors import ConfigError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

WEIGHTS = "voice_classifier_knowledge.pth"
"""What the weights are called in a repository."""

SIDECAR = "voice_classifier_knowledge.json"
"""What the sidecar is called in a repository."""

JOINED = "voice_classifier_knowledge.joined.npz"
"""What the file is called there with what is joined to the encoder's vectors."""

_KEY = "artifact"

_INSTEAD = "give the path of a .pth file"


class Fetched(NamedTuple):
    """An artifact from a repository."""

    place: str
    weights: bytes
    """The .pth file."""
    sidecar: bytes
    """The .json file."""
    read: Callable[[str], bytes]
    """Reads another file of that commit, from its place. Raises ConfigError if that fails."""


def fetch(repo_id: str) -> Fetched:
    """The artifact of the newest commit of a model repository.

    If the Hub cannot be reached, that of the commit that was fetched last. Raises ConfigError if that fails too.
    """
    others = "or a file ending in .pth"
    cached = hub.resolve_commit(repo_id, "model", None, _KEY, ConfigError, others=others) is None
    first = _downloaded(repo_id, SIDECAR, None, cached)  # asked for by branch, so that the cache learns its commit
    commit = first.parent.name  # the cache keeps a folder per commit
    place = f"{repo_id}@{commit:.12}/"

    def read(path: str) -> bytes:
        return _downloaded(repo_id, path.removeprefix(place), commit, cached).read_bytes()

    return Fetched(f"{place}{WEIGHTS}", read(WEIGHTS), first.read_bytes(), read)


def _downloaded(repo_id: str, file: str, commit: str | None, cached: bool) -> Path:
    """Where a file of a repository lies, once it is fetched; `cached` says that it has to be there already."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id, file, revision=commit, local_files_only=cached))
    except GatedRepoError:
        raise ConfigError(f"{_KEY}: expected a model that may be read, found {hub.gated(repo_id)}") from None
    except LocalEntryNotFoundError:
        raise hub.unreachable(repo_id, _KEY, ConfigError, _INSTEAD) from None
    except EntryNotFoundError:
        needed = f"{WEIGHTS} and {SIDECAR}" if file in (WEIGHTS, SIDECAR) else file
        raise ConfigError(
            f"{_KEY}: expected {needed} in {repo_id}, found no {file}; name a repository that golem-ray push wrote."
        ) from None
    except Exception as error:  # the HTTP library's own, when the connection breaks halfway
        raise ConfigError(f"{_KEY}: expected to read {file} of {repo_id}, but {_reason(error)}") from None


def write_token() -> str:
    """The token to push with, from HF_TOKEN; a stored one is never used. Raises ConfigError if HF_TOKEN has none."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise ConfigError(
            "HF_TOKEN: expected a token with write access in the environment, found none; make one in the Hub's "
            "settings (a token stored by `hf auth login` is not used for writing)."
        )
    if re.fullmatch(r"[!-~]+", token) is None:  # the HTTP library would quote it in its complaint
        raise ConfigError("HF_TOKEN: expected a token as the Hub gives it out, found other characters; set it again.")
    return token


def push(repo_id: str, artifact_files: dict[str, bytes], *, private: bool, token: str) -> str:
    """Put the files into a model repository in one commit; returns its URL. Makes the repository if there is none.

    `private` is for a new repository; with it, one that everybody can read is refused. Files of the same name are
    replaced, others stay. Says what will be uploaded, before it is. If the upload breaks, a repository that was made
    for it is removed again. Raises ConfigError for what the Hub refuses; the token is in no message.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not hub.is_hub_id(repo_id) or "/" not in repo_id:
        raise ConfigError(f"repo: expected a repository of the Hub as user/name, got {repo_id!r}.")
    api, made = HfApi(token=token), False
    try:
        readable_by_all = _is_public(api, repo_id)
        if readable_by_all and private:
            raise ConfigError(
                f"private: expected {repo_id} to be private, found it public; make it private in its settings on the "
                "Hub, choose another name, or leave out --private."
            )
        seen_by = "private" if (private if readable_by_all is None else not readable_by_all) else "public"
        new = "new " if readable_by_all is None else ""
        sizes = [f"{name} ({len(content):,} bytes)" for name, content in artifact_files.items()]
        log.info("uploading to the %s%s repository %s: %s", new, seen_by, repo_id, ", ".join(sizes))
        if readable_by_all is None:
            made = _make(api, repo_id, private)
        additions = [CommitOperationAdd(name, content) for name, content in artifact_files.items()]
        try:
            commit = api.create_commit(repo_id, additions, commit_message="Upload a classifier trained by golem_ray")
        except BaseException:  # of Ctrl-C too
            if made:
                _remove_if_empty(api, repo_id)
            raise
    except ConfigError:
        raise
    except Exception as error:  # of the Hub, of the connection, of how a file is uploaded
        raise _refusal(repo_id, error, token) from None
    return str(commit.commit_url)


def _is_public(api: HfApi, repo_id: str) -> bool | None:
    """Whether everybody can read the repository; None if there is none that this account knows of."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.model_info(repo_id, timeout=hub.TIMEOUT_S).private
    except RepositoryNotFoundError:
        return None


def _make(api: HfApi, repo_id: str, private: bool) -> bool:
    """Make the repository; whether this call made it, and not somebody else before."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(repo_id, private=private)
    except HfHubHTTPError as error:
        if error.response.status_code == 409:
            return False
        raise
    return True


def _remove_if_empty(api: HfApi, repo_id: str) -> None:
    """Remove the repository, if it has no files but the one that the Hub puts into a new one."""
    try:
        if set(api.list_repo_files(repo_id)) <= {".gitattributes"}:
            api.delete_repo(repo_id)
    except Exception as error:
        log.warning(
            "%s was made for this upload and could not be removed again (%s): if it is empty, delete it in its "
            "settings on the Hub",
            repo_id,
            type(error).__name__,
        )


def _refusal(repo_id: str, error: Exception, token: str) -> ConfigError:
    """The error to raise for an upload that failed."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    status = _status(error)
    if status == 401:
        return ConfigError("HF_TOKEN: expected the Hub to accept the token, found it refused; renew it.")
    if status in (403, 404):  # 404 is said of what an account may not even see
        return ConfigError(
            f"HF_TOKEN: expected a token that may write to {repo_id}, found one that may not; give it write access, "
            "or name a repository of its account."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ConfigError("HF_HUB_OFFLINE: expected to reach the Hub, found it set to stay offline; unset it to push.")
    if isinstance(error, HFValidationError):
        return ConfigError(f"repo: expected a name that the Hub allows, got {repo_id!r}; choose another.")
    return ConfigError(
        f"repo: expected to upload to {repo_id}, but {_reason(error).replace(token, '...')}; check the connection and "
        "try again."
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of the Hub's answer that caused the error; None if no answer did."""
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return None if error is None else error.response.status_code


def _reason(error: BaseException) -> str:
    """A library's exception in one line: its name and its message."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload's, around the real one
        error = error.__cause__
    return f"{type(error).__name__}: {one_line(error)}"
