"""A trained head as an ONNX file, which programs without Encore, Python or torch can run.

The graph takes what the head's network reads of some clips, by the names of `TrainedHead.INPUTS`, and gives ``scores``
[clips, labels]. Representations go in as the store holds them, and so do means of neighbours; a row of NaN stands for a
clip without neighbours. Standardising, principal axes, activation, and the mean over several networks are part of the
graph. Labels, thresholds and what else an answer takes are its metadata.

Of a head that reads deviations, and reads them along a few axes or of a mixture of layers, all but the clip's own
representation goes in as it is along these or in this mixture, and a second output, ``along``, is the representation
so: what neighbours are averaged of. Deviations do not follow from those of the numbers that are stored.
"""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.head.heads import Facts, NetworkInput, TrainedHead
from stages.head.layers import LAYERS, Mixture, build
from stages.head.predict import Predictor
from stages.head.saved import SavedHead
from stages.head.training.axes import AXES
from stages.head.training.binder import Binder
from stages.head.training.stretches import Stretches
from store.errors import EncoreError, RequestError

TOLERANCE = 1e-4  # by which scores may differ from torch's
_BATCH = 256
_EXAMPLES = 7  # clips that the exporter is shown
_OPSET = 18
_OUTPUTS = ("scores", "along")
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    inputs : by name, shape and type, as ``float32 [clips, 520]``, and what it is.
    labels : what the columns of the scores are.
    clips : on how many the file was checked.
    difference : the largest between its scores and torch's.
    """

    file: Path
    inputs: dict[str, tuple[str, str]]
    labels: tuple[str, ...]
    clips: int
    difference: float


def export_head(predictor: Predictor, path: Path) -> Exported:
    """Write a head's network and check it on the clips that it was not trained on (all, where there are none).

    Raises
    ------
    RequestError
        where the packages of the extra ``onnx`` are not installed, the head has no network, or the network is not all
        of it.
    EncoreError
        where torch cannot export the network, or the file gives other scores; nothing is written then.
    """
    _import_packages()
    head = predictor.head
    head_type = head.head_type
    if not issubclass(head_type, TrainedHead):
        raise RequestError(f"{head_type.NAME} counts and has no network; ONNX holds networks")
    if any("refine" in vars(kind) for kind in head_type.__mro__ if kind is not TrainedHead):
        raise RequestError(
            f"{head_type.NAME} corrects its network's scores by the whole collection; ONNX holds networks"
        )
    facts = head.members[0].facts
    if len(head.members) > 1 and LAYERS in facts and _is_turned(head_type, facts):
        raise RequestError(
            f"each of the {len(head.members)} networks of {head_type.NAME} mixes the layers in its own way, and the "
            f"deviations of one mixture are all that an ONNX file could take; train it without --members"
        )
    gather, scorer = _Gatherer(predictor, head_type), _Scorer(predictor, head_type)
    names = [each.name for each in head_type.INPUTS]
    every = np.flatnonzero(predictor.split == 2)
    clips = torch.from_numpy(every if len(every) else np.arange(len(predictor.collection)))
    count = min(_EXAMPLES, len(clips))
    examples = [gather(clips[:some]) for some in (count, max(1, count - 1))]
    expected = head.score(predictor.collection.in_memory(), predictor.split).score[clips.numpy()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "head.onnx")
        _write(scorer, names, examples, file)
        difference = _compare(file, [gather(some) for some in torch.split(clips, _BATCH)], names, expected)
        if not difference <= TOLERANCE:
            raise EncoreError(
                f"the file would give other scores than torch, by {difference:.2g} where {TOLERANCE:g} is allowed; "
                f"nothing is written"
            )
        inputs = _describe(file, predictor, head_type)
        try:
            path.write_bytes(file.read_bytes())
        except OSError as error:
            raise EncoreError(f"{path} cannot be written: {error.strerror or error}") from error
    return Exported(path, inputs, head.labels, len(clips), difference)


def _import_packages() -> None:
    try:
        for name in _PACKAGES:
            importlib.import_module(name)
    except ImportError as error:
        raise RequestError(
            f"ONNX files are made with packages that are not installed ({error.name}): pip install 'encore-mir[onnx]'"
        ) from error


class _Gatherer:
    """What the graph takes of some clips: what the head gathers of them, in the store's numbers.

    It is computed back from standardised numbers, among which a head may have looked for neighbours.
    """

    def __init__(self, predictor: Predictor, head_type: type[TrainedHead]) -> None:
        member = predictor.head.members[0]
        assert member.shift is not None
        assert member.scale is not None
        standardised = member.shift, member.scale
        stretches = Stretches(predictor.collection.with_labels(predictor.labels).in_memory())
        spec = predictor.head.spec(member)
        binder = Binder(head_type, stretches, predictor.split, spec, _CPU, standardised)
        self._x, self._turned = stretches.clips(0).x, _is_turned(head_type, spec.facts)
        if self._turned:
            binder.mix(_network(predictor, head_type, member))
        self._head = binder.any()
        if AXES in spec.facts and not self._turned:  # the same clips' own numbers
            assert self._x is not None
            self._head = self._head.reading((self._x - member.shift) * member.scale)
        self._shift, self._scale = member.shift.double(), member.scale.double()

    def __call__(self, nodes: Tensor) -> tuple[Tensor, ...]:
        inputs = zip(self._head.INPUTS, self._head.inputs(nodes), strict=True)
        stored = tuple(self._stored(kind, value) if kind.is_vector else value for kind, value in inputs)
        if not self._turned:
            return stored
        assert self._x is not None
        return self._x[nodes], *stored[1:]

    def _stored(self, kind: NetworkInput, value: Tensor) -> Tensor:
        if self._turned:
            return torch.where((value == 0).all(dim=1, keepdim=True), torch.nan, value)
        times = value.shape[1] // len(self._shift)
        shift, scale = self._shift.repeat(times), self._scale.repeat(times)
        value_in_store = torch.where(scale > 0, value.double() / scale, 0.0) + (0.0 if kind.is_spread else shift)
        return torch.where((value == 0).all(dim=1, keepdim=True), torch.nan, value_in_store).float()


def _is_turned(head_type: type[TrainedHead], facts: Facts) -> bool:
    """Whether it reads deviations of other numbers than those that are stored."""
    return bool({AXES, LAYERS} & facts.keys()) and any(kind.is_spread for kind in head_type.INPUTS)


def _network(predictor: Predictor, head_type: type[TrainedHead], member: SavedHead) -> nn.Module:
    assert member.network is not None
    network = build(head_type, predictor.head.spec(member))
    network.load_state_dict(member.network)
    return network.eval()


class _Scorer(nn.Module):
    """Scores from what the graph takes: the mean over a head's networks."""

    def __init__(self, predictor: Predictor, head_type: type[TrainedHead]) -> None:
        super().__init__()
        head = predictor.head
        self.kinds = head_type.INPUTS
        self.tasks = [head.spec(member).task for member in head.members]
        self.networks = nn.ModuleList()
        for number, member in enumerate(head.members):
            self.networks.append(_network(predictor, head_type, member))
            self.register_buffer(f"shift{number}", member.shift)
            self.register_buffer(f"scale{number}", member.scale)
        # Of all members the same: the split decides them.
        facts = head.members[0].facts
        self.axes: Tensor | None
        self.register_buffer("axes", facts.get(AXES))
        self._turned = _is_turned(head_type, facts)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        scores, along = [], None
        for number, network in enumerate(self.networks):
            shift, scale = self.get_buffer(f"shift{number}"), self.get_buffer(f"scale{number}")
            if not self._turned:
                each = zip(self.kinds, inputs, strict=True)
                arguments = [self._read(kind, value, shift, scale) for kind, value in each]
                if isinstance(network, Mixture):
                    arguments = list(network.mix(*arguments))
            else:
                standard = (inputs[0] - shift) * scale
                along = network.mix(standard)[0] if isinstance(network, Mixture) else standard @ self.get_buffer("axes")
                arguments = [along, *(torch.where(value.isnan(), 0.0, value) for value in inputs[1:])]
            inner = network.network if isinstance(network, Mixture) else network
            scores.append(self.tasks[number].activate(inner(*arguments)))
        mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
        return mean if along is None else (mean, along)

    def _read(self, kind: NetworkInput, value: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """An input as the network reads it, or its mixture."""
        if not kind.is_vector:
            return value
        times = value.shape[1] // len(shift)
        standard = (
            value * scale.repeat(times) if kind.is_spread else (value - shift.repeat(times)) * scale.repeat(times)
        )
        standard = torch.where(value.isnan(), 0.0, standard)
        axes = self.axes
        return standard if axes is None else (standard.view(len(value), times, -1) @ axes).flatten(1)


def _write(scorer: _Scorer, names: list[str], examples: list[tuple[Tensor, ...]], file: Path) -> None:
    """Examples of two sizes tell which axes vary; the first of an input with a row a clip is called ``clips``."""
    first, second = examples
    shapes = tuple(
        {
            axis: "clips" if axis == 0 and len(one) == len(first[0]) else f"{name}_{axis}"
            for axis in range(one.dim())
            if one.shape[axis] != other.shape[axis]
        }
        for name, one, other in zip(names, first, second, strict=True)
    )
    try:
        with _silenced():
            program = torch.onnx.export(
                scorer,
                first,
                dynamic_shapes=(shapes,),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        _name(program.model.graph, names)
        program.save(str(file))
    except Exception as error:  # the exporter raises what its passes raise
        reason = str(error).strip().partition("\n")[0]
        raise EncoreError(f"torch cannot export this network to ONNX: {type(error).__name__}: {reason}") from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the exporter's warnings about packages that are not installed and about coming changes."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _name(graph: Any, names: list[str]) -> None:
    """Name the graph's inputs and outputs; inner values that have one of these names are renamed."""
    outputs = _OUTPUTS[: len(graph.outputs)]
    for node in graph:
        for value in node.outputs:
            if value.name in (*names, *outputs):
                value.name = f"{value.name}_within"
    for value, name in zip((*graph.inputs, *graph.outputs), (*names, *outputs), strict=True):
        value.name = name


def _compare(file: Path, batches: list[tuple[Tensor, ...]], names: list[str], expected: NDArray[np.float32]) -> float:
    """The largest difference between the file's scores and torch's, as a share of the largest where that is above 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    takes = {entry.name for entry in session.get_inputs()}
    scores: list[NDArray[np.float32]] = []
    for batch in batches:
        feed = {name: value.numpy() for name, value in zip(names, batch, strict=True) if name in takes}
        scores.append(session.run(["scores"], feed)[0])
    return float(np.abs(np.concatenate(scores) - expected).max() / max(1.0, float(np.abs(expected).max())))


def _describe(file: Path, predictor: Predictor, head_type: type[TrainedHead]) -> dict[str, tuple[str, str]]:
    """Write labels, thresholds and inputs into the file's metadata; returns the shape and the meaning of each input."""
    import onnx

    member = predictor.head.members[0]
    turned = _is_turned(head_type, member.facts)
    model, words = onnx.load(str(file)), {each.name: each.what for each in head_type.INPUTS}
    words |= {each.name: f"{each.what}; along `along`" for each in head_type.INPUTS[1:] if turned and each.is_vector}
    inputs = {}
    for entry in model.graph.input:
        kind = entry.type.tensor_type
        axes = [axis.dim_param or str(axis.dim_value) for axis in kind.shape.dim]
        type_name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        inputs[entry.name] = f"{type_name} [{', '.join(axes)}]", words[entry.name]
    facts = {name: value for name, value in member.facts.items() if isinstance(value, list)}
    about = {
        "labels": member.labels,
        "task": member.task,
        "threshold": member.threshold,
        "stranger_threshold": member.stranger_threshold,
        "inputs": {name: f"{shape}: {what}" for name, (shape, what) in inputs.items()},
        "dataset": member.dataset,
        "representation": member.representation,
        "mode": member.mode,
        "regime": member.regime,
        "seed": member.seed,
        "fold": member.fold,
        **facts,
    }
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, str(file))
    return inputs
