"""How the jobs carry a hundred thousand clips: throughput by actors, the driver's memory, what going on again costs.

    python benchmarks/scale.py [--num-clips 100000] [--only applying]

Clips of a tenth of a second in Parquet shards, each another, so that what is measured is the way and not the encoder.
The encoder is a stub, 768 wide, that sleeps a fixed time for each second of audio (`--pause`, 0.1 s: ten times as fast
as the audio) and needs no processor: two cores then carry four actors, as if each had a GPU. Reading, decoding, keeping
and gathering are the job's own. The last line has the bundled encoder instead. Every run is a process of its own;
memory is its anonymous memory at its highest (Linux's RssAnon: not what it shares with Ray's object store).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from material import machine

ROOT = Path(__file__).resolve().parents[1]
WIDTH, SECONDS, RATE, SHARD_ROWS, GROUP_ROWS = 768, 0.1, 16000, 5000, 250


def write_shards(folder: Path, num_clips: int) -> None:
    """train-00000.parquet and so on: noise in ten classes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard, start in enumerate(range(0, num_clips, SHARD_ROWS)):
        clips = []
        for _ in range(start, min(start + SHARD_ROWS, num_clips)):
            buffer = io.BytesIO()
            soundfile.write(buffer, 0.1 * rng.standard_normal(round(SECONDS * RATE)), RATE, format="WAV")
            clips.append(buffer.getvalue())
        table = pa.table({"audio": clips, "label": [f"class {row % 10}" for row in range(start, start + len(clips))]})
        pq.write_table(table, folder / f"train-{shard:05}.parquet", row_group_size=GROUP_ROWS)


def write_stub(folder: Path) -> None:
    """What an encoder's folder needs to be listed; its weights are never loaded."""
    import transformers

    transformers.Wav2Vec2Config().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"none")


def use_stub(pause: float) -> Any:
    """What each worker runs at its start, so that its encoder is the stub."""

    def setup() -> None:
        import time

        import numpy as np

        from golem_ray.speech import encoders

        class Stub:
            batch_cost = batch_fill = None

            def __init__(self, recipe: Any, device: str, *, batch_seconds: float | None = None) -> None:
                self.spread = np.random.default_rng(0).standard_normal((64, 768)).astype(np.float32)

            def embed(self, waveforms: Any) -> Any:
                time.sleep(pause * sum(len(wave) for wave in waveforms) / 16000)
                return np.stack([wave[:64] @ self.spread for wave in waveforms])

        encoders.SpeechEncoder = Stub

    return setup


def one(task: dict[str, Any]) -> dict[str, Any]:
    """A training run in this process: seconds by stage, and the driver's memory."""
    import ray

    import golem_ray

    hook = {} if task["pause"] is None else {"runtime_env": {"worker_process_setup_hook": use_stub(task["pause"])}}
    ray.init(
        address="local", num_cpus=max(2, 2 * task["workers"]), include_dashboard=False, log_to_driver=False, **hook
    )
    highest, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.02):
            highest = max(highest, anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    if "apply" in task:
        apply(**task["apply"])
        stages = {}
    else:
        golem_ray.train(task["config"])
        sidecar = json.loads(Path(task["config"]["paths"]["save_path"]).with_suffix(".json").read_text())
        stages = sidecar["timings"]["seconds"]
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    ray.shutdown()
    return {"seconds": seconds, "memory": highest, "stages": stages}


def apply(job: str, artifact: str, clips: str, count: int, workers: int) -> None:
    """Evaluate or predict so many clips with a saved classifier; its training clips are counted in."""
    from golem_ray.cli.commands import COMMANDS

    flags = ["--dataset.name", clips, "--dataset.label-column", "label", "--processing.max-samples", str(count)]
    flags += ["--device.backend", "cpu", "--cluster.workers", str(workers), "--cluster.threads-per-worker", "1"]
    more = {"evaluate": ["--include-trained"], "predict": ["--output", f"{artifact}.jsonl"]}[job]
    list(COMMANDS[job]([artifact, *flags, *more]))


def anonymous() -> int:
    """Bytes of this process's own memory, without what it shares with Ray's object store."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def run(work: Path, num_clips: int, workers: int, pause: float | None, **config: Any) -> dict[str, Any]:
    """What `one` gives, in a process of its own."""
    settings = {
        "dataset": {"name": str(work / "clips"), "label_column": "label"},
        "processing": {"max_samples": num_clips},
        "device": {"backend": "cpu"},
        "model": {"feature_extractor_model": "sample" if pause is None else str(work / "stub")},
        "training": {"epochs": 10},
        "evaluation": {"repeats": 0},
        **config,
        "paths": {"save_path": str(work / "v.pth"), **config.get("paths", {})},
        "cluster": {"workers": workers, "threads_per_worker": 1, **config.get("cluster", {})},
    }
    return _in_a_process({"workers": workers, "pause": pause, "config": settings})


def _in_a_process(task: dict[str, Any]) -> dict[str, Any]:
    """What `one` gives."""
    command = [sys.executable, __file__, "--one", json.dumps(task)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # the workers start with the stub
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Every run, and its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=100_000)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds that the stub takes for a second of audio")
    parser.add_argument("--only", choices=["training", "applying"], help="one half of it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(json.loads(arguments.one))))
        return
    print(machine(), flush=True)
    most, pause = arguments.num_clips, arguments.pause
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_shards(work / "clips", most)
        write_stub(work / "stub")
        if arguments.only != "training":
            applying(work, most, pause)
        if arguments.only == "applying":
            return
        by_actors(work, most // 50, most // 8, pause)
        memory(work, most, pause)
        resuming(work, most // 10, pause)
        done = run(work, most // 20, 2, None)
        rate = most // 20 / done["stages"]["embedding"]
        print(f"\nbundled encoder, 2 actors, {most // 20} clips: {rate:.0f} clips a second, actors' start included")


def by_actors(work: Path, few: int, many: int, pause: float) -> None:
    """Clips a second once the actors run: by the difference of two runs, which start alike."""
    print(f"\nstub, {few} and {many} clips\n{'actors':>8}{'clips/s':>10}{'of what the stub allows':>26}", flush=True)
    for workers in (1, 2, 4):
        times = [run(work, count, workers, pause)["stages"]["embedding"] for count in (few, many)]
        rate = (many - few) / (times[1] - times[0])
        print(f"{workers:8}{rate:10.0f}{rate / (workers / (pause * SECONDS)):26.2f}", flush=True)


def memory(work: Path, most: int, pause: float) -> None:
    """The driver's memory by clips, gathered and left in storage."""
    print(f"\nstub, 4 actors, {pause / 10:g} s for a second of audio: the driver's memory, MiB")
    print(f"{'clips':>8}{'array':>8}{'gathered':>10}{'beyond':>8}{'stored':>8}{'seconds':>9}", flush=True)
    for count in (most // 100, most // 10, most):
        array = 4 * WIDTH * count
        gathered = run(work, count, 4, pause / 10)
        stored = run(
            work, count, 4, pause / 10, paths={"run_dir": str(work / f"run{count}")}, cluster={"gather_limit": 1}
        )
        beyond = gathered["memory"] - array
        shown = [f"{value / 2**20:.0f}" for value in (array, gathered["memory"], beyond, stored["memory"])]
        print(f"{count:8}{shown[0]:>8}{shown[1]:>10}{shown[2]:>8}{shown[3]:>8}{gathered['seconds']:9.0f}", flush=True)


def applying(work: Path, most: int, pause: float) -> None:
    """The driver's memory when a saved classifier is applied, by clips; beyond labels and probabilities."""
    run(work, most // 100, 4, pause / 10, paths={"save_path": str(work / "applied.pth")})
    print(f"\nstub, 4 actors, {pause / 10:g} s for a second of audio: the driver's memory of evaluate and predict, MiB")
    print(
        f"{'clips':>8}{'evaluate':>10}{'beyond':>8}{'seconds':>9}{'predict':>10}{'beyond':>8}{'seconds':>9}", flush=True
    )
    for count in (most // 100, most // 10, most):
        shown = []
        for job, kept in (("evaluate", 10 + 1), ("predict", 3 + 3)):  # 64-bit numbers of each clip
            task = {"job": job, "artifact": str(work / "applied.pth"), "clips": str(work / "clips"), "count": count}
            done = _in_a_process({"workers": 4, "pause": pause / 10, "apply": {**task, "workers": 4}})
            beyond = done["memory"] - 8 * kept * count
            shown += [f"{done['memory'] / 2**20:10.0f}{beyond / 2**20:8.0f}{done['seconds']:9.0f}"]
        print(f"{count:8}{''.join(shown)}", flush=True)


def resuming(work: Path, count: int, pause: float) -> None:
    """What it costs to go on with half of the embeddings, and with all of them."""
    run_dir = work / "run"
    whole = run(work, count, 4, pause, paths={"run_dir": str(run_dir)})["seconds"]
    files = sorted(run_dir.rglob("*.parquet"))
    for file in files[::2]:
        file.unlink()
    half = run(work, count, 4, pause, paths={"run_dir": str(run_dir)})
    none = run(work, count, 4, pause, paths={"run_dir": str(run_dir)})
    shutil.rmtree(run_dir)
    reading = half["stages"]["reading what was begun"]
    print(
        f"\nstub, 4 actors, {count} clips: from nothing {whole:.1f} s, from half {half['seconds']:.1f} s, from all",
        end=" ",
    )
    print(f"{none['seconds']:.1f} s; reading what was begun takes {reading:.1f} s of these", flush=True)


if __name__ == "__main__":
    main()
