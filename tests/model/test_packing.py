"""What a bundle says it was trained on."""

from __future__ import annotations

from pathlib import Path

from model.training.packing import account

ROWS = """path,kind,speaker,split,seconds,licence,source
a,piano,a,train,1800,CC BY 4.0; instrument MIT,someone/scores waltz; grand; skill 0.50
b,piano,b,train,1800,CC BY 4.0; instrument CC0 1.0,someone/scores waltz; upright; skill 0.70
c,piano,c,train,1800,CC0 1.0; instrument MIT,another/songs one; grand; skill 0.10
d,piano,d,train,1800,CC0 1.0; instrument MIT,another/songs two; grand; skill 0.20
e,piano,e,valid,1800,CC0 1.0; instrument MIT,another/songs three; grand; skill 0.20
f,speech,f,train,3600,unknown,my own recordings
"""


def test_pieces_are_named_where_their_licence_asks_for_it_and_instruments_once(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(ROWS)
    found = {(row["kind"], row["licence"], row["source"]): row["hours"] for row in account(tmp_path)}
    assert found == {
        ("piano", "CC BY 4.0", "someone/scores waltz"): 1.0,
        ("piano", "CC0 1.0", "another/songs"): 1.0,
        ("instrument", "MIT", "grand"): 1.5,
        ("instrument", "CC0 1.0", "upright"): 0.5,
        ("speech", "unknown", "my own recordings"): 1.0,
    }
