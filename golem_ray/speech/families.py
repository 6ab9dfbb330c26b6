"""Families of speech encoders: what sets one apart from another.

A new family is a class here and its line in FAMILIES. Importing this loads no PyTorch: the driver asks what an encoder
is, and workers have it compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from golem_ray.embedding.checkpoint import positive
from golem_ray.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from golem_ray.embedding.pooling import Frames


QUIET_DB = 35.0
"""How far below a clip's loudest window all of what is trimmed stays, but for a margin."""

SILENT_DB = 50.0
"""How far below it a sample is that no margin begins or ends with."""

MARGIN_S, TRIM_WINDOW_S = 0.1, 0.025

LOG_MEL_SIZE = 80
"""Width of the baseline's vector."""

MIN_DURATION_S = 0.025
"""Shortest clip that is used, whatever the family: what Wav2Vec2 turns into a frame, 400 samples at 16 kHz."""


WHOLE_S = 300.0
"""Longest clip that an encoder of any length is given in one piece, where the recipe has no windows: a base encoder
then takes 6 GB and five minutes on two cores, and its attention grows with the square of the length.
"""

WINDOW_S = 30.0
"""Windows that a longer one is split into, which take a second or so for each block."""


class Family(Protocol):
    """How the encoders of a family are described by their files, fed, and run. `model` is what transformers loads."""

    width_key: str
    """config.json's key of the width of a layer."""
    blocks_key: str
    """config.json's key of the number of blocks."""
    weights_prefix: str
    """Begin of the names of the weights that are used."""
    shortest_s: float
    """Seconds below which a clip or a window has no frame of its own."""

    def window_s(self, preprocessor: dict[str, Any]) -> float | None:
        """Length of the windows that it takes, in seconds; None if it takes any length."""

    def has_adapter(self, config: dict[str, Any]) -> bool:
        """Whether what it gives has other frames than its blocks."""

    def exact_in_batches(self, config: dict[str, Any]) -> bool:
        """Whether a clip's vector can be had in a batch as it is alone."""

    def check(self, name: str, config: dict[str, Any], preprocessor: dict[str, Any]) -> str | None:
        """What is wrong with the files of the encoder of that name, as `expected ..., found ...`; None if nothing."""

    def encoder(self, model: Any) -> Any:
        """The part of a model that is used."""

    def blocks(self, encoder: Any) -> nn.ModuleList:
        """Its blocks, in order."""

    def frames(self, batched: bool) -> Frames:
        """The forward pass; with `batched`, one that is exact for clips of unlike lengths."""

    def normalizes(self, preprocessor: Any) -> bool:
        """Whether it wants clips at zero mean and unit variance."""

    def collate(self, preprocessor: Any, samples: list[np.ndarray], pinned: bool) -> tuple[Tensor, Tensor]:
        """Windows (T,) float32 each -> the encoder's inputs, padded, and each row's own length, (N,)."""

    def num_frames(self, encoder: Any, preprocessor: Any, num_samples: int) -> int:
        """Frames of a window of so many samples."""


class Wav2Vec2:
    """Wav2Vec2 and its like: convolutions over the samples, whatever their number, then blocks."""

    width_key, blocks_key, weights_prefix = "hidden_size", "num_hidden_layers", ""
    shortest_s = MIN_DURATION_S

    def window_s(self, preprocessor: dict[str, Any]) -> float | None:
        """None: any length."""
        return None

    def has_adapter(self, config: dict[str, Any]) -> bool:
        """As its configuration says."""
        return bool(config.get("add_adapter"))

    def exact_in_batches(self, config: dict[str, Any]) -> bool:
        """Not where convolutions follow upon each other, or a norm turns zeros into something else, between the mask
        and the blocks: padded frames then cannot be kept from the real ones.
        """
        return not (self.has_adapter(config) or config.get("conv_pos_batch_norm"))

    def check(self, name: str, config: dict[str, Any], preprocessor: dict[str, Any]) -> str | None:
        """Nothing to check."""
        return None

    def encoder(self, model: Any) -> Any:
        """All of it."""
        return model

    def blocks(self, encoder: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = encoder.encoder.layers
        return layers

    def frames(self, batched: bool) -> Frames:
        """The model's own forward pass for one clip, ours for a batch."""
        from golem_ray.speech.exact_forward import frames_alone, wav2vec2_frames

        return wav2vec2_frames if batched else frames_alone

    def normalizes(self, preprocessor: Any) -> bool:
        """As its preprocessor says."""
        return bool(preprocessor.do_normalize)

    def collate(self, preprocessor: Any, samples: list[np.ndarray], pinned: bool) -> tuple[Tensor, Tensor]:
        """Samples padded with zeros, (N, T) float32."""
        import torch

        lengths = torch.tensor([len(row) for row in samples])
        inputs = torch.zeros(len(samples), int(lengths.max()), pin_memory=pinned)
        for row, values in zip(inputs, samples, strict=True):
            row[: len(values)] = torch.from_numpy(values)
        return inputs, lengths

    def num_frames(self, encoder: Any, preprocessor: Any, num_samples: int) -> int:
        """What the convolutions leave."""
        for layer in encoder.feature_extractor.conv_layers:
            num_samples = (num_samples - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
        return num_samples


class Data2VecAudio(Wav2Vec2):
    """Wav2Vec2 with several convolutions of positions, one after the other."""

    def exact_in_batches(self, config: dict[str, Any]) -> bool:
        """Never: see Wav2Vec2."""
        return False


class Whisper:
    """Whisper's encoder: log-mel windows of a fixed length, silence where a clip is shorter."""

    width_key, blocks_key, weights_prefix = "d_model", "encoder_layers", "encoder."
    shortest_s = 0.0

    def window_s(self, preprocessor: dict[str, Any]) -> float | None:
        """As its preprocessor says, 30 s if it does not."""
        return float(positive(preprocessor.get("chunk_length", 30)))

    def has_adapter(self, config: dict[str, Any]) -> bool:
        """Never."""
        return False

    def exact_in_batches(self, config: dict[str, Any]) -> bool:
        """Always: it sees whole windows, in a batch as alone."""
        return True

    def check(self, name: str, config: dict[str, Any], preprocessor: dict[str, Any]) -> str | None:
        """The preprocessor's windows must be those that the encoder takes."""
        given = positive(preprocessor.get("chunk_length", 30)) * positive(preprocessor.get("sampling_rate"))
        taken = 2 * positive(config.get("max_source_positions", 1500)) * positive(preprocessor.get("hop_length", 160))
        if given and given == taken:
            return None
        return (
            f"expected chunk_length in preprocessor_config.json of {name} to fit max_source_positions in config.json, "
            f"found windows of {given} and of {taken} samples"
        )

    def encoder(self, model: Any) -> Any:
        """Without the decoder."""
        return model.get_encoder()

    def blocks(self, encoder: Any) -> nn.ModuleList:
        """Its blocks, in order."""
        layers: nn.ModuleList = encoder.layers
        return layers

    def frames(self, batched: bool) -> Frames:
        """Its forward pass, over each clip's own frames."""
        from golem_ray.speech.exact_forward import whisper_frames

        return whisper_frames

    def normalizes(self, preprocessor: Any) -> bool:
        """Its log-mel windows have a scale of their own."""
        return False

    def collate(self, preprocessor: Any, samples: list[np.ndarray], pinned: bool) -> tuple[Tensor, Tensor]:
        """Log-mel windows, (N, bands, T) float32."""
        import torch

        lengths = torch.tensor([-(-len(row) // preprocessor.hop_length) for row in samples])
        rate = preprocessor.sampling_rate
        return preprocessor(samples, sampling_rate=rate, return_tensors="pt").input_features, lengths

    def num_frames(self, encoder: Any, preprocessor: Any, num_samples: int) -> int:
        """Log-mel frames by the stride of its second convolution."""
        return int((-(-num_samples // preprocessor.hop_length) - 1) // encoder.conv2.stride[0] + 1)


FAMILIES: dict[str, Family] = {
    "wav2vec2": Wav2Vec2(),
    "hubert": Wav2Vec2(),
    "wavlm": Wav2Vec2(),
    "unispeech-sat": Wav2Vec2(),
    "data2vec-audio": Data2VecAudio(),
    "whisper": Whisper(),
}
"""config.json's model_type -> its family."""


def family_of(model_type: str, name: str) -> Family:
    """The family of an encoder of that name. Raises ConfigError if it is of none."""
    if model_type not in FAMILIES:
        raise ConfigError(
            f"model.feature_extractor_model: expected a speech encoder ({', '.join(FAMILIES)}), found {name} to be "
            f"{model_type!r}."
        )
    return FAMILIES[model_type]
