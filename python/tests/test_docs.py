"""Every snippet of docs/PYTHON.md is run, and prints what the page shows."""

import doctest

import pytest
from conftest import ROOT


def run(heading_of_first, heading_behind, globs):
    """Runs the snippets between two headings (None: the page's start, its end); returns their number."""
    page = (ROOT / "docs" / "PYTHON.md").read_text(encoding="utf-8")
    first = page.index(f"\n## {heading_of_first}\n") if heading_of_first else 0
    end = page.index(f"\n## {heading_behind}\n") if heading_behind else len(page)
    test = doctest.DocTestParser().get_doctest(page[first:end], globs, "docs/PYTHON.md", "docs/PYTHON.md", page[:first].count("\n"))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, clear_globs=False)
    assert runner.failures == 0
    return runner.tries


def test_the_pages_snippets(path, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert run(None, "PyTorch", {"scratch": str(tmp_path)}) > 20


def test_the_snippets_with_pytorch_and_transformers(path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    from sepllm import Policy

    monkeypatch.chdir(ROOT)
    assert run("PyTorch", None, {"Policy": Policy}) > 12
