import numpy as np
import pytest

from golem_ray.config import NOUNS
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.metrics.intervals import wilson_interval
from golem_ray.report.drawings import draw_confusion, draw_per_class, project, reliability


def test_reliability_is_how_often_it_is_right_by_how_sure_it_is():
    probabilities = np.array([[0.65, 0.35], [0.69, 0.31], [0.05, 0.95], [0.02, 0.98]])
    found = reliability(np.array([0, 1, 1, 1]), SINGLE_LABEL.answers(probabilities))
    assert found == [pytest.approx((0.67, 0.5, 2)), pytest.approx((0.965, 1.0, 2))]


def test_each_class_has_its_recall_with_wilsons_interval():
    figure = draw_per_class(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), ["a", "b", "c"], NOUNS["speech"])
    (bars,) = figure["data"]
    assert bars["x"] == [0.5, 1.0]  # of the class without clips nothing can be said
    assert figure["layout"]["yaxis"]["ticktext"] == ["a", "c"]
    assert bars["x"][0] - bars["error_x"]["arrayminus"][0] == pytest.approx(wilson_interval(0.5, 2)[0])
    named = draw_per_class(np.array([0]), np.array([0]), ['R&B "<i>"'], NOUNS["speech"])["layout"]["yaxis"]["ticktext"]
    assert named == ['R&amp;B "&lt;i&gt;"']  # what Plotly shows as it was; it knows no `&quot;`
    counts = draw_confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), ["a", "b", "c"], NOUNS["speech"])["data"][0]
    assert counts["z"] == [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 1]]
    assert counts["text"][0] == ["1", "1", ""]


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_the_map_is_of_the_two_widest_directions(shape):
    """Against a singular value decomposition, up to the sign."""
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 3
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    where, share = project(vectors)
    assert np.allclose(np.abs(where), np.abs(left[:, :2] * values[:2]), atol=1e-5)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-6)
    assert (where[np.abs(where).argmax(axis=0), [0, 1]] > 0).all()
