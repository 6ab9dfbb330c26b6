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

from golem_ray import hub
from golem_ray.errors import ConfigError, one_line, printable, without_credentials

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS = "voice_classifier_knowledge.pth"
"""What the weights are called in a repository."""


SIDECAR = "voice_classifier_knowledge.json"
"""What the sidecar is called in a repository."""


log = logging.getLogger(__name__)

_KEY = "artifact"


_INSTEAD = "give the path of a .pth file"


_FOLDERS = re.compile(
    r"""(?<![\w:/.-])(?:[\w+.-]+://|~[\w.-]*(?=[/\\])|[A-Za-z]:(?=[/\\])|(?=[/\\]))(?:[^'"\n]*[/\\])?"""
)
"""The folders before a path's or URI's last component, up to a quotation mark at its end."""


_NAMED = re.compile(r"(.*?clip \d+ \()(.+)(\))", re.DOTALL)
"""How data/table.py names an example."""


_NAMED_IN_PAGE = re.compile(r"""(clip \d+ \()(?:[^<"\\\n]|\\(?!u003[ce]).)*/""")
"""The same up to its last component, in HTML or in the JSON there, where `<` and `>` are `\\u003c` and `\\u003e`."""


_TESTED_ON = re.compile(r"""(clips of )(?:[\w+.-]+://|[~/])(?:[^<"\n]*/)?""")
"""Another dataset than the sidecar's, in the report of an evaluation."""


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
    replaced, others stay. Says what will be uploaded, before it is. Raises ConfigError for what the Hub refuses; the
    token is in no message.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not hub.is_hub_id(repo_id) or "/" not in repo_id:
        raise ConfigError(f"repo: expected a repository of the Hub as user/name, got {repo_id!r}.")
    api = HfApi(token=token)
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
            api.create_repo(repo_id, private=private, exist_ok=True)
        additions = [CommitOperationAdd(name, content) for name, content in artifact_files.items()]
        commit = api.create_commit(repo_id, additions, commit_message="Upload a classifier trained by golem_ray")
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

    Keeps the last component of a path or URI, since folders may say whose the clips are; keeps Hub ids and `sample`.
    Drops what is of no use elsewhere: paths.storage_root, and a cluster's address.
    """
    shown = copy.deepcopy(document)
    places = _local_places(shown)
    if isinstance(shown.get("summary"), str):
        names = [group[key] for group, key in places]
        shown["summary"] = _renamed(shown["summary"], [*names, *map(printable, names)])
    for group, key in places:
        group[key] = _last_component(group[key])
    _drop_addresses(shown["config"])
    for record in _unusable(shown):
        record.update(_cut(record))
    if isinstance(shown.get("weights"), dict):
        shown["weights"]["file"] = WEIGHTS
    return shown


def published_report(page: str, document: dict[str, Any]) -> str:
    """The artifact's HTML report as others may see it: names as in the published sidecar, clips without folders."""
    for record in _unusable(document):
        for key, shown in _cut(record).items():
            if shown != record[key]:
                page = page.replace(html.escape(printable(str(record[key]))), html.escape(printable(shown)))
    names = [html.escape(printable(group[key])) for group, key in _local_places(document)]
    return _TESTED_ON.sub(r"\1", _NAMED_IN_PAGE.sub(r"\1", _renamed(page, names)))


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
    """`/home/someone/clips/` -> `clips`; of a URI too, without credentials."""
    name = without_credentials(name)
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "local"


def _drop_addresses(config: dict[str, Any]) -> None:
    paths, cluster = config.get("paths"), config.get("cluster")
    if isinstance(paths, dict):
        paths["storage_root"] = None
    if isinstance(cluster, dict) and cluster.get("address") not in ("auto", "local", "none"):
        cluster["address"] = "auto"


def _unusable(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The sidecar's records of clips that could not be used."""
    clips = document.get("clips")
    bad = clips.get("bad") if isinstance(clips, dict) else None
    return [record for record in bad if isinstance(record, dict)] if isinstance(bad, list) else []


def _cut(record: dict[str, Any]) -> dict[str, str]:
    """Name and reason of an unusable clip without folders."""
    found = {key: str(record[key]) for key in ("clip", "reason") if key in record}
    named = _NAMED.fullmatch(found.get("clip", ""))
    if named is None:
        return {key: _FOLDERS.sub("", text) for key, text in found.items()}
    before, path, after = named.groups()
    reason = _FOLDERS.sub("", found.get("reason", "").replace(path, _last_component(path)))
    return {key: {"clip": f"{before}{_last_component(path)}{after}", "reason": reason}[key] for key in found}
