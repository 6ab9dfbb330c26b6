"""A saved classifier: its two files, what they say, and the classifier in use."""

from golem_ray.artifact.files import (
    REPORT_MARK,
    Artifact,
    check_report,
    check_writable,
    evaluation_path,
    in_memory,
    load,
    report_path,
    save,
    save_report,
    sidecar_path,
)
from golem_ray.artifact.provenance import differences, group_digests, library_versions, pack_digests, trained_on

__all__ = [
    "REPORT_MARK",
    "Artifact",
    "check_report",
    "check_writable",
    "differences",
    "evaluation_path",
    "group_digests",
    "in_memory",
    "library_versions",
    "load",
    "pack_digests",
    "report_path",
    "save",
    "save_report",
    "sidecar_path",
    "trained_on",
]
