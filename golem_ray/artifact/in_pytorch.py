"""An artifact's head in plain PyTorch: the lines of a model card that need no golem_ray."""

from __future__ import annotations

import itertools
from typing import Any

from golem_ray.artifact.sharing import SIDECAR, WEIGHTS
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.targets import TARGETS

_CLOSEST = """\
if not found:  # then it is the label that comes closest to its threshold
    slopes, intercepts, thresholds = (torch.tensor(record[key]) for key in ("slopes", "intercepts", "thresholds"))
    found = [labels[(torch.sigmoid({logits} * slopes + intercepts) - thresholds).argmax()]]"""


def lines_in_pytorch(document: dict[str, Any], repo_id: str, embedding: str) -> list[str]:
    """Python that prints what an `embedding` is labelled; a comment says what that is: `embedding`."""
    head, target = document["head"], TARGETS[document.get("target", SINGLE_LABEL.name)]
    decision, comment = target.in_pytorch, f"  # embedding: {embedding}"
    loaded = f'json.load(open(hf_hub_download("{repo_id}", "{SIDECAR}")))'
    lines = [
        "import json, torch",
        "from huggingface_hub import hf_hub_download",
        "",
        f'state = torch.load(hf_hub_download("{repo_id}", "{WEIGHTS}"), weights_only=True)',
        *head_lines(head),
        "head.load_state_dict(state)",
    ]
    logits = "head(embedding)"
    if head.get("normalization") == "batch":
        lines.append("head.eval()")
        logits = "head(embedding[None])[0]"
        decision = decision.replace("head(embedding)", logits)
    record = document["metrics"].get("calibration") or {}
    if "least" not in record:
        return [*lines, f'labels = {loaded}["labels"]', f"print({decision}){comment}"]
    lines += [f"sidecar = {loaded}", 'labels, record = sidecar["labels"], sidecar["metrics"]["calibration"]']
    lines += ['least = record["least"]']
    if not record["at_least_one"]:
        return [*lines, f"print({decision}){comment}"]
    return [*lines, f"found = {decision}{comment}", *_CLOSEST.format(logits=logits).splitlines(), "print(found)"]


def head_lines(head: dict[str, Any]) -> list[str]:
    """The head in plain PyTorch, from its description, which `load_head` of heads/modules.py has checked."""
    if not head.get("hidden"):
        return ['head = torch.nn.Linear(*reversed(state["weight"].shape))']
    activation = {"relu": "ReLU", "gelu": "GELU", "tanh": "Tanh"}[head.get("activation", "relu")]
    widths = [head["in_features"], *head["hidden"], head["out_features"]]
    lines = ["head = torch.nn.Sequential()"]
    for number, (before, after) in enumerate(itertools.pairwise(widths[:-1])):
        lines.append(f'head.add_module("hidden{number}", torch.nn.Linear({before}, {after}))')
        norm = "LayerNorm" if head.get("layer_norm") else "BatchNorm1d" if head.get("normalization") == "batch" else ""
        if norm:
            lines.append(f'head.add_module("norm{number}", torch.nn.{norm}({after}))')
        lines.append(f'head.add_module("activation{number}", torch.nn.{activation}())')
    return [*lines, f'head.add_module("output", torch.nn.Linear({widths[-2]}, {widths[-1]}))']
