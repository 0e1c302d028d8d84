"""Progress of long work without a terminal: whole lines, once a minute."""

import re

import pytest

from labutils import progress


@pytest.mark.parametrize("to_file", [False, True])
def test_a_headless_run_reports_a_plain_line_a_minute(tmp_path, monkeypatch, capfd, to_file):
    file = tmp_path / "log"
    monkeypatch.setenv("LABUTILS_HEADLESS", str(file) if to_file else "1")
    now = [1000.0]
    monkeypatch.setattr(progress.plain_tqdm, "monitor_interval", 0)
    bar = progress.progress_bar(40, "a run")
    bar._time = lambda: now[0]
    bar.start_t = bar.last_print_t = now[0]
    for _ in range(40):
        now[0] += 10
        bar.update()
    bar.close()
    out, err = capfd.readouterr()
    lines = (file.read_text() if to_file else err).splitlines()
    assert out == ""
    assert not (to_file and err)
    assert 5 <= len(lines) <= 6  # 400 s
    assert re.fullmatch(r"a run: 6 of 40 after 01:00, 05:\d\d left", lines[0])
    assert not any("\r" in line or not line for line in lines)
