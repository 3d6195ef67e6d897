"""Random numbers by counter: each is a function of a stream and a number, and of nothing that was drawn before.

So a clip's draws are the same in whatever batch, process or order it comes, on any device, and after a restart.
The generator is SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014):
the n-th output of a stream is a mixture of its bits with n. An output may itself be a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def _signed(number: int) -> int:
    """The same 64 bits as a signed number."""
    return (number + 2**63) % 2**64 - 2**63


_STEP = _signed(0x9E3779B97F4A7C15)  # the golden ratio's bits
_MIX = ((30, 2**34 - 1, _signed(0xBF58476D1CE4E5B9)), (27, 2**37 - 1, _signed(0x94D049BB133111EB)))


def key(*what: object) -> int:
    """The stream that belongs to ``what``: a seed, an epoch, what the numbers are for."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=8).digest(), "little", signed=True)


def bits(stream: int | Tensor, number: int | Tensor) -> Tensor:
    """Output ``number`` (from 0) of ``stream``: 64 random bits as int64; one of the two is a tensor, or both are."""
    steps = _signed((number + 1) * _STEP) if isinstance(number, int) else (number + 1) * _STEP
    state = torch.as_tensor(stream + steps)
    for shift, unsigned, factor in _MIX:
        state ^= (state >> shift).bitwise_and_(unsigned)  # the shift without the sign
        state *= factor
    return state.bitwise_xor_((state >> 31).bitwise_and_(2**33 - 1))


def uniform(words: Tensor) -> Tensor:
    """The upper 53 bits as float64 in [0, 1)."""
    return (words >> 11).bitwise_and_(2**53 - 1).double() * 2.0**-53


def normal(words: Tensor) -> Tensor:
    """Standard normals as float64: the distribution inverted at `uniform`."""
    numbers: Tensor = torch.special.ndtri(uniform(words).clamp(min=2.0**-54))
    return numbers


def binomial(n: Tensor, p: float, words: Tensor) -> Tensor:
    """How many of ``n`` [batch] come, each with probability ``p``: the distribution inverted at ``words``, to 2^-48."""
    import numpy as np
    from scipy.special import bdtr

    sizes, row = torch.unique(n, return_inverse=True)
    counts = (sizes + 1).cpu().numpy()
    owner = np.repeat(np.arange(len(counts)), counts)
    begin = np.cumsum(counts) - counts
    come = np.arange(len(owner)) - begin[owner]
    # One table of all n, each distribution 2^48 above the one before; integers, so that its place changes nothing.
    table = torch.from_numpy((owner << 48) + np.floor(bdtr(come, counts[owner] - 1, p) * 2.0**48).astype(np.int64))
    place = torch.searchsorted(table.to(n.device), (row << 48) + (words >> 16).bitwise_and_(2**48 - 1), right=True)
    return place - torch.from_numpy(begin).to(n.device)[row]


@contextmanager
def seeded(stream: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, of the CPU and of the device, by ``stream``; restore them on leaving."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            torch.manual_seed(stream)
        else:  # the same without the devices that are not there, of each of which torch keeps where it was asked for
            torch.default_generator.manual_seed(stream)
        yield
