"""The specification's script as one plain process: what the job is compared with.

One clip at a time: decode, resample, feature extractor, Wav2Vec2Model, mean over time; then nn.Linear, Adam 0.01,
cross-entropy, 100 epochs over all embeddings. Usage: literal_script.py FOLDER LABEL_COLUMN ENCODER NUM_CLIPS OUT.pth
(FOLDER has a metadata.csv with file_name).
"""

import csv
import sys
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import nn
from tqdm import tqdm
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def embed(files: list[Path], extractor: Wav2Vec2FeatureExtractor, model: Wav2Vec2Model) -> torch.Tensor:
    """Audio files -> (N, D) float32, one by one."""
    embeddings = []
    with torch.no_grad():
        for file in tqdm(files):
            samples, rate = soundfile.read(file, dtype="float32")
            audio = torchaudio.transforms.Resample(rate, 16000)(torch.tensor(samples))
            inputs = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt")
            embeddings.append(model(inputs.input_values.to(DEVICE)).last_hidden_state.mean(dim=1).squeeze(0).cpu())
    return torch.stack(embeddings)


def main(folder: Path, label_column: str, encoder: str, num_clips: int, out: str) -> None:
    """Train on the first num_clips and save the head's state_dict."""
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row[label_column] for row in rows})
    rows = rows[:num_clips]
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(encoder)
    model = Wav2Vec2Model.from_pretrained(encoder).eval().to(DEVICE)
    x = embed([folder / row["file_name"] for row in rows], extractor, model).to(DEVICE)
    y = torch.tensor([labels.index(row[label_column]) for row in rows]).to(DEVICE)

    torch.manual_seed(0)
    head = nn.Linear(x.shape[1], len(labels)).to(DEVICE)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, 101):
        optimizer.zero_grad()
        loss = criterion(head(x), y)
        loss.backward()
        optimizer.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")
    torch.save(head.state_dict(), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
