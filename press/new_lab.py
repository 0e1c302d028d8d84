"""A new lab: a small experiment that runs and keeps the contract, to be replaced part by part."""

from pathlib import Path

from press import catalogue, notebooks

TEMPLATE = Path(__file__).with_name("lab_template.md")
TEST = '''\
"""The technique of SHORT against an independent reference."""

import pytest
import torch
import torch.nn.functional as F

from press import technique


@pytest.fixture(scope="module")
def lab():
    return technique.load("SLUG")


def test_loss_equals_cross_entropy_with_smoothed_labels(lab):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20, 10, generator=generator)
    labels = torch.randint(10, (20,), generator=generator)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.allclose(lab.technique_loss(logits, labels, 0.1), expected, atol=1e-6)
'''


def new_lab(slug, root=None):
    """Write a lab's notebook and its test from the template; return both paths.

    The catalogue must have the lab's row. Raises NotebookError if it has none, if the row is no
    lab, or if the notebook is there already.
    """
    import jupytext

    root = notebooks.book_root(root)
    row = catalogue.load(root).paper(slug)
    if row.kind != "lab":
        raise notebooks.NotebookError(f"{slug} is a {row.kind} in {catalogue.FILE}, not a lab")
    file = root / f"{row.docname}.ipynb"
    test = root / "tests" / "notebooks" / file.parent.name / f"test_{slug.replace('-', '_')}.py"
    for path in (file, test):
        if path.exists():
            raise notebooks.NotebookError(f"{path.relative_to(root)} exists; nothing was written")
    words = {
        "SLUG": slug,
        "SHORT": row.short,
        "KEY": row.key,
        "NEAR": row.near,
        "IDEA": row.idea[0].upper() + row.idea[1:],
        "SETUP": notebooks.setup_cell(root),
    }
    notebook = jupytext.reads(_filled(TEMPLATE.read_text(encoding="utf-8"), words), fmt="md:myst")
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"{slug}-{number}"
    notebook.metadata.pop("jupytext", None)
    notebooks.write_text(_filled(TEST, words), test)
    notebooks.write(notebook, file)
    return file, test


def _filled(text, words):
    for name, value in words.items():
        text = text.replace(name, value)
    return text
