"""Training and comparing on texts: what an artifact says, made again, gone on with, on Ray; no text is shown."""

from __future__ import annotations

import json

import pytest
import torch

import golem_ray
from golem_ray.artifact.published import published
from golem_ray.errors import ConfigError
from tests.artifact.test_sharing import TOKEN, files_of, front_matter, hub, online, push  # noqa: F401
from tests.conftest import job
from tests.jobs.texts import SECRET, run_on, sidecar, write_csv


def test_the_command_says_what_it_did_without_a_text(trained_on_texts, text_encoder, tmp_path):
    flags = [
        "--dataset.text-column=text",
        "--dataset.label-column=label",
        f"--model.feature-extractor-model={text_encoder}",
    ]
    flags += ["--evaluation.holdout=9", "--evaluation.repeats=2", "--training.epochs=30", "--cluster.address=none"]
    flags += ["--processing.max-samples=all", "--cluster.threads-per-worker=1", "--paths.save-path=t.pth", "--json"]
    done = job("train", "--dataset.name", trained_on_texts.parent / "train.csv", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["savedArtifactPath"] == str(tmp_path / "t.pth")
    assert (tmp_path / "t.pth").read_bytes() == trained_on_texts.read_bytes()
    assert "Trained on 39 texts of" in result["summary"]
    assert "a logistic regression on TF-IDF" in result["summary"]
    assert "embedding 48 texts of" in done.stderr
    assert "clip" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file


def test_the_sidecar_says_what_the_artifact_is_of(trained_on_texts, text_encoder):
    document = sidecar(trained_on_texts)
    assert document["modality"] == "text"
    assert document["encoder"] | {"sha256": ""} == {
        "name": str(text_encoder),
        "revision": None,
        "sha256": "",
        "model_type": "bert",
        "layer": "last",
        "pooling": "mean",
        "precision": "float32",
        "max_tokens": 130,
        "emoji_language": None,
        "replacements": [],
        "compiled": False,
    }
    assert (document["clips"]["used"], document["labels"]) == (39, ["anger", "fear", "joy"])
    assert document["timings"]["tokens_embedded"] > 48 * 5
    assert document["metrics"]["cross_validation"]["baseline"]["accuracy"] > 0.8
    assert document["metrics"]["evaluation"]["baselines"]["tf_idf"]["accuracy"]["value"] > 0.8


def test_its_sidecar_makes_it_again(trained_on_texts, tmp_path):
    document = sidecar(trained_on_texts)
    document["config"]["paths"] = {"save_path": str(tmp_path / "t.pth")}
    golem_ray.train(document)
    assert (tmp_path / "t.pth").read_bytes() == trained_on_texts.read_bytes()
    document["config"]["processing"]["max_tokens"] = 9
    with pytest.raises(ConfigError, match=r"encoder\.max_tokens: 130 then, 9 now"):
        golem_ray.train(document)


def test_encoders_layers_and_poolings_are_compared(command, trained_on_texts, text_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(f"""
        [dataset]
        name = "{trained_on_texts.parent / "train.csv"}"
        label_column = "label"
        text_column = "text"
        [model]
        feature_extractor_model = "{text_encoder}"
        [training]
        epochs = 5
        [evaluation]
        repeats = 1
        [cluster]
        address = "none"
        threads_per_worker = 1
        [grid]
        encoders = ["{text_encoder}", "ngrams"]
        layers = ["all"]
        poolings = ["mean"]
        [grid.heads.small]
        hidden = [4]
    """)
    said = command("compare", "grid.toml", "--output", "out")
    assert said.status == 0, said.err
    assert "6 candidates on 48 texts of" in said.out
    assert SECRET not in said.out + said.err + (tmp_path / "out" / "report.html").read_text()
    said = command("train", "out/best.toml", "--paths.save-path", "best.pth", "--cluster.address", "none")
    assert said.status == 0, said.err
    assert sidecar(tmp_path / "best.pth")["modality"] == "text"


def test_a_run_gone_on_with_and_a_cache_embed_no_text_twice(trained_on_texts, text_encoder, tmp_path):
    source, seen = write_csv(tmp_path / "train.csv", 48), []
    for name, paths in (("a", "run_dir"), ("b", "run_dir"), ("c", "embedding_cache"), ("d", "embedding_cache")):
        config = run_on(source, text_encoder, tmp_path / f"{name}.pth", paths={paths: str(tmp_path / paths)})
        config["evaluation"]["holdout"] = 9
        golem_ray.train(config)
        assert (tmp_path / f"{name}.pth").read_bytes() == trained_on_texts.read_bytes()
        seen.append(sidecar(tmp_path / f"{name}.pth")["timings"]["tokens_embedded"])
    assert seen == [seen[0], 0, seen[0], 0]
    (tmp_path / "words.csv").write_text("from,to\nура,здорово\n")
    other = {"replacements": str(tmp_path / "words.csv")}
    config = run_on(
        source, text_encoder, tmp_path / "e.pth", processing=other, paths={"run_dir": str(tmp_path / "run_dir")}
    )
    config["evaluation"]["holdout"] = 9
    with pytest.raises(ConfigError, match=r"paths\.run_dir: "):
        golem_ray.train(config)
    config["paths"] = {"save_path": str(tmp_path / "e.pth"), "embedding_cache": str(tmp_path / "embedding_cache")}
    golem_ray.train(config)
    assert sidecar(tmp_path / "e.pth")["timings"]["tokens_embedded"] > 0
    assert sidecar(tmp_path / "e.pth")["encoder"]["replacements"] == [["ура", "здорово"]]
    (tmp_path / "words.csv").unlink()  # the sidecar has them
    assert published(sidecar(tmp_path / "e.pth"))["config"]["processing"]["replacements"] == "words.csv"
    assert golem_ray.load(str(tmp_path / "e.pth")).recipe.reading.replacements == (("ура", "здорово"),)


def test_texts_whose_embeddings_stay_in_storage_make_the_same_head(trained_on_texts, text_encoder, tmp_path):
    source = trained_on_texts.parent / "train.csv"
    config = run_on(source, text_encoder, tmp_path / "t.pth", evaluation={"holdout": 9})
    config["cluster"]["gather_limit"] = 11
    config["paths"]["run_dir"] = str(tmp_path / "run")
    golem_ray.train(config)
    found, expected = (torch.load(path, weights_only=True) for path in (tmp_path / "t.pth", trained_on_texts))
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)
    metrics = [sidecar(path)["metrics"] for path in (tmp_path / "t.pth", trained_on_texts)]
    assert metrics[0]["evaluation"]["baselines"] == metrics[1]["evaluation"]["baselines"]
    assert metrics[0]["cross_validation"]["baseline"] == metrics[1]["cross_validation"]["baseline"]


def test_training_on_ray_finds_the_same(shared_ray, trained_on_texts, text_encoder, tmp_path):
    config = run_on(trained_on_texts.parent / "train.csv", text_encoder, tmp_path / "t.pth", evaluation={"holdout": 9})
    config["cluster"] = {"address": "auto", "threads_per_worker": 1, "workers": 2}
    golem_ray.train(config)
    found, expected = sidecar(tmp_path / "t.pth"), sidecar(trained_on_texts)
    assert found["clips"] == expected["clips"]
    assert found["labels"] == expected["labels"]
    for metric in ("training_accuracy", "final_loss"):
        assert found["metrics"][metric] == pytest.approx(expected["metrics"][metric], abs=1e-4)
    assert found["metrics"]["cross_validation"]["accuracy"] == expected["metrics"]["cross_validation"]["accuracy"]
    baselines = [each["metrics"]["evaluation"]["baselines"]["tf_idf"] for each in (found, expected)]
    assert baselines[0] == baselines[1]
    weights = [torch.load(path, weights_only=True)["weight"] for path in (tmp_path / "t.pth", trained_on_texts)]
    assert torch.allclose(*weights, atol=1e-3)  # other batches round otherwise
