"""Several labels an example, against PyTorch, autograd, scikit-learn and figures computed by hand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.multiclass import OneVsRestClassifier

from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.data.stratify import several_folds, several_held_out, several_round_folds
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.logistic import STRENGTHS, Part, regressions
from golem_ray.heads.many import unseen_logits
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.targets import TARGETS
from golem_ray.heads.thresholds import sigmoid
from golem_ray.heads.training_set import HeadSpec
from golem_ray.metrics.several import evaluate
from tests.heads.training import examples

LOG_3 = float(np.log(3.0))


def drawn(number=60, num_labels=5, width=6, seed=0):
    """Vectors (N, D) float32 and labels (N, K) bool that they tell of, from common to rare; the last but one nothing
    has, and the last one example alone.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((number, width)).astype(np.float32)
    scores = vectors @ rng.standard_normal((width, num_labels)) + rng.standard_normal((number, num_labels))
    labels = scores > np.linspace(0, 3, num_labels)
    labels[:, -2] = False
    labels[:, -1] = np.arange(number) == 7
    return vectors, labels


def spec(num_classes=5, head=None, training=None):
    return HeadSpec(
        num_classes=num_classes,
        head=head or HeadConfig(),
        training=training or TrainingConfig(),
        target=MULTI_LABEL,
    )


def test_the_target_is_found_by_its_name():
    assert TARGETS["multi-label"] is MULTI_LABEL


def by_pytorch(logits, labels, weights, smoothing=0.0):
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=weights)
    return loss(logits, labels.float() * (1 - smoothing) + smoothing / 2).item()


WEIGHTS = {
    "none": lambda ratio: torch.ones_like(ratio),
    False: lambda ratio: ratio.sqrt().clamp(max=10),
    "sqrt": lambda ratio: ratio.sqrt().clamp(max=10),
    "inverse": lambda ratio: ratio.clamp(max=10),
    True: lambda ratio: ratio.clamp(max=10),
    (1.0, 0.5, 20.0, 3.0, 1.0): lambda ratio: torch.tensor([1.0, 0.5, 20.0, 3.0, 1.0]),
}


@pytest.mark.parametrize("kind", WEIGHTS, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_criterion_is_pytorchs_with_positives_weighed_by_their_rarity(kind, smoothing):
    _, labels = (torch.as_tensor(each) for each in drawn(200))
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    have = labels.sum(dim=0)
    ratio = (200 - have) / have.clamp(min=1)
    assert ratio.max() > 10 > ratio.min()
    expected = WEIGHTS[kind](ratio)
    if not isinstance(kind, tuple):
        expected[have == 0] = 1.0
    criterion = MULTI_LABEL.criterion(labels, 5, HeadConfig(class_weights=kind, label_smoothing=smoothing))
    assert criterion.loss(logits, labels).item() == pytest.approx(by_pytorch(logits, labels, expected, smoothing))
    some = by_pytorch(logits[:9], labels[:9], expected, smoothing)  # weights stay those of all examples
    assert criterion.loss(logits[:9], labels[:9]).item() == pytest.approx(some)
    assert criterion.weight(labels[:9]) == 9


@pytest.mark.parametrize("kind", WEIGHTS, ids=str)
def test_the_criteria_of_many_heads_are_those_of_each(kind):
    _, labels = (torch.as_tensor(each) for each in drawn())
    generator = torch.Generator().manual_seed(0)
    parts, logits = torch.rand(4, 60, generator=generator) < 0.6, torch.randn(4, 5, 60, generator=generator)
    config = HeadConfig(class_weights=kind, label_smoothing=0.1)
    found = MULTI_LABEL.criteria(labels, parts, 5, config)(logits)
    for part, one, loss in zip(parts, logits, found, strict=True):
        alone = MULTI_LABEL.criterion(labels[part], 5, config).loss(one.T[part], labels[part])
        assert loss.item() == pytest.approx(alone.item(), rel=1e-6)


def test_losses_and_slopes_are_autograds():
    _, labels = (torch.as_tensor(each) for each in drawn())
    counted = (torch.arange(60) % 3 > 0).double()[None]  # (1, N)
    of_class = labels.T.double() * counted
    logits = 3 * torch.randn(2, 5, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    lost, slopes = MULTI_LABEL.losses_and_slopes(logits, of_class, counted)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.T.double().expand_as(logits), reduction="none"
    )
    expected = (expected * counted).sum(dim=(1, 2))
    assert torch.allclose(lost, expected)
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(slopes, gradient)


def test_losses_are_the_mean_over_labels():
    logits, labels = torch.tensor([[0.0, LOG_3], [LOG_3, -LOG_3]]), torch.tensor([[True, False], [True, True]])
    each = [(np.log(2) + np.log(4)) / 2, (np.log(4 / 3) + np.log(4)) / 2]
    assert MULTI_LABEL.losses(logits, labels).tolist() == pytest.approx(each)
    assert MULTI_LABEL.losses(logits, labels, "mean").item() == pytest.approx(np.mean(each))
    assert MULTI_LABEL.losses(logits, labels, "sum").item() == pytest.approx(np.sum(each))


@pytest.mark.parametrize("used", [[0, 1, 2, 4], [0, 2]], ids=["four", "two"])
def test_logistic_regressions_are_scikit_learns_one_for_each_label(used):
    vectors, labels = drawn()
    labels[:, np.setdiff1d(np.arange(5), used)] = False
    x, y = torch.as_tensor(vectors).double(), torch.as_tensor(labels)
    (found,) = regressions([Part(x, y, MULTI_LABEL.folds(labels, 1, 0))], 5, MULTI_LABEL)
    logits = (x @ found.weight.T + found.bias).numpy()
    distances = {}
    for strength in STRENGTHS:
        heads = OneVsRestClassifier(LogisticRegression(C=strength, tol=1e-12, max_iter=100_000))
        distances[strength] = np.abs(
            heads.fit(vectors.astype(np.float64), labels[:, used]).decision_function(vectors) - logits[:, used]
        ).max()
    assert min(distances.values()) < 1e-4
    assert min(distances, key=distances.get) == found.C
    assert (logits[:, 3] < -50).all()  # nothing has it
    assert np.isfinite(found.unseen).all()


def test_a_logistic_head_of_labels_that_everything_or_nothing_has_is_finite():
    vectors, labels = drawn(30)
    labels[:, 0] = True
    head = fit(examples(vectors, labels), spec(head=HeadConfig(kind="logistic")))
    probabilities = sigmoid(logits_of(head, torch.tensor(vectors)))
    assert (probabilities[:, 0] > 0.999).all()
    assert (probabilities[:, 3] < 1e-6).all()
    nothing = np.zeros_like(labels)
    head = fit(examples(vectors, nothing), spec(head=HeadConfig(kind="logistic")))
    assert (logits_of(head, torch.tensor(vectors)) < -50).all()


HEADS = {
    "linear": HeadConfig(),
    "weighted": HeadConfig(class_weights="inverse", label_smoothing=0.1, standardize=True),
    "hidden": HeadConfig(hidden=(8, 4), normalization="layer"),
    "batch": HeadConfig(hidden=(8,), normalization="batch"),
    "patient": HeadConfig(patience=3),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_fitted_together_are_those_fitted_one_by_one(name):
    given, wanted = examples(*drawn()), spec(head=HEADS[name], training=TrainingConfig(epochs=30))
    folds = MULTI_LABEL.folds(given.label_array(), 1, 0)
    for (train, test), unseen in zip(folds, unseen_logits(given, folds, wanted, rounds=1), strict=True):
        alone = logits_of(fit(given.take(train), wanted), given.take(test).embeddings)
        np.testing.assert_allclose(unseen.tested, alone, rtol=1e-4, atol=1e-4)
        assert np.isfinite(unseen.inner).all()  # also on examples without a label


@pytest.mark.parametrize("decimals", [0, 9])
def test_scores_are_scikit_learns_average_precision_of_rankings(decimals):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 50, 6)).round(decimals)  # without decimals there are many ties
    labels = rng.uniform(size=(50, 6)) < 0.3
    labels[3], labels[4] = False, True
    found = MULTI_LABEL.scores(logits, labels)
    assert found.shape == (3, 50)
    for row in range(50):
        for number in range(3):
            if not labels[row].any():
                assert np.isnan(found[number, row])
                continue
            expected = label_ranking_average_precision_score(labels[row][None], logits[number, row][None])
            assert found[number, row] == pytest.approx(expected)


def test_right_is_every_label_and_one_that_is_not_known_is_missed():
    logits, labels = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]), np.array([[1, 0], [1, 0], [0, 0]], dtype=bool)
    assert MULTI_LABEL.right(logits, labels).tolist() == [True, False, True]
    assert MULTI_LABEL.right(np.stack([logits, -logits]), labels).tolist()[1] == [False, False, False]
    assert MULTI_LABEL.right(torch.tensor(logits), torch.tensor(labels)).tolist() == [True, False, True]
    assert MULTI_LABEL.equal(logits > 0, labels).tolist() == [True, False, True]
    wider = np.column_stack([labels, [False, False, True]])
    assert MULTI_LABEL.equal(logits > 0, wider).tolist() == [True, False, False]


def test_an_example_counts_for_its_rarest_label():
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=bool)
    assert MULTI_LABEL.strata(labels).tolist() == [1, 0, 3, 2]


def test_guesses_are_those_of_rates_and_of_the_most_frequent_set():
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)  # rates 3/4, 1/4, 0
    found = MULTI_LABEL.guesses(labels)
    by_chance = [0.75 * 0.75, 0.75 * 0.75, 0.75 * 0.25, 0.25 * 0.75]
    assert found == pytest.approx({"chance": np.mean(by_chance), "largest_class": 0.5, "mean_rate": 0.5})
    assert MULTI_LABEL.guesses(np.zeros((3, 2), dtype=bool)) == {"chance": 1.0, "largest_class": 1.0, "mean_rate": 0.0}


def test_folds_and_holdouts_are_those_of_iterative_stratification():
    labels, groups, extra = drawn()[1], np.arange(60) // 3, np.arange(60) > 49
    for some in (None, groups):
        for found, expected in (
            (MULTI_LABEL.folds(labels, 2, 7, some, extra), several_folds(labels, 2, 7, some, extra)),
            (MULTI_LABEL.round_folds(labels, 2, 1, 7, some), several_round_folds(labels, 2, 1, 7, some)),
        ):
            assert [(a.tolist(), b.tolist()) for a, b in found] == [(a.tolist(), b.tolist()) for a, b in expected]
        assert np.array_equal(MULTI_LABEL.held_out(labels, 8, 7, some), several_held_out(labels, 8, 7, some))


PROBABILITIES = np.array([[0.9, 0.2, 0.5], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])


def test_the_figures_are_those_of_several_labels():
    answers, labels = MULTI_LABEL.answers(PROBABILITIES), np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=bool)
    trained = np.array([10, 5, 1])
    found = MULTI_LABEL.evaluate(answers, labels, ["a", "b", "c"], trained, 20, {"plain": answers})
    assert found == evaluate(answers, labels, ["a", "b", "c"], trained / 20, {"plain": answers})
    assert found["figures"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert next(iter(MULTI_LABEL.figures)) == "macro_f1"
