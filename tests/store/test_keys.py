"""Rows are bound to clips by the same hashes, however they are computed."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from store.fingerprint import hash_ids
from store.keys import RowKeys, texts

TEXT = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
NUMBER = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 15.0, 1e-9, 1e22]))


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, NUMBER, NUMBER), max_size=12), first=st.integers(0, 13), more=st.integers(0, 13)
)
def test_hashes_of_runs_of_rows(rows: list[tuple[object, ...]], first: int, more: int) -> None:
    kinds = (pa.string(), pa.string(), pa.float64(), pa.float64())
    columns = [pa.chunked_array([pa.array([row[i] for row in rows], type=kinds[i])]) for i in range(4)]
    words = ["\t".join(map(str, row)) for row in rows]
    joined = texts(columns)
    assert joined.to_pylist() == words
    keys = RowKeys(joined)
    assert len(keys) == len(rows)
    assert keys.hash(first, first + more) == hash_ids(words[first : first + more])
    assert RowKeys(joined.slice(2)).hash(0, 3) == hash_ids(words[2:5])
