import pathlib
import subprocess

import pytest

import sepllm

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "sepllm-5m"
TEXT = (ROOT / "apps" / "alice.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def path():
    if not MODEL.exists():
        pytest.skip("models/sepllm-5m is not in this checkout")
    return MODEL


@pytest.fixture(scope="session")
def model(path):
    return sepllm.Model.load(path, threads=2)


@pytest.fixture(scope="session")
def ids(model):
    return model.tokenizer.encode(TEXT)[:600]


@pytest.fixture(scope="session")
def program():
    """Runs the program that is in the package."""

    def run(*arguments):
        program = pathlib.Path(sepllm.__file__).parent / "bin" / "sepllm"
        return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout

    return run
