"""Where a job runs and where its outputs go: groups of the contract that change no figure.

Does not know what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from golem_ray import storage
from golem_ray.config.checks import check_positive, refuse_credentials
from golem_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """What embedding and training run on."""

    backend: Literal["auto", "cuda", "cpu"] = "auto"
    """`cuda` demands GPUs, `cpu` touches none, `auto` takes what the cluster has."""


@dataclass(frozen=True, kw_only=True)
class PathsConfig:
    """Where the artifact goes."""

    save_path: str = "voice_classifier_knowledge.pth"
    """Where the weights go, ending in .pth: a local path or a URI. The sidecar goes beside them, as .json."""
    report_path: str | None = None
    """Where the HTML report goes, ending in .html; `report.html` beside the weights if not given."""
    storage_root: str | None = None
    """Folder or URI that relative paths here lie under; by default $GOLEM_RAY_STORAGE_ROOT or the working folder."""
    embedding_cache: str | None = None
    """Folder or URI where vectors are kept, so that no example is embedded twice; none if not given."""
    run_dir: str | None = None
    """Folder or URI of this run alone: what it has embedded is kept there, and the same run goes on from it."""

    def __post_init__(self) -> None:
        if self.run_dir == "":
            raise ConfigError("paths.run_dir: expected a folder or a URI, found ''; leave it out for none.")
        if self.run_dir is not None and self.embedding_cache is not None:
            raise ConfigError(
                "paths.run_dir: expected it without paths.embedding_cache, found both; leave one out (the folder "
                "`embeddings` of a run's folder can be the cache of others)."
            )
        refuse_credentials("paths.run_dir", self.run_dir or "")
        if not self.save_path.endswith(".pth"):
            raise ConfigError(f"paths.save_path: expected a name ending in .pth, got {self.save_path!r}.")
        if self.embedding_cache == "":
            raise ConfigError("paths.embedding_cache: expected a folder or a URI, found ''; leave it out for none.")
        if self.report_path is not None and not self.report_path.endswith(".html"):
            raise ConfigError(f"paths.report_path: expected a name ending in .html, got {self.report_path!r}.")
        refuse_credentials("paths.report_path", self.report_path or "")
        refuse_credentials("paths.embedding_cache", self.embedding_cache or "")
        refuse_credentials("paths.save_path", self.save_path)
        refuse_credentials("paths.storage_root", self.storage_root or "")

    def place(self, key: str) -> str:
        """Where the output goes that one of these keys names: an absolute path or a URI. Raises ConfigError."""
        return storage.resolve(f"paths.{key}", getattr(self, key), self.storage_root)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Which Ray, and how wide."""

    address: str = "auto"
    """An address; `local` for a Ray of its own; `none` for this process alone, without Ray; `auto` for $RAY_ADDRESS (in
    a job, the job's cluster), else local."""
    workers: int | Literal["auto"] = "auto"
    """Embedding actors; `auto` is one per GPU of the cluster, on CPU what the cores carry well, and more as an
    autoscaler brings machines."""
    threads_per_worker: int = 2
    """CPU threads of an actor, each at an example of its own, and of the head's task, whose rounding they change."""
    batch_seconds: float = 120.0
    """Seconds of audio, padding included, that a GPU is given at once. Vectors do not depend on it, memory does."""
    batch_tokens: float = 65536.0
    """The same of texts: tokens, padding included."""
    stall_timeout: float = 300.0
    """Seconds without any progress after which the job gives up; a first download of the encoder has to fit in."""
    wait_s: float | Literal["auto"] = "auto"
    """Seconds to wait for machines that the cluster lacks; `auto` is 600 where there is an autoscaler, else 0."""
    gather_limit: int = 1_000_000
    """Most examples whose embeddings are gathered; those of more stay in storage (`paths.run_dir`), to be read
    there."""

    def __post_init__(self) -> None:
        check_positive("cluster.workers", self.workers, "auto")
        check_positive("cluster.threads_per_worker", self.threads_per_worker)
        if self.threads_per_worker > 1024:
            raise ConfigError(f"cluster.threads_per_worker: expected at most 1024, got {self.threads_per_worker}.")
        if self.wait_s != "auto" and not 0 <= self.wait_s <= 1e9:
            raise ConfigError(f"cluster.wait_s: expected 0 or more, or 'auto', got {self.wait_s!r}.")
        check_positive("cluster.gather_limit", self.gather_limit)
        if not 1 <= self.stall_timeout <= 1e9:
            raise ConfigError(f"cluster.stall_timeout: expected 1 or more, got {self.stall_timeout!r}.")
        if not 512 <= self.batch_tokens <= 1e7:
            raise ConfigError(f"cluster.batch_tokens: expected 512 to 10000000, got {self.batch_tokens!r}.")
        if not 1 <= self.batch_seconds <= 1000:  # beyond, the first convolution's output passes 2**31 elements
            raise ConfigError(f"cluster.batch_seconds: expected 1 to 1000, got {self.batch_seconds!r}.")
