"""What the benchmarks run on: clips of MInDS-14's lengths and encoders of random weights, made on the spot."""

import platform
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers


def durations(num_clips: int, seed: int = 0) -> np.ndarray:
    """Seconds, as of MInDS-14's English clips: log-normal, mean 7.5, a few over 20."""
    rng = np.random.default_rng(seed)
    spread = 0.55
    return np.clip(rng.lognormal(np.log(7.5) - spread**2 / 2, spread, size=num_clips), 1.0, 40.0)


def write_clips(folder: Path, seconds: np.ndarray) -> None:
    """WAV files at 8 kHz, tones under noise in fourteen classes, and their metadata.csv."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["file_name,label"]
    for row, length in enumerate(seconds):
        time = np.arange(round(8000 * length))
        wave = 0.3 * np.sin(time * rng.uniform(0.05, 0.5)) + 0.05 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{row}.wav", wave, 8000)
        lines.append(f"{row}.wav,class {row % 14:02}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_encoder(folder: Path, *, small: bool = False) -> None:
    """A Wav2Vec2 encoder of the base size, or a tiny one, with random weights: speed does not care."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes |= {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    config = transformers.Wav2Vec2Config(**(sizes if small else {}))
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def machine() -> str:
    """The machine in words."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {torch.get_num_threads()} cores, {gpu}; torch {torch.__version__}"
