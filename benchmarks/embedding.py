"""How fast clips are embedded, and how exactly, beside the specification's loop and the usual padded batches.

    python benchmarks/embedding.py [--num-clips 24] [--pairs 5] [--precisions float32 bfloat16] [--compile]

Every method runs in a process of its own, in turn, on the same files (8 kHz, MInDS-14's lengths, a base-size encoder of
random weights), reading, decoding and resampling included, imports, loading and compiling not. The error of its vectors
is against the specification's. On a GPU ours decodes on all cores, as the job's own CPU stage does.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from material import durations, machine, write_clips, write_encoder

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BATCH = 8
"""Rows of a batch of the usual kind."""


def literal(files: list[Path], encoder: Path) -> tuple[float, np.ndarray]:
    """Seconds and vectors of the specification's loop."""
    import literal_script
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    extractor = Wav2Vec2FeatureExtractor.from_pretrained(encoder)
    model = Wav2Vec2Model.from_pretrained(encoder).eval().to(literal_script.DEVICE)
    literal_script.embed(files[:2], extractor, model)
    start = time.perf_counter()
    vectors = literal_script.embed(files, extractor, model)
    return time.perf_counter() - start, vectors.numpy()


def padded(files: list[Path], encoder: Path) -> tuple[float, np.ndarray]:
    """Seconds and vectors of the usual batches: in the files' order, padded with zeros, plain mean over time."""
    import soundfile
    import torchaudio
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(encoder)
    model = Wav2Vec2Model.from_pretrained(encoder).eval().to(device)
    resample = torchaudio.transforms.Resample(8000, 16000)

    def run(some: list[Path]) -> np.ndarray:
        vectors = []
        for first in range(0, len(some), BATCH):
            read = (soundfile.read(file, dtype="float32")[0] for file in some[first : first + BATCH])
            waves = [resample(torch.tensor(samples)).numpy() for samples in read]
            inputs = extractor(waves, sampling_rate=16000, return_tensors="pt", padding=True)
            with torch.no_grad():
                vectors.append(model(inputs.input_values.to(device)).last_hidden_state.mean(dim=1).cpu().numpy())
        return np.concatenate(vectors)

    run(files[:2])
    start = time.perf_counter()
    vectors = run(files)
    return time.perf_counter() - start, vectors


def ours(files: list[Path], encoder: Path, precision: str, compiled: bool) -> tuple[float, np.ndarray]:
    """Seconds and vectors of an embedding actor's work."""
    import pyarrow as pa

    from golem_ray.config import ModelConfig
    from golem_ray.devices import Resources
    from golem_ray.embedding.examples import group_examples
    from golem_ray.embedding.stage import BATCHES_PER_GROUP, EmbedBatch, EmbeddingTask
    from golem_ray.speech.inspect import recipe_for

    gpu = torch.cuda.is_available()
    recipe = recipe_for(ModelConfig(feature_extractor_model=str(encoder), precision=precision, compile=compiled))
    threads = torch.get_num_threads()
    resources = Resources(workers=1, threads=threads, cpus=threads, gpu=gpu, backend="auto")
    actor = EmbedBatch(EmbeddingTask(recipe=recipe), resources)
    if actor.failure:
        sys.exit(actor.failure)
    table = pa.table(
        {
            "id": pa.array(range(len(files)), pa.int64()),
            "bytes": pa.nulls(len(files), pa.large_binary()),
            "path": pa.array([str(file) for file in files]),
            "label": pa.array([0] * len(files), pa.int64()),
        }
    )

    def run(clips: pa.Table) -> np.ndarray:
        if not gpu:
            return actor(clips)["vector"]
        blocks = [clips.slice(first, 256) for first in range(0, clips.num_rows, 256)]
        most = BATCHES_PER_GROUP * resources.batch_cost
        with ThreadPoolExecutor(os.cpu_count()) as readers:
            read = readers.map(lambda block: list(group_examples(block, recipe, False, most)), blocks)
            return np.concatenate([actor(group)["vector"] for groups in read for group in groups])

    run(table.slice(0, 2))
    start = time.perf_counter()
    vectors = run(table)
    return time.perf_counter() - start, vectors


def measure(method: str, folder: Path) -> None:
    """One method in this process: prints its seconds, leaves its vectors."""
    files = sorted((folder / "clips").glob("*.wav"), key=lambda file: int(file.stem))
    name, *options = method.split("+")
    if name == "literal":
        seconds, vectors = literal(files, folder / "encoder")
    elif name == "padded":
        seconds, vectors = padded(files, folder / "encoder")
    else:
        seconds, vectors = ours(files, folder / "encoder", name, "compiled" in options)
    np.save(folder / f"{method}.npy", vectors)
    print(f"seconds {seconds}")


def main() -> None:
    """Run every method in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        measure(arguments.method, arguments.folder)
        return
    names = {"literal": "the specification's loop", "padded": f"padded batches of {BATCH}"}
    for precision in arguments.precisions:
        names[precision] = f"ours, {precision}"
        if arguments.compile:
            names[f"{precision}+compiled"] = f"ours, {precision}, compiled"
    seconds = durations(arguments.num_clips)
    times: dict[str, list[float]] = {method: [] for method in names}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_encoder(folder / "encoder")
        write_clips(folder / "clips", seconds)
        for _ in range(arguments.pairs):
            for method in names:
                command = [sys.executable, __file__, "--method", method, "--folder", work]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                times[method].append(float(done.stdout.split()[-1]))
        vectors = {method: np.load(folder / f"{method}.npy").astype(np.float64) for method in names}
    print(machine())
    print(f"{arguments.num_clips} clips, {seconds.sum():.0f} s of audio, {arguments.pairs} pairs")
    print(f"{'':28}{'audio-s/s':>10}{'times the loop':>16}{'(range)':>16}{'worst error':>13}{'worst cosine':>14}")
    exact = vectors["literal"]
    for method, title in names.items():
        ratios = [loop / own for loop, own in zip(times["literal"], times[method], strict=True)]
        found = vectors[method]
        error = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        cosine = (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
        speed = seconds.sum() / statistics.median(times[method])
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{title:28}{speed:10.2f}{statistics.median(ratios):16.2f}{spread:>16}{error.max():13.1e}{cosine.min():14.6f}"
        )


if __name__ == "__main__":
    main()
