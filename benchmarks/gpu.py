"""On a GPU: the share of its matrix peak that embedding reaches, through the whole pipeline, and where the time goes.

    python benchmarks/gpu.py [--num-clips 80000] [--precisions float32 tf32 float16] [--compile]

The peak is that of a large matrix product in the same precision and run. Steady state: the pipeline (reading, decoding,
resampling, Ray, gathering) over num_clips clips of MInDS-14's lengths, 2,000 files over and over, less the same over a
few: that difference leaves out start-up, loading and compiling, which are given beside it. Needs Ray and a GPU; for a
trial of the script itself, `--backend cpu --num-clips 64`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from material import durations, machine, write_clips, write_encoder
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golem_ray.cluster import ray_engine
from golem_ray.config import ClusterConfig, DatasetConfig, DeviceConfig, ModelConfig
from golem_ray.data import open_source
from golem_ray.data.table import Source
from golem_ray.embedding.loading import DTYPES
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.jobs.vectors import gather
from golem_ray.speech import MODALITY
from golem_ray.speech.encoders import SpeechEncoder
from golem_ray.speech.inspect import recipe_for

FILES = 2000


def matrix_peak(precision: str, device: str) -> float:
    """FLOP/s of a large matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    size = 8192 if device == "cuda" else 512
    first, second = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        _synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            first @ second
        _synchronize(device)
        best = min(best, (time.perf_counter() - start) / 10)
    return 2 * size**3 / best


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def flops_per_second_of_audio() -> float:
    """FLOP that a base-size encoder needs for a second of audio, on a clip of 7.5 s."""
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 120_000))
    return counter.get_total_flops() / 7.5


def repeated(source: Source, num_clips: int) -> Source:
    """The source's clips over and over."""
    import pyarrow as pa

    rows = np.arange(num_clips) % source.examples.num_rows
    clips = source.examples.take(rows).set_column(0, "id", pa.array(range(num_clips), pa.int64()))
    return Source(examples=clips, labels=source.labels)


def profile(recipe: Recipe, device: str, batch_seconds: float) -> str:
    """Where the time of some batches goes, by operation."""
    from torch.profiler import ProfilerActivity

    encoder = SpeechEncoder(recipe, device, batch_seconds=batch_seconds)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(round(16000 * length)).astype(np.float32) for length in durations(64)]
    encoder.embed(clips)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with torch.profiler.profile(activities=kinds) as found:
        encoder.embed(clips)
    return found.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=15)


def main() -> None:
    """Measure each precision and print the table, then the profiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=80_000)
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "float16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    parser.add_argument("--backend", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    device = arguments.backend
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("expected a GPU, found none: nothing was measured")
    print(machine())
    work = flops_per_second_of_audio()
    print(f"{work / 1e9:.1f} GFLOP a second of audio; batches of {arguments.batch_seconds:.0f} padded s")
    profiles = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder / "encoder")
        seconds = durations(min(FILES, arguments.num_clips))
        write_clips(folder / "clips", seconds)
        dataset = DatasetConfig(name=str(folder / "clips"), label_column="label")
        source = open_source(dataset, MODALITY.content, None)
        few, many = len(seconds) // 8, arguments.num_clips
        audio = seconds[np.arange(many) % len(seconds)].sum() - seconds[:few].sum()
        cluster = ClusterConfig(batch_seconds=arguments.batch_seconds)
        with ray_engine(cluster, DeviceConfig(backend=device), many) as engine:
            for precision in arguments.precisions:
                encoder = str(folder / "encoder")
                model = ModelConfig(feature_extractor_model=encoder, precision=precision, compile=arguments.compile)
                recipe = recipe_for(model)
                times = []
                for num_clips in (few, few, many):  # the first of all warms up what later ones share
                    start = time.perf_counter()
                    gather(engine, repeated(source, num_clips), EmbeddingTask(recipe=recipe), 0)
                    times.append(time.perf_counter() - start)
                speed = audio / (times[2] - times[1])
                peak = matrix_peak(precision, device)
                print(
                    f"{precision}: {speed:.0f} audio-s/s, {speed * work / 1e12:.1f} of {peak / 1e12:.1f} TFLOP/s "
                    f"({speed * work / peak:.1%}) over {times[2] - times[1]:.1f} s; {times[1]:.1f} s for {few} clips",
                    flush=True,
                )
                profiles.append((precision, profile(recipe, device, arguments.batch_seconds)))
    for precision, table in profiles:
        print(f"\n{precision}\n{table}")


if __name__ == "__main__":
    main()
