"""The loop of stage one: what it stores of a backbone's numbers, and what becomes of clips that fail."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.encode import Encoded, encode, open_writer, representation_name
from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.rolls import read_roll
from stages.embed.inputs.score import read_score
from stages.embed.loading import ClipTable, load_in_workers
from stages.embed.represent import encode_ahead, represent
from stages.embed.weights import load_into, read_state_dict
from store.errors import ClipError, EncoreError, RequestError
from store.layout import Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.embed.trees import midi

CPU = torch.device("cpu")
IDS = ["a", "b", "c", "d"]


@dataclass(frozen=True)
class Told:
    """Each clip's number stands in ``NUMBERS``; an exception there is raised."""

    KIND: ClassVar[Kind] = "midi"
    REVISION: ClassVar[int] = 1
    NUMBERS: ClassVar[dict[str, float | Exception | list[float]]] = {}

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        number = self.NUMBERS[clip.clip_id]
        if isinstance(number, Exception):
            raise number
        return np.asarray(number, dtype=np.float32).reshape(-1, 1)


@dataclass(frozen=True)
class NoConfig:
    pass


class Same(Backbone):
    """The numbers as they come, computed in ``kind`` and stored as ``dtype``."""

    NAME = "same"
    TITLE = "Same"
    LICENSE = CITATION = "-"
    WEIGHTS = None
    Config = NoConfig

    def __init__(self, kind: torch.dtype = torch.float32, dtype: str = "float32") -> None:
        self.config, self.input, self.shape = NoConfig(), Told(), (1,)
        self.kind, self.dtype = kind, dtype

    def encode(self, batch: Tensor) -> Tensor:
        return batch.to(self.kind)


def few() -> Catalog:
    info = CatalogInfo(name="few", title="Few", version="1", licence="-", citation="-", backbone="same")
    columns = {
        "clip_id": IDS,
        "song_id": IDS,
        "artist_id": ["x"] * len(IDS),
        "labels": [["rock"]] * len(IDS),
        "path": [f"{name}.mid" for name in IDS],
        "source": ["seen", "seen", "seen", None],
    }
    return Catalog.build(info, columns)


def run(store: Store, numbers: list[float | Exception | list[float]], backbone: Backbone | None = None) -> Encoded:
    backbone = backbone or Same()
    Told.NUMBERS.update(zip(IDS, numbers, strict=True))
    store.write_catalog(few())
    return encode(open_writer(store, few(), backbone, None), few(), backbone, device=CPU, batch=4, workers=0)


def contents(store: Store, backbone: Backbone) -> tuple[list[float], list[str | None]]:
    """The stored numbers, and the kind of failure of each clip."""
    opened = Representations(store, few(), representation_name(backbone, None))
    assert opened.verify() == []
    kinds = {failure["row"]: failure["kind"] for failure in opened.failures().to_pylist()}
    return opened.read().astype(float)[:, 0].tolist(), [kinds.get(row) for row in range(len(IDS))]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_a_backbone_may_compute_in_any_precision(tmp_path: Path, kind: torch.dtype) -> None:
    store, backbone = Store(tmp_path), Same(kind)
    run(store, [1.0, -2.0, [3.0, 4.0, 8.0], 256.0], backbone)
    assert contents(store, backbone) == ([1.0, -2.0, 5.0, 256.0], [None] * 4)


@pytest.mark.parametrize(
    ("dtype", "numbers", "good"),
    [
        ("float16", [1.0, 65504.0, 65520.0, -1e6], 2),
        ("float32", [1.0, 1e30, np.nan, -np.inf], 2),
        ("uint8", [0.0, 255.0, 256.0, -1.0], 2),
        ("uint8", [-0.4, 255.4, 255.6, -0.6], 2),
        ("int16", [-3.0, 7.0, np.nan, 40000.0], 2),
        ("int32", [-(2.0**31), 2.0**30, 2.0**31, -np.inf], 2),
    ],
)
def test_what_the_store_cannot_hold_is_a_failure(
    tmp_path: Path, dtype: str, numbers: list[float | Exception | list[float]], good: int
) -> None:
    store, backbone = Store(tmp_path), Same(dtype=dtype)
    result = run(store, numbers, backbone)
    assert [(row, kind) for row, kind, _ in result.failures] == [(2, "not-finite"), (3, "not-finite")]
    values, kinds = contents(store, backbone)
    atol = 0.5 if np.dtype(dtype).kind in "iu" else 0
    np.testing.assert_allclose(values[:good], numbers[:good], rtol=1e-6, atol=atol)  # type: ignore[arg-type]
    assert kinds == [None, None, "not-finite", "not-finite"]


def test_whole_numbers_are_rounded_and_not_cut(tmp_path: Path) -> None:
    store, backbone = Store(tmp_path), Same(dtype="int16")
    run(store, [127.99, -127.99, [1.0, 2.0, 2.0], 2.5], backbone)
    assert contents(store, backbone) == ([128.0, -128.0, 2.0, 2.0], [None] * 4)


class Linear(Same):
    """Matrix products alone, which every processor does right in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(64, 32)
        self.shape = (32,)

    def encode(self, batch: Tensor) -> Tensor:
        return Backbone.encode(self, batch)


def test_bf16_is_of_the_network_and_of_the_fingerprint() -> None:
    torch.manual_seed(0)
    backbone, windows = Linear(), torch.randn(8, 64)
    backbone.to(CPU)
    exact, name = represent(backbone, windows), representation_name(backbone, None)
    backbone.precision = "bf16"
    near = represent(backbone, windows)
    weight, bias = (parameter.bfloat16() for parameter in backbone.module.parameters())
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near, torch.nn.functional.linear(windows.bfloat16(), weight, bias))
    assert 0 < (near.float() - exact).norm() < 1e-2 * exact.norm()
    assert representation_name(backbone, None) != name


def test_bf16_on_a_cpu_is_refused_before_a_clip_is_read(tmp_path: Path) -> None:
    store, backbone = Store(tmp_path), Linear()
    backbone.precision = "bf16"
    with pytest.raises(RequestError, match=r"precision bf16 needs a GPU: .* wrong numbers"):
        run(store, [AssertionError("a clip was read")] * 4, backbone)  # type: ignore[list-item]
    assert store.read_manifest("few", representation_name(backbone, None)) is None


DENORMAL = 1e-40


def are_flushed(_: object = None) -> bool:
    """Whether a computation of this thread, and of those that torch shares large ones with, takes denormals for 0."""
    return not bool((torch.full((1 << 18,), DENORMAL) * 1.0).any())


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_off_while_encoding_and_then_as_before(before: bool) -> None:
    class Noted(Same):
        def encode(self, batch: Tensor) -> Tensor:
            states.append(are_flushed())
            if len(batch) == 2:
                raise ValueError("two windows")
            return batch

    states: list[bool] = []
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor cannot flush denormals")
    try:
        represent(Noted(), torch.zeros(1, 1))
        assert (states, are_flushed()) == ([True], before)
        with pytest.raises(ValueError, match="two windows"):
            represent(Noted(), torch.zeros(2, 1))
        assert are_flushed() == before
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda _: represent(Noted(), torch.zeros(1, 1)), range(4)))
            assert list(threads.map(are_flushed, range(4))) == [before] * 4
        assert states == [True] * 6
        assert are_flushed() == before
    finally:
        torch.set_flush_denormal(False)


def test_denormal_weights_become_0_and_change_no_number(tmp_path: Path) -> None:
    """Also in layers that a checkpoint does not hold, and whether they are read or drawn."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter[torch.rand(parameter.shape) < 0.3] = DENORMAL
        network[0].weight[:8] = -DENORMAL  # filters without use, as weight decay leaves them
        network[1].running_var[:8] = DENORMAL
    windows = torch.randn(16, 64)
    expected = network(windows)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    loaded = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)).eval()
    load_into(loaded, read_state_dict(tmp_path / "w.pt"), "w.pt")
    for kind in (network, loaded):
        backbone = Linear()
        backbone.module = kind
        backbone.to(CPU)
        for name, value in kind.state_dict().items():
            if value.is_floating_point():
                assert not ((value != 0) & (value.abs() < torch.finfo(torch.float32).tiny)).any(), name
        assert torch.equal(backbone.encode(windows), expected)
        assert torch.equal(represent(backbone, windows), expected)


def test_what_is_no_fault_of_the_file_is_tried_again(tmp_path: Path) -> None:
    """The disk failed, or the file was away for a moment: the next run reads it. What the file holds is final."""
    store, backbone = Store(tmp_path), Same()
    gone, disk = ClipError("missing", "no such file"), OSError(errno.EIO, "Input/output error")
    result = run(store, [gone, disk, ClipError("damaged", "torn"), gone], backbone)
    assert result.complete
    assert (result.clips, len(result.failures)) == (0, 4)
    assert contents(store, backbone)[1] == ["missing", "unreadable", "damaged", "missing"]
    again = run(store, [1.0, disk, 3.0, 4.0], backbone)
    assert again.complete
    # The last one's file was never seen; the catalog will say when it is.
    assert (again.clips, len(again.failures)) == (1, 1)
    values, kinds = contents(store, backbone)
    assert kinds == [None, "unreadable", "damaged", "missing"]
    assert values[0] == 1.0
    assert run(store, [9.0, 2.0, 9.0, 9.0], backbone).clips == 1
    values, kinds = contents(store, backbone)
    assert values[:2] == [1.0, 2.0]
    assert kinds == [None, None, "damaged", "missing"]
    assert run(store, [9.0] * 4, backbone).clips == 0


def fail(number: int) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> Any:
        raise OSError(number, "as the disk says it")

    return failing


def test_inputs_tell_a_failing_disk_from_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song, recording = tmp_path / "a.mid", tmp_path / "a.wav"
    song.write_bytes(midi(1.0))
    soundfile.write(recording, np.sin(np.arange(16000)), 8000)
    reader = AudioInput(rate_hz=8000, window_samples=8000)

    def kind(read: Callable[[], Any]) -> str:
        with pytest.raises(ClipError) as outcome:
            read()
        return outcome.value.kind

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", fail(errno.EACCES))
        assert kind(lambda: read_score(song)) == "unreadable"
        broken.setattr(zipfile, "ZipFile", fail(errno.EIO))
        assert kind(lambda: read_roll(song)) == "unreadable"
        broken.setattr(zipfile, "ZipFile", fail(errno.EINVAL))
        assert kind(lambda: read_roll(song)) == "damaged"
    system = soundfile.LibsndfileError(2, "")
    for place in ("read", "seek"):
        with monkeypatch.context() as broken:

            def failing(*_: object, **__: object) -> Any:
                raise system

            broken.setattr(soundfile.SoundFile, place, failing)
            assert kind(lambda: reader.load(Clip(clip_id="a", path=recording))) == "unreadable"
    assert reader.load(Clip(clip_id="a", path=recording)).shape == (1, 8000)


class Revised(Told):
    REVISION: ClassVar[int] = 2


def test_an_inputs_revision_is_part_of_the_fingerprint() -> None:
    one, two = Same(), Same()
    assert representation_name(one, None) == representation_name(two, None)
    two.input = Revised()
    assert representation_name(one, None) != representation_name(two, None)


@pytest.mark.parametrize("ahead", [0, 1, 3, 9])
def test_batches_come_in_order_however_many_are_under_way(ahead: int) -> None:
    Told.NUMBERS.update(zip(IDS, [1.0, ClipError("empty", "-"), 3.0, [4.0, 6.0]], strict=True))
    events: list[str] = []

    class Noted(Same):
        def encode(self, batch: Tensor) -> Tensor:
            events.append("start")
            return super().encode(batch)

    backbone = Noted()
    loaded = load_in_workers(ClipTable(few(), backbone.input), [[0], [1], [2], [3]], 0, pin=False)
    outcome = []
    for batch, numbers in encode_ahead(backbone, loaded, CPU, ahead=ahead):
        events.append("done")
        outcome.append((batch.rows, None if numbers is None else numbers.flatten().tolist()))
    assert outcome == [([0], [1.0]), ([], None), ([2], [3.0]), ([3], [4.0, 6.0])]
    started = events.index("done")
    assert started == min(ahead + 1, 4) - (ahead > 0)  # the second batch holds nothing to start


def test_a_killed_loader_is_told_wherever_this_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch raises it from a signal's handler, here while a shard is written."""

    def commit(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")

    monkeypatch.setattr(RepresentationWriter, "commit", commit)
    with pytest.raises(EncoreError, match="a process that loads clips was ended from outside"):
        run(Store(tmp_path), [1.0, 2.0, 3.0, 4.0])
