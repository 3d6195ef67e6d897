"""CoLA and the Mixture of CNN: their inputs against librosa, and one clip's numbers in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

from stages import registry
from stages.embed.backbones import cola, mixcnn
from stages.embed.backbones.cola import Cola, ColaConfig
from stages.embed.backbones.mixcnn import Mixcnn, MixcnnConfig
from stages.embed.inputs import Clip, draw
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import decibels, mel_spectrogram
from stages.embed.objectives import Labels
from store.errors import RequestError

CPU = torch.device("cpu")
BACKBONES: list[type[Any]] = [Cola, Mixcnn]


def waves(backbone: Any, count: int) -> torch.Tensor:
    """Tones of different heights in noise, each with a beat."""
    time = torch.arange(backbone.input.window_samples) / backbone.input.rate_hz
    noise = torch.randn(count, len(time), generator=torch.Generator().manual_seed(1))
    heights = 200.0 * torch.arange(1, count + 1)[:, None]
    return (0.3 * torch.sin(6.28 * heights * time) + 0.05 * noise) * (0.6 + 0.4 * torch.sin(25 * time))


@pytest.fixture(scope="module", params=BACKBONES, ids=lambda kind: kind.NAME)
def backbone(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    instance = request.param(request.param.Config())
    instance.to(CPU)
    return instance


def test_a_window_alone_is_the_same_as_in_any_batch(backbone: Any) -> None:
    x = waves(backbone, 9 if backbone.NAME == "cola" else 3)
    together = backbone.encode(x)
    assert together.shape == (len(x), *backbone.shape)
    assert together.dtype == torch.float32
    scale = together.abs().max()
    assert together.std(dim=0).mean() > 1e-3 * scale  # it answers, and not the same to everything
    for others in ([1], [2, 0], [len(x) - 1, 0, 1]):
        torch.testing.assert_close(backbone.encode(x[others]), together[others], atol=1e-5 * float(scale), rtol=0)


def test_a_checkpoint_gives_the_same_numbers(backbone: Any, tmp_path: Path) -> None:
    torch.save({"weights": backbone.module.state_dict(), "about": {}}, tmp_path / "w.pt")
    torch.manual_seed(5)
    other = type(backbone)(backbone.config)
    other.load(tmp_path / "w.pt")
    other.to(CPU)
    x = waves(backbone, 1)
    assert torch.equal(other.encode(x), backbone.encode(x))
    foreign = next(kind for kind in BACKBONES if kind is not type(backbone))
    with pytest.raises(RequestError, match=r"w\.pt: '.*'"):
        foreign(foreign.Config()).load(tmp_path / "w.pt")
    assert registry.find("backbone", backbone.NAME) is type(backbone)


def test_every_parameter_that_encodes_is_trained(backbone: Any) -> None:
    torch.manual_seed(0)
    fresh = type(backbone)(backbone.config)
    labels = Labels(("a", "b"), np.array([[True, False], [False, True]]))
    for make in fresh.objectives().values():
        objective = make(labels)
        objective.zero_grad()
        x = waves(fresh, 2 * objective.WINDOWS).unflatten(0, (2, objective.WINDOWS))
        objective(x, torch.eye(2)).backward()
        still = [name for name, p in objective.named_parameters() if p.grad is None]
        assert not still


def test_cola_has_a_size_for_trying_things_out(tmp_path: Path) -> None:
    tiny = Cola(ColaConfig(size="tiny"))
    assert sum(p.numel() for p in tiny.module.efficientnet.parameters()) == 656_832
    tiny.to(CPU)
    assert tiny.encode(waves(tiny, 3)).shape == (3, *tiny.shape) == (3, 640)
    torch.save(tiny.module.state_dict(), tmp_path / "tiny.pt")
    with pytest.raises(RequestError, match=r"tiny\.pt: 'efficientnet.* has shape"):
        Cola(ColaConfig()).load(tmp_path / "tiny.pt")
    with pytest.raises(RequestError, match="size must be one of tiny, b0, not 'b1'"):
        ColaConfig(size="b1")


def test_cola_is_efficientnet_b0_over_mel_of_25_ms_windows() -> None:
    network = Cola(ColaConfig()).module.efficientnet
    assert sum(p.numel() for p in network.parameters()) == 4_006_972
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    x = waves(Cola(ColaConfig()), 2)
    expected = librosa.feature.melspectrogram(
        y=x.numpy(),
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=64,
        fmin=60,
        fmax=7_800,
        htk=True,
        norm=None,
        pad_mode="reflect",
    )
    spectrogram = mel_spectrogram(cola.MEL)(x).numpy()
    assert spectrogram.shape == (2, 64, cola.FRAMES + 1)
    np.testing.assert_allclose(spectrogram, expected, rtol=1e-4, atol=1e-8 * expected.max())


def test_the_four_views_are_librosas() -> None:
    instance = Mixcnn(MixcnnConfig())
    wave = waves(instance, 1)
    views = instance.module.views(wave)
    assert [tuple(view.shape) for view in views] == [(1, 128, 1292)] * 3 + [(1, 128, 647)]
    magnitude = np.abs(librosa.stft(wave[0].numpy(), n_fft=1024, hop_length=512))
    assert magnitude.shape == (513, 1292)
    swing = np.abs(np.fft.rfft(magnitude.astype(np.float64), axis=1)) / 1292
    filters = librosa.filters.mel(sr=22_050, n_fft=1024, n_mels=128)
    for view, part in zip(views, [magnitude, *librosa.decompose.hpss(magnitude), swing], strict=True):
        expected = filters @ part**2
        power = 10 ** (view[0].numpy() / 10)
        np.testing.assert_allclose(power, np.maximum(expected, 1e-10), rtol=1e-4, atol=1e-6 * expected.max())
        np.testing.assert_allclose(view[0].numpy(), decibels(torch.from_numpy(expected)).numpy(), atol=0.01)


def test_modulation_finds_the_beat() -> None:
    frames = torch.arange(1292)
    beating = 1 + torch.cos(2 * torch.pi * 30 * frames / 1292)
    swing = mixcnn.modulation(beating.expand(1, 3, -1))
    assert swing.shape == (1, 3, 647)
    torch.testing.assert_close(swing[0, 0, [0, 30]], torch.tensor([1.0, 0.5]), atol=1e-5, rtol=0)
    assert swing[0, 0, 31:].max() < 1e-5


def test_the_mixture_lies_among_the_four_outputs() -> None:
    torch.manual_seed(0)
    instance = Mixcnn(MixcnnConfig())
    instance.to(CPU)
    x = waves(instance, 2)
    outputs = instance.module.outputs(x)
    mixed = instance.module(x)
    torch.testing.assert_close(instance.encode(x), outputs.flatten(1), atol=1e-5, rtol=0)
    assert (mixed <= outputs.amax(1) + 1e-6).all()
    assert (mixed >= outputs.amin(1) - 1e-6).all()


def test_windows_are_drawn_from_anywhere_in_the_stretch(tmp_path: Path) -> None:
    """The samples count up, so that a window tells where it began; MIDI readers give windows of their own."""
    samples = np.arange(20_000, dtype=np.float32) / 20_000
    soundfile.write(tmp_path / "ramp.wav", samples, 8_000, subtype="FLOAT")
    reader = AudioInput(rate_hz=8_000, window_samples=1_000, min_s=0.1)
    clip = Clip(clip_id="c", path=tmp_path / "ramp.wav", start_s=0.5, duration_s=1.0)
    windows = draw(reader, clip, 200, np.random.default_rng(0))
    assert windows.shape == (200, 1_000)
    begins = np.round(windows[:, 0] * 20_000).astype(int)
    np.testing.assert_allclose(windows[7], samples[begins[7] : begins[7] + 1_000])
    assert 4_000 <= begins.min() < 4_300
    assert 10_700 < begins.max() <= 11_000
    np.testing.assert_array_equal(draw(reader, clip, 200, np.random.default_rng(0)), windows)
    short = draw(reader, Clip(clip_id="c", path=clip.path, duration_s=0.1), 2, np.random.default_rng(0))
    np.testing.assert_array_equal(short, reader.load(Clip(clip_id="c", path=clip.path, duration_s=0.1)).repeat(2, 0))

    class Fixed:
        KIND = "midi"

        def load(self, clip: Clip) -> np.ndarray:
            return np.arange(5)

    assert len(set(draw(Fixed(), clip, 4, np.random.default_rng(0)))) == 4
    assert draw(Fixed(), clip, 9, np.random.default_rng(0)).shape == (9,)


def test_real_songs_pass_through_both(backbone: Any, shared_data: Path) -> None:
    for song in sorted((shared_data / "jamendo-lyrics/mp3").glob("*.mp3"))[:2]:
        windows = torch.from_numpy(backbone.input.load(Clip(clip_id="c", path=song, start_s=20.0, duration_s=5.0)))
        representation = backbone.encode(windows)
        assert len(representation) == (5 if backbone.NAME == "cola" else 1)
        assert torch.isfinite(representation).all()
