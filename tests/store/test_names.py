"""Names and fingerprints of representations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from store.errors import RequestError
from store.fingerprint import ADDED_LATER, canonical, fingerprint, hash_ids, hash_values
from store.layout import Store, check_name, match
from tests.store.build import NAME, catalog, names, numbers, write


def test_a_name_means_the_same_everywhere() -> None:
    roll, other, cnn = f"roll-{'0' * 12}", f"roll-{'1' * 12}", f"roll-cnn-{'0' * 12}"
    names = [roll, cnn, "metadata"]
    assert match(names, None) == names
    assert match(names, "roll") == match(names, "roll-0") == match(names, roll) == [roll]
    assert match(names, "roll-cnn") == match(names, "roll-cnn-00") == [cnn]
    assert match(names, "metadata") == ["metadata"]
    for beginning in ("", "rol", "roll-", "roll-c", "roll-cnn-", "meta"):
        assert match(names, beginning) == []
    assert match([roll, other], "roll") == [roll, other]
    assert match([roll, other], "roll-1") == [other]


def test_find_says_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(4))
    write(store, songs, numbers(4))
    assert store.find("few", None) == store.find("few", "fcn") == store.find("few", "fcn-0123") == NAME
    with pytest.raises(RequestError, match="no representation 'cola'; have: fcn-0123456789ab"):
        store.find("few", "cola")
    with pytest.raises(RequestError, match=r"unknown data set 'fex' in the store .*; have: few\. Did you mean few\?"):
        store.read_catalog("fex")
    for bad in ("../x", "", "Few", "runs", "a/b", "few.removed"):
        with pytest.raises(RequestError, match="cannot name a data set"):
            check_name(bad)


def test_fingerprints_depend_on_numbers_alone() -> None:
    decides = {"backbone": "fcn", "config": {"a": 1, "b": (2, 3)}, "weights": None}
    base = fingerprint(decides)
    assert base == fingerprint({"config": {"b": [2, 3], "a": 1}, "weights": None, "backbone": "fcn"})
    others = {
        fingerprint(decides | change)
        for change in ({"backbone": "fcm"}, {"config": {"a": 2, "b": (2, 3)}}, {"weights": "x"}, {"revision": 1})
    }
    assert len(others) == 4
    assert base not in others

    @dataclass(frozen=True)
    class Inner:
        rate_hz: int = 16000

    @dataclass(frozen=True)
    class Revised(Inner):
        REVISION: ClassVar[int] = 2

    @dataclass(frozen=True)
    class Outer:
        inner: Inner

    assert canonical(Outer(Inner())) == {"inner": {"rate_hz": 16000}}
    assert canonical(Outer(Revised())) == {"inner": {"rate_hz": 16000, "REVISION": 2}}

    @dataclass(frozen=True)
    class Later(Inner):
        mono: bool = field(default=True, metadata=ADDED_LATER)

    assert canonical(Later()) == canonical(Inner())
    assert canonical(Later(mono=False)) == {"rate_hz": 16000, "mono": False}
    with pytest.raises(TypeError):
        canonical(lambda: None)
    with pytest.raises(TypeError):
        canonical(float("nan"))
    assert hash_ids(["ab", "c"]) != hash_ids(["a", "bc"])
    assert hash_values(np.arange(4, dtype=">f4")) == hash_values(np.arange(4, dtype="<f4"))
