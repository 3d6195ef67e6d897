"""MusicBERT: published weights against torch's own encoder, masking, pooling, batches."""

from __future__ import annotations

import argparse
import collections
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages import registry
from stages.embed.backbones._musicbert_network import HIDDEN
from stages.embed.backbones.musicbert import MusicBert, hide_bars, hide_notes
from stages.embed.inputs import Clip
from stages.embed.inputs.octuple import NOTES, PAD, SIZES
from stages.embed.objectives import Labels
from store.errors import RequestError

WIDTH, LAYERS, HEADS, INNER = 128, 2, 2, 512
WORDS = 4 + sum(SIZES) + 1
NO_LABELS = Labels((), torch.empty(0, 0).numpy())


def tiny() -> MusicBert:
    torch.manual_seed(3)
    backbone = MusicBert(MusicBert.Config(size="tiny"))
    backbone.to(torch.device("cpu"))
    return backbone


def windows(*lengths: int, seed: int = 0, notes: int = NOTES) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), notes, 8), PAD, dtype=torch.int16)
    for window, length in zip(tokens, lengths, strict=True):
        for field, size in enumerate(SIZES):
            window[:length, field] = torch.randint(0, size, (length,), generator=generator)
        window[:length] = window[:length][torch.argsort(window[:length, 0])]
    return tokens


def published_state(width: int = WIDTH, layers: int = LAYERS, inner: int = INNER) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes that fairseq saves MusicBERT with."""
    generator = torch.Generator().manual_seed(1)
    linear = {"q_proj": (width, width), "k_proj": (width, width), "v_proj": (width, width), "out_proj": (width, width)}
    shapes: dict[str, tuple[int, ...]] = {
        "sentence_encoder.embed_tokens.weight": (WORDS, width),
        "sentence_encoder.embed_positions.weight": (8194, width),
    }
    layers_of: dict[str, tuple[int, int]] = {"sentence_encoder.downsampling.0": (width, 8 * width)}
    layers_of["sentence_encoder.upsampling.0"] = (8 * width, width)
    layers_of["lm_head.dense"] = (width, width)
    norms = ["sentence_encoder.emb_layer_norm", "lm_head.layer_norm"]
    for number in range(layers):
        layer = f"sentence_encoder.layers.{number}"
        layers_of |= {f"{layer}.self_attn.{name}": shape for name, shape in linear.items()}
        layers_of |= {f"{layer}.fc1": (inner, width), f"{layer}.fc2": (width, inner)}
        norms += [f"{layer}.self_attn_layer_norm", f"{layer}.final_layer_norm"]
    for name, (out, into) in layers_of.items():
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes["lm_head.bias"] = (WORDS,)
    state = {f"encoder.{name}": torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    state["encoder.lm_head.weight"] = state["encoder.sentence_encoder.embed_tokens.weight"]
    return state


def reference(state: dict[str, Tensor], octuples: list[Tensor]) -> list[Tensor]:
    """The last layer's vectors [tokens, width] of each window, start and end included, by torch's own encoder."""
    part = {key.removeprefix("encoder.sentence_encoder."): value for key, value in state.items()}
    encoder_layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(encoder_layer, LAYERS, enable_nested_tensor=False)
    names = {
        "self_attn.out_proj": "self_attn.out_proj",
        "linear1": "fc1",
        "linear2": "fc2",
        "norm1": "self_attn_layer_norm",
        "norm2": "final_layer_norm",
    }
    weights = {}
    for number in range(LAYERS):
        for kind in ("weight", "bias"):
            packed = torch.cat([part[f"layers.{number}.self_attn.{name}_proj.{kind}"] for name in "qkv"])
            weights[f"layers.{number}.self_attn.in_proj_{kind}"] = packed
            for ours, theirs in names.items():
                weights[f"layers.{number}.{ours}.{kind}"] = part[f"layers.{number}.{theirs}.{kind}"]
    encoder.load_state_dict(weights)
    encoder.eval()
    vectors = []
    for notes in octuples:
        words = [[4 + sum(SIZES[:field]) + value for field, value in enumerate(note)] for note in notes.tolist()]
        words = [[0] * 8, *words, [2] * 8]
        embedded = part["embed_tokens.weight"][torch.tensor(words)].reshape(len(words), 8 * WIDTH)
        x = F.linear(embedded, part["downsampling.0.weight"], part["downsampling.0.bias"])
        x = x + part["embed_positions.weight"][2 : 2 + len(words)]
        x = F.layer_norm(x, (WIDTH,), part["emb_layer_norm.weight"], part["emb_layer_norm.bias"])
        with torch.inference_mode():
            vectors.append(encoder(x[None])[0])
    return vectors


def as_published(tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as fairseq writes it: weights beside settings that are objects of its own classes."""
    config = types.ModuleType("omegaconf.dictconfig")
    config.DictConfig = type("DictConfig", (), {"__module__": config.__name__})
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, config.__name__, config)
    settings = config.DictConfig()
    settings.content = {"model": argparse.Namespace(arch="musicbert_small"), "kind": int}
    settings.cache = collections.defaultdict(dict, a={})
    checkpoint = {
        "cfg": settings,
        "args": None,
        "model": state,
        "extra_state": {"epoch": 3},
        "last_optimizer_state": None,
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    monkeypatch.delitem(sys.modules, config.__name__)
    monkeypatch.delitem(sys.modules, "omegaconf")
    return tmp_path / "checkpoint.pt"


class TestPublishedWeights:
    def test_they_give_the_vectors_of_torchs_encoder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = published_state()
        backbone = tiny()
        backbone.load(as_published(tmp_path, state, monkeypatch))
        lengths = (7, 90, 1)
        batch = windows(*lengths)
        with torch.inference_mode():
            last = backbone.module.states(batch)[0][-1]
        expected = reference(state, [window[:length] for window, length in zip(batch, lengths, strict=True)])
        for ours, theirs in zip(last, expected, strict=True):
            torch.testing.assert_close(ours[: len(theirs)], theirs, atol=1e-5, rtol=1e-5)

    def test_they_guess_words_as_published(self, tmp_path: Path) -> None:
        state = published_state()
        torch.save({"model": state}, tmp_path / "checkpoint.pt")
        backbone = tiny()
        backbone.load(tmp_path / "checkpoint.pt")
        batch = windows(12)
        mask = torch.zeros(batch.shape, dtype=torch.bool)
        mask[0, [2, 5]] = True
        with torch.inference_mode():
            logits = backbone.module.predict(batch, mask)
        (vectors,) = reference(state, [batch[0, :12]])
        part = {key.removeprefix("encoder.").removeprefix("sentence_encoder."): value for key, value in state.items()}
        wide = F.linear(vectors, part["upsampling.0.weight"], part["upsampling.0.bias"]).reshape(14, 8, WIDTH)
        x = F.gelu(F.linear(wide, part["lm_head.dense.weight"], part["lm_head.dense.bias"]))
        x = F.layer_norm(x, (WIDTH,), part["lm_head.layer_norm.weight"], part["lm_head.layer_norm.bias"])
        every = F.linear(x, part["embed_tokens.weight"], part["lm_head.bias"])
        first = 4
        for field, size in enumerate(SIZES):
            torch.testing.assert_close(logits[field], every[[3, 6], field, first : first + size], atol=1e-4, rtol=1e-4)
            first += size

    @pytest.mark.parametrize(("size", "dim"), [("small", 3584), ("base", 5376)])
    def test_the_published_sizes(self, size: str, dim: int, tmp_path: Path) -> None:
        with torch.device("meta"):
            backbone = MusicBert(MusicBert.Config(size=size))
        width, layers = {"small": (512, 4), "base": (768, 12)}[size]
        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in backbone.module.state_dict().items()}
        assert backbone.shape == (dim,)
        assert shapes["downsampling.0.weight"] == (width, 8 * width)
        assert shapes[f"layers.{layers - 1}.fc1.weight"] == (4 * width, width)
        assert len({key.split(".")[1] for key in shapes if key.startswith("layers.")}) == layers

    def test_fine_tuned_ones_have_heads(self, tmp_path: Path) -> None:
        state = published_state() | {"classification_heads.genre_head.dense.weight": torch.zeros(3, 3)}
        torch.save({"model": {k: v for k, v in state.items() if "lm_head" not in k}}, tmp_path / "checkpoint.pt")
        tiny().load(tmp_path / "checkpoint.pt")

    def test_another_size_is_said(self, tmp_path: Path) -> None:
        torch.save({"model": published_state(512, 4, 16)}, tmp_path / "checkpoint.pt")
        with pytest.raises(RequestError, match="--set size=small"):
            tiny().load(tmp_path / "checkpoint.pt")

    def test_foreign_ones_are_refused_by_the_first_key(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "checkpoint.pt")
        with pytest.raises(RequestError, match=r"'embed_tokens\.weight' is missing"):
            tiny().load(tmp_path / "checkpoint.pt")
        state = published_state()
        state["encoder.sentence_encoder.layers.1.fc1.bias"] = torch.zeros(5)
        torch.save({"model": state}, tmp_path / "checkpoint.pt")
        with pytest.raises(RequestError, match=r"'layers\.1\.fc1\.bias' has shape \(5,\) and should have \(512,\)"):
            tiny().load(tmp_path / "checkpoint.pt")

    def test_our_own_are_read_back(self, tmp_path: Path) -> None:
        backbone, other = tiny(), MusicBert(MusicBert.Config(size="tiny"))
        torch.save(backbone.module.state_dict(), tmp_path / "checkpoint.pt")
        other.load(tmp_path / "checkpoint.pt")
        other.to(torch.device("cpu"))
        assert torch.equal(other.encode(windows(9)), backbone.encode(windows(9)))


class TestRepresentations:
    def test_it_is_found(self) -> None:
        assert registry.find("backbone", "musicbert") is MusicBert

    def test_they_are_the_pools_of_the_layers(self) -> None:
        backbone = tiny()
        batch = windows(5, 30)
        with torch.inference_mode():
            vectors = backbone.encode(batch)
            for window, vector, length in zip(batch, vectors, (5, 30), strict=True):
                states = [state[0] for state in backbone.module.states(window[None])[0]]
                means = [state[1 : 1 + length].mean(dim=0) for state in states]
                expected = torch.cat([*means, states[-1][0], states[-1][1 : 1 + length].amax(dim=0)])
                torch.testing.assert_close(vector, expected, atol=1e-6, rtol=1e-5)
        assert vectors.shape == (2, *backbone.shape) == (2, 5 * WIDTH)

    def test_alone_as_in_any_batch(self) -> None:
        backbone = tiny()
        lengths = (3, 200, 57, 1, NOTES)
        batch = windows(*lengths)
        with torch.inference_mode():
            together = backbone.module(batch)  # padded to the longest, as on a GPU
            for index in range(len(lengths)):
                alone = backbone.encode(batch[index : index + 1])
                torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)
                assert torch.equal(backbone.encode(batch)[index : index + 1], alone)

    def test_settings_are_checked(self) -> None:
        with pytest.raises(RequestError, match="size"):
            MusicBert.Config(size="huge")
        with pytest.raises(RequestError, match="notes"):
            MusicBert(MusicBert.Config(size="tiny", notes=0))

    def test_real_songs(self, shared_data: Path) -> None:
        backbone = tiny()
        for path in sorted((shared_data / "lakh" / "midi").glob("*.mid"))[:4]:
            loaded = torch.from_numpy(backbone.input.load(Clip(clip_id="c", path=path)))
            assert loaded.shape[1:] == (NOTES, 8)
            with torch.inference_mode():
                vectors = backbone.encode(loaded)
            assert torch.isfinite(vectors).all()
            assert len(vectors) == len(loaded)


def rates(tokens: Tensor, hidden: Tensor, mask: Tensor) -> tuple[float, float, float]:
    """Of what is to be guessed: the shares that are hidden, changed, and left."""
    there = mask.sum()
    masked = (hidden == HIDDEN) & mask
    left = (hidden == tokens) & mask
    return float(masked.sum() / there), float((mask & ~masked & ~left).sum() / there), float(left.sum() / there)


class TestMasking:
    def test_whole_notes(self) -> None:
        torch.manual_seed(0)
        tokens = windows(*[1000] * 64).long()
        hidden, mask = hide_notes(tokens)
        notes = mask.any(dim=2)
        assert torch.equal(notes, mask.all(dim=2))
        count = 64_000
        deviation = (0.15 * 0.85 / count) ** 0.5
        assert abs(int(notes.sum()) / count - 0.15) < 4 * deviation
        together = (hidden == HIDDEN).sum(dim=2)
        assert set(together.unique().tolist()) == {0, 8}
        masked, changed, left = rates(tokens, hidden, mask)
        assert abs(masked - 0.8) < 4 * (0.8 * 0.2 / (0.15 * count)) ** 0.5
        same = sum(1 / size for size in SIZES) / 8  # a random value can be the true one
        assert abs(changed - 0.1 * (1 - same)) < 4 * (0.1 * 0.9 / (0.15 * count)) ** 0.5
        assert abs(left - 0.1 * (1 + same)) < 4 * (0.1 * 0.9 / (0.15 * count)) ** 0.5
        assert torch.equal(hidden[~mask], tokens[~mask])
        assert (hidden[mask] < torch.tensor(SIZES).expand(tokens.shape)[mask]).all()

    def test_fields_by_bar_and_instrument(self) -> None:
        torch.manual_seed(0)
        tokens = windows(*[1000] * 32).long()
        tokens[..., 0][tokens[..., 0] != PAD] %= 8
        tokens[..., 2][tokens[..., 2] != PAD] %= 3
        hidden, mask = hide_bars(tokens)
        shares = []
        for window, masks, changed in zip(tokens, mask, hidden, strict=True):
            for bar in range(8):
                for program in range(3):
                    unit = (window[:, 0] == bar) & (window[:, 2] == program)
                    assert torch.equal(masks[unit].all(dim=0), masks[unit].any(dim=0))
                    masked = changed[unit] == HIDDEN
                    assert torch.equal(masked.all(dim=0), masked.any(dim=0))
                    shares.append(masks[unit].all(dim=0).float().mean())
        assert abs(float(torch.stack(shares).mean()) - 0.15) < 4 * (0.15 * 0.85 / (len(shares) * 8)) ** 0.5

    def test_padding_is_never_chosen(self) -> None:
        tokens = windows(1, 3, 1000).long()
        for hide in (hide_notes, hide_bars):
            hidden, mask = hide(tokens)
            assert not mask[tokens == PAD].any()
            assert torch.equal(hidden == PAD, tokens == PAD)

    @pytest.mark.parametrize("name", ["masked", "masked-bar"])
    def test_the_loss_falls(self, name: str) -> None:
        backbone = tiny()
        backbone.module.requires_grad_(True).train()
        objective = backbone.objectives()[name](NO_LABELS)
        batch = windows(40, 64, notes=64).unsqueeze(1)
        optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
        torch.manual_seed(0)
        losses = []
        for _ in range(40):
            loss = objective(batch, torch.empty(2, 0))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        chance = sum(torch.tensor(SIZES).log()).item() / 8
        assert losses[0] == pytest.approx(chance, rel=0.1)
        assert sum(losses[-5:]) / 5 < 0.95 * chance

    def test_a_batch_with_nothing_to_guess(self) -> None:
        backbone = tiny()
        objective = backbone.objectives()["masked"](NO_LABELS)
        objective.hide = lambda tokens: (tokens, torch.zeros(tokens.shape, dtype=torch.bool))
        assert objective(windows(3).unsqueeze(1), torch.empty(1, 0)).item() == 0.0
