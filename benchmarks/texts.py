"""Embedding texts on a CPU: this package's stage against a plain loop of transformers, sorted by length and padded.

    python benchmarks/texts.py [--texts 2000] [--width 312 --blocks 3] [--pairs 5]

Both take the same made-up messages of usual lengths, the same random BERT of that size, the same threads, and give the
mean over each text's own tokens; tokenizing is part of both. Times are of pairs in turn, the ratio is the median of
theirs. The encoder is loaded, and has seen some texts, before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from golem_ray.config import ClusterConfig, DeviceConfig, ModelConfig, ProcessingConfig
from golem_ray.data import Source
from golem_ray.data.encode import no_labels
from golem_ray.data.table import examples_table
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import LocalEngine
from golem_ray.text import MODALITY

BATCH = 32
"""Texts of a batch of the plain loop."""


def write_encoder(folder: Path, width: int, blocks: int) -> None:
    """A random BERT with a tokenizer of whole words, in the Hub's folder format."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])}
    words |= {f"w{number}": 4 + number for number in range(5000)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=12,
        intermediate_size=4 * width,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)


def messages(number: int) -> list[str]:
    """Texts of as many tokens as messages have: 20 in the middle, 5 to 120 in all."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.6, number), 3, 118).astype(int)
    return [" ".join(f"w{word}" for word in rng.integers(0, 5000, length)) for length in lengths]


def plain_loop(folder: Path, texts: list[str]) -> Callable[[], np.ndarray]:
    """What a careful user of transformers writes: sort, pad, mask, mean. Gives what runs it."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = np.argsort([-len(text) for text in texts], kind="stable")
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)

    def run() -> np.ndarray:
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                batch = tokenizer(
                    [texts[row] for row in rows], padding=True, truncation=True, max_length=512, return_tensors="pt"
                )
                hidden = model(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                vectors[rows] = ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
        return vectors

    return run


def main() -> None:
    """Time both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--width", type=int, default=312)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    texts = messages(given.texts)
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(Path(folder), given.width, given.blocks)
        recipe = MODALITY.recipe(ModelConfig(feature_extractor_model=folder), ProcessingConfig())
        table = pa.table({"bytes": pa.array([text.encode() for text in texts], pa.large_binary())})
        source = Source(examples=examples_table(table, no_labels(len(texts))), labels=())
        engine = LocalEngine(ClusterConfig(threads_per_worker=torch.get_num_threads()), DeviceConfig(backend="cpu"))

        def ours() -> np.ndarray:
            vectors = np.zeros((len(texts), recipe.vector_size), dtype=np.float32)
            task = EmbeddingTask(recipe=recipe)
            for batch in engine.embed(source, task, np.ones(len(texts), dtype=bool)):
                assert batch.vectors is not None
                vectors[batch.rows] = batch.vectors
            return vectors

        plain = plain_loop(Path(folder), texts)
        difference = np.abs(ours() - plain()).max()
        print(f"{len(texts)} texts; vectors differ by {difference:.1e} at most")
        ratios = []
        for pair in range(given.pairs):
            seconds = {}
            for name, run in (("ours", ours), ("plain", plain))[:: 1 if pair % 2 else -1]:
                begun = time.perf_counter()
                run()
                seconds[name] = time.perf_counter() - begun
            ratios.append(seconds["plain"] / seconds["ours"])
            print(f"pair {pair}: ours {seconds['ours']:.2f} s, plain {seconds['plain']:.2f} s", flush=True)
        print(f"throughput against the plain loop: {statistics.median(ratios):.2f} (median of {given.pairs} pairs)")


if __name__ == "__main__":
    main()
