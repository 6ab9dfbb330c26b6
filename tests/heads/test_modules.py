import io

import pytest
import torch
from torch import nn

from golem_ray.artifact.model_card import _head_lines
from golem_ray.config import HeadConfig
from golem_ray.errors import ConfigError
from golem_ray.heads.modules import load_head, new_head, weights_file


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
    exec("\n".join(_head_lines(description(hidden=hidden, layer_norm=layer_norm))), scope)
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
        ({"kind": "logistic", "hidden": (4,)}, "head.hidden: expected nothing but head.kind for 'logistic'"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        HeadConfig(**keys)
