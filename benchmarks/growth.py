"""How the job's cost grows with clips and actors, and what memory its driver takes.

    python benchmarks/growth.py [--num-clips 50 500 5000] [--workers 1 2]

The whole job as a process, one run of each, on clips of half a second and the bundled encoder, one thread an actor:
what is measured is the way, not the encoder. Memory is the driver's highest (Linux's VmHWM).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from material import machine, write_clips

ROOT = Path(__file__).resolve().parents[1]


def run(command: list[str]) -> tuple[float, float]:
    """Seconds, and MiB of memory at the highest."""
    start, highest = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            status = ""
        highest = max([highest, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.1)
    if process.returncode != 0:
        raise RuntimeError(f"{command} failed with status {process.returncode}")
    return time.perf_counter() - start, highest / 1024


def main() -> None:
    """Run every size with every number of actors and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    print(machine())
    print(f"{'clips':>8}{'actors':>8}{'seconds':>10}{'driver, MiB':>13}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for num_clips in arguments.num_clips:
            write_clips(work / str(num_clips), np.full(num_clips, 0.5))
            for workers in arguments.workers:
                job = [sys.executable, "jobs/train.py", f"--dataset.name={work / str(num_clips)}"]
                job += ["--dataset.label-column=label", "--processing.max-samples=all", f"--cluster.workers={workers}"]
                job += ["--model.feature-extractor-model=sample", "--cluster.threads-per-worker=1"]
                seconds, memory = run([*job, f"--paths.save-path={work / 'job.pth'}"])
                print(f"{num_clips:8}{workers:8}{seconds:10.1f}{memory:13.0f}", flush=True)


if __name__ == "__main__":
    main()
