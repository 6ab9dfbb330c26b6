"""Which kinds of target there are. Importing this loads no PyTorch."""

from __future__ import annotations

from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.target import Target

TARGETS: dict[str, Target] = {SINGLE_LABEL.name: SINGLE_LABEL, MULTI_LABEL.name: MULTI_LABEL}
"""Name of each kind of target -> what it is."""


def target_of(several: bool) -> Target:
    """What the labels of examples are that may have several, or have one."""
    return MULTI_LABEL if several else SINGLE_LABEL
