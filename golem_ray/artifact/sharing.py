"""An artifact in a repository of the Hugging Face Hub: fetched from one, or pushed to one in a single commit.

Also cuts the paths of the machine that wrote them out of the sidecar and the report. Does not know what else the files
say, nor which files there are: jobs/push.py does.
"""

from __future__ import annotations

import copy
import html
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from golem_ray import hub
from golem_ray.errors import ConfigError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

WEIGHTS = "voice_classifier_knowledge.pth"
"""What the weights are called in a repository."""


SIDECAR = "voice_classifier_knowledge.json"
"""What the sidecar is called in a repository."""


_KEY = "artifact"


_INSTEAD = "give the path of a .pth file"


_FOLDERS = re.compile(r"""(?<![\w:/.-])(?:file://)?(?:~[\w.-]*|[A-Za-z]:)?[/\\](?:[^'"\n]*[/\\])?""")


_CLIP = re.compile(r"""(clip \d+ \()(?:file://)?(?:~[\w.-]*|[A-Za-z]:)?[/\\](?:[^<"\n]*[/\\])?""")


def fetch(repo_id: str) -> tuple[str, bytes, bytes]:
    """The artifact of the newest commit of a model repository: (its place, the .pth's bytes, the .json's bytes).

    If the Hub cannot be reached, that of the commit that was fetched last. Raises ConfigError if that fails too.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    others = "or a file ending in .pth"
    cached = hub.resolve_commit(repo_id, "model", None, _KEY, ConfigError, others=others) is None
    commit: str | None = None  # that of the first file: asked for by branch, so that the cache learns what that is
    contents = []
    for file in (SIDECAR, WEIGHTS):
        try:
            path = Path(hf_hub_download(repo_id, file, revision=commit, local_files_only=cached))
            contents.append(path.read_bytes())
        except GatedRepoError:
            raise ConfigError(f"{_KEY}: expected a model that may be read, found {hub.gated(repo_id)}") from None
        except LocalEntryNotFoundError:
            raise hub.unreachable(repo_id, _KEY, ConfigError, _INSTEAD) from None
        except EntryNotFoundError:
            raise ConfigError(
                f"{_KEY}: expected {WEIGHTS} and {SIDECAR} in {repo_id}, found no {file}; name a repository that "
                "jobs/push.py wrote."
            ) from None
        except Exception as error:  # the HTTP library's own, when the connection breaks halfway
            raise ConfigError(f"{_KEY}: expected to read {file} of {repo_id}, but {_reason(error)}") from None
        commit = commit or path.parent.name  # the cache keeps a folder per commit
    sidecar, weights = contents
    return f"{repo_id}@{commit:.12}/{WEIGHTS}", weights, sidecar


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
    replaced, others stay. If the upload breaks, a repository that was made for it is removed again. Raises ConfigError
    for what the Hub refuses; the token is in no message.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not hub.is_hub_id(repo_id) or "/" not in repo_id:
        raise ConfigError(f"repo: expected a repository of the Hub as user/name, got {repo_id!r}.")
    api, made = HfApi(token=token), False
    try:
        readable_by_all = _is_public(api, repo_id)
        if readable_by_all is None:
            made = _make(api, repo_id, private)
        elif readable_by_all and private:
            raise ConfigError(
                f"private: expected {repo_id} to be private, found it public; make it private in its settings on the "
                "Hub, choose another name, or leave out --private."
            )
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


def published(document: dict[str, Any]) -> dict[str, Any]:
    """The sidecar as others may see it: the same record, without paths of the machine that wrote it.

    Keeps the last component of a local path; keeps Hub ids, `sample` and URIs, but no credentials in a URI. Drops
    what is of no use elsewhere: paths.storage_root if it is local, and a cluster's address.
    """
    shown = copy.deepcopy(document)
    places = _local_places(shown)
    if isinstance(shown.get("summary"), str):
        shown["summary"] = _renamed(shown["summary"], [group[key] for group, key in places])
    for group, key in places:
        group[key] = _last_component(group[key])
    _drop_addresses(shown["config"])
    _cut_clip_names(shown.get("clips"))
    if isinstance(shown.get("weights"), dict):
        shown["weights"]["file"] = WEIGHTS
    return shown


def published_report(page: str, document: dict[str, Any]) -> str:
    """The artifact's HTML report as others may see it: names as in the published sidecar, clips without folders."""
    names = [html.escape(group[key]) for group, key in _local_places(document)]
    return _CLIP.sub(r"\1", _renamed(page, names))


def _local_places(document: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """(group, key) of each entry of the document that names something that is not on the Hub."""
    config, encoder_on_hub = document["config"], encoder_is_on_hub(document)
    places = [
        (config.get("dataset"), "name", is_on_hub(document["data"], dataset_name(document))),
        (config.get("model"), "feature_extractor_model", encoder_on_hub),
        (document["encoder"], "name", encoder_on_hub),
        *((config.get("paths"), key, False) for key in ("save_path", "report_path", "embedding_cache")),
    ]
    return [
        (group, key)
        for group, key, on_hub in places
        if isinstance(group, dict) and isinstance(group.get(key), str) and not on_hub
    ]


def _renamed(text: str, names: list[str]) -> str:
    """The text, with each name replaced by its last component."""
    for name in sorted(names, key=len, reverse=True):
        if _last_component(name) in name:  # not where there is none, as in `/`
            text = text.replace(name, _last_component(name))
    return text


def is_on_hub(record: dict[str, Any], name: object) -> bool:
    """Whether a dataset or an encoder came from the Hub: only there does it have a revision."""
    return isinstance(record.get("revision"), str) and isinstance(name, str) and hub.is_hub_id(name)


def encoder_is_on_hub(document: dict[str, Any]) -> bool:
    """Whether others find the encoder on the Hub, under the name that the sidecar gives."""
    return is_on_hub(document["encoder"], document["encoder"].get("name"))


def dataset_name(document: dict[str, Any]) -> object:
    """The dataset's name; None if the sidecar has none."""
    dataset = document["config"].get("dataset")
    return dataset.get("name") if isinstance(dataset, dict) else None


def _last_component(name: str) -> str:
    """`/home/someone/clips/` -> `clips`; a URI as it is, without credentials."""
    if "://" in name and not name.startswith("file://"):
        parts = urlsplit(name)
        if parts.password or parts.scheme in ("http", "https"):
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")
        return urlunsplit(parts)
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "local"


def _drop_addresses(config: dict[str, Any]) -> None:
    paths, cluster = config.get("paths"), config.get("cluster")
    if isinstance(paths, dict) and not _is_elsewhere(paths.get("storage_root")):
        paths["storage_root"] = None
    if isinstance(cluster, dict) and cluster.get("address") not in ("auto", "local", "none"):
        cluster["address"] = "auto"


def _is_elsewhere(place: object) -> bool:
    return isinstance(place, str) and "://" in place and not place.startswith("file://")


def _cut_clip_names(clips: object) -> None:
    """Cut the folders out of the names and reasons of unusable clips."""
    bad = clips.get("bad") if isinstance(clips, dict) else None
    for record in bad if isinstance(bad, list) else []:
        for key in {"clip", "reason"} & set(record):
            record[key] = _FOLDERS.sub("", str(record[key]))
