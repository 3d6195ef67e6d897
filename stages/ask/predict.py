"""Songs on disk, asked about: stage one finds and encodes those that are new, stage two scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stages.ask.answers import PredictedSongs, Segment, SongPrediction
from stages.paths import at_home
from stages.progress import note
from store.errors import RequestError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.embed.backbones import Backbone
    from stages.embed.songs import EncodedSongs, SongFile
    from stages.head.predict import ClipScores
    from store.layout import RepresentationName, Store
    from store.rows import Rows as StoredRows

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
    from stages.embed.songs import check_segments, encode_songs, find_songs, input_kind, rows_of

    check_segments(segments_s, hop_s)
    open_head = OpenHead(store, head, weights=weights, device=device, by=by, threshold=threshold)
    is_searched = table is not None or any(at_home(file).is_dir() for file in files)
    name = open_head.representation
    kind = input_kind(store, open_head.dataset, name) if name is not None and is_searched else None
    on_disk = find_songs(files, kind=kind, artist=artist, table=table, columns=columns)
    songs = [
        open_head.song(file, rows) for file, rows in zip(on_disk, rows_of(open_head.catalog, on_disk), strict=True)
    ]
    in_store = [number for number, song in enumerate(songs) if len(song.clips) and segments_s is None]
    new = [number for number in range(len(songs)) if number not in set(in_store)]
    answers = dict(zip(in_store, open_head.of_stored([songs[number] for number in in_store]), strict=True))
    failures: dict[str, str] = {}
    if new:
        clips = encode_songs(
            [songs[number].file for number in new],
            open_head.catalog,
            open_head.backbone,
            open_head.device,
            segments_s=segments_s,
            hop_s=hop_s,
        )
        failures = {songs[new[number]].file.name: reason for number, reason in clips.failures.items()}
        of_new = open_head.of_new([songs[number] for number in new], clips)
        answers |= {new[number]: answer for number, answer in of_new.items()}
    return PredictedSongs(open_head.about(), tuple(answers[number] for number in sorted(answers)), failures)


@dataclass(frozen=True)
class Song:
    """A song on disk, and what the collection has of it.

    Attributes
    ----------
    rows, clips : its rows of the catalog and its places in the predictor's collection, where it has any.
    """

    file: SongFile
    rows: Rows
    clips: Rows


class OpenHead:
    """A trained head with its collection, open to be asked any number of times.

    Attributes
    ----------
    representation : what it reads; None for a head that reads none.

    Raises
    ------
    RequestError
        where there is no such head, or what it reads is not there.
    """

    def __init__(
        self,
        store: Store,
        head: str,
        *,
        weights: str | None = None,
        device: str = "auto",
        by: str = "mean",
        threshold: float | None = None,
    ) -> None:
        from stages.devices import find_device
        from stages.head.artists import Artists
        from stages.head.predict import Predictor
        from stages.head.runs.find import find_run
        from store.layout import split_layer

        if by not in WAYS:
            raise unknown("way", by, WAYS)
        self.store, self.device = store, find_device(device)
        self._weights, self._by, self._threshold = weights, by, threshold
        self.run, self.reason = find_run(store, head)
        folder = self.run.folder
        self.dataset = folder.dataset
        name, self._layer = split_layer(folder.representation)
        self.representation: RepresentationName | None = None if name is None else store.find(self.dataset, name)
        self.catalog = store.read_catalog(self.dataset)
        self.predictor = Predictor(store, self.run, self.device)
        self.artists = Artists(self.catalog, self.predictor.collection.artist_ids)
        if weights is not None:
            self._check_weights()
        if threshold is not None and not self.predictor.head.task.CHOOSES:
            raise RequestError(
                f"{self.run.file} estimates {self.predictor.head.target}, a number: leave out --threshold"
            )

    def _check_weights(self) -> None:
        """Raise where the weights that someone gives are of no use; songs of the collection would be answered."""
        if self.backbone is None:
            raise RequestError(f"{self.run.file} reads no representation, so no weights; leave out --weights")

    @cached_property
    def backbone(self) -> Backbone | None:
        """What encoded the collection; None for a head that reads no representation."""
        from stages.embed.songs import open_backbone

        if self.representation is None:
            return None
        return open_backbone(self.store, self.dataset, self.representation, self._weights)

    @cached_property
    def _stored(self) -> StoredRows | None:
        from store.reader import Representations
        from store.rows import Rows

        if self.representation is None:
            return None
        return Rows(Representations(self.store, self.catalog, self.representation))

    @cached_property
    def _licence(self) -> str | None:
        """That of the backbone's weights; None without any."""
        if self.representation is None:
            return None
        return self.store.read_line(self.dataset, self.representation, "licence.txt")

    def about(self) -> dict[str, Any]:
        """The run, as `PredictedSongs` tells it."""
        folder, record = self.run.folder, self.run.record
        return {
            "dataset": folder.dataset,
            "representation": folder.representation,
            "mode": folder.mode,
            "rule": record.rule,
            "regime": folder.regime,
            "seed": record.seed,
            "fold": record.fold,
            "inductive": folder.inductive,
            "file": self.run.file,
            "chosen": self.reason,
            "weights_licence": self._licence,
            **({} if folder.target is None else {"target": folder.target}),
        }

    def song(self, file: SongFile, rows: Rows) -> Song:
        """A song on disk of which the collection has these catalog rows."""
        places = self.predictor.places(rows)
        return Song(file, rows, places[places >= 0])

    def of_stored(self, songs: Sequence[Song]) -> list[SongPrediction]:
        """The stored answers of some songs of the collection."""
        import numpy as np

        if not songs:
            return []
        scores = self.predictor.score_stored(np.concatenate([song.clips for song in songs]))
        first, answers = 0, []
        for song in songs:
            own = np.arange(first, first + len(song.clips))
            first += len(own)
            rows = self.predictor.collection.rows[song.clips]
            stretch = [self.catalog.column(name).take(rows).to_pylist() for name in ("start_s", "duration_s")]
            artist = self.catalog.column("artist_id")[int(rows[0])].as_py()
            self._tell_of_another_artist(song, artist)
            answers.append(self._answer(song, scores[own], list(zip(*stretch, strict=True)), artist))
        return answers

    def of_new(self, songs: Sequence[Song], encoded: EncodedSongs) -> dict[int, SongPrediction]:
        """The answers of songs that were encoded just now, by their places; none for one without a clip.

        Songs of one artist that are asked about together are each other's neighbours.
        """
        import numpy as np

        if not len(encoded.song):
            return {}
        artists = [self._artist(song) for song in songs]
        stored = np.array([int(next(iter(song.clips), -1)) for song in songs])
        scores = self._score(encoded, [artists[song] for song in encoded.song.tolist()], stored[encoded.song])
        answers = {}
        for number, song in enumerate(songs):
            own = np.flatnonzero(encoded.song == number)
            if len(own):
                times = ([None if np.isnan(s) else s for s in of[own].tolist()] for of in encoded.stretches)
                answers[number] = self._answer(song, scores[own], list(zip(*times, strict=True)), artists[number])
        return answers

    def alone(self, encoded: EncodedSongs) -> list[dict[str, float] | None]:
        """The scores of each song as if nobody knew its artist, the highest first; None of a head that reads none."""
        import numpy as np

        songs = np.unique(encoded.song)
        if not self.predictor.head.head_type.READS_ARTISTS:
            return [None] * len(songs)
        clips = len(encoded.song)
        scores = self._score(encoded, [None] * clips, np.full(clips, -1))
        decided = (self.predictor.decide(scores[np.flatnonzero(encoded.song == song)], self._by) for song in songs)
        return [self._labels(of_song)[0][1] for of_song in decided]

    def apart(self, songs: Sequence[Song]) -> list[list[int]]:
        """The places of new songs in groups that may be scored together, as none is another's neighbour."""
        if self.predictor.head.head_type.NEEDS_COLLECTION:
            return [[place] for place in range(len(songs))]
        groups: list[list[int]] = []
        turns: dict[str, int] = {}
        for place, song in enumerate(songs):
            artist = self._artist(song)
            turn = 0 if artist is None else turns.get(artist, 0)
            if artist is not None:
                turns[artist] = turn + 1
            groups += [[]] if turn == len(groups) else []
            groups[turn].append(place)
        return groups

    def stored_clips(self, song: Song) -> EncodedSongs:
        """The stored clips of a song of the collection, as if they were encoded just now."""
        import numpy as np

        from stages.embed.songs import EncodedSongs

        values = None if self._stored is None else self._stored.take(self.predictor.collection.rows[song.clips])
        nowhere = np.full(len(song.clips), np.nan)
        return EncodedSongs(values, np.zeros(len(song.clips), dtype=np.int64), nowhere, nowhere, {})

    def _score(self, encoded: EncodedSongs, artists: Sequence[str | None], stored: Rows) -> ClipScores:
        import torch

        from stages.head import layers
        from stages.head.predict import NewClips

        x = None if encoded.values is None else torch.from_numpy(layers.read(encoded.values, self._layer))
        return self.predictor.score_new(NewClips(x, artists, encoded.song, stored))

    def _artist(self, song: Song) -> str | None:
        """The artist of a song that is to be scored anew: as someone named it, else as the catalog has it."""
        if song.file.artist is None:
            artist_id: str | None = (
                self.catalog.column("artist_id")[int(song.rows[0])].as_py() if len(song.rows) else None
            )
            return artist_id
        return self.artists.find(song.file.artist)

    def _tell_of_another_artist(self, song: Song, artist: str | None) -> None:
        name = song.file.artist
        if name is not None and self.artists.find(name, quiet=True) != artist:
            note(
                f"{song.file.name} is a stored song of {artist or 'an unknown artist'}, not of {name}; "
                f"this is its stored answer"
            )

    def _answer(
        self, song: Song, scores: ClipScores, stretches: list[tuple[float | None, float | None]], artist: str | None
    ) -> SongPrediction:
        """What the scores of a song's clips say of it."""
        from stages.splits.regimes import PARTS

        predictor = self.predictor
        song_answer = self._labels(predictor.decide(scores, self._by))[0]
        parts = {int(part) for part in predictor.split[song.clips]}
        return SongPrediction(
            file=song.file.name,
            song_id=self.catalog.column("song_id")[int(song.rows[0])].as_py() if len(song.rows) else None,
            part=PARTS[min(parts)] if parts and min(parts) >= 0 else None,
            artist=artist,
            artist_name=self.artists.name(artist),
            artist_is_stored=self.artists.has(artist),
            clips=len(stretches),
            neighbours=None if scores.neighbours is None else int(scores.neighbours.max()),
            trust=None if scores.trust is None else float(scores.trust.mean()),
            labels=song_answer[0],
            scores=song_answer[1],
            segments=tuple(
                Segment(start_s, duration_s, *answer)
                for (start_s, duration_s), answer in zip(stretches, self._labels(scores.prediction), strict=True)
            ),
        )

    def _labels(self, prediction: Any) -> list[tuple[tuple[str, ...], dict[str, float]]]:
        """For each clip the labels that are chosen, and all scores, the highest first."""
        answers = []
        for score, decision in zip(prediction.score.tolist(), prediction.decision.tolist(), strict=True):
            by_score = sorted(zip(self.predictor.labels, score, decision, strict=True), key=lambda entry: -entry[1])
            above = [
                label
                for label, value, is_chosen in by_score
                if self.predictor.head.task.CHOOSES
                and (is_chosen if self._threshold is None else value >= self._threshold)
            ]
            answers.append((tuple(above), {label: value for label, value, _ in by_score}))
        return answers
