import io

import pytest
import torch
from torch import nn

from golem_ray.artifact.format import build_head
from golem_ray.artifact.in_pytorch import head_lines
from golem_ray.config import HeadConfig, TrainingConfig
from golem_ray.errors import ConfigError
from golem_ray.heads.fit import fit, logits_of
from golem_ray.heads.modules import load_head, new_head, weights_file
from tests.heads.training import blobs, examples, spec


def test_a_new_head_is_the_seeds_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = nn.Linear(5, 3).weight
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(new_head(5, 3, seed=7).weight, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_weights_give_the_same_bytes():
    first, second = (weights_file(new_head(6, 2, seed=3)) for _ in range(2))
    assert first == second
    assert first != weights_file(new_head(6, 2, seed=4))


@pytest.mark.parametrize(("hidden", "layer_norm"), [([], False), ([4], False), ([4, 6], True)])
def test_a_model_cards_lines_of_pytorch_are_the_head(hidden, layer_norm):
    head = new_head(5, 3, 7, HeadConfig(hidden=tuple(hidden), activation="tanh", layer_norm=layer_norm)).eval()
    scope = {"torch": torch, "state": torch.load(io.BytesIO(weights_file(head)), weights_only=True)}
    exec("\n".join(head_lines(description(hidden=hidden, layer_norm=layer_norm))), scope)
    scope["head"].load_state_dict(scope["state"])
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scope["head"](x), head(x))


def description(**changes):
    return {"kind": "mlp", "in_features": 5, "out_features": 3, "hidden": [4], "activation": "tanh"} | changes


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_head_is_what_its_description_and_weights_say(layer_norm):
    config = HeadConfig(hidden=(4, 6), activation="gelu", layer_norm=layer_norm, dropout=0.5)
    head = new_head(5, 3, 7, config).eval()
    state = torch.load(io.BytesIO(weights_file(head)), weights_only=True)
    loaded = load_head(description(hidden=[4, 6], activation="gelu", layer_norm=layer_norm), state)
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), head(x))
    assert [name for name, _ in head.named_children()][:2] == ["hidden0", "norm0" if layer_norm else "activation0"]


def test_a_head_with_batch_normalisation_is_saved_with_what_it_learned_of_batches():
    embeddings, labels = blobs(3, 20, 5)
    config = HeadConfig(hidden=(4, 6), normalization="batch", standardize=True)
    head = fit(examples(embeddings, labels), spec(3, config, TrainingConfig()))
    assert isinstance(head.norm0, nn.BatchNorm1d)
    assert head.norm1.num_batches_tracked == 100
    x, weights = torch.tensor(embeddings), weights_file(head)
    described = description(hidden=[4, 6], activation="relu", normalization="batch")
    loaded = build_head(weights, {"head": described, "labels": ["a", "b", "c"]}, "v.pth")
    assert torch.equal(loaded(x), head(x))
    assert (loaded(x).argmax(dim=1).numpy() == labels).mean() > 0.9
    one_by_one = torch.cat([loaded(row[None]) for row in x])
    assert torch.allclose(one_by_one, head(x), atol=1e-6)  # whatever is beside it
    with pytest.raises(ValueError, match="running_mean"):
        load_head(described | {"normalization": "layer"}, head.state_dict())


def test_batch_normalisation_is_by_the_other_examples_of_a_step_and_learns_their_mean():
    head = new_head(2, 2, 0, HeadConfig(hidden=(3,), normalization="batch")).train()
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    hidden = head.hidden0(x)
    expected = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(head.norm0(hidden), expected, atol=1e-5)
    assert torch.allclose(head.norm0.running_mean, 0.1 * hidden.mean(dim=0), atol=1e-6)


def test_a_step_of_one_example_is_normalised_by_those_before():
    embeddings, labels = blobs(3, 9, 8)  # 27 rows: the last batch of each epoch has one
    config, training = HeadConfig(hidden=(8,), normalization="batch"), TrainingConfig(epochs=60, batch_size=13)
    head = fit(examples(embeddings, labels), spec(3, config, training))
    logits = logits_of(head, torch.tensor(embeddings))
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    norm = head.norm0.train()
    row = torch.ones(1, 8)
    assert torch.allclose(norm(row), norm.eval()(row))


def test_each_hidden_layer_has_its_share_of_dropout():
    head = new_head(5, 3, 0, HeadConfig(hidden=(4, 6, 7), dropout=(0.1, 0.0, 0.5)))
    assert {name: module.p for name, module in head.named_modules() if isinstance(module, nn.Dropout)} == {
        "dropout0": 0.1,
        "dropout2": 0.5,
    }
    same = new_head(5, 3, 0, HeadConfig(hidden=(4, 6), dropout=0.2))
    assert [module.p for module in same.modules() if isinstance(module, nn.Dropout)] == [0.2, 0.2]


def test_the_older_name_of_layer_normalisation_is_the_same_head():
    heads = [
        new_head(5, 3, 0, HeadConfig(hidden=(4,), **keys))
        for keys in ({"layer_norm": True}, {"normalization": "layer"})
    ]
    assert weights_file(heads[0]) == weights_file(heads[1])
    state = heads[0].state_dict()
    x = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    for keys in ({"layer_norm": True}, {"layer_norm": False, "normalization": "layer"}):
        assert torch.equal(
            load_head(description(**keys), dict(state))(x), load_head(description(layer_norm=True), dict(state))(x)
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "forest"}, "kind 'forest'"),
        ({"kind": "linear"}, "other weights than a linear head's"),
        ({"hidden": []}, "kind 'mlp' with hidden layers"),
        ({"hidden": "44"}, "widths"),
        ({"hidden": [10**12]}, "widths"),
        ({"hidden": [2**30]}, "other weights than a mlp head's"),
        ({"in_features": None}, "widths"),
        ({"in_features": 6}, r"hidden0.weight \(4, 5\)"),
        ({"activation": "__import__"}, "activation '__import__'"),
        ({"layer_norm": True}, "norm0"),
        ({"normalization": "batch"}, "norm0"),
        ({"normalization": "group"}, "normalization 'group'"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, words):
    state = new_head(5, 3, 0, HeadConfig(hidden=(4,))).state_dict()
    with pytest.raises(ValueError, match=words):
        load_head(description(**changes), state)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden": (0,)}, "head.hidden: expected positive widths"),
        ({"dropout": 1.0, "hidden": (4,)}, "head.dropout: expected 0 to less than 1"),
        ({"label_smoothing": -0.1}, "head.label_smoothing"),
        ({"weight_decay": -1.0}, "head.weight_decay: expected 0 or more"),
        ({"patience": 0}, "head.patience: expected 1 or more"),
        ({"dropout": 0.5}, "head.dropout: expected hidden layers"),
        ({"dropout": (0.5,), "hidden": (4, 4)}, "head.dropout: expected one for each of the 2 hidden layers"),
        ({"dropout": (0.5, 1.0), "hidden": (4, 4)}, "head.dropout: expected 0 to less than 1"),
        ({"normalization": "batch"}, "head.normalization: expected hidden layers"),
        ({"normalization": "batch", "layer_norm": True, "hidden": (4,)}, "head.layer_norm: expected none beside"),
        ({"class_weights": (1.0, -1.0)}, "head.class_weights: expected 0 or more"),
        ({"threshold": 1.0}, "head.threshold: expected a probability"),
        ({"kind": "logistic", "hidden": (4,)}, "head.hidden: expected nothing but head.kind for 'logistic'"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        HeadConfig(**keys)
