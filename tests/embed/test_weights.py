"""Checkpoints: what is read, what is refused, and that refusing changes nothing."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from stages.embed.backbones.muq import Muq
from stages.embed.weights import load_into, make_network, read_state_dict
from store.errors import RequestError
from tests.embed.test_conformers import CONFIG, published_muq


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def saved(tmp_path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, tmp_path / "weights.pth", **options)
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    "wrap", [dict, OrderedDict, *(lambda s, n=n: {"epoch": 3, n: s} for n in ("state_dict", "weights", "model"))]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_is_read_and_loaded(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    source, target = network(), network()
    path = saved(tmp_path, wrap(source.state_dict()), _use_new_zipfile_serialization=zipped)
    load_into(target, read_state_dict(path), str(path))
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_half_precision_is_read_into_single(tmp_path: Path) -> None:
    source, target = network(), network()
    load_into(target, read_state_dict(saved(tmp_path, source.half().state_dict())), "x")
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source[0].weight.float())


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for zipped in (True, False):
        path = saved(tmp_path, {"0.weight": Evil(mark)}, _use_new_zipfile_serialization=zipped)
        with pytest.raises(RequestError, match="never run"):
            read_state_dict(path)
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(RequestError, match="never run"):
        read_state_dict(path)
    assert not mark.exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(RequestError, match="no such file"):
        read_state_dict(tmp_path)
    path = tmp_path / "a.pth"
    for data in (b"", b"hello", b"PK\x03\x04 not quite", bytes(1000)):
        path.write_bytes(data)
        with pytest.raises(RequestError, match="not a PyTorch checkpoint"):
            read_state_dict(path)
    for content in ([1, 2], {}, torch.zeros(3), {"a": 1}, {"a": torch.zeros(2).to_sparse()}, {1: torch.zeros(2)}):
        with pytest.raises(RequestError, match="save a network's"):
            read_state_dict(saved(tmp_path, content))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 24))
    with pytest.raises(RequestError, match="compressed archive"):
        read_state_dict(path)


@settings(max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), byte=st.integers(0, 255), keep=st.floats(0, 1), zipped=st.booleans())
def test_no_bytes_raise_anything_else(tmp_path: Path, place: float, byte: int, keep: float, zipped: bool) -> None:
    path = saved(tmp_path, network().state_dict(), _use_new_zipfile_serialization=zipped)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = byte
    path.write_bytes(data if keep > 0.5 else data[: round(2 * keep * len(data))])
    try:
        load_into(network(), read_state_dict(path), "a.pth")
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


def edited(change: Any) -> dict[str, torch.Tensor]:
    state = dict(network().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), r"a\.pth: '0\.bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), r"a\.pth: 'extra' has no place"),
        (
            lambda s: s.update({"0.weight": torch.zeros(4, 2)}),
            r"'0\.weight' has shape \(4, 2\) and should have \(4, 3\)",
        ),
        (
            lambda s: s.update({"0.bias": torch.zeros(4, dtype=torch.int64)}),
            r"torch\.int64 and should be torch\.float32",
        ),
        (lambda s: s["1.running_var"].fill_(float("nan")), r"'1\.running_var' holds numbers that are not finite"),
        (lambda s: s.update({"0.bias": torch.full((4,), 1e300, dtype=torch.float64)}), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(change: Any, message: str) -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(RequestError, match=message):
        load_into(module, edited(change), "a.pth")
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_optional_keys_may_be_absent_or_left_over() -> None:
    load_into(network(), edited(lambda s: s.pop("1.num_batches_tracked")), "a.pth")
    load_into(network(), edited(lambda s: s.update({"2.num_batches_tracked": torch.tensor(1)})), "a.pth")
    headless = network()[:1]
    state = {**headless.state_dict(), "dense.weight": torch.zeros(50, 64), "dense.bias": torch.zeros(50)}
    load_into(headless, state, "a.pth", optional=("dense.*",))
    with pytest.raises(RequestError, match=r"'dense\.weight' has no place"):
        load_into(headless, state, "a.pth")


def test_an_archive_whose_names_are_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path, network().state_dict())
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        name = archive.namelist()[0].encode()
    damaged = bytearray(data)
    at = data.rindex(name)
    damaged[at : at + 1] = b"\xe9"
    flags = data.rindex(b"PK\x01\x02", 0, at) + 8
    damaged[flags + 1] |= 0x08  # the name is said to be UTF-8
    path.write_bytes(damaged)
    with pytest.raises(RequestError, match="not a PyTorch checkpoint"):
        read_state_dict(path)


def test_an_archive_that_goes_on_on_another_disk(tmp_path: Path) -> None:
    """Python's reader gives up on it, and torch's takes it as it is."""
    path, state = tmp_path / "weights.pth", network().state_dict()
    saved(tmp_path, state)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end - 20 : end] = b"PK\x06\x07" + b"\x01" + bytes(11) + b"\x02\0\0\0"  # where that of large archives is
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match="multiple disks"):
        zipfile.is_zipfile(path)
    assert set(read_state_dict(path)) == set(state)


def test_descriptions_of_networks_that_cannot_be(tmp_path: Path) -> None:
    assert make_network(network, "mert")[0].in_features == 3
    with pytest.raises(RequestError, match="describes a network of 1,000,000,000,000 parameters"):
        make_network(lambda: nn.Linear(10**6, 10**6, bias=False), "mert")
    with pytest.raises(RequestError, match=r"mert: config\.json describes no network that can be made"):
        make_network(lambda: nn.Linear(-1, 3), "mert")
    path = published_muq(tmp_path / "muq")
    for size in (10**7, 0, -8, "wide", None):
        (path / "config.json").write_text(json.dumps({**CONFIG, "encoder_dim": size}))
        with pytest.raises(RequestError):
            Muq(Muq.Config(**Muq.settings_of(path)))
