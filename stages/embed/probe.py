"""A fixed clip through a backbone: frozen numbers must not be trusted to be frozen.

The same weights give other numbers where a library that computes them changed: another version of `transformers`,
`torch` or `onnxruntime`. Clips encoded before and after would not be comparable, under one fingerprint. So beside a
representation lies what a fixed clip gave when it was begun, and `embed` compares where it adds clips, or finds other
libraries than those that are known to give the same. The numbers are kept, and not a hash of them: they agree to three
digits between machines, but digits that are rounded may not.
"""

from __future__ import annotations

import json
import tempfile
import wave
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.embed.backbones import Backbone
from stages.embed.inputs import Clip
from stages.embed.represent import represent
from store.errors import ClipError, RequestError
from store.layout import Store

FILE = "probe.json"
_LIBRARIES = ("torch", "transformers", "torchaudio", "onnxruntime", "soxr", "mido", "symusic")
_NUMBERS = 32
_NEAR = {"32": 2e-3, "bf16": 5e-2}  # of the numbers' length
_RATE_HZ, _LEAST_S = 22_050, 4.0
_TONES = ((110.0, 0.9), (554.4, 2.3), (3_136.0, 4.1))  # pitch and beat, in Hz


def check(store: Store, folder: str, dataset: str, backbone: Backbone, device: torch.device) -> None:
    """Compare the backbone with the one that began the representation in ``folder``, or be the one that begins it.

    Raises
    ------
    RequestError
        where the same clip gives other numbers than it did then; the message names what changed.
    """
    backbone.to(device)
    numbers = probe(backbone, device)
    if numbers is None:
        return
    try:
        before = json.loads(store.files.read(f"{folder}/{FILE}"))
        then, versions = np.array(before["numbers"], dtype=np.float64), dict(before["versions"])
    except FileNotFoundError:
        rounded = [float(f"{number:.5g}") for number in numbers.tolist()]
        _write(store, folder, {"numbers": rounded, "versions": _versions()})
        return
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RequestError(f"{folder}/{FILE} cannot be read; remove it to have it written anew") from error
    off = float(np.linalg.norm(numbers - then)) if then.shape == numbers.shape else np.inf
    if not off <= _NEAR[backbone.precision] * float(np.linalg.norm(then)):  # nor where it is no number
        now = _versions()
        differences = [
            f"{name} {versions.get(name)}, now {now.get(name)}" for name in now if now[name] != versions.get(name)
        ]
        raise RequestError(
            f"{folder} was begun where a fixed clip gave other numbers with the same weights and settings "
            f"({'; '.join(differences) or 'with the same libraries'}), so that clips encoded now could not be compared "
            f"with its own: install what it was begun with, or encode all of it anew: encore store remove {dataset} "
            f"--backbone {folder.rpartition('/')[2]}, then encore embed"
        )
    if not _is_known(before):
        _write(store, folder, {**before, "same": [*_same(before), _versions()]})


def is_due(store: Store, folder: str) -> bool:
    """Whether the representation in ``folder`` was begun, and never checked, with other libraries than are here."""
    try:
        return not _is_known(json.loads(store.files.read(f"{folder}/{FILE}")))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError):
        return True


def _is_known(before: Any) -> bool:
    return isinstance(before, dict) and _versions() in (before.get("versions"), *_same(before))


def _same(before: dict[str, Any]) -> list[Any]:
    """Versions that gave the same numbers later; none where the file is damaged there."""
    same = before.get("same")
    return same if isinstance(same, list) else []


def _write(store: Store, folder: str, content: dict[str, Any]) -> None:
    store.files.write(f"{folder}/{FILE}", json.dumps(content, sort_keys=True).encode())


def probe(backbone: Backbone, device: torch.device) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """``float64 [32]``: projections of the representation of a fixed clip; None where it has none that is finite."""
    if backbone.input.KIND == "features":
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe")
        if backbone.input.KIND == "audio":
            path = path.with_suffix(".wav")
            _write_wave(path, max(_LEAST_S, float(getattr(backbone.config, "min_s", 0.0))))
        else:
            path = path.with_suffix(".mid")
            path.write_bytes(_midi())
        try:
            windows = backbone.input.load(Clip(clip_id="probe", path=path))
        except ClipError:
            return None
    values = represent(backbone, torch.from_numpy(windows[:1]).to(device)).double().cpu().numpy().ravel()
    # Each number counts in each projection, by a weight that no two numbers share.
    angles = np.outer(np.arange(1, _NUMBERS + 1), np.arange(1, len(values) + 1))
    numbers = np.cos(angles) @ values * np.sqrt(2 / len(values))
    return numbers if np.isfinite(numbers).all() else None


def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _write_wave(path: Path, seconds: float) -> None:
    """Three tones that swell, and clicks, in 16 bits: there is no noise in it that a library could draw otherwise."""
    time_s = np.arange(round(seconds * _RATE_HZ)) / _RATE_HZ
    tones = sum(np.sin(2 * np.pi * pitch * time_s) * np.sin(np.pi * beat * time_s) ** 2 for pitch, beat in _TONES)
    samples = np.round(6_000 * tones).astype("<i2")
    samples[:: _RATE_HZ // 3] = 20_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples.tobytes())


def _midi() -> bytes:
    """Sixteen notes of two programs at 120 beats a minute."""
    events = b"\x00\xc0\x00\x00\xc1\x21"
    for i in range(16):
        channel, pitch = i % 2, 48 + 5 * i % 24
        events += bytes([0, 0x90 | channel, pitch, 80, 0x60, 0x80 | channel, pitch, 0])
    events += b"\x00\xff\x2f\x00"
    return b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + len(events).to_bytes(4, "big") + events
