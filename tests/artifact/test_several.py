"""An artifact that gives several labels: what its card says, and what of its sidecar is checked."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from golem_ray import artifact
from golem_ray.artifact.format import parse_sidecar
from golem_ray.artifact.model_card import model_card
from golem_ray.config import HeadConfig
from golem_ray.errors import ConfigError
from golem_ray.heads.modules import new_head, weights_file
from golem_ray.heads.multi_label import MULTI_LABEL
from tests.artifact.test_sharing import LABELS, sidecar
from tests.report.several import judged_of_several, record

WIDTH = 6


def several(head: dict[str, Any] | None = None, **calibration: Any) -> dict[str, Any]:
    """The sidecar of a classifier of several labels that was tested on 200 texts."""
    which = judged_of_several(LABELS)
    found = sidecar(target="multi-label", modality="text")
    found["head"] = head or {"kind": "linear", "in_features": WIDTH, "out_features": len(LABELS)}
    found["metrics"]["calibration"] = record(len(LABELS), **calibration)
    found["metrics"]["cross_validation"]["figures"] = which.figures
    found["metrics"]["evaluation"] = {
        "how": "test",
        "num_clips": 200,
        "figures": which.figures,
        "baselines": which.baselines,
        "per_class": which.per_class,
    }
    return found


def written(folder: Path, head: dict[str, Any], shape: HeadConfig, **calibration: Any) -> artifact.Artifact:
    """An artifact of a head with running moments that are not those that it began with."""
    torch.manual_seed(0)
    made = new_head(WIDTH, len(LABELS), 3, shape)
    made.train()
    for _ in range(3):
        made(torch.randn(32, WIDTH) * 2 + 1)
    artifact.save(str(folder / "v.pth"), weights_file(made.eval()), several(head, **calibration))
    return artifact.load(str(folder / "v.pth"))


def said_by_the_card(saved: artifact.Artifact, folder: Path, embeddings: np.ndarray, monkeypatch: Any) -> list[str]:
    """What the card's lines of plain PyTorch print of each embedding."""
    block = re.findall("```python\n(.*?)```", model_card(saved.document, "me/mail"), re.DOTALL)[-1]
    files = {"pth": folder / "v.pth", "json": folder / "v.json"}
    hub = SimpleNamespace(hf_hub_download=lambda repo, name: str(files[name.rpartition(".")[2]]))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    said: list[Any] = []
    for row in torch.tensor(embeddings):
        exec(block, {"embedding": row, "print": said.append})
    return said


@pytest.mark.parametrize("at_least_one", [False, True])
@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ({"kind": "linear"}, HeadConfig()),
        ({"kind": "mlp", "hidden": [5], "activation": "tanh", "normalization": "batch"}, {"normalization": "batch"}),
        ({"kind": "mlp", "hidden": [5], "activation": "tanh", "layer_norm": True}, {"normalization": "layer"}),
    ],
    ids=["linear", "batch", "layer"],
)
def test_a_cards_lines_of_pytorch_give_the_labels_that_the_artifact_gives(
    head: dict[str, Any], shape: Any, at_least_one: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"in_features": WIDTH, "out_features": len(LABELS), **head}
    shape = HeadConfig(hidden=(5,), activation="tanh", **shape) if isinstance(shape, dict) else shape
    slopes, intercepts, thresholds = np.array([0.8, 1.5, 0.3, 2]), np.array([-1.0, 0.1, -2, 0.2]), [0.3, 0.6, 0.15, 0.6]
    low = (np.log(np.array(thresholds) / (1 - np.array(thresholds))) - intercepts) / slopes
    calibration = {"slopes": slopes.tolist(), "intercepts": intercepts.tolist(), "thresholds": thresholds}
    saved = written(tmp_path, described, shape, **calibration, least=low.tolist(), at_least_one=at_least_one)
    embeddings = 3 * np.random.default_rng(0).standard_normal((80, WIDTH)).astype(np.float32)
    decisions = saved.answers(saved.probabilities(embeddings)).decisions
    assert (~decisions.any(axis=1)).any() != at_least_one
    assert decisions.any(axis=0).sum() > 1
    expected = [[LABELS[each] for each in np.flatnonzero(row)] for row in decisions]
    assert said_by_the_card(saved, tmp_path, embeddings, monkeypatch) == expected


def test_a_cards_lines_of_pytorch_know_one_label_of_a_head_with_batch_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"kind": "mlp", "in_features": WIDTH, "out_features": 4, "hidden": [5], "normalization": "batch"}
    saved = written(tmp_path, described, HeadConfig(hidden=(5,), normalization="batch"))
    saved.document.pop("target")
    saved.document["metrics"]["calibration"] = {"temperature": 2.0, "num_clips": 5}
    embeddings = np.random.default_rng(0).standard_normal((10, WIDTH)).astype(np.float32)
    expected = [LABELS[each] for each in saved.logits(embeddings).argmax(axis=1)]
    assert said_by_the_card(saved, tmp_path, embeddings, monkeypatch) == expected


def test_a_card_says_the_figures_the_thresholds_and_what_to_compare_with() -> None:
    document = several()
    card = model_card(document, "me/mail")
    figures, baselines = (document["metrics"]["evaluation"][key] for key in ("figures", "baselines"))
    f1, (low, high) = figures["macro_f1"]["value"], figures["macro_f1"]["interval_95"]
    assert f"* macro F1: {f1:.1%} (95 % interval {low:.1%} to {high:.1%}); every label always: " in card
    assert f"; every threshold at 0.5: {baselines['at_half']['macro_f1']['value']:.1%}\n" in card
    average = next(line for line in card.splitlines() if "mean average" in line and "always" in line)
    assert "TF-IDF: " in average
    assert "threshold" not in average  # of which it does not depend
    assert f"where perfect probabilities would have {figures['calibration_error']['floor']:.1%}" in card
    assert "Platt scaling" in card
    assert "temperature" not in card
    assert "A classifier that gives texts any number of 4 labels:" in card
    assert "clip" not in card
    fields = document["metrics"]["evaluation"]["per_class"][1]
    recall, f1 = fields["recall"]["value"], fields["f1"]
    row = f"| `pay *bill*` | 0.300 | {fields['num_clips']} | {fields['precision']['value']:.1%} | {recall:.1%} | "
    assert row + "{:.1%} ({:.1%} to {:.1%}) |".format(f1["value"], *f1["interval_95"]) in card
    assert "gives texts one or more of 4 labels" in model_card(several(at_least_one=True), "me/mail")
    assert "to a text where none does, the one that comes closest" in model_card(several(at_least_one=True), "me/mail")
    assert "Probabilities are not calibrated" in model_card(several(num_clips=0), "me/mail")


def test_a_card_leaves_out_what_was_not_measured_or_is_not_as_it_should_be() -> None:
    document = several()
    document["labels"] = ["a|b", *LABELS[1:]]
    document["metrics"]["cross_validation"] = None
    for evaluation in (None, {"figures": {"macro_f1": 3}, "per_class": [1, {"label": "a|b", "f1": "<b>"}]}):
        document["metrics"]["evaluation"] = evaluation
        card = model_card(document, "me/mail")
        assert "Cross-validated figures: none were measured." in card
        assert "which it was not trained on:" not in card
        assert "<b>\n" not in card
        assert "`a\\|b` | 0.400 |" in card


def test_the_hub_reads_macro_f1() -> None:
    document = several()
    document["data"]["revision"] = "a" * 40
    document["config"]["dataset"]["name"] = "PolyAI/minds14"
    card = model_card(document, "me/mail")
    assert "type: f1\n" in card
    assert "name: Macro F1\n" in card
    assert f"value: {document['metrics']['evaluation']['figures']['macro_f1']['value']}" in card


@pytest.mark.parametrize(
    "changes",
    [
        {"slopes": [1.0] * 3},
        {"slopes": [1.0, 1.0, 1.0, "1"]},
        {"intercepts": None},
        {"intercepts": [float("inf")] * 4},
        {"thresholds": [0.5, 0.5, 0.5, 1.0]},
        {"thresholds": [0.5, 0.5, 0.5, 0]},
        {"thresholds": 0.5},
        {"least": [0.0] * 5},
        {"at_least_one": 1},
        {"num_clips": "50"},
        None,
    ],
    ids=str,
)
def test_a_calibration_that_was_changed_is_refused(changes: dict[str, Any] | None) -> None:
    assert parse(several())["labels"] == LABELS
    document = several(**(changes or {}))
    if changes is None:
        document["metrics"]["calibration"] = None
    with pytest.raises(ConfigError, match=r"^v\.json: expected metrics\.calibration as this package writes it"):
        parse(document)


@pytest.mark.parametrize("figures", [None, {"macro_f1": 0.5}, {"macro_f1": {"value": 0.5}}, {"other": 1}], ids=str)
def test_cross_validated_figures_that_were_changed_are_refused(figures: Any) -> None:
    document = several()
    document["metrics"]["cross_validation"]["figures"] = figures
    with pytest.raises(ConfigError, match=r"expected metrics\.cross_validation as this package writes it"):
        parse(document)
    document["metrics"]["cross_validation"] = None
    parse(document)


def parse(document: dict[str, Any]) -> dict[str, Any]:
    """The sidecar as it is read."""
    kept = {**document, "format": "golem_ray.artifact", "format_version": 1, "weights": {"sha256": ""}}
    return parse_sidecar(json.dumps(kept).encode(), "v.json")


def test_what_is_written_is_what_is_checked() -> None:
    logits, labels = np.zeros((30, 4)), np.zeros((30, 4), dtype=bool)
    document = several(**MULTI_LABEL.calibrate(logits, labels, 30, HeadConfig()))
    assert parse(document)["metrics"]["calibration"] == document["metrics"]["calibration"]
    assert io.BytesIO(weights_file(new_head(2, 2, 0))).read()
