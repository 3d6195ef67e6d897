"""Headers of several lines, as pandas writes them for columns of several levels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.datasets.table import FeatureTable
from stages.embed.tables import read_table
from store.errors import RequestError


@pytest.mark.parametrize("joined", [True, False])
def test_headers_of_several_levels(tmp_path: Path, joined: bool) -> None:
    """As pandas writes them, with the name of the index below and without."""
    lines = ["feature,mfcc,mfcc,zcr", "statistics,mean,mean,std", "number,01,02,01", "track_id,,,"]
    if not joined:
        lines = [",mfcc,mfcc,zcr", ",mean,mean,std", ",01,02,01"]
    rows = [f"{i + 2},{i}.5,{i * i % 7},{i % 3}.25" for i in range(20)]
    (tmp_path / "features.csv").write_text("\n".join([*lines, *rows]) + "\n")
    catalog = FeatureTable(table=str(tmp_path / "features.csv"), name="own").catalog()
    assert catalog.info.features == ("mfcc.mean.01", "mfcc.mean.02", "zcr.std.01")
    assert len(catalog) == 20
    assert read_table(tmp_path / "features.csv").where(0).endswith(f"line {len(lines) + 1}")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    levels=st.integers(2, 4),
    groups=st.lists(st.integers(1, 3), min_size=1, max_size=3).filter(lambda groups: max(groups) > 1),
    style=st.sampled_from(["index", "named index", "two indices", "beside", "unnamed levels"]),
    count=st.integers(1, 12),
)
def test_a_header_of_levels_is_joined(tmp_path: Path, levels: int, groups: list[int], style: str, count: int) -> None:
    """Names of groups above, of their members below; the artist in the index, or in a column of one level."""
    columns = [(f"g{i}", *["mean"] * (levels - 2), f"{j:02}") for i, width in enumerate(groups) for j in range(width)]
    if style != "index":
        columns = [(group, *[f"{name}x" for name in below]) for group, *below in columns]
    below = "Unnamed: 0_level_1" if style == "unnamed levels" else ""
    own = {
        "index": [[""] * levels],
        "named index": [[f"level {i}" for i in range(levels)]],
        "two indices": [[""] * levels] * 2,
        "beside": [["artist", *[""] * (levels - 1)], ["labels", *[""] * (levels - 1)]],
        "unnamed levels": [["artist", *[below] * (levels - 1)], ["labels", *[below] * (levels - 1)]],
    }[style]
    lines = [",".join(names) for names in zip(*own, *columns, strict=True)]
    if style in ("named index", "two indices"):
        lines.append(",".join(["artist", "labels"][: len(own)] + [""] * len(columns)))
    keys = [f"A{i % 3}" if j == 0 else "x" for i in range(count) for j in range(len(own))]
    cells = [
        [*keys[i * len(own) : (i + 1) * len(own)], *(f"{i}.{j}1" for j in range(len(columns)))] for i in range(count)
    ]
    (tmp_path / "t.csv").write_text("\n".join([*lines, *map(",".join, cells)]) + "\n")
    table = read_table(tmp_path / "t.csv")
    first = [] if style == "index" else ["artist", "labels"][: len(own)]
    assert table.names == [*first, *map(".".join, columns)]
    assert table.rows == count
    for j, names in enumerate(columns):
        assert table.floats(".".join(names))[0].tolist() == [float(f"{i}.{j}1") for i in range(count)]


@pytest.mark.parametrize("rows", ["A,rock,1,2\nB,jazz,2,3\n", ",rock,1,2\nB,jazz,2,3\n", ",,1,2\nB,jazz,2,3\n"])
def test_a_name_that_stands_twice_is_no_header_of_levels(tmp_path: Path, rows: str) -> None:
    (tmp_path / "t.csv").write_text(f"artist,labels,x,x\n{rows}")
    with pytest.raises(RequestError, match="more than one column 'x'; rename all but one"):
        read_table(tmp_path / "t.csv")
