"""``encore predict``: what a trained head says of songs."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from pipeline import tagging
from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, DeviceOption, JsonOption, StoreOption, WeightsOption, YesOption
from pipeline.output import print_csv, print_json, wrapped
from pipeline.process import share_processors
from stages.ask.answers import PredictedSongs, Segment, SongPrediction
from stages.ask.predict import predict_songs
from store.errors import EncoreError, RequestError
from store.words import plural, visible

_CSV = ("file", "song_id", "part", "artist", "clips", "neighbours", "trust", "label", "score", "chosen")
_SHOWN = 3  # labels


def predict(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE|FOLDER...", help="recordings or MIDI files")
    ] = None,
    head: Annotated[
        str,
        typer.Option(
            "--head",
            help="DATASET (its best mode), DATASET/MODE, DATASET/MODE-REGIME, each +TARGET for a number; a run's path",
            metavar="HEAD",
        ),
    ] = "demo",
    layer: Annotated[
        str | None, typer.Option("--layer", help="the head that reads this layer", metavar="K|mean|mix")
    ] = None,
    artist: Annotated[
        str | None, typer.Option("--artist", help="who made the songs [their own tags]", metavar="NAME")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="a table of files and artists, as embed folder takes it")
    ] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="columns of other names: artist=Artist")] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="labels shown of a song [3]", metavar="K")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="decide for labels that score as much or more")
    ] = None,
    segments: Annotated[
        float | None, typer.Option("--segments", help="answer along the song: clips of so many seconds", metavar="S")
    ] = None,
    hop: Annotated[float | None, typer.Option("--hop", help="seconds from one to the next [S]", metavar="H")] = None,
    by: Annotated[str, typer.Option("--by", help="how clips make a song's answer", metavar="mean|vote")] = "mean",
    write_tags: Annotated[
        bool, typer.Option("--write-tags", help="put the labels into the files' tags; asks first")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what --write-tags would change")] = False,
    yes: YesOption = False,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    csv: Annotated[bool, typer.Option("--csv", help="one line for each song and label")] = False,
    json: JsonOption = False,
) -> None:
    """Ask a trained head about songs. A song of the store gets its stored answer."""
    if csv and json:
        raise RequestError("--csv and --json are two forms of the same answer; give one of them")
    if (dry_run or yes) and not write_tags:
        raise RequestError("--dry-run and --yes go with --write-tags, which is not given")
    share_processors()
    answer = predict_songs(
        open_store(store),
        files or [],
        head if layer is None else f"{head}@{layer}",
        artist=artist,
        table=table,
        columns=columns,
        threshold=threshold,
        segments_s=segments,
        hop_s=hop,
        by=by,
        weights=weights,
        device=device,
    )
    if json:
        print_json(dataclasses.asdict(_cut(answer, top)))
    elif csv:
        print_csv(_CSV, _csv_rows(_cut(answer, top)))
    else:
        print(predictions_text(answer, top or _SHOWN, segments is not None))
    if write_tags and "target" in answer.head:
        raise RequestError(
            f"this head estimates {answer.head['target']}, which is no tag of a file; leave out --write-tags"
        )
    if write_tags:
        tagging.write_tags(answer, dry_run=dry_run, yes=yes)
    if answer.failures:
        raise EncoreError(failures_text(answer))


def predictions_text(answer: PredictedSongs, top: int, along: bool) -> str:
    """For a person: the head, then for each song its labels and what they rest on."""
    head = answer.head
    of = f", fold {head['fold']}" if head["fold"] else ""
    rule = f" ({head['rule']})" if head["rule"] else ""
    inductive = ", inductive" if head["inductive"] else ""
    target = head.get("target")
    lines = wrapped(
        f"{head['dataset']}/{head['mode']}{rule}, regime {head['regime']}{inductive}, seed {head['seed']}{of}: "
        f"{head['chosen']}"
    )
    if head["weights_licence"]:
        lines += wrapped(f"licence of the backbone's weights: {head['weights_licence']}")
    for song in answer.songs:
        lines += [
            "",
            visible(song.file),
            *wrapped(f"  {_labels_text(song, top, target)}", "    "),
            *wrapped(f"  {_basis(song, head['representation'] is not None)}", "    "),
        ]
        if along:
            lines += [f"  {_place(segment)}  {_segment_text(segment, target)}" for segment in song.segments]
    return "\n".join(lines)


def _labels_text(answer: SongPrediction | Segment, top: int, target: str | None) -> str:
    """``rock 0.91, pop 0.72; then folk 0.10``, first what the head decides for; or ``popularity 53.2``."""
    from stages.head.scores.metrics import significant

    scores = answer.scores
    text = ", ".join(f"{label} {scores[label]:.2f}" for label in answer.labels)
    others = [f"{label} {score:.2f}" for label, score in scores.items() if label not in answer.labels]
    others = others[: max(0, top - len(answer.labels))]
    if target is not None:
        return f"{target} {scores[target]:.{significant(scores[target])}f}"
    if not others:
        return text or "no label"
    return f"{text or 'no label'}; then {', '.join(others)}"


def _segment_text(segment: Segment, target: str | None) -> str:
    """The same in one line, of which no label is left out unsaid."""
    first = dataclasses.replace(segment, labels=segment.labels[:_SHOWN])
    more = len(segment.labels) - len(first.labels)
    return _labels_text(first, 1, target) + (f" and {more} more" if more else "")


def _basis(song: SongPrediction, hears: bool) -> str:
    """What an answer rests on; ``hears``: whether the head reads the song itself."""
    parts = [plural(song.clips, "clip")]
    if song.neighbours is None:
        parts.append("this mode reads no artist")
    elif song.artist is None:
        parts.append(f"no artist: {'judged by the song alone' if hears else 'this mode knows nothing of the song'}")
    else:
        remark = "" if song.artist_is_stored else " (not in the collection)"
        parts.append(f"artist {song.artist_name}{remark}: {plural(song.neighbours, 'other clip')}")
        if song.trust is not None:
            parts.append(f"weight of the artist's labels {song.trust:.2f}")
    if song.song_id is not None:
        remark_on_part = ", which the head was trained on" if song.part == "train" else ""
        parts.append(f"song {song.song_id} of the collection{remark_on_part}")
    return "; ".join(parts)


def _place(segment: Segment) -> str:
    start_s = segment.start_s or 0.0
    end = "end" if segment.duration_s is None else f"{start_s + segment.duration_s:.1f} s"
    return f"{start_s:6.1f} - {end:>8}"


def _cut(answer: PredictedSongs, top: int | None) -> PredictedSongs:
    """The same with the ``top`` highest scores of each song and segment alone."""
    if top is None:
        return answer

    def first(scores: dict[str, float]) -> dict[str, float]:
        return dict(list(scores.items())[:top])

    songs = []
    for song in answer.songs:
        segments = tuple(dataclasses.replace(each, scores=first(each.scores)) for each in song.segments)
        songs.append(dataclasses.replace(song, scores=first(song.scores), segments=segments))
    return dataclasses.replace(answer, songs=tuple(songs))


def _csv_rows(answer: PredictedSongs) -> list[dict[str, Any]]:
    return [
        {
            **{name: getattr(song, name) for name in _CSV[:-3]},
            "label": label,
            "score": score,
            "chosen": label in song.labels,
        }
        for song in answer.songs
        for label, score in song.scores.items()
    ]


def failures_text(answer: PredictedSongs) -> str:
    """Which files could not be judged, and why."""
    count = len(answer.failures) + len(answer.songs)
    files = "the file" if count == 1 else f"{len(answer.failures):,} of {plural(count, 'file')}"
    reasons = (f"{visible(file)}: {reason}" for file, reason in answer.failures.items())
    return "\n".join([f"{files} could not be judged:", *reasons])
