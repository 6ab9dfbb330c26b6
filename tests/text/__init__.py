"""Tiny random text encoders of every family, made on the spot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

TEXTS = (
    "Какой прекрасный день!",
    "Я очень зол, и мне грустно.",
    "ну и ладно",
    "Это просто ужас, я боюсь идти туда одна, там темно, холодно и никого нет",
    "Ого!",
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "Ничего особенного: встал, поел, пошёл на работу; всё как всегда, каждый день одно и то же.",
    "😂😂😂 смешно",
)
"""Of unlike lengths, one of another alphabet."""

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "mpnet", "modernbert", "distilbert", "t5")


@cache
def _trained_tokenizer() -> str:
    """A tokenizer of byte pairs, trained on TEXTS, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return str(tokenizer.to_str())


def write_tokenizer(folder: Path, first: bool = True) -> int:
    """A small tokenizer that puts <s> before a text, if `first`, and </s> behind it; how many tokens it knows."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(_trained_tokenizer())
    ends = [(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    template = "<s> $A </s>" if first else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", cls_token="<s>"
    )
    fast.save_pretrained(folder)
    return len(fast)


def write_text_encoder(folder: Path, family: str = "bert", seed: int = 0, **changes: Any) -> Path:
    """A random encoder of a few thousand weights in the Hub's folder format, 32 wide, of two blocks."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(folder, first=family != "t5")
    sizes: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 130,
        "pad_token_id": 1,
    }
    if family == "distilbert":
        sizes = {"vocab_size": size, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "pad_token_id": 1}
        sizes["max_position_embeddings"] = 130
    elif family == "t5":
        sizes = {"vocab_size": size, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
        sizes |= {"pad_token_id": 1, "decoder_start_token_id": 1}
    elif family == "deberta-v2":
        sizes |= {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
    elif family == "electra":
        sizes["embedding_size"] = 16
    elif family == "modernbert":
        sizes |= {"global_attn_every_n_layers": 2, "local_attention": 8}
    names = {
        "bert": "Bert",
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
        "electra": "Electra",
        "deberta-v2": "DebertaV2",
        "mpnet": "MPNet",
        "modernbert": "ModernBert",
        "distilbert": "DistilBert",
        "t5": "T5",
    }
    config = getattr(transformers, f"{names[family]}Config")(**{**sizes, **changes})
    kind = "T5EncoderModel" if family == "t5" else f"{names[family]}Model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind)(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
            elif parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)  # as large as trained ones: attention matters then
    model.save_pretrained(folder)
    return folder


def text_recipe(encoder: object, processing: dict[str, Any] | None = None, **model: Any) -> Any:
    """How an encoder embeds texts, plain but for keys of the two groups of the configuration: its Recipe."""
    from golem_ray.config import ModelConfig, ProcessingConfig
    from golem_ray.text.inspect import configured_recipe

    return configured_recipe(
        ModelConfig(feature_extractor_model=str(encoder), **model), ProcessingConfig(**(processing or {}))
    )


def texts_table(*rows: tuple[bytes | str | None, int | None]) -> Any:
    """Rows of (text, label) as workers get them: a table of examples, with ids from 10."""
    from tests.conftest import clips_table

    return clips_table(*((row[0].encode() if isinstance(row[0], str) else row[0], None, row[1]) for row in rows))
