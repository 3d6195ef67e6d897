"""Songs on disk, asked about: stage one finds and encodes those that are new, stage two scores them.

The stages never import each other, so this is where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.answers import PredictedSongs, Segment, SongPrediction
from stages.progress import note
from store.errors import RequestError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.embed.songs import EncodedSongs, SongFile
    from stages.head.artists import Artists
    from stages.head.predict import ClipScores, Predictor
    from stages.head.runs.find import Run
    from store.layout import Store
    from store.schema import Catalog

    Rows = NDArray[np.int64]

WAYS = ("mean", "vote")  # from the answers of clips to that of a song


def predict_songs(
    store: Store,
    files: Sequence[str],
    head: str,
    *,
    artist: str | None = None,
    table: str | None = None,
    columns: str | None = None,
    threshold: float | None = None,
    segments_s: float | None = None,
    hop_s: float | None = None,
    by: str = "mean",
    weights: str | None = None,
    device: str = "auto",
) -> PredictedSongs:
    """What a trained head says of songs; `encore.predict` tells the parameters."""
    from stages.devices import find_device
    from stages.embed.songs import check_segments, encode_songs, find_songs, input_kind, open_backbone, rows_of
    from stages.head.artists import Artists
    from stages.head.predict import Predictor
    from stages.head.runs.find import find_run
    from store.layout import split_layer

    check_segments(segments_s, hop_s)
    if by not in WAYS:
        raise unknown("way", by, WAYS)
    run, why = find_run(store, head)
    dataset, target = run.folder.dataset, find_device(device)
    name = None if run.folder.representation is None else store.find(dataset, split_layer(run.folder.representation)[0])
    folders = any(Path(file).expanduser().is_dir() for file in files)
    kind = input_kind(store, dataset, name) if name is not None and folders else None
    songs = find_songs(files, kind=kind, artist=artist, table=table, columns=columns)
    catalog = store.read_catalog(dataset)
    predictor = Predictor(store, run, target)
    rows = rows_of(catalog, songs)
    clips = [places[places >= 0] for places in map(predictor.places, rows)]
    artists = Artists(catalog, predictor.collection.artist_ids)
    if threshold is not None and not predictor.head.task.CHOOSES:
        raise RequestError(f"{run.file} estimates {predictor.head.target}, a number: leave out --threshold")
    asked = _Request(predictor, songs, catalog, rows, clips, artists, by, threshold)
    stored = [number for number, places in enumerate(clips) if len(places) and segments_s is None]
    new = [number for number in range(len(songs)) if number not in set(stored)]
    answers = asked.stored(stored)
    failures: dict[str, str] = {}
    if new:
        backbone = None if name is None else open_backbone(store, dataset, name, weights)
        encoded = encode_songs([songs[i] for i in new], catalog, backbone, target, segments_s=segments_s, hop_s=hop_s)
        failures = {songs[new[number]].name: reason for number, reason in encoded.failures.items()}
        answers |= asked.new(new, encoded)
    return PredictedSongs(_head(run, why), tuple(answers[number] for number in sorted(answers)), failures)


@dataclass(frozen=True)
class _Request:
    """Songs, and how their answers are made.

    Attributes
    ----------
    rows, clips : of each song, its rows of the catalog and its places in the predictor's collection, where it has any.
    """

    predictor: Predictor
    songs: list[SongFile]
    catalog: Catalog
    rows: list[Rows]
    clips: list[Rows]
    artists: Artists
    by: str
    threshold: float | None

    def stored(self, numbers: list[int]) -> dict[int, SongPrediction]:
        """The answers of some songs of the store, by their numbers."""
        import numpy as np

        if not numbers:
            return {}
        places = np.concatenate([self.clips[number] for number in numbers])
        scores = self.predictor.score_stored(places)
        first, answers = 0, {}
        for number in numbers:
            own = np.arange(first, first + len(self.clips[number]))
            first += len(own)
            rows = self.predictor.collection.rows[self.clips[number]]
            stretch = [self.catalog.column(name).take(rows).to_pylist() for name in ("start_s", "duration_s")]
            artist = self.catalog.column("artist_id")[int(rows[0])].as_py()
            self._tell_of_another_artist(number, artist)
            answers[number] = self._answer(number, scores[own], list(zip(*stretch, strict=True)), artist)
        return answers

    def new(self, numbers: list[int], encoded: EncodedSongs) -> dict[int, SongPrediction]:
        """The answers of songs that were encoded just now, by their numbers; none for one without a clip."""
        import numpy as np
        import torch

        from stages.head import layers
        from stages.head.predict import NewClips
        from store.layout import split_layer

        if not len(encoded.song):
            return {}
        artists = [self._artist(number) for number in numbers]
        vectors = encoded.values
        layer = split_layer(self.predictor.run.folder.representation)[1]
        x = None if vectors is None else torch.from_numpy(layers.read(vectors, layer))
        stored = np.array([int(next(iter(self.clips[number]), -1)) for number in numbers])
        of_clips = [artists[song] for song in encoded.song.tolist()]
        scores = self.predictor.score_new(NewClips(x, of_clips, encoded.song, stored[encoded.song]))
        answers = {}
        for song, number in enumerate(numbers):
            own = np.flatnonzero(encoded.song == song)
            if len(own):
                times = ([None if np.isnan(s) else s for s in of[own].tolist()] for of in encoded.stretches)
                answers[number] = self._answer(number, scores[own], list(zip(*times, strict=True)), artists[song])
        return answers

    def _artist(self, number: int) -> str | None:
        """The artist of a song that is to be scored anew: as someone named it, else as the catalog has it."""
        name, rows = self.songs[number].artist, self.rows[number]
        if name is None:
            known: str | None = self.catalog.column("artist_id")[int(rows[0])].as_py() if len(rows) else None
            return known
        return self.artists.find(name)

    def _tell_of_another_artist(self, number: int, artist: str | None) -> None:
        name = self.songs[number].artist
        if name is not None and self.artists.find(name, quiet=True) != artist:
            note(
                f"{self.songs[number].name} is a stored song of {artist or 'an unknown artist'}, not of {name}; "
                f"this is its stored answer"
            )

    def _answer(
        self, number: int, scores: ClipScores, stretches: list[tuple[float | None, float | None]], artist: str | None
    ) -> SongPrediction:
        """What the scores of a song's clips say of it."""
        from stages.splits.regimes import PARTS

        predictor, rows = self.predictor, self.rows[number]
        whole = self._labels(predictor.decide(scores, self.by))[0]
        parts = {int(part) for part in predictor.split[self.clips[number]]}
        return SongPrediction(
            file=self.songs[number].name,
            song_id=self.catalog.column("song_id")[int(rows[0])].as_py() if len(rows) else None,
            part=PARTS[min(parts)] if parts and min(parts) >= 0 else None,
            artist=artist,
            artist_name=self.artists.name(artist),
            artist_is_stored=self.artists.has(artist),
            clips=len(stretches),
            neighbours=None if scores.neighbours is None else int(scores.neighbours.max()),
            trust=None if scores.trust is None else float(scores.trust.mean()),
            labels=whole[0],
            scores=whole[1],
            segments=tuple(
                Segment(start_s, duration_s, *answer)
                for (start_s, duration_s), answer in zip(stretches, self._labels(scores.prediction), strict=True)
            ),
        )

    def _labels(self, prediction: Any) -> list[tuple[tuple[str, ...], dict[str, float]]]:
        """For each clip the labels that are chosen, and all scores, the highest first."""
        answers = []
        for score, chosen in zip(prediction.score.tolist(), prediction.chosen.tolist(), strict=True):
            ranked = sorted(zip(self.predictor.labels, score, chosen, strict=True), key=lambda entry: -entry[1])
            above = [
                label
                for label, value, is_chosen in ranked
                if self.predictor.head.task.CHOOSES
                and (is_chosen if self.threshold is None else value >= self.threshold)
            ]
            answers.append((tuple(above), {label: value for label, value, _ in ranked}))
        return answers


def _head(run: Run, why: str) -> dict[str, Any]:
    folder, record = run.folder, run.record
    return {
        "dataset": folder.dataset,
        "representation": folder.representation,
        "mode": folder.mode,
        "rule": record.rule,
        "regime": folder.regime,
        "seed": record.seed,
        "fold": record.fold,
        "inductive": folder.inductive,
        "file": run.file,
        "chosen": why,
        **({} if folder.target is None else {"target": folder.target}),
    }
