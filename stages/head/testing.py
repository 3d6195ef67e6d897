"""Tests that every head must pass, also those of other packages, and made collections to run them on.

In a test file of a package that offers a head::

    class TestMine(HeadTests):
        @pytest.fixture
        def head(self) -> type[Head]:
            return Mine
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.collection import Collection
from stages.head.fit import FitResult, fit
from stages.head.heads import Draw, Head, TrainedHead
from stages.head.open import from_catalog
from stages.head.options import resolve
from stages.head.restore import RestoredHead, restore
from stages.head.runs.files import save_run
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings, keys
from stages.head.training import checkpoint
from stages.head.training.binder import Binder
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split
from store.errors import RequestError
from store.files import Files
from store.layout import Store
from store.runs import RunFolder, run_name
from store.schema import Catalog, CatalogInfo

INFO = CatalogInfo(name="made", title="Made", version="1", licence="CC0", citation="-", backbone="fcn")
REPRESENTATION = "fcn-0123456789ab"
_CPU = torch.device("cpu")
_STEP = 1e-2  # to both sides, by which slopes are measured


def collection_of(
    x: NDArray[np.floating[Any]],
    labels: NDArray[np.bool_],
    artist: NDArray[np.int64],
    song: NDArray[np.int64] | None = None,
    album: NDArray[np.int64] | None = None,
    numbers: NDArray[np.float64] | None = None,
) -> Collection:
    """A collection with a catalog of its own, from arrays of clips that are sorted by artist.

    Parameters
    ----------
    x : [clips, dim] the representations.
    labels : [clips, labels] at least one a clip; fewer than ten labels.
    artist : [clips] from 0, -1 where unknown.
    song, album : [clips]; each clip its own song where None, each unknown (-1) its own album.
    numbers : [clips] the target that is asked for, called ``number``; None where labels are asked for.
    """
    clips = len(x)
    song = np.arange(clips) if song is None else song
    album = np.full(clips, -1) if album is None else album
    names = [f"label-{i}" for i in range(labels.shape[1])]
    columns = {
        "clip_id": [f"clip {i:07}" for i in range(clips)],
        "song_id": [f"song {i:07}" for i in song],
        "artist_id": [None if i < 0 else f"artist {i:07}" for i in artist],
        "album_id": [None if i < 0 else f"album {i:07}" for i in album],
        "labels": [[names[i] for i in np.flatnonzero(row)] for row in labels],
        "path": [f"{i}.wav" for i in range(clips)],
    }
    if numbers is not None:
        columns["targets"] = [[("number", value)] for value in numbers.tolist()]
    table = Catalog.build(INFO, columns).table
    ids = table.column("clip_id").to_pylist()
    catalog = Catalog(INFO, table.take(np.argsort(ids)).combine_chunks())
    collection = from_catalog(catalog, target=None if numbers is None else "number")
    representations = torch.from_numpy(x[collection.rows].astype(np.float32))
    return replace(collection, x=representations, backbone=REPRESENTATION)


def make_collection(
    *,
    artists: int = 60,
    songs: int = 500,
    clips: int = 2,
    labels: int = 5,
    multi: bool = True,
    number: bool = False,
    dim: int = 16,
    targets: Sequence[str] = (),
) -> Collection:
    """Artists keep to one or two labels; the representation shows a song's labels through much noise.

    With ``number`` a number is asked for instead: what the song's labels and the artist make of it, through noise.
    ``targets`` names further numbers: whole ones from 0 to 8, at random, which a tenth of the clips lacks.
    """
    rng = np.random.default_rng(0)
    song_artist = np.minimum((artists * rng.random(songs) ** 2).astype(int), artists - 1)
    song_artist[rng.random(songs) < 0.03] = -1
    taste = rng.integers(0, labels, (artists, 2))
    first = np.where(rng.random(songs) < 0.8, taste[song_artist, 0], rng.integers(0, labels, songs))
    truth = np.zeros((songs, labels), dtype=bool)
    truth[np.arange(songs), first] = True
    if multi:
        two = rng.random(songs) < 0.3
        truth[two, taste[song_artist[two], 1]] = True
    means = truth @ rng.standard_normal((labels, dim)) + 1.5 * rng.standard_normal((songs, dim))
    song = np.repeat(np.arange(songs), clips)
    song = song[np.argsort(song_artist[song], kind="stable")]
    x = means[song] + 0.5 * rng.standard_normal((len(song), dim))
    artist = song_artist[song].astype(np.int64)
    numbers = None
    if number:
        size = truth @ rng.standard_normal(labels) + np.append(rng.standard_normal(artists), 0.0)[song_artist]
        numbers = (50 + 10 * (size + 0.5 * rng.standard_normal(songs)))[song]
    collection = collection_of(x, truth[song], artist, song, np.where(artist >= 0, song // 5, -1), numbers)
    values = {name: rng.integers(0, 10, len(song)).astype(np.float64) for name in targets}
    return replace(collection, targets={name: np.where(of < 9, of, np.nan) for name, of in values.items()})


def renumbered(collection: Collection, clips: NDArray[np.int64]) -> Collection:
    """Some clips, in this order, with other numbers for the same artists."""
    part = collection.select(clips)
    rng = np.random.default_rng(1)
    numbers = rng.permutation(len(collection.artist_ids))  # the new number of each artist
    ids = np.empty(len(numbers), dtype=object)
    ids[numbers] = list(collection.artist_ids)
    artist = np.where(part.artist >= 0, numbers[part.artist], -1)
    return replace(part, artist=artist, artist_ids=tuple(ids))


QUICK = {"epochs": "3", "steps": "1", "batch": "64", "hidden": "16", "learning_rate": "0.003"}


def quick_fit(
    head: type[Head], collection: Collection, split: Split, *, members: int = 1, **options: Any
) -> list[FitResult]:
    """A short training of a head; ``options`` are those of `fit`."""
    settings, configs = resolve([head], _changes(head, members))
    return fit(head, collection, split, configs[head], settings, 0, _CPU, **options)


def _changes(head: type[Head], members: int = 1) -> dict[str, str]:
    known = {*keys(Settings), *keys(head.Config)}
    return {key: value for key, value in {**QUICK, "members": str(members)}.items() if key in known}


def through_a_store(
    folder: Path, head: type[Head], collection: Collection, split: Split, result: FitResult
) -> RestoredHead:
    """The head as it comes back from the files of a run."""
    store = Store(str(folder))
    representation = REPRESENTATION if head.READS_SONGS else None
    runs = RunFolder("made", representation, head.NAME, "random", target=collection.target)
    save_run(
        *(store, runs, result),
        collection=collection,
        split=split,
        seed=0,
        fold=None,
        code="-",
        device=torch.device("cpu"),
    )
    return restore(store, runs, run_name(0, None, result.rule))


class HeadTests:
    """The contract of heads. A subclass defines the fixture ``head``; it may define ``collection`` too.

    Attributes
    ----------
    TARGETS : the numeric targets that the head reads.
    """

    TARGETS: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def head(self) -> type[Head]:
        raise NotImplementedError

    @pytest.fixture(scope="class", params=["several labels", "one label", "a number"])
    @classmethod
    def collection(cls, request: pytest.FixtureRequest) -> Collection:
        """A small collection, whose clips carry several labels, one whose clips carry one, and one of numbers."""
        kind = request.param
        several, number = kind == "several labels", kind == "a number"
        return make_collection(songs=120, artists=15, multi=several, number=number, targets=cls.TARGETS)

    @pytest.fixture(scope="class")
    @classmethod
    def trainings(cls) -> dict[tuple[type[Head], int], tuple[Collection, list[FitResult]]]:
        """By head and collection, what `results` has trained."""
        return {}

    @pytest.fixture
    def results(
        self,
        head: type[Head],
        collection: Collection,
        trainings: dict[tuple[type[Head], int], tuple[Collection, list[FitResult]]],
    ) -> list[FitResult]:
        """The head after a short training, by each of its rules; tests of one collection share it."""
        key = (head, id(collection))
        if key not in trainings:
            trainings[key] = (collection, quick_fit(head, collection, collection.split("random", 0)))
        return trainings[key][1]

    def test_its_config_is_frozen_plain_and_its_own(self, head: type[Head]) -> None:
        config = head.Config()
        assert dataclasses.is_dataclass(config)
        assert not set(keys(config)) & set(keys(Settings)), "a head's key may not be one of the training's"
        for field in dataclasses.fields(config):
            with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
                setattr(config, field.name, 1)
            value = getattr(config, field.name)
            assert isinstance(value, bool | int | float | str | tuple | None)
            assert head.Config(**{field.name: value}) == config

    def test_its_config_is_checked(self, head: type[Head]) -> None:
        """A value outside the bounds that a field names is refused."""
        for field in dataclasses.fields(head.Config):
            for bound, step in (("least", -1), ("above", 0), ("most", 1), ("below", 0)):
                limit = field.metadata.get(bound)
                if limit is not None:
                    with pytest.raises(RequestError, match=f"{field.name} is"):
                        head.Config(**{field.name: limit + step})

    def test_every_clip_is_scored_once(self, collection: Collection, results: list[FitResult]) -> None:
        for result in results:
            score = result.prediction.score
            assert score.shape == result.prediction.decision.shape == (len(collection), len(collection.outputs))
            assert collection.task.is_score(score).all()

    def test_equal_arguments_give_equal_bits(
        self, head: type[Head], collection: Collection, results: list[FitResult]
    ) -> None:
        """Whatever torch's generator has given before."""
        torch.manual_seed(99)
        torch.rand(7)
        state = torch.random.get_rng_state()
        again = quick_fit(head, collection, collection.split("random", 0))
        assert torch.equal(torch.random.get_rng_state(), state), "torch's generator is left as it was"
        for one, other in zip(results, again, strict=True):
            np.testing.assert_array_equal(one.prediction.score, other.prediction.score)

    def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
        self,
        head: type[Head],
        collection: Collection,
        results: list[FitResult],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if not issubclass(head, TrainedHead):
            pytest.skip("it counts, and is done")
        monkeypatch.setattr(checkpoint, "_EVERY_S", 0.0)
        split = collection.split("random", 0)
        (result,) = results
        epochs: list[int] = []

        def stop(count: int) -> None:
            epochs.append(count)
            if sum(epochs) == 2:
                raise KeyboardInterrupt

        def place(_member: int) -> Checkpoint:
            return Checkpoint(Files(tmp_path), "head.resume", "a training")

        with pytest.raises(KeyboardInterrupt):
            quick_fit(head, collection, split, advance=stop, checkpoint=place)
        (second,) = quick_fit(head, collection, split, checkpoint=place)
        np.testing.assert_array_equal(second.prediction.score, result.prediction.score)

    def test_no_label_outside_training_is_learnt(
        self, head: type[Head], collection: Collection, results: list[FitResult]
    ) -> None:
        """Other labels, or numbers, of test clips change nothing."""
        split = collection.split("random", 0)
        test = split == 2
        labels = collection.labels.copy(order="K")  # the layout in memory decides the order of sums
        labels[test] = np.roll(labels[test], 1, axis=1)
        numbers = None if collection.numbers is None else np.where(test, -collection.numbers, collection.numbers)
        others = replace(collection, labels=labels, numbers=numbers)
        for one, other in zip(results, quick_fit(head, others, split), strict=True):
            np.testing.assert_array_equal(one.prediction.score, other.prediction.score)

    def test_facts_and_weights_are_all_that_a_network_needs(self, head: type[Head], results: list[FitResult]) -> None:
        if not issubclass(head, TrainedHead):
            pytest.skip("it has no network")
        (result,) = results
        (trained,) = result.networks
        buffer = io.BytesIO()
        torch.save(dict(trained.spec.facts), buffer)
        buffer.seek(0)
        facts = torch.load(buffer, weights_only=True)
        network = head.build(replace(trained.spec, facts=facts))
        network.load_state_dict(trained.state)

    def test_the_order_of_clips_and_the_numbers_of_artists_do_not_matter(
        self, head: type[Head], collection: Collection, results: list[FitResult], tmp_path: Path
    ) -> None:
        """Clips of an artist need not lie together: songs that were added later lie behind."""
        split = collection.split("random", 0)
        order = np.random.default_rng(0).permutation(len(collection))
        for result in results:
            restored_head = through_a_store(tmp_path, head, collection, split, result)
            there = restored_head.score(renumbered(collection, order), split[order])
            np.testing.assert_allclose(there.score, result.prediction.score[order], atol=1e-5, rtol=1e-6)

    def test_a_clip_in_any_batch_has_the_same_score(self, head: type[Head], collection: Collection) -> None:
        if not issubclass(head, TrainedHead):
            pytest.skip("it has no network")
        split = collection.split("random", 0)
        settings, configs = resolve([head], _changes(head))
        binder = Binder.learn(head, Stretches(collection), split, configs[head], settings, _CPU)
        network = head.build(binder.spec)
        everything = binder.logits(network, torch.arange(len(collection)))
        for some in (torch.tensor([3]), torch.arange(0, len(collection), 7)):
            torch.testing.assert_close(binder.logits(network, some), everything[some], atol=1e-5, rtol=0)

    def test_what_it_gathers_has_a_gradient_where_it_says_so(self, head: type[Head], collection: Collection) -> None:
        """So that layers may be mixed before, by weights that are learnt."""
        if not issubclass(head, TrainedHead) or not head.IS_DIFFERENTIABLE:
            pytest.skip("it does not say so")
        split = collection.split("random", 0)
        settings, configs = resolve([head], _changes(head))
        binder = Binder.learn(head, Stretches(collection), split, configs[head], settings, _CPU)
        nodes = torch.from_numpy(np.flatnonzero(split == 0))
        assert collection.x is not None
        x, generator = collection.x, torch.Generator().manual_seed(0)

        def gathered(moved: Tensor) -> list[Tensor]:
            bound = head(binder.masked, x, split, binder.spec).reading(moved)
            bound.start_epoch(nodes, Draw(7, bound.rows))
            return [*bound.training_inputs(nodes, torch.arange(len(nodes))), *bound.inputs(nodes)]

        direction = torch.randn(x.shape, generator=generator)
        steps = [gathered(x + step * direction) for step in (-_STEP, 0, _STEP)]
        leaf = x.clone().requires_grad_()
        with_gradient = gathered(leaf)
        if not any(value.requires_grad for value in with_gradient):
            other = gathered(torch.randn(x.shape, generator=generator))
            assert all(torch.equal(*values) for values in zip(other, with_gradient, strict=True)), "it reads none"
        for below, here, above, value in zip(*steps, with_gradient, strict=True):
            assert torch.equal(value, here)
            if not value.requires_grad:
                assert torch.equal(below, above)
                continue
            weights = torch.randn(value.shape, generator=generator) / value.numel() ** 0.5
            (gradient,) = torch.autograd.grad(value, leaf, weights, retain_graph=True)
            slope = (weights * (above - below)).double().sum() / (2 * _STEP)
            torch.testing.assert_close((gradient * direction).double().sum(), slope, atol=0.02, rtol=0.02)

    @pytest.mark.parametrize("members", [1, 2])
    def test_a_restored_head_gives_the_stored_scores(
        self, head: type[Head], collection: Collection, results: list[FitResult], tmp_path: Path, members: int
    ) -> None:
        split = collection.split("random", 0)
        for result in results if members == 1 else quick_fit(head, collection, split, members=members):
            restored_head = through_a_store(tmp_path, head, collection, split, result)
            _assert_close(restored_head.score(collection, split), result.prediction, 1e-6)

    def test_it_needs_the_clips_of_an_artist_alone_or_says_why_not(
        self, head: type[Head], collection: Collection, results: list[FitResult], tmp_path: Path
    ) -> None:
        """Each artist's clips by themselves, under other numbers, some with few of the labels."""
        if head.NEEDS_COLLECTION:
            assert not head.BY_ARTIST
            return
        split = collection.split("random", 0)
        for result in results:
            restored_head = through_a_store(tmp_path, head, collection, split, result)
            for artist in (-1, 0, 3, int(collection.artist.max())):
                clips = np.flatnonzero(collection.artist == artist)
                clips = clips[:1] if artist < 0 else clips
                small = renumbered(collection, clips)
                columns = np.flatnonzero(small.labels.any(axis=0))
                labels = tuple(collection.label_names[i] for i in columns)
                small = replace(small, labels=small.labels[:, columns], label_names=labels)
                scores = restored_head.score(small, split[clips]).score
                np.testing.assert_allclose(scores, result.prediction.score[clips], atol=1e-5, rtol=1e-6)


def _assert_close(prediction: Prediction, stored: Prediction, tolerance: float) -> None:
    np.testing.assert_allclose(prediction.score, stored.score, atol=tolerance, rtol=1e-6)
    if stored.decision.dtype == bool:
        np.testing.assert_array_equal(prediction.decision, stored.decision)
