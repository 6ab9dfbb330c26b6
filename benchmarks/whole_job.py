"""The whole job against the specification's script, as processes on the same clips: on Ray, and in one process.

    python benchmarks/whole_job.py [--num-clips 50 563] [--pairs 5] [--small]

Clips have MInDS-14's lengths, the encoder wav2vec2-base's size (with --small, 32 wide with two layers) and random
weights. On Ray also with a warm cache; `none` is cluster.address = none. `embedding stage` is the time from
the line that announces the embedding to the last of its clips, or to the word that all are in the cache.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from material import durations, machine, write_clips, write_encoder

ROOT = Path(__file__).resolve().parents[1]


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds from a command's start to its end, and of its embedding stage (0 for the script)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    began = ended = 0.0
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("embedding ") and not began:
            began = time.perf_counter()
        if line.startswith("embedding: ") or "are in the embedding cache" in line:
            ended = time.perf_counter()
    if process.wait() != 0:
        raise RuntimeError(f"{command} failed with status {process.returncode}")
    return time.perf_counter() - start, ended - began


def pairs(work: Path, num_clips: int, count: int) -> list[dict[str, float]]:
    """Seconds of each, `count` times in turn, printed as they come."""
    clips, encoder, cache = work / f"clips-{num_clips}", work / "encoder", work / "cache"
    write_clips(clips, durations(num_clips))
    script = [sys.executable, "benchmarks/literal_script.py", str(clips), "label", str(encoder), str(num_clips)]
    job = [sys.executable, "jobs/train.py", f"--dataset.name={clips}", "--dataset.label-column=label"]
    job += ["--processing.max-samples=all", f"--model.feature-extractor-model={encoder}"]
    job += [f"--paths.save-path={work / 'job.pth'}", f"--paths.embedding-cache={cache}"]
    found = []
    for _ in range(count):
        shutil.rmtree(cache, ignore_errors=True)
        times = {"script": timed([*script, str(work / "script.pth")])[0]}
        times["job, cold"], times["embedding stage, cold"] = timed(job)
        times["job, warm cache"], times["embedding stage, warm"] = timed(job)
        shutil.rmtree(cache, ignore_errors=True)
        alone = [each for each in job if not each.startswith("--paths.embedding-cache")]
        times["job, none"] = timed([*alone, "--cluster.address=none", f"--paths.save-path={work / 'none.pth'}"])[0]
        found.append(times)
        print("   ", ", ".join(f"{name} {value:.2f}" for name, value in times.items()), flush=True)
    heads = [torch.load(work / file, weights_only=True)["weight"] for file in ("script.pth", "job.pth")]
    print(f"    largest difference of a head's weight: {(heads[0] - heads[1]).abs().max().item():.1e}")
    same = (work / "job.pth").read_bytes() == (work / "none.pth").read_bytes()
    print(f"    the same bytes on Ray and in one process: {same}")
    return found


def report(found: list[dict[str, float]]) -> None:
    """Medians, least and most, of the seconds and of their ratios pair by pair."""
    for name in found[0]:
        values = [times[name] for times in found]
        print(f"{name:32} median {statistics.median(values):8.2f} s  ({min(values):.2f} to {max(values):.2f})")
    for first, second in (
        ("job, cold", "script"),
        ("job, warm cache", "script"),
        ("job, none", "script"),
        ("embedding stage, cold", "embedding stage, warm"),
    ):
        values = [times[first] / times[second] for times in found]
        name = f"{first} / {second}"
        print(f"{name:50} median {statistics.median(values):7.3f}  ({min(values):.3f} to {max(values):.3f})")
    over = [times["job, none"] - times["script"] for times in found]
    print(f"job, none - script: median {statistics.median(over):.2f} s  ({min(over):.2f} to {max(over):.2f})")


def main() -> None:
    """Run the pairs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, nargs="+", default=[50, 563])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a tiny encoder, so that what is beside it shows")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_encoder(work / "encoder", small=arguments.small)
        for num_clips in arguments.num_clips:
            print(
                f"{num_clips} clips, {durations(num_clips).sum():.0f} s of audio, {arguments.pairs} pairs:", flush=True
            )
            report(pairs(work, num_clips, arguments.pairs))


if __name__ == "__main__":
    main()
