"""A sidecar and a report as others may see them: without the folders and addresses of the machine that wrote them."""

from __future__ import annotations

import copy
import html
import re
from typing import Any

from golem_ray import hub
from golem_ray.artifact.sharing import JOINED, WEIGHTS
from golem_ray.config import NOUNS
from golem_ray.errors import printable, without_credentials

_FOLDERS = re.compile(
    r"""(?<![\w:/.-])(?:[\w+.-]+://|~[\w.-]*(?=[/\\])|[A-Za-z]:(?=[/\\])|(?=[/\\]))(?:[^'"\n]*[/\\])?"""
)
"""The folders before a path's or URI's last component, up to a quotation mark at its end."""

_COMPONENTS = re.compile(r"""(?:[^\s'":()]+/)+(?=[^\s/])""")
"""What comes before the last slash of a word."""

_ONE, _MANY = ("|".join(words) for words in zip(*NOUNS.values(), strict=True))

_NAMED = re.compile(rf"(.*?(?:{_ONE}) \d+ \()(.+)(\))", re.DOTALL)
"""How data/table.py names an example."""

_NAMED_IN_PAGE = re.compile(rf"""((?:{_ONE}) \d+ \()(?:[^<"\\\n]|\\(?!u003[ce]).)*/""")
"""The same up to its last component, in HTML or in the JSON there, where `<` and `>` are `\\u003c` and `\\u003e`."""

_TESTED_ON = re.compile(rf"""((?:{_MANY}) of )(?:[\w+.-]+://|[~/])(?:[^<"\n]*/)?""")
"""Another dataset than the sidecar's, in the report of an evaluation."""


def published(document: dict[str, Any]) -> dict[str, Any]:
    """The sidecar as others may see it: the same record, without paths of the machine that wrote it.

    Keeps the last component of a path or URI, since folders may say whose the examples are; keeps Hub ids and names
    of what is bundled. Drops what is of no use elsewhere: paths.storage_root, and a cluster's address.
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
    if isinstance(shown.get("joined"), dict):
        shown["joined"]["file"] = JOINED
    return shown


def published_report(page: str, document: dict[str, Any]) -> str:
    """The artifact's HTML report as others may see it: names as in the published sidecar, examples without folders."""
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
        *beside(document),
        (config.get("model"), "feature_extractor_model", encoder_on_hub),
        (document["encoder"], "name", encoder_on_hub),
        (config.get("processing"), "replacements", False),
        *((config.get("paths"), key, False) for key in ("save_path", "report_path", "embedding_cache")),
    ]
    return [
        (group, key)
        for group, key, on_hub in places
        if isinstance(group, dict) and isinstance(group.get(key), str) and not on_hub
    ]


def beside(document: dict[str, Any]) -> list[tuple[dict[str, Any], str, bool]]:
    """(table, key, whether it came from the Hub) of the name of each dataset beside the main one."""
    dataset, commits = document["config"].get("dataset"), document["data"].get("extra_revisions")
    tables = dataset.get("extra") if isinstance(dataset, dict) else None
    known = commits if isinstance(commits, list) else []
    return [
        (table, "name", is_on_hub({"revision": known[number]} if number < len(known) else {}, table.get("name")))
        for number, table in enumerate(tables if isinstance(tables, list) else [])
        if isinstance(table, dict)
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
    """The sidecar's records of examples that could not be used."""
    clips = document.get("clips")
    bad = clips.get("bad") if isinstance(clips, dict) else None
    return [record for record in bad if isinstance(record, dict)] if isinstance(bad, list) else []


def _cut(record: dict[str, Any]) -> dict[str, str]:
    """Name and reason of an unusable example without folders."""
    found = {key: str(record[key]) for key in ("clip", "reason") if key in record}
    named = _NAMED.fullmatch(found.get("clip", ""))
    if named is None:
        return {key: _without_folders(text) for key, text in found.items()}
    before, path, after = named.groups()
    reason = _without_folders(found.get("reason", "").replace(path, _last_component(path)))
    return {key: {"clip": f"{before}{_last_component(path)}{after}", "reason": reason}[key] for key in found}


def _without_folders(text: str) -> str:
    """The text, with the last component of each path in it; also of one without a scheme, which storage may name."""
    return _COMPONENTS.sub("", _FOLDERS.sub("", text))
