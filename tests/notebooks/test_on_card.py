"""Every notebook runs from top to bottom on a GPU, as far as a machine without one can tell."""

import re

import pretend_card
import pytest
import smoke
import tape

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(smoke.TIME_LIMIT_S + 60)]

CELL = "import pretend_card\n\npretend_card.stay()"


@pytest.mark.parametrize("slug", smoke.longest_first())
def test_notebook_runs_on_a_card(slug, tmp_path, stored):
    """No tensor meets one of another device, no step waits, and replays do what steps do."""
    with smoke.once(slug, "card", pretend_card.__file__, tape.__file__, __file__):
        record, executed = smoke.rehearse(slug, tmp_path, "smoke", CELL)
        assert record.environment["device"] == "no card"
        printed = "".join(
            output.text for cell in executed.cells if cell.cell_type == "code"
            for output in cell.outputs if output.output_type == "stream"
        )  # fmt: skip
        assert re.findall(r"steps are not captured: .*", printed) == []
