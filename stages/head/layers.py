"""Which of a representation's layers a head reads: one of them, their mean, or a mixture that is learnt.

A collection that reads layer 7 of ``mert-1a2b3c4d5e6f`` says so in its backbone's name, ``mert-1a2b3c4d5e6f@7``: runs
on different layers lie apart, and a trained head is given the layer that it knows.

The mixture is that of ELMo (Peters et al. 2018, arXiv 1802.05365) and SUPERB (Yang et al. 2021, arXiv 2105.01051): one
weight a layer, softmax over all; here these weights move ten times as fast as others. A head reads the mixture as it
would read a single layer (`stages.head.training.mixing` learns the weights); one that looks for similar clips finds
them once, on all layers side by side. Of a head that does not say that its gathering has a gradient
(`TrainedHead.IS_DIFFERENTIABLE`), such as another package's, what it gathers of all layers is mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.head.heads import Spec, TrainedHead
from stages.head.training.axes import AXES
from stages.progress import note
from store.arrays import has_layers
from store.errors import RequestError
from store.layout import Store, split_layer

MEAN, MIX = "mean", "mix"
LAYERS = "mixed layers"  # the fact that says how many layers a network mixes

_WEIGHTS = "layer_weights"
_PACE = 10  # shares go from even to one layer alone over a few units, for which the rate of a network is too slow
_SHOWN = 3  # layers that a remark lists


def with_layer(backbone: str | None, layer: str | None) -> str | None:
    """A backbone as a user names it, with the layer of ``--layer``."""
    if layer is None:
        return backbone
    if split_layer(backbone)[1] not in (None, layer):
        raise RequestError(f"--backbone {backbone} names a layer already, and --layer says {layer}; leave one out")
    return f"{split_layer(backbone)[0] or ''}@{layer}"


def choose(name: str, shape: tuple[int, ...], layer: str | None) -> str | None:
    """The layer that is read of a representation of this shape; None where it has no layers.

    Without a choice it is the last one, which is noted.

    Raises
    ------
    RequestError
        where there is no such layer.
    """
    if not has_layers(shape):
        if layer is not None:
            raise RequestError(f"{name} has no layers: it is one vector a clip; leave --layer {layer} out")
        return None
    last = shape[0] - 1
    if layer is None:
        note(f"{name} has {shape[0]} layers, of which the last is taken; others: --layer 0 ... {last}, mean or mix")
        return str(last)
    if layer in (MEAN, MIX):
        return layer
    digits = layer.lstrip("0") or layer[:1]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(last)) and int(digits) <= last):
        raise RequestError(f"{name} has no layer {layer!r}; have: 0 ... {last}, {MEAN}, {MIX}")
    return digits


def read(values: NDArray[Any], layer: str | None) -> NDArray[np.float32]:
    """[clips, dim] what a head reads of representations [clips, *shape] that are in no store."""
    if layer is None or layer == MIX:
        return values.reshape(len(values), -1).astype(np.float32)
    # As `Stored` reads them: a mean that is rounded to 16 bits is another.
    return values.astype(np.float32).mean(axis=1) if layer == MEAN else values[:, int(layer)].astype(np.float32)


class Mixture(nn.Module):
    """A network, and a learnt mixture of the layers that it reads.

    Attributes
    ----------
    dim : numbers in a layer.
    is_mixed_first : whether layers are mixed before the head gathers (`Binder.mix`), so that the network is given the
        mixture. Else it is given all layers: whatever it reads [..., k * layers * dim] becomes [..., k * dim].
    """

    def __init__(self, network: nn.Module, layers: int, dim: int, *, is_mixed_first: bool) -> None:
        super().__init__()
        self.network, self.dim, self.is_mixed_first = network, dim, is_mixed_first
        self.layer_weights = nn.Parameter(torch.zeros(layers))

    @property
    def shares(self) -> Tensor:
        """[layers] how much of each layer is in the mixture; their sum is 1."""
        return _shares(self.layer_weights)

    def forward(self, *inputs: Any) -> Any:
        return self.network(*(inputs if self.is_mixed_first else self.mix(*inputs)))

    def mix(self, *inputs: Any) -> tuple[Any, ...]:
        """What a head has gathered, with the mixture in place of all layers."""
        shares = self.shares
        return tuple(_mix(value, shares, self.dim) if self._has_layers(value) else value for value in inputs)

    def mixed(self, values: Tensor) -> Tensor:
        """[clips, dim] the mixture of representations [clips, layers * dim]."""
        return _mix(values, self.shares, self.dim)

    def _has_layers(self, value: Any) -> bool:
        """Whether these are representations with all their layers, and no numbers of another kind."""
        is_matrix = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
        return is_matrix and value.shape[-1] > 0 and value.shape[-1] % (len(self.layer_weights) * self.dim) == 0


def _shares(weights: Tensor) -> Tensor:
    return (_PACE * weights).softmax(0)


def _mix(values: Tensor, shares: Tensor, dim: int) -> Tensor:
    """[..., k * dim] the mixture of [..., k * layers * dim], in which each layer takes part with its share [layers]."""
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        blocks = values.reshape(*values.shape[:-1], -1, len(shares), dim)
        return torch.einsum("...kld,l->...kd", blocks, shares.to(values.dtype)).flatten(-2)
    # A weighted sum of rows reads each number once, and once more for the gradient; einsum writes them all anew.
    rows = values.reshape(-1, dim)
    places = torch.arange(len(rows)).view(-1, len(shares))
    weights = shares.to(values.dtype).expand(places.shape)
    return F.embedding_bag(places, rows, mode="sum", per_sample_weights=weights).view(*values.shape[:-1], -1)


def build(head: type[TrainedHead], spec: Spec) -> nn.Module:
    """The network of a head, behind a mixture where it reads several layers; it may read a few axes of wide ones."""
    layers, axes = spec.facts.get(LAYERS), spec.facts.get(AXES)
    if axes is not None:
        return head.build(replace(spec, dim=axes.shape[1]))
    if layers is None:
        return head.build(spec)
    dim = spec.dim // layers
    return Mixture(head.build(replace(spec, dim=dim)), layers, dim, is_mixed_first=head.IS_DIFFERENTIABLE)


def every(store: Store, dataset: str, backbone: str | None, layers: Sequence[str] = ()) -> list[str]:
    """A representation once with each of its layers, their mean and their mixture, or with each of those named.

    Raises
    ------
    RequestError
        where it has no layers, or not one of those named.
    """
    name = store.find(dataset, split_layer(backbone)[0])
    manifest = store.read_manifest(dataset, name)
    if manifest is None or not has_layers(manifest.shape):
        raise RequestError(f"{name} has no layers: it is one vector a clip; leave --layers out")
    layers = layers or [*map(str, range(manifest.shape[0])), MEAN, MIX]
    chosen = dict.fromkeys(choose(str(name), manifest.shape, layer) for layer in layers)
    return [f"{name}@{layer}" for layer in chosen]


def remark(state: Mapping[str, Tensor]) -> str:
    """What a table should say of a trained mixture: its heaviest layers; empty where nothing is mixed."""
    shares = weights(state) or []
    heaviest = sorted(range(len(shares)), key=lambda layer: -shares[layer])[:_SHOWN]
    return "layers by weight: " + ", ".join(f"{layer} ({shares[layer]:.2f})" for layer in heaviest) if shares else ""


def weights(state: Mapping[str, Tensor]) -> list[float] | None:
    """The weights of a trained mixture by its network's parameters; None where there is none."""
    return _shares(state[_WEIGHTS]).tolist() if _WEIGHTS in state else None
