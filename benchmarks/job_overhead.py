"""What the Ray job costs over the specification's script, as whole processes on the same clips.

Runs the two in turn, several pairs, on a random-weight encoder of wav2vec2-base's size (speed does not care about
the weights) and prints seconds, their difference and how far the heads' weights lie apart. Usage:

    python benchmarks/job_overhead.py [--dataset FOLDER --label-column label] [--num-clips 50] [--pairs 5]

Without a dataset it makes clips of its own: tones under noise, half a second each, at 8 kHz.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]


def write_clips(folder: Path, num_clips: int) -> None:
    """num_clips WAV files of half a second in ten classes, and their metadata.csv."""
    rng = np.random.default_rng(0)
    lines = ["file_name,label"]
    for row in range(num_clips):
        wave = np.sin(np.arange(4000) * rng.uniform(0.05, 0.5)) * 0.3 + 0.05 * rng.standard_normal(4000)
        soundfile.write(folder / f"{row}.wav", wave, 8000)
        lines.append(f"{row}.wav,{row % 10}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_encoder(folder: Path) -> None:
    """A Wav2Vec2 encoder of the base size with random weights."""
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def seconds(command: list[str]) -> float:
    """How long a command takes from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--num-clips", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_encoder(work / "encoder")
        clips = arguments.dataset or work
        if arguments.dataset is None:
            write_clips(work, arguments.num_clips)
        script = [sys.executable, "benchmarks/literal_script.py", str(clips), arguments.label_column]
        script += [str(work / "encoder"), str(arguments.num_clips), str(work / "script.pth")]
        job = [sys.executable, "jobs/train.py", f"--dataset.name={clips}"]
        job += [f"--dataset.label-column={arguments.label_column}", f"--processing.max-samples={arguments.num_clips}"]
        job += [f"--model.feature-extractor-model={work / 'encoder'}", f"--paths.save-path={work / 'job.pth'}"]
        times = [(seconds(script), seconds(job)) for _ in range(arguments.pairs)]
        weights = [torch.load(work / file, weights_only=True)["weight"] for file in ("script.pth", "job.pth")]
    print(f"{platform.machine()}, {torch.get_num_threads()} cores; {arguments.num_clips} clips; {len(times)} pairs")
    for title, values in (
        ("script, s", [first for first, _ in times]),
        ("job, s", [second for _, second in times]),
        ("job - script, s", [second - first for first, second in times]),
        ("job / script", [second / first for first, second in times]),
    ):
        print(f"{title:16} median {statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")
    print(f"largest difference of a weight: {(weights[0] - weights[1]).abs().max().item():.1e}")


if __name__ == "__main__":
    main()
