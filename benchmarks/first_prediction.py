"""Seconds from a cold process to the first prediction on one file, and what they go to.

    python benchmarks/first_prediction.py ARTIFACT CLIP [--runs 5]

Whole processes of jobs/predict.py, then processes that stop the time after each step. Medians.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from material import machine

ROOT = Path(__file__).resolve().parents[1]

STEPS = """
import sys, time
marks = [("start", time.perf_counter())]
def mark(name): marks.append((name, time.perf_counter()))
import torch; mark("import of PyTorch")
import golem_ray.speech.encoders, golem_ray.speech.read; mark("import of transformers and torchaudio")
import golem_ray
classifier = golem_ray.load(sys.argv[1]); mark("the artifact, checked")
classifier.embed([]); mark("the encoder's weights")
classifier.predict(sys.argv[2]); mark("reading, embedding, head")
for (_, before), (name, after) in zip(marks, marks[1:]): print(f"{after - before:.3f} {name}")
"""


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact")
    parser.add_argument("clip")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    files = [arguments.artifact, arguments.clip]
    whole, empty, steps = [], [], {}
    for _ in range(arguments.runs):
        for times, command in ((whole, ["jobs/predict.py", *files]), (empty, ["-c", "pass"])):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        done = subprocess.run(
            [sys.executable, "-c", STEPS, *files], cwd=ROOT, check=True, capture_output=True, text=True
        )
        for line in done.stdout.splitlines():
            seconds, name = line.split(" ", 1)
            steps.setdefault(name, []).append(float(seconds))
    print(machine())
    print(f"jobs/predict.py: {statistics.median(whole):.2f} s ({min(whole):.2f} to {max(whole):.2f})")
    print(f"  {statistics.median(empty):.2f} s  the interpreter's start and end")
    for name, values in steps.items():
        print(f"  {statistics.median(values):.2f} s  {name}")
    rest = statistics.median(whole) - sum(map(statistics.median, [empty, *steps.values()]))
    print(f"  {rest:.2f} s  the rest: flags, Arrow, finding the clips")


if __name__ == "__main__":
    main()
