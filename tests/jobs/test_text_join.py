"""The baseline joined to a text encoder's vectors: an artifact of three files that says the same wherever it goes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

import golem_ray
from golem_ray import artifact, storage
from golem_ray.classifier import TrainedClassifier
from golem_ray.config import GridConfig, HeadConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.errors import ConfigError, StorageError
from golem_ray.jobs.candidates import spell_out
from golem_ray.text.encoders import TextEncoder
from tests import warm
from tests.artifact.test_sharing import TOKEN, files_of, hub, online, push  # noqa: F401
from tests.conftest import ROOT
from tests.jobs.runs import comparison_on
from tests.jobs.texts import SECRET, run_on, sidecar, texts, write_csv
from tests.test_classifier import save_artifact

JOIN = {"join_baseline": True}


def joined_run(folder: Path, encoder: Path, name: str = "t.pth", **changes):
    """A run on 48 texts of which 9 are held out, with the baseline joined."""
    source = write_csv(folder / "train.csv", 48)
    config = run_on(source, encoder, folder / name, evaluation={"holdout": 9, "repeats": 1}, **changes)
    config["model"] |= JOIN
    return config


@pytest.fixture(scope="module")
def run(text_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    golem_ray.train(joined_run(folder, text_encoder))
    return folder


def third(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


def test_what_is_joined_lies_beside_the_weights_and_the_summary_says_so(run):
    document, (path,) = sidecar(run / "t.pth"), third(run)
    assert document["joined"]["file"] == path.name == f"t.joined-{document['joined']['sha256'][:12]}.npz"
    assert document["head"]["in_features"] == 32 + 3
    assert document["config"]["model"]["join_baseline"] is True
    assert ", joined with pieces of words (TF-IDF), on cpu." in document["summary"]
    assert SECRET.encode() not in path.read_bytes()
    weights = torch.load(run / "t.pth", weights_only=True)["weight"]
    assert weights.shape == (3, 35)
    assert weights[:, 32:].abs().max() > 0.1


def test_python_a_job_and_plain_arithmetic_say_the_same(command, run):
    written, labels = texts(48)
    classifier = golem_ray.load(str(run / "t.pth"))
    found = classifier.predict(written)
    assert [each.label for each in found] == labels  # of words that say it
    for text, among in zip(written[:5], found, strict=False):
        assert classifier.predict(text).probabilities == pytest.approx(among.probabilities, abs=1e-6)
    said = command("predict", run / "t.pth", run / "train.csv", "--cluster.address=none", f"--output={run}/p.jsonl")
    assert said.status == 0, said.err
    rows = [json.loads(line) for line in (run / "p.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([row["probability"] for row in rows], [each.probability for each in found], atol=1e-5)
    terms = np.load(third(run)[0])
    state = torch.load(run / "t.pth", weights_only=True)
    counts = classifier._modality.terms([written[0].encode()], classifier.recipe)
    place = {int(term): at for at, term in enumerate(terms["terms"])}
    values = np.zeros(len(place))
    for term, count in zip(counts.indices, counts.data, strict=True):
        if term in place:
            values[place[term]] = (1 + np.log(count)) * terms["idf"][place[term]]
    said = values / np.linalg.norm(values) @ terms["weights"].astype(float) + terms["biases"]
    vector = classifier.embed([classifier._read(written[0], {})])[0]
    np.testing.assert_allclose(vector[32:], said.clip(-10, 10), atol=1e-4)
    logits = torch.tensor(vector) @ state["weight"].T + state["bias"]
    np.testing.assert_allclose(classifier.artifact.logits(vector[None])[0], logits, atol=1e-4)


def test_an_evaluation_finds_what_the_training_did(command, run, tmp_path):
    said = command("evaluate", run / "t.pth", f"--dataset.name={run}/train.csv", "--cluster.address=none")
    assert said.status == 0, said.err
    assert "on 9 texts of" in said.out
    held = sidecar(run / "t.pth")["metrics"]["evaluation"]["figures"]["accuracy"]["value"]
    assert f"accuracy {held:.1%}" in said.out


def test_its_sidecar_makes_the_same_three_files_again_and_a_cache_serves_both(run, text_encoder, tmp_path):
    document = sidecar(run / "t.pth")
    document["config"]["paths"] = {"save_path": str(tmp_path / "t.pth"), "embedding_cache": str(tmp_path / "cache")}
    golem_ray.train(document)
    assert (tmp_path / "t.pth").read_bytes() == (run / "t.pth").read_bytes()
    assert [each.read_bytes() for each in third(tmp_path)] == [each.read_bytes() for each in third(run)]
    config = joined_run(tmp_path, text_encoder, "plain.pth", paths={"embedding_cache": str(tmp_path / "cache")})
    config["model"]["join_baseline"] = False
    golem_ray.train(config)
    assert sidecar(tmp_path / "plain.pth")["timings"]["tokens_embedded"] == 0
    assert "joined" not in sidecar(tmp_path / "plain.pth")


def test_a_run_goes_on_and_vectors_that_are_kept_have_what_is_joined(command, run, text_encoder, tmp_path):
    for name in ("a", "b"):
        config = joined_run(tmp_path, text_encoder, f"{name}.pth", paths={"run_dir": str(tmp_path / "run")})
        golem_ray.train(config)
        assert (tmp_path / f"{name}.pth").read_bytes() == (run / "t.pth").read_bytes()
    assert sidecar(tmp_path / "b.pth")["timings"]["tokens_embedded"] == 0
    outputs, kept = [], []
    for name in ("p", "q"):
        flags = [f"--embedding-cache={tmp_path}/kept", f"--output={tmp_path}/{name}.jsonl", "--cluster.address=none"]
        said = command("predict", run / "t.pth", run / "train.csv", *flags)
        assert said.status == 0, said.err
        outputs.append((tmp_path / f"{name}.jsonl").read_bytes())
        kept.append(sorted(str(path) for path in (tmp_path / "kept").rglob("*.parquet")))
    assert outputs[0] == outputs[1]
    assert kept[0] == kept[1] != []


def test_a_classifier_trained_in_memory_is_the_same_and_explains_by_what_is_joined(run, text_encoder, tmp_path):
    written, labels = texts(48)
    config = {"model": {"feature_extractor_model": str(text_encoder), **JOIN}, "training": {"epochs": 30}}
    config["cluster"] = {"address": "none"}
    trained = golem_ray.train(config, texts=written, labels=labels)
    place = trained.save(tmp_path / "m.pth")
    assert golem_ray.load(place).predict(written) == trained.predict(written)
    (path,) = third(tmp_path)
    golem_ray.load(str(run / "t.pth")).save(tmp_path / "m.pth")  # over another, whose third file goes
    (other,) = third(tmp_path)
    assert other.name != path.name
    explained = trained.explain("ненавижу и ура")
    assert {word for word, _ in next(iter(explained.changes.values()))} == {"ненавижу", "и", "ура"}
    plain = trained.predict("и")
    assert plain.label in trained.labels


def test_no_text_is_embedded_twice_and_no_encoder_loaded_twice_for_what_is_fitted_anew(text_encoder, monkeypatch):
    embedded, loaded, embed, load = [], [], TextEncoder.embed, TextEncoder.__init__
    monkeypatch.setattr(TextEncoder, "embed", lambda self, each: embedded.extend(each) or embed(self, each))
    monkeypatch.setattr(TextEncoder, "__init__", lambda *given, **more: loaded.append(1) or load(*given, **more))
    written, labels = texts(24, seed=3)
    reader = golem_ray.Classifier(str(text_encoder), modality="text", join_baseline=True, epochs=5)
    cross_val_score(reader, written, labels, cv=2, error_score="raise")
    found = reader.fit(written, labels).predict_proba(written)
    assert len(embedded) == 24
    alone = [each.probabilities for each in reader.trained_.predict(written)]
    np.testing.assert_allclose(found, [[each[name] for name in reader.classes_] for each in alone], atol=1e-6)
    assert len(loaded) <= 1


def copied(run: Path, folder: Path) -> Path:
    for path in (run / "t.pth", run / "t.json", *third(run)):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "t.pth"


def test_a_third_file_that_is_missing_cut_or_another_is_refused_in_one_line(run, tmp_path):
    place = copied(run, tmp_path)
    (path,) = third(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ConfigError, match=r"\.npz: expected the joined baseline's weights that its sidecar "):
        golem_ray.load(place)
    path.unlink()
    with pytest.raises(ConfigError, match=r"the \.pth, the \.json and the \.npz belong together\."):
        golem_ray.load(place)
    document = sidecar(place)
    document["joined"]["file"] = "../elsewhere.npz"
    place.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"t\.json: expected joined as this package writes it"):
        golem_ray.load(place)


def test_a_third_file_that_somebody_else_wrote_is_refused(run, tmp_path):
    place = copied(run, tmp_path)
    (path,) = third(tmp_path)
    path.write_bytes(b"not NumPy's")
    document = sidecar(place)
    document["joined"]["sha256"] = hashlib.sha256(b"not NumPy's").hexdigest()
    place.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"\.npz: expected the joined baseline's weights as this package writes "):
        golem_ray.load(place)


def test_what_is_joined_to_clips_is_refused(run, encoder_folder, tmp_path):
    place = save_artifact(tmp_path / "v.pth", encoder_folder)
    saved = dataclasses.replace(artifact.load(place), joined=artifact.load(run / "t.pth").joined)
    with pytest.raises(ConfigError, match=r"v\.pth: expected no \.npz beside it for clips, found one"):
        TrainedClassifier(saved)


def test_a_save_that_breaks_leaves_the_old_three_files(run, tmp_path, monkeypatch):
    place = copied(run, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    saved, written = artifact.load(place), []

    def full(files):
        written.extend(files)
        raise StorageError("the disk is full")

    monkeypatch.setattr(storage, "write_all", full)
    with pytest.raises(ConfigError, match="the disk is full"):
        artifact.save(str(place), saved.weights, saved.document, saved.joined.content)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(written) >= 4


@pytest.mark.parametrize("last", [1, 2, 3], ids=["third file", "aside", "weights"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_save_that_breaks_or_ends_between_files_leaves_an_artifact_and_what_belongs_to_it(
    run, tmp_path, monkeypatch, error, last
):
    place, replace, done = copied(run, tmp_path), os.replace, []
    saved = artifact.load(place)
    head = golem_ray.train(
        {"model": JOIN | {"feature_extractor_model": "ngrams"}}, texts=texts(9)[0], labels=texts(9)[1]
    )
    other = head.artifact

    def breaks(source, target):
        done.append(target)
        if len(done) == last + 1:
            raise error
        replace(source, target)

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", breaks)
        with pytest.raises(ConfigError if error is OSError else error):
            artifact.save(str(place), other.weights, other.document, other.joined.content)
    if error is OSError:
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        return
    assert artifact.load(place).weights == (other if last == 3 else saved).weights
    artifact.save(str(place), saved.weights, saved.document, saved.joined.content)
    assert artifact.load(place).joined == saved.joined
    if last == 3:  # its sidecar was aside
        assert {path.name for path in tmp_path.iterdir()} == before.keys()


@pytest.mark.parametrize("name", ["ф" * 125, "a" * 250, "a\\b", "с пробелом [1] 100%"])
def test_the_name_of_the_third_file_is_one_wherever_that_of_the_weights_is_one(run, tmp_path, name):
    saved = artifact.load(copied(run, tmp_path))
    for content in (saved.joined.content, None):
        place = f"{tmp_path}/of/{name}.pth"
        artifact.save(place, saved.weights, saved.document, content)
        assert len(third(tmp_path / "of")) == (content is not None)
        if content is not None:
            assert artifact.load(place).joined == saved.joined


def test_it_goes_to_the_hub_and_comes_back(run, text_encoder, hub, tmp_path):  # noqa: F811
    done = push(run / "t.pth", "me/mood", **online(hub.url, tmp_path / "pusher", TOKEN))
    assert done.returncode == 0, done.stderr
    files = files_of(hub, "me/mood")
    assert files["voice_classifier_knowledge.joined.npz"] == third(run)[0].read_bytes()
    card = files["README.md"].decode()
    assert "; joined with pieces of words (TF-IDF) by voice_classifier_knowledge.joined.npz" in card
    script = (
        f"import golem_ray; print(golem_ray.load('me/mood', encoder='{text_encoder}').predict('ура здорово').label)"
    )
    environment = {**os.environ, **online(hub.url, tmp_path / "hf")}
    fetched = warm.run(["-c", script], cwd=ROOT, env=environment)
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.strip() == "joy"


def test_texts_whose_embeddings_stay_in_storage_have_nothing_joined(text_encoder, tmp_path):
    config = joined_run(tmp_path, text_encoder, cluster={"gather_limit": 11}, paths={"run_dir": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match=r"^model\.join_baseline: expected false for more than cluster\.gather_limit"):
        golem_ray.train(config)


def test_a_grid_compares_with_and_without(text_encoder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = config_from_dict(run_on(write_csv(tmp_path / "train.csv", 48), text_encoder, tmp_path / "t.pth"))
    head = {"linear": HeadConfig()}
    grid = spell_out(base, GridConfig(layers=("last",), poolings=("mean",), join_baseline=(False, True), heads=head))
    assert [each.join_baseline for each in grid.candidates] == [False, True]
    assert [grid.config(base, each).model.join_baseline for each in grid.candidates] == [False, True]
    (tmp_path / "grid.toml").write_text(f"""
        [dataset]
        name = "train.csv"
        label_column = "label"
        text_column = "text"
        [processing]
        max_samples = "all"
        [model]
        feature_extractor_model = "{text_encoder}"
        [evaluation]
        repeats = 1
        [cluster]
        address = "none"
        threads_per_worker = 1
        [grid]
        layers = ["last"]
        poolings = ["mean"]
        join_baseline = [false, true]
        [grid.heads.linear]
    """)
    said = command("compare", "grid.toml", "--output", "out")
    assert said.status == 0, said.err
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    best, plain = found["candidates"]
    assert (best["join_baseline"], plain["join_baseline"]) == (True, False)
    assert best["accuracy"]["value"] > plain["accuracy"]["value"] + 0.1  # whose encoder is random
    said = command("train", "out/best.toml", "--paths.save-path", "best.pth", "--cluster.address", "none")
    assert said.status == 0, said.err
    assert len(third(tmp_path)) == 1


def test_a_grid_joins_log_mel_statistics_of_clips_too(encoder_folder):
    base = comparison_on(encoder_folder)
    head = {"linear": HeadConfig()}
    grid = spell_out(base, GridConfig(layers=("last",), poolings=("mean",), join_baseline=(False, True), heads=head))
    (recipe,) = grid.recipes.values()
    assert [each.join_baseline for each in grid.candidates] == [False, True]
    assert recipe.joined == 80


def test_the_command_needs_one_flag(command, text_encoder, tmp_path):
    source = write_csv(tmp_path / "train.csv", 24)
    flags = ["--dataset.text-column=text", "--dataset.label-column=label", "--processing.max-samples=all"]
    flags += ["--cluster.address=none", f"--paths.save-path={tmp_path}/t.pth", "--model.join-baseline=true"]
    flags += [f"--model.feature-extractor-model={text_encoder}", "--evaluation.repeats=0"]
    said = command("train", "--dataset.name", source, *flags)
    assert said.status == 0, said.err
    assert len(third(tmp_path)) == 1
