"""A training step of the networks of published tables, beside the same layers written down plainly.

Both get the same samples and read them through their own front end; the plain ones are torchaudio's transforms and a
sequence of torch's layers, trained by torch's AdamW, or RMSProp where the network was published with it. Ours clips its
gradients too, as ``encore train`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages import registry
from stages.embed.inputs.spectral import torchaudio_transforms
from stages.embed.objectives import Labels
from tests.bench import entry, median_seconds

BATCHES = {"cnn1d": 16, "fcn4": 2, "mfcc-cnn": 4, "passt": 1, "samplecnn": 8}
LABELS = 50
TARGET = 1.0


def measure() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {f"step-{name}": steps(name, batch) for name, batch in BATCHES.items()}
    finally:
        torch.set_num_threads(threads)


def steps(name: str, batch: int, repeats: int = 7) -> dict[str, Any]:
    """Processor seconds of one step of a batch."""
    torch.manual_seed(0)
    backbone = registry.find("backbone", name)(registry.find("backbone", name).Config())
    windows = 0.1 * torch.randn(batch, backbone.input.window_samples)
    labels = torch.eye(LABELS)[torch.arange(batch) % LABELS]
    objective = backbone.objectives()["supervised"](Labels(tuple(map(str, range(LABELS))), np.eye(LABELS, dtype=bool)))
    settings = objective.settings
    ours = step(
        settings.optimize(objective.parameters()),
        lambda: objective.train()(windows[:, None], labels),
        clip=settings.max_norm,
    )
    plain = nn.Sequential(*PLAIN[name](), nn.Linear(backbone.shape[-1], LABELS)).train()
    kinds = {"adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    penalised = [next(plain[i].parameters()) for i in PENALISED.get(name, ())]

    def peer_loss() -> Tensor:
        loss = F.cross_entropy(plain(windows), labels.argmax(dim=1))
        for weight in penalised:
            loss = loss + 1e-3 * weight.pow(2).sum()
        return loss

    peer = step(kinds[settings.optimizer](plain.parameters(), lr=1e-4), peer_loss, clip=None)
    ours()
    peer()
    ours_s, peer_s = median_seconds(ours, peer, repeats=repeats)
    counts = [sum(p.numel() for p in network.parameters()) for network in (objective, plain)]
    note = f"{batch} windows, {counts[0]:,} parameters and plainly {counts[1]:,}, one thread"
    return entry(ours_s, peer_s, TARGET, "s", note)


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], *, clip: float | None) -> Callable[[], None]:
    """Forward, backward and update."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def run() -> None:
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()

    return run


class Mel(nn.Module):
    """Mel bands as torchaudio has them, behind a function, with a channel or without."""

    def __init__(self, compress: Callable[[Tensor], Tensor], channel: bool, **settings: Any) -> None:
        super().__init__()
        self.mel = torchaudio_transforms().MelSpectrogram(norm="slaney", mel_scale="slaney", **settings)
        self.compress, self.channel = compress, channel

    def forward(self, wave: Tensor) -> Tensor:
        level = self.compress(self.mel(wave))
        return level[:, None] if self.channel else level


class Mfcc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mfcc = torchaudio_transforms().MFCC(
            22_050, 20, melkwargs={"n_fft": 2_048, "hop_length": 512, "n_mels": 128, "norm": "slaney"}
        )

    def forward(self, wave: Tensor) -> Tensor:
        coefficients: Tensor = self.mfcc(wave)
        return coefficients


class Waves(nn.Module):
    def forward(self, wave: Tensor) -> Tensor:
        return wave[:, None]


def cnn1d() -> list[nn.Module]:
    layers: list[nn.Module] = [
        Mel(
            lambda power: torch.log10(1 + 10 * power),
            False,
            sample_rate=22_050,
            n_fft=1_024,
            hop_length=512,
            n_mels=128,
        )
    ]
    before = 128
    for channels, kernel, pool in ((32, 8, 8), (32, 8, 8), (64, 4, 4)):
        layers += [nn.Conv1d(before, channels, kernel), nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(pool)]
        before = channels
    return [*layers, nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Dropout(0.5)]


def fcn4() -> list[nn.Module]:
    to_db = torchaudio_transforms().AmplitudeToDB()
    layers: list[nn.Module] = [Mel(to_db, True, sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96)]
    layers += [nn.BatchNorm2d(1)]
    before = 1
    for channels, pool in ((128, (2, 4)), (384, (4, 5)), (768, (3, 8)), (2_048, (4, 8))):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.MaxPool2d(pool), nn.Dropout(0.5)]
        before = channels
    return [*layers, nn.Flatten()]


def mfcc_cnn() -> list[nn.Module]:
    layers: list[nn.Module] = [Mfcc(), nn.BatchNorm1d(20, affine=False), nn.Unflatten(1, (1, 20))]
    before = 1
    for channels in (64, 160, 128, 128, 128, 128):
        for width in (before, channels):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2, ceil_mode=True)]
        before = channels
    return [*layers, nn.Flatten(), nn.Linear(128 * 20, 64), nn.ReLU()]


def samplecnn() -> list[nn.Module]:
    layers: list[nn.Module] = [Waves(), nn.Conv1d(1, 128, 3, stride=3), nn.BatchNorm1d(128), nn.ReLU()]
    before = 128
    for channels in (128, 128, *6 * [256], 512):
        layers += [nn.Conv1d(before, channels, 3, padding=1), nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(3)]
        before = channels
    layers += [nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU()]
    return [*layers, nn.Flatten(), nn.Dropout(0.5)]


class Patches(nn.Module):
    """PaSST's front end: log mel power, patches with the two embeddings of their place, patchout, two tokens."""

    def __init__(self) -> None:
        super().__init__()
        torchaudio_transforms()
        from torchaudio.compliance.kaldi import get_mel_banks

        filters = get_mel_banks(128, 1_024, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)[0]
        self.filters = nn.Parameter(F.pad(filters, (0, 1)), requires_grad=False)
        self.window = nn.Parameter(torch.hann_window(800, periodic=False), requires_grad=False)
        self.cut = nn.Conv2d(1, 768, 16, stride=10)
        self.rows = nn.Parameter(0.02 * torch.randn(1, 768, 12, 1))
        self.columns = nn.Parameter(0.02 * torch.randn(1, 768, 1, 99))
        self.whole = nn.Parameter(0.02 * torch.randn(1, 2, 768))
        self.places = nn.Parameter(0.02 * torch.randn(1, 2, 768))

    def forward(self, wave: Tensor) -> Tensor:
        emphasised = F.conv1d(wave[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
        spectrum = torch.stft(emphasised, 1_024, 320, 800, self.window, return_complex=True)
        level = ((self.filters @ spectrum.abs().pow(2) + 1e-5).log() + 4.5) / 5
        x = self.cut(level[:, None]) + self.columns + self.rows
        x = x[:, :, torch.randperm(12)[:8].sort().values][..., torch.randperm(99)[:59].sort().values]
        return torch.cat([(self.whole + self.places).expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)


class Block(nn.Module):
    """A block of a Vision Transformer, 12 heads of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(768, eps=1e-6), nn.LayerNorm(768, eps=1e-6)
        self.qkv, self.proj = nn.Linear(768, 3 * 768), nn.Linear(768, 768)
        self.mlp = nn.Sequential(nn.Linear(768, 3_072), nn.GELU(), nn.Linear(3_072, 768))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, 12, 64)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) / 8).softmax(dim=-1)
        x = x + self.proj((attention @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """The mean of the two tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].mean(dim=1)


def passt() -> list[nn.Module]:
    return [Patches(), *(Block() for _ in range(12)), nn.LayerNorm(768, eps=1e-6), Tokens()]


PENALISED = {"mfcc-cnn": (8, 10, 18, 20)}  # convolutions of the second and the fourth block

PLAIN: dict[str, Callable[[], list[nn.Module]]] = {
    "cnn1d": cnn1d,
    "fcn4": fcn4,
    "mfcc-cnn": mfcc_cnn,
    "passt": passt,
    "samplecnn": samplecnn,
}
