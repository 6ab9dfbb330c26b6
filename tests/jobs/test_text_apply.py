"""A classifier of texts in use: by the jobs, in Python and from the Hub, and none of the texts is shown anywhere."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections import OrderedDict

import pytest

import golem_ray
from golem_ray import artifact
from golem_ray.config import ClusterConfig, DatasetConfig, PredictConfig
from golem_ray.errors import DataError
from golem_ray.jobs import memory
from golem_ray.jobs.engines import HANDFUL
from golem_ray.jobs.evaluate import evaluate_artifact
from golem_ray.jobs.predict import predict
from golem_ray.text.encoders import TextEncoder
from tests import warm
from tests.artifact.test_sharing import TOKEN, files_of, front_matter, hub, online, push  # noqa: F401
from tests.conftest import ROOT
from tests.jobs.runs import HERE, ON_RAY, on
from tests.jobs.texts import SECRET, run_on, texts


def test_predictions_of_a_command_and_of_python_agree(command, trained_on_texts, tmp_path, monkeypatch):
    """The artifact says in which column the texts are."""
    source = tmp_path / "test.csv"
    source.write_text(
        (trained_on_texts.parent / "test.csv").read_text(encoding="utf-8") + '" ",joy\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    here = ("--cluster.address", "none")
    said = command("predict", trained_on_texts, source, "--output", "out.csv", "--top-k", 3, *here)
    assert said.status == 0, said.err
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    written, _ = texts(42, 1)
    classifier = golem_ray.load(str(trained_on_texts))
    found = classifier.predict([*written, " "])
    for row, one in zip(rows, found, strict=True):
        assert row["label"] == (one.label or "")
        assert not one.label or float(row["probability"]) == pytest.approx(one.probability, abs=1e-5)
    assert [row["id"] for row in rows] == [str(row) for row in range(43)]
    assert rows[-1]["problem"] == found[-1].problem == "empty text"
    assert classifier.predict(written[0]).probability == pytest.approx(found[0].probability, abs=1e-5)
    assert "text 42: empty text" in said.err
    assert SECRET not in said.out + said.err + (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_files_of_texts_are_predicted_and_what_cannot_be_used_is_said_without_it(
    command, trained_on_texts, tmp_path, monkeypatch
):
    (tmp_path / "a.txt").write_text(f"{SECRET} ура")
    (tmp_path / "b.txt").write_bytes(f"{SECRET} ура".encode("cp1251"))
    (tmp_path / "c.wav").write_text("no text")
    monkeypatch.chdir(tmp_path)
    said = command("predict", trained_on_texts, ".")
    assert said.status == 0, said.err
    one, other = said.out.splitlines()
    assert one.startswith("a.txt  ")
    assert other.endswith("b.txt  -  not UTF-8 (it looks like cp1251)")
    assert SECRET not in said.out + said.err
    classifier = golem_ray.load(str(trained_on_texts))
    for given, words in (
        (" ", "^the text: expected a text that can be used, found empty text"),
        (tmp_path / "b.txt", r"b\.txt: expected a text that can be used, found not UTF-8"),
        (b"\xff" + SECRET.encode(), "^the text: expected a text that can be used, found not UTF-8"),
        (7, "^the text: expected a text that can be used, found an? int, which is no text"),
    ):
        with pytest.raises(DataError, match=words) as error:
            classifier.predict(given)
        assert SECRET not in str(error.value)


def test_an_evaluation_shows_no_text_unless_that_is_asked_for(command, trained_on_texts, tmp_path, monkeypatch):
    flags = ["--dataset.label-column", "label", "--cluster.address", "none", "--json"]
    other = ["--dataset.name", trained_on_texts.parent / "test.csv", *flags]
    monkeypatch.chdir(tmp_path)
    said = command("evaluate", trained_on_texts, *other, "--report", "e.html")
    assert said.status == 0, said.err
    found = json.loads(said.out.splitlines()[-1])
    assert found["num_clips"] == 42
    assert SECRET not in said.out + said.err + (tmp_path / "e.html").read_text()
    in_python = golem_ray.load(str(trained_on_texts)).evaluate(*texts(42, 1))
    assert in_python["figures"]["accuracy"] == found["figures"]["accuracy"]
    said = command("evaluate", trained_on_texts, *other, "--report", "f.html", "--texts")
    page = (tmp_path / "f.html").read_text()
    assert SECRET in page
    assert "<th>What it says</th><th>Words that moved it</th>" in page
    assert page.count('class="text"') == page.count('class="moved"') > 0
    assert "wrong <b>" in page
    assert SECRET not in said.out + said.err
    own = golem_ray.load(str(trained_on_texts)).evaluate(*texts(48))
    assert own["num_clips"] == 9  # those held out


def test_an_artifact_of_texts_is_shared(trained_on_texts, text_encoder, tmp_path, hub):  # noqa: F811
    done = push(trained_on_texts, "me/mood", "--report", **online(hub.url, tmp_path / "pusher", TOKEN))
    assert done.returncode == 0, done.stderr
    files = files_of(hub, "me/mood")
    card = files["README.md"].decode()
    assert front_matter(card)["pipeline_tag"] == "text-classification"
    assert '.predict("It rained.")' in card
    assert "clip" not in card
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    probe = (
        f'import golem_ray; print(golem_ray.load("me/mood", encoder="{text_encoder}").predict("ура, здорово").label)'
    )
    environment = {**os.environ, **online(hub.url, tmp_path / "hf")}
    found = warm.run(["-c", probe], cwd=ROOT, env=environment)
    assert found.stdout.strip() == golem_ray.load(str(trained_on_texts)).predict("ура, здорово").label, found.stderr


def test_a_saved_classifier_of_texts_needs_no_ray(trained_on_texts):
    code = f"""
import sys, golem_ray
found = golem_ray.load({str(trained_on_texts)!r}).predict(["ура, здорово", "боюсь"])
assert "ray" not in sys.modules
print(*(one.label for one in found))
"""
    done = warm.run(["-c", code], cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    expected = golem_ray.load(str(trained_on_texts)).predict(["ура, здорово", "боюсь"])
    assert done.stdout.split() == [one.label for one in expected]


def test_strings_paths_and_bytes_in_memory_make_the_same_classifier(
    trained_on_texts, text_encoder, tmp_path, monkeypatch
):
    written, labels = texts(48)
    config = run_on("", "", "", evaluation={"holdout": 9})
    del config["dataset"], config["model"], config["paths"], config["processing"]
    files = [tmp_path / f"{row}.txt" for row in range(48)]
    for file, text in zip(files, written, strict=True):
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "_kept", OrderedDict())
    seen: list[int] = []
    embed = TextEncoder.embed
    monkeypatch.setattr(TextEncoder, "embed", lambda self, given: seen.append(len(given)) or embed(self, given))
    for given in (written, files, [text.encode() for text in written]):
        classifier = golem_ray.train(config, texts=given, labels=labels, encoder=str(text_encoder))
        assert classifier.artifact.weights == trained_on_texts.read_bytes()
    assert sum(seen) == 48  # once
    assert SECRET not in classifier.summary + repr(classifier)
    place = classifier.save(str(tmp_path / "saved" / "t.pth"))
    assert SECRET not in (tmp_path / "saved" / "report.html").read_text()
    assert golem_ray.load(place).predict(written[0]).label == classifier.predict(written[0]).label
    with pytest.raises(DataError, match=r"at most 0 of \d+ texts .* 1 or more \(text 2: empty text\)") as error:
        golem_ray.train(config, texts=[*written[:2], " ", *written[3:]], labels=labels)
    assert SECRET not in str(error.value)


@pytest.mark.slow  # test_both_engines.py has clips evaluated on both
def test_predictions_and_an_evaluation_on_ray_are_the_same(shared_ray, trained_on_texts, tmp_path):
    saved, source = artifact.load(str(trained_on_texts)), str(trained_on_texts.parent / "test.csv")
    assert HANDFUL < 42
    found, figures = [], []
    for number, keys in enumerate((HERE, {**ON_RAY, "cluster": ClusterConfig(workers=2, threads_per_worker=1)})):
        found.append(list(predict(saved, [source], PredictConfig(dataset=DatasetConfig(text_column="text"), **keys))))
        config = on(source, report=str(tmp_path / f"{number}.html"), **keys)
        config = dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, text_column="text"))
        figures.append(evaluate_artifact(saved, config)["figures"])
    assert [row["label"] for row in found[0]] == [row["label"] for row in found[1]]
    for one, other in zip(*found, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    assert figures[0]["accuracy"] == figures[1]["accuracy"]
