"""Times and tables in words."""

from press import words


def test_durations():
    said = [words.duration(s) for s in (None, 8.26, 59.97, 245, 3599.7, 4320)]
    assert said == ["-", "8.3 s", "1 min 00 s", "4 min 05 s", "1 h 00 min", "1 h 12 min"]


def test_amounts():
    assert [words.memory(m) for m in (None, 811.6)] == ["-", "812 MB"]
    assert [words.count(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_columns_are_aligned():
    assert words.table(("a", "long"), [("bcd", 1)]) == "a    long\n---  ----\nbcd  1"
