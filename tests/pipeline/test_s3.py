"""Every command on a store in S3: a real server on loopback, also one that fails, is slow and hangs up."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from store import conditional
from store.errors import StoreError
from store.layout import Store
from store.merge import update
from store.schema import Catalog
from tests.pipeline.conftest import COLUMNS, NO_WORKER, ONE_PART, QUICK, Encore
from tests.processes import COMMAND, Process
from tests.store.build import catalog, tree

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from tests import s3

URL = f"s3://{s3.BUCKET}"


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, s3.Faults]]:
    from s3fs import S3FileSystem

    with s3.server() as (address, faults), pytest.MonkeyPatch.context() as environment:
        for name, value in s3.environment(address).items():
            environment.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield address, faults
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # connections are closed as their clients go
            S3FileSystem.clear_instance_cache()
            gc.collect()


@pytest.fixture
def faults(service: tuple[str, s3.Faults]) -> Iterator[s3.Faults]:
    _, faults = service
    yield faults
    faults.before = faults.after = faults.refuse = faults.wait = 0.0


def command(*arguments: object) -> Any:
    """The document that a command prints."""
    ran = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert "Traceback" not in ran.stderr
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)


def embed(store: str | Path, table: Path) -> Any:
    where = ("--table", table, "--name", "hits", "--columns", COLUMNS, "--store", store)
    return command("embed", "table", *where, *NO_WORKER)


def without_times(content: Any) -> Any:
    if isinstance(content, list):
        return [without_times(entry) for entry in content]
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if "seconds" not in key}
    return content


def files_of(folder: Path) -> set[str]:
    return {name for name in tree(folder) if not name.endswith(".lock")}


def test_every_command(faults: s3.Faults, features_csv: Path, tmp_path: Path) -> None:
    """The answers are those of a store on the disk, while every tenth request goes wrong in some way."""
    faults.before, faults.after, faults.refuse, faults.wait = 0.03, 0.02, 0.03, 0.02
    there, here = f"{URL}/all", tmp_path / "stores"
    assert embed(there, features_csv)["encoded"] == 400
    embed(here, features_csv)
    assert embed(there, features_csv)["already_there"] is True
    commands: tuple[tuple[object, ...], ...] = (
        ("head", "hits", "--mode", "gnn", *QUICK),
        ("compare", "hits", "--modes", "song,artist", "--regimes", "random", "--seeds", 1, *ONE_PART, *QUICK),
        ("report", "hits"),
        ("store", "verify"),
    )
    for arguments in commands:
        answers = [
            json.dumps(without_times(command(*arguments, "--store", store))).replace(str(store), "STORE")
            for store in (there, here)
        ]
        assert answers[0] == answers[1]
    listed, local = (command("store", "ls", "--store", store) for store in (there, here))
    assert [entry["dataset"] for entry in listed] == [entry["dataset"] for entry in local] == ["hits"]
    assert command("store", "show", "hits", "--store", there)["clips"] == 400
    assert faults.count > 100
    (copied,) = command("store", "copy", there, tmp_path / "copy")
    assert copied["files"] > 10
    assert command("store", "verify", "--store", tmp_path / "copy")["wrong"] == []
    assert files_of(tmp_path / "copy" / "hits") == files_of(here / "hits")
    command("store", "remove", "hits", "--yes", "--store", there)
    assert command("store", "ls", "--store", there) == []


def test_a_service_that_stays_away(faults: s3.Faults, features_csv: Path) -> None:
    """One message, no traceback; when the service is back the same command goes on."""
    store = f"{URL}/away"
    faults.before = 1.0
    arguments = ("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--store", store)
    with Process(COMMAND, *arguments, environment={"AWS_MAX_ATTEMPTS": "1"}) as process:
        _, err = process.communicate()
    assert process.returncode == 1, err
    assert "error: cannot" in err
    assert "Traceback" not in err
    assert store in err
    faults.before = 0.0
    assert embed(store, features_csv)["encoded"] == 400


def few(*names: str) -> Catalog:
    return catalog(list(names))


def test_two_that_grow_one_catalog(faults: s3.Faults) -> None:
    """Whoever comes second is refused, however close they are: the service compares while it writes."""
    one, two = Store(f"{URL}/both"), Store(f"{URL}/both")
    update(one, few("a"), None, lambda: few("a"))
    state = two.catalog_mark("few")
    mark = Store.catalog_mark
    with pytest.MonkeyPatch.context() as between:

        def then_the_other(self: Store, dataset: str) -> str | None:
            current = mark(self, dataset)
            between.undo()
            update(one, few("a", "b"), current, lambda: few("a", "b"))
            return current

        between.setattr(Store, "catalog_mark", then_the_other)
        with pytest.raises(StoreError, match=r"another run wrote the catalog of few .* run the same command again"):
            update(two, few("a", "c"), state, lambda: few("a", "c"))
    assert Store(f"{URL}/both").read_catalog("few").strings("clip_id") == ["a", "b"]  # and its seal holds
    update(two, few("a", "b", "c"), two.catalog_mark("few"), lambda: few("a", "b", "c"))
    assert Store(f"{URL}/both").read_catalog("few").strings("clip_id") == ["a", "b", "c"]


def test_seals_that_two_write_lose_nothing(faults: s3.Faults) -> None:
    one, two = Store(f"{URL}/seals"), Store(f"{URL}/seals")
    one.write_catalog(few("a"))
    files = {f"few/runs/r/gnn-random/seed-{i}.pt": bytes([i]) for i in range(4)}
    with one.seals.changing("few", {}):
        for store, (name, data) in zip((one, two, one, two), files.items(), strict=True):
            store.write({name: data})
    begun = one.seals.changing("few", {"runs/r/gnn-random/seed-0.pt": "1" * 32})
    begun.__enter__()
    two.write({"few/runs/r/gnn-random/seed-9.pt": b"nine"})
    begun.__exit__(None, None, None)
    entries = Store(f"{URL}/seals").seals.entries("few") or {}
    assert {path for path in entries if path.endswith(".pt")} == {name.removeprefix("few/") for name in files} | {
        "runs/r/gnn-random/seed-9.pt"
    }


def test_a_put_whose_answer_was_lost_counts(faults: s3.Faults) -> None:
    files = Store(f"{URL}/lost").files
    files.write("a", b"one")
    assert files.write_if("a", b"two", files.mark("a"))
    assert not files.write_if("a", b"three", None)
    assert not files.write_if("a", b"three", '"another"')
    assert files.write_if("a", b"two", '"another"')  # what was to be there is there
    assert not files.write_if("none", b"x", '"another"')
    assert files.read("a") == b"two"
    faults.after = 0.5
    for i in range(8):
        data = str(i).encode()
        mark = _patient(lambda: files.mark("a"))
        assert _patient(lambda data=data, mark=mark: files.write_if("a", data, mark))
    faults.after = 0.0
    assert files.read("a") == b"7"


def _patient(work: Any) -> Any:
    for _ in range(20):
        try:
            return work()
        except StoreError:
            continue
    raise AssertionError("the service never answered")


def test_a_service_that_cannot_compare(faults: s3.Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared just before; the second writer is refused as it is on other URLs."""
    monkeypatch.setattr(conditional, "put", lambda *_: None)
    files = Store(f"{URL}/plain").files
    files.write("a", b"one")
    mark = files.mark("a")
    assert files.write_if("a", b"two", mark)
    assert not files.write_if("a", b"three", mark)
    assert files.read("a") == b"two"


def _not_installed(_url: str) -> Any:
    raise ImportError("Install s3fs to access S3")


def test_the_client_is_not_installed(encore: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.core.url_to_fs", _not_installed)
    encore.store = f"{URL}/x"  # type: ignore[assignment]
    ran = encore("store", "ls", code=2)
    assert "encore-mir[s3]" in ran.err
