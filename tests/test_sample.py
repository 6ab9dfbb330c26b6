"""The bundled sample sets and encoder, as files and as the job uses them."""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import transformers

from golem_ray.config import DatasetConfig, ModelConfig
from golem_ray.data import open_source
from golem_ray.data.shards import with_contents
from golem_ray.embedding.examples import read_example, rows_of
from golem_ray.errors import DataError
from golem_ray.sample import DATASETS, SAMPLE
from golem_ray.speech import MODALITY
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import recipe_for
from golem_ray.speech.read import decode

SPLITS = ("train", "test")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def rows(split: str, dataset: str = "sample") -> list[dict]:
    return pq.read_table(DATASETS[dataset] / f"{split}.parquet").to_pylist()


def test_the_requests_are_the_same_bytes_as_ever():
    """Figures that were published are of these; another draw of digits must not change them."""
    digests = {split: hashlib.sha256((SAMPLE / f"{split}.parquet").read_bytes()).hexdigest() for split in SPLITS}
    assert digests == {
        "train": "f5e01f8b0456064076a19b5c340d8e41fa6db573adf98b275572a557bec74243",
        "test": "88d6077a668f43e60d69c5cb68d3b75bba7ec9131a751992301486b52efd18c2",
    }


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_holds_the_fourteen_intents_of_minds14(split):
    source = open_source(DatasetConfig(name="sample", split=split), MODALITY.content, None)
    assert source.labels == (
        *("abroad", "address", "app_error", "atm_limit", "balance", "business_loan", "card_issues"),
        *("cash_deposit", "direct_debit", "freeze", "high_value_payment", "joint_account", "latest_transactions"),
        "pay_bill",
    )
    counts = np.bincount(source.examples["label"].to_numpy(), minlength=14)
    assert counts.min() >= 20
    assert set(source.examples["label"].to_pylist()[:50]) == set(range(14))


def test_the_splits_share_neither_speakers_nor_phrasings():
    train, test = (rows(split) for split in SPLITS)
    for column in ("speaker", "transcription"):
        assert not {row[column] for row in train} & {row[column] for row in test}


@pytest.mark.parametrize(("split", "of_each"), [("train", 5), ("test", 20)])
def test_the_digits_come_in_rounds_of_one_clip_each(split, of_each):
    config = DatasetConfig(name="sample-digits", split=split, label_column="label")
    source = open_source(config, MODALITY.content, None)
    assert source.labels == DIGITS
    rounds = source.examples["label"].to_numpy().reshape(of_each, 10)
    assert all(sorted(labels) == list(range(10)) for labels in rounds.tolist())
    said = [row["transcription"] for row in rows(split, "sample-digits")]
    assert said == [DIGITS[label] for label in rounds.flatten()]


def test_the_digits_to_test_are_spoken_by_other_voices_and_accents():
    train, test = ([row["speaker"].split("+") for row in rows(split, "sample-digits")] for split in SPLITS)
    for accent_or_variant, number in ((0, 4), (1, 12)):
        trained, tested = ({speaker[accent_or_variant] for speaker in split} for split in (train, test))
        assert not trained & tested
        assert len(trained) == len(tested) == number
    assert len(set(map(tuple, train))) == len(set(map(tuple, test))) == 48  # all there are


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("dataset", "shortest", "longest"), [("sample", 0.5, 15), ("sample-digits", 0.25, 1.5)])
def test_the_clips_are_telephone_speech(dataset, shortest, longest, split):
    for row in rows(split, dataset)[::40]:
        waveform, rate = decode(row["audio"]["bytes"])
        assert rate == 8000
        assert shortest < len(waveform) / rate < longest
        assert 0.005 < waveform.std() < 0.5


@pytest.mark.parametrize("name", DATASETS)
def test_there_is_no_third_split(name):
    with pytest.raises(DataError, match="dataset.split"):
        open_source(DatasetConfig(name=name, split="validation"), MODALITY.content, None)


def test_the_package_stays_small():
    assert sum((DATASETS["sample-digits"] / f"{split}.parquet").stat().st_size for split in SPLITS) <= 1.5e6
    sizes = {path.name: path.stat().st_size for path in (*SAMPLE.glob("*"), *SAMPLE.glob("encoder/*"))}
    assert sizes["train.parquet"] + sizes["test.parquet"] <= 4e6
    assert sizes["model.safetensors"] <= 6e6
    package = [path for path in SAMPLE.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in package) < 12e6


def test_the_encoder_is_a_plain_wav2vec2_model_that_computes_in_float32():
    folder = SAMPLE / "encoder"
    model, loading = transformers.Wav2Vec2Model.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert model.dtype.itemsize == 4
    assert model.num_parameters() <= 3e6
    config = json.loads((folder / "config.json").read_text())
    assert (config["feat_extract_norm"], config["dtype"]) == ("group", "float32")


def test_the_encoder_tells_what_is_said_better_than_by_chance():
    """The nearest of the classes' mean vectors, on other voices and phrasings."""
    recipe = recipe_for(ModelConfig(feature_extractor_model="sample"))
    encoder = SpeechEncoder(recipe, "cpu")
    vectors, labels = {}, {}
    for split in SPLITS:
        source = open_source(DatasetConfig(name="sample", split=split), MODALITY.content, 70)
        clips = with_contents(source.examples)
        vectors[split] = encoder.embed([read_example(row, recipe, False).data for row in rows_of(clips)])
        labels[split] = source.examples["label"].to_numpy()
    means = np.stack([vectors["train"][labels["train"] == label].mean(axis=0) for label in range(14)])
    distances = np.linalg.norm(vectors["test"][:, None] - means, axis=2)
    assert (distances.argmin(axis=1) == labels["test"]).mean() > 0.25  # chance is 0.07
