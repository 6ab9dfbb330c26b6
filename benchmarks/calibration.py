"""What the fitted temperature is worth, by the number of clips that it is fitted on.

    python benchmarks/calibration.py [--seeds 20]

Draws of the sample's `train` split, tested on its `test` split: other voices, other phrasings. Means over seeds of
log-loss (nats) and expected calibration error, of the head's own probabilities and of the calibrated ones.
"""

import argparse

import numpy as np
import pyarrow.parquet as pq

from golem_ray.config import ModelConfig, TrainingConfig
from golem_ray.heads.single_label import SINGLE_LABEL
from golem_ray.heads.train_head import train_head
from golem_ray.heads.training_set import HeadSpec, TrainingSet
from golem_ray.metrics import figures as metrics
from golem_ray.metrics.figures import figures
from golem_ray.sample import SAMPLE
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import recipe_for
from golem_ray.speech.read import load_clip


def embedded(split: str, encoder: SpeechEncoder) -> tuple[np.ndarray, np.ndarray]:
    """The split's vectors (N, D) and labels (N,)."""
    rows = pq.read_table(SAMPLE / f"{split}.parquet").to_pylist()
    waveforms = [load_clip(row["audio"]["bytes"], 16000) for row in rows]
    return encoder.embed(waveforms), np.array([row["intent_class"] for row in rows])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--num-clips", type=int, nargs="+", default=[20, 30, 50, 100, 336])
    arguments = parser.parse_args()
    seeds = arguments.seeds
    metrics._RESAMPLES = 1  # intervals are not shown
    encoder = SpeechEncoder(recipe_for(ModelConfig(feature_extractor_model="sample")), "cpu")
    vectors, labels = embedded("train", encoder)
    tested, truth = embedded("test", encoder)
    baseline = np.zeros((1, 1), np.float32)
    print("clips  temperature  accuracy   log-loss: own  calibrated   calibration error: own  calibrated")
    for num_clips in arguments.num_clips:
        rows = []
        for seed in range(seeds if num_clips < len(labels) else 1):
            drawn = np.random.default_rng(seed).permutation(len(labels))[:num_clips]
            data = TrainingSet(
                embeddings=vectors[drawn],
                labels=labels[drawn],
                held_out=tested,
                baseline=np.repeat(baseline, num_clips, axis=0),
                held_out_baseline=np.repeat(baseline, len(tested), axis=0),
            )
            head = train_head(data, HeadSpec(num_classes=14, training=TrainingConfig(seed=seed)), repeats=5)
            calibration = head.metrics["calibration"]
            if calibration is None:
                continue
            own, calibrated = (
                figures(SINGLE_LABEL.answers(SINGLE_LABEL.probabilities(head.held_out_logits, each)), truth)
                for each in (None, calibration)
            )
            names = ("log_loss", "expected_calibration_error")
            rows.append(
                [calibration["temperature"], own["accuracy"]["value"]]
                + [which[name]["value"] for name in names for which in (own, calibrated)]
            )
        means = np.mean(rows, axis=0) if rows else [np.nan] * 6
        print(
            f"{num_clips:5}  {means[0]:11.2f}  {means[1]:8.3f}  {means[2]:14.3f}  {means[3]:10.3f}  "
            f"{means[4]:23.3f}  {means[5]:10.3f}  ({len(rows)} of {seeds} draws calibrated)"
        )


if __name__ == "__main__":
    main()
