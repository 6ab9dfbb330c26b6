"""Which commit a Hub id stands for, and what to say when the Hub does not answer.

Does not know what is in the repository: data/hub_dataset.py, speech/inspect.py and artifact/sharing.py do.
"""

from __future__ import annotations

import logging
import re
from typing import Literal

from golem_ray.errors import UserError

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Seconds to wait for the Hub's first answer. If it does not come, the job says so within half a minute."""


def is_hub_id(name: str) -> bool:
    """Whether the name could be a repository: `name` or `owner/name`."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not name.startswith(".")


def resolve_commit(
    repo_id: str,
    kind: Literal["dataset", "model"],
    revision: str | None,
    key: str,
    error: type[UserError],
    others: str = "a local folder or a file",
) -> str | None:
    """The commit that a revision (default: the newest) of a Hub repository stands for; None if the Hub cannot be asked.

    With None, only a copy in the local cache can be used. Raises `error`, whose message names `key` (or `revision` in
    its group), if the Hub answers that there is no such repository or revision, or that this account may not see it.
    `others` completes that message: the other things that the key may name.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi()
    ask = api.dataset_info if kind == "dataset" else api.model_info
    try:
        return ask(repo_id, revision=revision, timeout=TIMEOUT_S).sha
    except OfflineModeIsEnabled:
        log.info("offline mode: using the cached copy of %s", repo_id)
    except GatedRepoError:
        raise error(f"{key}: expected a {kind} that this account may read, found {gated(repo_id)}") from None
    except RevisionNotFoundError:
        raise error(
            f"{key.split('.')[0]}.revision: expected a revision of {repo_id} on the Hub, found none called "
            f"{revision!r}; give a commit, branch or tag that it has."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise error(
            f"{key}: expected a {kind} on the Hub, {others}, found none called {repo_id!r}; check the spelling, or set "
            "HF_TOKEN if it is private."
        ) from None
    except Exception as problem:
        if isinstance(problem, HfHubHTTPError) and problem.response.status_code == 401:
            raise error(
                f"{key}: expected the Hub to accept this account's token, found it refused; renew the one in HF_TOKEN "
                "(or that `hf auth login` stored), or do without."
            ) from None
        # Else the HTTP library's own errors, 5xx answers, time-outs.
        log.warning("the Hub did not answer (%s): looking for a cached copy of %s", type(problem).__name__, repo_id)
    return None


def gated(repo_id: str) -> str:
    """The end of an error message about a repository whose conditions have to be accepted first."""
    return f"{repo_id} gated: accept its conditions on the Hub and set HF_TOKEN in the environment."


def unreachable(repo_id: str, key: str, error: type[UserError], instead: str) -> UserError:
    """The error for a repository that cannot be fetched from the Hub and is not in the local cache."""
    return error(
        f"{key}: expected to reach the Hub for {repo_id}, but it cannot be reached and there is no cached copy; "
        f"{instead}, or run once with a connection so that it is cached."
    )
