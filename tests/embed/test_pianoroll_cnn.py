"""The piano-roll CNN: shape, batches, checkpoints, and that it learns what can be learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages import registry
from stages.embed.backbones.pianoroll_cnn import DIM, PianoRollCnn
from stages.embed.inputs import Clip
from stages.embed.objectives import Labels
from store.errors import RequestError


def build(frames: int = 64) -> PianoRollCnn:
    torch.manual_seed(0)
    backbone = PianoRollCnn(PianoRollCnn.Config(frames=frames))
    backbone.to(torch.device("cpu"))
    return backbone


def rolls(count: int, frames: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sparse = torch.rand((count, 5, 128, frames), generator=generator) < 0.03
    return (torch.randint(1, 128, sparse.shape, generator=generator) * sparse).to(torch.uint8)


def test_it_is_found_and_has_six_and_six_layers() -> None:
    assert registry.find("backbone", "pianoroll-cnn") is PianoRollCnn
    objective = build().objectives()["supervised"](Labels(("a", "b"), np.eye(2, dtype=bool)))
    assert sum(isinstance(module, nn.Conv2d) for module in objective.modules()) == 6
    assert sum(isinstance(module, nn.Linear) for module in objective.modules()) == 6


@pytest.mark.parametrize("frames", [64, 100, 256])
def test_shapes(frames: int) -> None:
    backbone = build(frames)
    assert backbone.input.shape == (5, 128, frames)
    assert backbone.encode(rolls(2, frames)).shape == (2, *backbone.shape) == (2, DIM)


def test_wrong_settings_are_refused() -> None:
    for frames in (63, 1 << 20):
        with pytest.raises(RequestError, match="frames"):
            build(frames)


def test_alone_as_in_any_batch() -> None:
    backbone, batch = build(), rolls(9)
    # Statistics as they are after training; those of a new network hide differences.
    backbone.module.train()
    with torch.no_grad():
        backbone.module(batch)
    backbone.module.eval()
    together = backbone.encode(batch)
    for index in range(len(batch)):
        torch.testing.assert_close(
            backbone.encode(batch[index : index + 1]), together[index : index + 1], atol=1e-5, rtol=0
        )


def test_checkpoints(tmp_path: Path) -> None:
    backbone, other = build(), PianoRollCnn(PianoRollCnn.Config(frames=64))
    torch.save(backbone.module.state_dict(), tmp_path / "weights.pt")
    other.load(tmp_path / "weights.pt")
    other.to(torch.device("cpu"))
    assert torch.equal(other.encode(rolls(2)), backbone.encode(rolls(2)))
    torch.save({"convolutions.0.0.weight": torch.zeros(16, 1, 3, 3)}, tmp_path / "weights.pt")
    with pytest.raises(RequestError, match=r"'convolutions\.0\.0\.weight' has shape"):
        other.load(tmp_path / "weights.pt")


def test_it_learns_which_track_plays() -> None:
    backbone = build()
    backbone.module.requires_grad_(True).train()
    objective = backbone.objectives()["supervised"](Labels(("drums", "bass"), np.eye(2, dtype=bool)))
    carried = torch.eye(2).repeat(12, 1)
    batch = rolls(24)
    batch[::2, 3] = 0
    batch[1::2, 0] = 0
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = objective(batch.unsqueeze(1), carried)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_real_songs(shared_data: Path) -> None:
    backbone = build(256)
    for path in sorted((shared_data / "lakh" / "midi").glob("*.mid"))[:3]:
        window = backbone.input.load(Clip(clip_id="c", path=path, start_s=10.0, duration_s=15.0))
        vector = backbone.encode(torch.from_numpy(window))
        assert vector.shape == (1, DIM)
        assert torch.isfinite(vector).all()
