"""MusicBERT's network, its parts named as in the published checkpoints.

Axes: b windows, n notes, l = n + 2 tokens (start, notes, end), f = 8 fields, w the width, t the tokens of all windows
together without padding. Everything but attention runs on the last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stages.embed.inputs.octuple import NOTES, PAD, SIZES

HIDDEN = -2  # stands wherever a field is to be predicted

# The published vocabulary: four special words, the values of the eight fields, field after field, then the mask.
_START, _PADDING, _END, _SPECIAL = 0, 1, 2, 4
_MASK = _SPECIAL + sum(SIZES)
WORDS = _MASK + 1
POSITIONS = _PADDING + 1 + NOTES + 2  # fairseq counts positions from one past the padding's index
_FIELDS = len(SIZES)
_DROPOUT = 0.1  # the authors also drop attention weights, which on a CPU costs a third of the time


class Places:
    """The positions of the t tokens in [b, l], computed once: on a GPU, doing so waits for all queued work."""

    def __init__(self, mask: Bool[Tensor, "b l"]) -> None:
        self.mask = mask
        self._at = mask.flatten().nonzero().squeeze(1)
        self.all = len(self._at) == mask.numel()

    def gather(self, x: Tensor) -> Tensor:
        """From [b, l, ...] to [t, ...]."""
        flat = x.flatten(0, 1)
        return flat if self.all else flat[self._at]

    def spread(self, x: Float[Tensor, "t w"]) -> Float[Tensor, "b l w"]:
        """From [t, w] to [b, l, w], 0 in the padding."""
        flat = x if self.all else x.new_zeros(self.mask.numel(), x.shape[1]).index_copy(0, self._at, x)
        return flat.view(*self.mask.shape, -1)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "t w"], places: Places) -> Float[Tensor, "t w"]:
        q, k, v = (
            places.spread(part(x)).view(*places.mask.shape, self.heads, -1).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        mask = None if places.all else places.mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.out_proj(places.gather(mixed.transpose(1, 2).flatten(2)))
        return out


class Layer(nn.Module):
    """Attention, then two linear layers; each is added to its input and the sum normalised."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Float[Tensor, "t w"], places: Places) -> Float[Tensor, "t w"]:
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, places)))
        out: Tensor = self.final_layer_norm(x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))
        return out


class WordHead(nn.Module):
    """From vectors to logits over words; the last layer shares its weights with the embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(WORDS))

    def forward(
        self, x: Float[Tensor, "tokens w"], embedding: Float[Tensor, "words w"], words: slice
    ) -> Float[Tensor, "tokens words"]:
        return F.linear(self.layer_norm(F.gelu(self.dense(x))), embedding[words], self.bias[words])


class MusicBertNetwork(nn.Module):
    """From windows of octuples to representations; see `forward`."""

    first_words: Tensor

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(WORDS, width, padding_idx=_PADDING)
        self.embed_positions = nn.Embedding(POSITIONS, width, padding_idx=_PADDING)
        self.downsampling = nn.Sequential(nn.Linear(_FIELDS * width, width))
        self.emb_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(_DROPOUT)
        self.layers = nn.ModuleList(Layer(width, heads, inner) for _ in range(layers))
        self.upsampling = nn.Sequential(nn.Linear(width, _FIELDS * width))
        self.lm_head = WordHead(width)
        first_words = torch.tensor([_SPECIAL + sum(SIZES[:field]) for field in range(_FIELDS)])
        self.register_buffer("first_words", first_words, persistent=False)
        self.taps = sorted({round(layers * quarter / 4) for quarter in range(5)})
        self.dim = (len(self.taps) + 2) * width
        self.apply(_draw_weights)

    def forward(self, windows: Int[Tensor, "b n f"]) -> Float[Tensor, "b dim"]:
        """The pooled vectors, concatenated as `MusicBert` describes."""
        states, mask = self.states(windows)
        notes = mask[:, 2:]  # a mask of as many columns as there are notes, which begin at token 1
        share = (notes / notes.sum(dim=1, keepdim=True)).unsqueeze(1)
        means = [(share @ states[tap][:, 1:-1]).squeeze(1) for tap in self.taps]
        last = states[-1]
        highest = last[:, 1:-1].masked_fill(~notes.unsqueeze(2), -torch.inf).amax(dim=1)
        return torch.cat([*means, last[:, 0], highest], dim=1)

    def states(self, windows: Int[Tensor, "b n f"]) -> tuple[list[Float[Tensor, "b l w"]], Bool[Tensor, "b l"]]:
        """The first layer's input and every layer's output, and a mask of the tokens among the padding.

        ``l`` is the length of the longest window, however long the padding of the batch; vectors in the padding are 0.
        """
        words = self.words(windows)
        mask = words[..., 0] != _PADDING
        places = Places(mask)
        position = places.gather(torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)) + _PADDING + 1
        x = self.downsampling(self.embed_tokens(places.gather(words)).flatten(1))
        x = self.dropout(self.emb_layer_norm(x + self.embed_positions(position)))
        states = [places.spread(x)]
        for layer in self.layers:
            x = layer(x, places)
            states.append(places.spread(x))
        return states, mask

    def words(self, windows: Int[Tensor, "b n f"]) -> Int[Tensor, "b l f"]:
        """Indices into the published vocabulary, with a start before each window's notes and an end after them."""
        notes = (windows[..., 0] != PAD).sum(dim=1)
        windows = windows[:, : int(notes.max())].long()
        words = torch.where(windows == HIDDEN, _MASK, windows + self.first_words)
        words = torch.where(windows == PAD, _PADDING, words)
        words = F.pad(words, (0, 0, 1, 1), value=_PADDING)
        words[:, 0] = _START
        words[torch.arange(len(words), device=words.device), notes + 1] = _END
        return words

    def predict(self, tokens: Int[Tensor, "b n f"], hidden: Bool[Tensor, "b n f"]) -> tuple[Tensor, ...]:
        """For each field the logits [hidden tokens, values of the field]; only values of the same field compete."""
        last = self.states(tokens)[0][-1][:, 1:-1]
        width = last.shape[2]
        weight, bias = self.upsampling.parameters()
        logits, first = [], _SPECIAL
        for field, size in enumerate(SIZES):
            rows = slice(field * width, (field + 1) * width)
            vectors = F.linear(last[hidden[:, : last.shape[1], field]], weight[rows], bias[rows])
            logits.append(self.lm_head(vectors, self.embed_tokens.weight, slice(first, first + size)))
            first += size
        return tuple(logits)


def _draw_weights(module: nn.Module) -> None:
    """Draw normal weights under which a layer's outputs are as large as its inputs.

    With BERT's deviation of 0.02 everywhere, positions drown the notes (eight narrow embeddings through one layer) and
    attention starts out uniform: on a small collection, such a network learned the frequencies of values and no more.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        words = module.num_embeddings == WORDS
        nn.init.normal_(module.weight, std=0.5 * module.embedding_dim**-0.5 if words else 0.01)
        nn.init.zeros_(module.weight[_PADDING])
