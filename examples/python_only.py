"""Clips in memory, scikit-learn around the classifier, no file and no Ray: the bundled digits.

python examples/python_only.py
"""

import pyarrow.parquet as pq
from sklearn.model_selection import GridSearchCV

import golem_ray
from golem_ray.sample import DATASETS


def clips_of(split: str) -> tuple[list[bytes], list[str], list[str]]:
    """Audio files' bytes, what is said in each, and by which voice."""
    rows = pq.read_table(DATASETS["sample-digits"] / f"{split}.parquet").to_pylist()
    return (
        [row["audio"]["bytes"] for row in rows],
        [row["transcription"] for row in rows],
        [row["speaker"] for row in rows],
    )


def main() -> None:
    """Choose a layer and a head by cross-validation, and test the choice on voices that had no part in it."""
    clips, digits, _ = clips_of("train")
    search = GridSearchCV(
        golem_ray.Classifier(encoder="sample", standardize=True),
        {"layer": ["last", "mean"], "weight_decay": [0.0, 0.01]},
        cv=5,
    )
    search.fit(clips, digits)  # each clip is embedded once for each layer
    print("chosen:", search.best_params_, f"with {search.best_score_:.1%} by cross-validation")

    others, spoken, voices = clips_of("test")
    tested = search.best_estimator_.trained_.evaluate(others, spoken, groups=voices)
    print(tested["summary"].splitlines()[0])


if __name__ == "__main__":
    main()
