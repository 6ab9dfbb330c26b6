"""Texts whose words say more or less what their labels are, and what scikit-learn's own pipeline says of them."""

import warnings

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.training_set import HeadSpec
from golem_ray.text.baseline import count_terms
from tests.text import text_recipe

WORDS = {
    "joy": ("рад", "радость", "ура", "смех"),
    "fear": ("страх", "боюсь", "ужас", "тьма"),
    "anger": ("злой", "злость", "гнев", "ярость"),
}
NAMES = tuple(WORDS)


def drawn(number=60, seed=0, several=True):
    """Texts, and their labels: (N, 3) bool, or (N,) int64. Each label's words are there more often with the label."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(size=(number, 3)) < [0.5, 0.4, 0.2]
    if not several:
        labels = np.eye(3, dtype=bool)[np.arange(number) % 3]
    texts = []
    for row in labels:
        words = [word for name, has in zip(NAMES, row, strict=True) for word in rng.choice(WORDS[name], 1 + 2 * has)]
        texts.append(" ".join(rng.permutation([*words, *rng.choice(["и", "дом", "стол", "вот"], 3)])))
    return texts, labels if several else labels.argmax(axis=1)


def counted(texts):
    return count_terms([text.encode() for text in texts], text_recipe("ngrams"))


def spec(several=True, num_classes=3):
    return HeadSpec(num_classes=num_classes, target=MULTI_LABEL if several else SINGLE_LABEL)


def pipeline(strength, **settings):
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    return make_pipeline(vectors, LogisticRegression(C=strength, **{"max_iter": 200, **settings}))


def by_scikit_learn(texts, labels, tested, strength, **settings):
    """(M,) or (M, K) of one pipeline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline(strength, **settings).fit(texts, labels).decision_function(tested)


LIBLINEAR = {"solver": "liblinear", "intercept_scaling": 10}
