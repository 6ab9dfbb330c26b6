"""Clips of datasets beside the main one: trained on, never tested, and nowhere beside a tested copy or speaker."""

import copy
import hashlib
import json
import shutil

import numpy as np
import pytest

import golem_ray
from golem_ray.artifact.provenance import trained_on
from golem_ray.artifact.published import published
from golem_ray.config.presets import config_from_dict
from golem_ray.data import open_source
from golem_ray.data.split import divide
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.errors import ConfigError, DataError
from golem_ray.jobs import usable
from golem_ray.jobs.origin import Origin
from golem_ray.speech import MODALITY
from tests.conftest import audio_bytes, tone, write_clips
from tests.jobs.runs import NAMES, configuration


def write_more(folder, labels, seconds=0.3, columns="file_name,label"):
    """A folder of clips that no other has, with a metadata.csv of these columns. Returns the folder."""
    folder.mkdir(parents=True)
    for row in range(len(labels)):
        (folder / f"{row}.wav").write_bytes(audio_bytes(tone(1000 + row, seconds)))
    lines = [columns, *(f"{row}.wav,{label}" for row, label in enumerate(labels))]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def table(folder, **keys):
    return {"name": str(folder), "label_column": "label", **keys}


def test_a_training_with_another_dataset_counts_the_main_one_alone_and_is_made_again(
    kept, clips_folder, encoder_folder, tmp_path, caplog
):
    more = write_more(tmp_path / "more", ["north", "east", "north", "west", "south"])
    (more / "4.wav").write_bytes(b"noise")
    shutil.copy(clips_folder / "clips" / "0.wav", more / "2.wav")  # a clip of north, as in the main dataset
    changes = {"paths": {"embedding_cache": kept}, "processing": {"max_bad_fraction": 0.05}}
    plain = golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "plain.pth", **changes))
    changes["dataset"] = {"extra": [table(more)]}
    result = golem_ray.train(configuration(clips_folder, encoder_folder, tmp_path / "v.pth", **changes))
    sidecar = json.loads((tmp_path / "v.json").read_text())
    said = result["summary"]
    assert f"Trained on 24 clips of {clips_folder} and 4 of {more} (1 skipped) in 4 classes" in said
    assert f"largest class 25.0% (of the clips of {clips_folder}, which alone are tested)." in said
    assert "2 x 5 folds over 24 clips)" in said
    assert "from 24 cross-validated clips" in said
    assert "dataset.extra[0] clip 4 (" in caplog.text
    clips = sidecar["clips"]
    assert (clips["total"], clips["used"], clips["extra"]) == (29, 28, [{"total": 5, "used": 4, "left_out": 0}])
    (bad,) = clips["bad"]
    assert (bad["split"], bad["id"], bad["clip"][:24]) == ("train", 4, "dataset.extra[0] clip 4 ")
    assert clips["per_class"] == {"east": 7, "north": 8, "south": 6, "west": 7}
    assert sidecar["data"]["extra_revisions"] == [None]
    assert sidecar["metrics"]["cross_validation"]["num_clips"] == 24
    assert (tmp_path / "v.pth").read_bytes() != (tmp_path / "plain.pth").read_bytes()
    without = json.loads((tmp_path / "plain.json").read_text())
    assert not [key for group in ("clips", "data") for key in without[group] if "extra" in key]
    assert without["config"]["dataset"].keys() == sidecar["config"]["dataset"].keys() - {"extra"}
    assert "alone" not in plain["summary"]
    page = (tmp_path / "report.html").read_text()
    assert f"24 of 24 clips of {clips_folder}, split train, and 4 of 5 clips of {more}, split train (never" in page
    first = (tmp_path / "v.pth").read_bytes()
    golem_ray.train(sidecar)
    assert (tmp_path / "v.pth").read_bytes() == first
    (more / "3.wav").write_bytes(audio_bytes(tone(77, 0.3)))
    with pytest.raises(ConfigError, match=r"data\.sha256"):
        golem_ray.train(sidecar)
    shown = published(copy.deepcopy(sidecar))
    assert str(tmp_path) not in json.dumps([shown["config"]["dataset"], shown["summary"], shown["clips"]["bad"]])
    assert shown["config"]["dataset"]["extra"][0]["name"] == "more"
    file = hashlib.sha256((more / "0.wav").read_bytes()).digest()  # `evaluate` leaves out what was trained on
    assert trained_on(sidecar, np.array([file, b"other"], dtype="S32")).tolist() == [True, False]


def used_of(main, more, digests, **evaluation):
    """What a training would use of these datasets, if the clips' files had these digests, by (dataset, row)."""
    config = config_from_dict({"dataset": {**table(main), "extra": [table(more)]}, "evaluation": evaluation})
    source = open_source(config.dataset, MODALITY.content, None, group_column=config.evaluation.group_column)
    division = divide(config, source, MODALITY.content)
    all_digests = [f"d{row}".encode() for row in range(len(division.tested))]
    for row, digest in digests.items():
        all_digests[row] = digest
    found = Embeddings(
        vectors=np.zeros((len(all_digests), 1), np.float32), bad={}, digests=np.array(all_digests, "S32"), baseline=None
    )
    return division, usable.used_examples(config, division, found)


def listing(folder, name, *rows, header="file_name,label"):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def test_a_copy_of_a_held_out_clip_is_left_out_of_training_and_not_of_the_test(tmp_path, caplog):
    main = listing(tmp_path, "main.csv", *[f"{row}.wav,{'ab'[row % 2]}" for row in range(12)])
    more = listing(tmp_path, "more.csv", *[f"x{row}.wav,{'ab'[row % 2]}" for row in range(4)])
    division, _ = used_of(main, more, {}, holdout=4)
    held, trained = np.flatnonzero(division.tested), np.flatnonzero(~division.tested[:12])
    copies = {13: f"d{held[0]}".encode(), 14: f"d{trained[0]}".encode()}
    division, found = used_of(main, more, copies, holdout=4)
    assert found.unseen.tolist() == held.tolist()
    assert found.used.tolist() == [*trained.tolist(), 12, 14, 15]
    assert found.extra.tolist() == [False] * 8 + [True] * 3
    assert (found.left_out.tolist(), found.num_also_trained_on) == ([13], 0)
    assert "1 of 4 clips of dataset.extra are not trained on: they are equal files of clips to test on" in caplog.text
    assert "dataset.extra[0] clip 1 (" in caplog.text
    assert found.groups[found.used == 14] == found.groups[found.used == trained[0]]  # so that folds keep them together


def test_clips_of_a_held_out_clips_speaker_are_left_out_also_by_way_of_a_copy(tmp_path, caplog):
    rows = [f"{row}.wav,{'ab'[row % 2]},{who}" for row, who in enumerate(np.repeat(["ann", "bob", "cleo", "dan"], 4))]
    main = listing(tmp_path, "main.csv", *rows, header="file_name,label,who")
    header, names = "file_name,label,who", ["ann", "bob", "cleo", "dan", "eve", "eve", "", "fay"]
    more = listing(tmp_path, "more.csv", *[f"x{n}.wav,a,{who}" for n, who in enumerate(names)], header=header)
    division, _ = used_of(main, more, {}, holdout=4, group_column="who")
    held = np.flatnonzero(division.tested)
    speaker = held[0] // 4
    copied = {20: f"d{held[1]}".encode()}  # one of eve's is a clip that is held out: she is that speaker
    division, found = used_of(main, more, copied, holdout=4, group_column="who")
    assert found.left_out.tolist() == [16 + speaker, 20, 21]
    assert len(found.unseen) == 4
    assert "3 of 8 clips of dataset.extra are not trained on: they are equal" in caplog.text
    assert "or of the same who: dataset.extra[0] clip" in caplog.text


def test_copies_of_a_split_to_test_on_are_left_out_but_not_those_of_clips_that_the_main_dataset_has_too(tmp_path):
    for split in ("train", "test"):
        listing(tmp_path, f"{split}.csv", *[f"{split}{row}.wav,{'ab'[row % 2]}" for row in range(4)])
    more = listing(tmp_path, "more.csv", "x.wav,a", "y.wav,b", "z.wav,a")
    # rows: 0 to 3 to train on, 4 to 6 beside them, 7 to 10 to test on
    _, found = used_of(tmp_path, more, {4: b"one", 7: b"one", 5: b"two", 1: b"two", 8: b"two"}, split="test")
    assert found.used.tolist() == [0, 1, 2, 3, 5, 6]
    assert found.unseen.tolist() == [7, 9, 10]
    assert (found.left_out.tolist(), found.num_also_trained_on) == ([4], 1)


def test_a_main_dataset_without_a_clip_to_use_is_refused_and_classes_without_one_are_named(tmp_path, caplog):
    main = listing(tmp_path, "main.csv", *[f"{row}.wav,{'aab'[row]}" for row in range(3)])
    more = listing(tmp_path, "more.csv", *[f"x{row}.wav,{'ab'[row % 2]}" for row in range(4)])
    config = config_from_dict(
        {"dataset": {**table(main), "extra": [table(more)]}, "processing": {"max_bad_fraction": 0.5}}
    )
    division = divide(config, open_source(config.dataset, MODALITY.content, None), MODALITY.content)
    digests = np.array([f"{row}" for row in range(7)], "S32")

    def used(*bad):
        vectors = np.zeros((7, 1), np.float32)
        found = Embeddings(vectors=vectors, bad=dict.fromkeys(bad, "x"), digests=digests, baseline=None)
        return usable.used_examples(config, division, found)

    used(2)
    assert "1 of 2 classes have clips of dataset.extra alone to train on" in caplog.text
    with pytest.raises(DataError, match=r"dataset\.name: expected clips of .*main\.csv that can be used, found none"):
        used(0, 1, 2)


def test_a_run_goes_on_with_the_same_datasets_beside_the_main_one_alone(encoder_folder, tmp_path):
    main = write_clips(tmp_path / "set", NAMES[:2] * 4, seconds=0.2)
    more = write_more(tmp_path / "more", ["north", "east"], seconds=0.2)
    paths = {"save_path": str(tmp_path / "v.pth"), "run_dir": str(tmp_path / "run")}
    changes = {"paths": paths, "training": {"epochs": 5}, "evaluation": {"repeats": 0}}

    def train(*tables):
        golem_ray.train(configuration(main, encoder_folder, "", dataset={"extra": list(tables)}, **changes))
        return (tmp_path / "v.pth").read_bytes()

    first = train(table(more))
    assert train(table(more)) == first
    with pytest.raises(ConfigError, match=r"dataset\.extra\[0\]\.audio_column: 'audio' then, 'file_name' now"):
        train(table(more, audio_column="file_name"))
    with pytest.raises(ConfigError, match=r"dataset\.extra\[0\]\.name: .* then, None now"):
        train()
    listed = (more / "metadata.csv").read_text()
    (more / "metadata.csv").write_text(listed.replace("1.wav,east", "1.wav,north"))
    with pytest.raises(ConfigError, match="other clips, labels or order"):
        train(table(more))
    (more / "metadata.csv").write_text(listed)
    (more / "1.wav").write_bytes(audio_bytes(tone(5, 0.2)))
    with pytest.raises(DataError, match=r"found 1 changed or out of reach \(dataset\.extra\[0\] clip 1 \("):
        train(table(more))


def test_commits_of_datasets_beside_the_main_one_are_pinned_by_a_sidecar():
    extra = [{"name": "org/one"}, {"name": "org/two", "revision": "mine"}, {"name": "more.csv"}]
    config = config_from_dict({"dataset": {"extra": extra}})
    data = {"revision": "main", "extra_revisions": ["one", "two", None]}
    recorded = {"config": {"dataset": {"extra": extra}}, "data": data, "encoder": {}}
    pinned = Origin(recorded, allow_drift=False).pinned(config).dataset
    assert (pinned.revision, [each.revision for each in pinned.extra]) == ("main", ["one", "mine", None])
    other = config_from_dict({"dataset": {"extra": [{"name": "org/three"}, *extra]}})
    found = Origin(recorded, allow_drift=False).pinned(other).dataset.extra
    assert [each.revision for each in found] == [None, None, "mine", None]


def test_the_summary_says_what_was_left_out_for_the_test(clips_folder, encoder_folder, kept, tmp_path):
    changes = {"paths": {"embedding_cache": kept}, "evaluation": {"repeats": 1, "holdout": 6}}
    config = configuration(
        clips_folder, encoder_folder, tmp_path / "v.pth", dataset={"extra": [table(clips_folder)]}, **changes
    )
    said = golem_ray.train(config)["summary"].splitlines()
    assert said[0].startswith(
        f"Trained on 18 clips of {clips_folder} and 18 of {clips_folder} (0 skipped) in 4 classes"
    )
    assert said[1] == f"Not trained on: 6 clips of {clips_folder}, equal to clips to test on."
    clips = json.loads((tmp_path / "v.json").read_text())["clips"]
    assert clips["extra"] == [{"total": 24, "used": 18, "left_out": 6}]
    assert said[2].split("; the same head")[0].endswith("folds over 18 clips)")
    assert said[3].startswith("Accuracy on the 6 clips held out ")
