"""The version is one number, wherever it is asked for."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nucleus
from nucleus import version

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_line_prints_it():
    result = subprocess.run([sys.executable, "-m", "nucleus", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"nucleus {nucleus.__version__}\n"


def test_a_clone_that_is_not_installed_reads_it_from_the_project_file(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = version.read_version()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", found)
    assert f'version = "{found}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_citation_has_it():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] in project


def test_packages_are_marked_as_typed():
    for package in ("mrcnn", "unet", "trainkit", "samples/nucleus"):
        assert (ROOT / package / "py.typed").is_file()
