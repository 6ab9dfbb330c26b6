"""What a room, a microphone and a telephone line do to a clip, drawn at random for a whole batch.

Synthetic voices are too clean and too alike; every draw here makes one sound like another speaker
somewhere else. Works on plain tensors on any device; knows nothing of words.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000


def place(clips: list[np.ndarray], num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Each clip somewhere in a window, its pitch, formants and tempo shifted: -> (N, T) float32.

    A clip is played up to a quarter slower or two fifths faster, faster where it would not fit.
    """
    windows = np.zeros((len(clips), num_samples), np.float32)
    for window, clip in zip(windows, clips, strict=True):
        speed = max(float(np.exp(rng.uniform(-0.25, 0.35))), len(clip) / num_samples)
        length = min(int(len(clip) / speed), num_samples)
        start = int(rng.integers(num_samples - length + 1))
        positions = np.arange(length) * (len(clip) / length)
        played = np.interp(positions, np.arange(len(clip)), clip)
        window[start : start + length] = played / (played.std() + 1e-6)
    return windows


def augment(waveforms: Tensor, clean: float, generator: torch.Generator) -> Tensor:
    """The batch as heard elsewhere, normalised clip by clip: (N, T) -> (N, T).

    A share `clean` of the clips only goes through the telephone.
    """
    device = waveforms.device
    untouched = _chosen(len(waveforms), clean, generator).to(device)
    heard = _reverberate(_warp_formants(waveforms, generator), generator)
    heard = _saturate(_add_babble(heard, generator), generator)
    heard = torch.lerp(_add_noise(_equalise(heard, generator), generator), waveforms, untouched)
    spectrum = torch.fft.rfft(heard)
    band = _telephone_band(spectrum.shape, generator).to(device)
    heard = _companded(torch.fft.irfft(spectrum * band, n=waveforms.shape[1]), generator)
    heard = heard - heard.mean(dim=1, keepdim=True)
    return heard / (heard.std(dim=1, keepdim=True) + 1e-5)


def _uniform(size: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(size, 1, generator=generator) * (high - low) + low


def _chosen(size: int, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(size, 1, generator=generator) < share).float()


def _warp_formants(waveforms: Tensor, generator: torch.Generator, num_points: int = 512) -> Tensor:
    """Three clips of five by a vocal tract up to a seventh longer or shorter, at the same pitch.

    The spectral envelope (the first 30 cepstral coefficients of each frame) is stretched over
    frequency; what lies beside it, the voice's harmonics, stays where it is.
    """
    size, num_samples = waveforms.shape
    window = torch.hann_window(num_points, device=waveforms.device)
    spectrum = torch.stft(waveforms, num_points, num_points // 2, window=window, return_complex=True)
    cepstrum = torch.fft.irfft(torch.log(spectrum.abs() + 1e-3), dim=1)
    cepstrum[:, 30:-29] = 0.0
    envelope = torch.fft.rfft(cepstrum, dim=1).real
    factor = torch.exp(_uniform(size, -0.15, 0.15, generator) * _chosen(size, 0.6, generator))
    points = num_points // 2
    source = (torch.arange(points + 1) * factor).clamp(max=points - 1e-3).to(waveforms.device)
    below = source.floor().long()[:, :, None].expand(-1, -1, envelope.shape[2])
    share = (source - source.floor())[:, :, None]
    warped = torch.lerp(envelope.gather(1, below), envelope.gather(1, below + 1), share)
    gain = torch.exp((warped - envelope).clamp(-2.3, 2.3))
    return torch.istft(spectrum * gain, num_points, num_points // 2, window=window, length=num_samples)


def _reverberate(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """Two clips of five in a room that decays by 60 dB in 50 to 600 ms."""
    size, num_samples = waveforms.shape
    length = min(num_samples, SAMPLE_RATE // 2)
    time_s = torch.arange(length) / SAMPLE_RATE
    decay = torch.exp(-6.9 * time_s / _uniform(size, 0.05, 0.6, generator))
    room = torch.randn(size, length, generator=generator) * decay
    room = room / room.norm(dim=1, keepdim=True)
    room = room * _uniform(size, 0.1, 0.6, generator) * _chosen(size, 0.4, generator)
    room[:, 0] += 1.0
    points = num_samples + length
    product = torch.fft.rfft(waveforms, n=points) * torch.fft.rfft(room, n=points).to(waveforms.device)
    return torch.fft.irfft(product, n=points)[:, :num_samples]


def _add_babble(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """A fifth of the clips with another of the batch behind them, 5 to 25 dB below."""
    size = len(waveforms)
    gain = 10 ** (-_uniform(size, 5, 25, generator) / 20) * _chosen(size, 0.2, generator)
    return waveforms + gain.to(waveforms.device) * waveforms.roll(1, dims=0)


def _saturate(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """A fifth of the clips driven into a soft limit."""
    size = len(waveforms)
    drive = _uniform(size, 0.3, 1.5, generator).to(waveforms.device)
    chosen = _chosen(size, 0.2, generator).to(waveforms.device)
    return torch.lerp(waveforms, torch.tanh(waveforms * drive) / drive, chosen)


def _smooth_curve(size: int, points: int, swing_db: float, generator: torch.Generator) -> Tensor:
    """A gain over frequency: six slow cosines on a warped axis: -> (N, points)."""
    axis = torch.linspace(0, 1, points).sqrt()
    curve = torch.zeros(size, points)
    for order in range(1, 7):
        curve += _uniform(size, -1, 1, generator) * torch.cos(torch.pi * order * axis) / order**0.5
    return 10 ** (curve * swing_db / 20)


def _equalise(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """A microphone's and a voice's own colour: up to a dozen decibels here and there."""
    size, num_samples = waveforms.shape
    curve = _smooth_curve(size, num_samples // 2 + 1, 7.0, generator).to(waveforms.device)
    coloured = torch.fft.irfft(torch.fft.rfft(waveforms) * curve, n=num_samples)
    return coloured / (coloured.std(dim=1, keepdim=True) + 1e-5)


def _add_noise(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """Coloured noise 6 to 45 dB below the clip."""
    size, num_samples = waveforms.shape
    white = torch.fft.rfft(torch.randn(size, num_samples, generator=generator))
    slope = torch.linspace(1e-3, 1, white.shape[1]) ** -_uniform(size, 0.0, 1.0, generator)
    curve = slope * _smooth_curve(size, white.shape[1], 5.0, generator)
    noise = torch.fft.irfft(white * curve, n=num_samples)
    noise = noise / (noise.std(dim=1, keepdim=True) + 1e-5)
    gain = 10 ** (-_uniform(size, 6, 45, generator) / 20)
    return waveforms + (gain * noise).to(waveforms.device)


def _telephone_band(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Gains (N, F): four clips of five lose what lies above 3.2 to 4 kHz and below 20 to 300 Hz."""
    size, points = shape
    hertz = torch.linspace(0, SAMPLE_RATE / 2, points)
    low = torch.sigmoid((hertz - _uniform(size, 20, 300, generator)) / 20)
    high = torch.sigmoid((_uniform(size, 3200, 4000, generator) - hertz) / 40)
    chosen = _chosen(size, 0.8, generator)
    return torch.lerp(torch.ones(size, points), low * high, chosen)


def _companded(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of the clips through eight-bit mu-law."""
    peak = waveforms.abs().amax(dim=1, keepdim=True) + 1e-6
    level = torch.log1p(255 * (waveforms / peak).abs()) / np.log(256)
    rounded = torch.expm1((level * 127).round() / 127 * np.log(256)) / 255
    chosen = _chosen(len(waveforms), 0.25, generator).to(waveforms.device)
    return torch.lerp(waveforms, rounded * waveforms.sign() * peak, chosen)
