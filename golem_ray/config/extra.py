"""What messages call the keys of the datasets in `dataset.extra`. Does not know what is wrong with them."""

from __future__ import annotations

import re
from dataclasses import fields

from golem_ray.config.groups import DatasetConfig

_KEYS = "|".join(re.escape(key.name).replace("_", "[_-]") for key in fields(DatasetConfig))


def as_extra(message: str, number: int) -> str:
    """A message about keys of `dataset` as one about the same keys of a dataset beside it.

    `dataset.split: expected ...` becomes `dataset.extra[1].split: expected ...`; there are no flags of them to name.
    """
    named = re.sub(rf"(?:--)?\bdataset\.({_KEYS})\b", lambda key: f"dataset.{key[1].replace('-', '_')}", message)
    return re.sub(rf"^dataset\.(?=\w)|\bdataset\.(?=(?:{_KEYS})\b)", f"dataset.extra[{number}].", named)
