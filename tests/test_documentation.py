"""The documentation holds: code blocks run, commands are accepted, the generated reference is complete.

A page's Python blocks run in one session, in a folder with the files that they name. The parser must accept every
`nucleus` line of a shell block; `<!-- test: run -->` before the block runs it too. Of a Python block behind
`<!-- test: skip (reason) -->` only the imports run.
"""

import ast
import functools
import importlib.util
import pkgutil
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile

import nucleus
from nucleus.cli import main, make_parser
from nucleus.models.registry import MODELS, NETWORKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"(?:^ *<!-- test: (?P<mark>\w+)[^\n]* -->\n)?^(?P<indent> *)```(?P<kind>python|sh)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
# What shell blocks may call beside `nucleus`: their arguments are not looked at.
_OTHER_COMMANDS = {"cp", "grep", "ruff"}


class Block(NamedTuple):
    """A code block: language, mark ("run", "skip" or ""), text without indentation, number of the line of its fence."""

    kind: str
    mark: str
    text: str
    line: int


@functools.cache
def read_blocks(page):
    blocks, document = [], page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(document):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        fence = document.count("\n", 0, match.start("text"))
        blocks.append(Block(match["kind"], match["mark"] or "", "\n".join(lines) + "\n", fence))
    return blocks


def pages_with(kind, mark=None):
    return [
        pytest.param(page, id=page.relative_to(ROOT).as_posix())
        for page in PAGES
        if any(block.kind == kind and mark in (None, block.mark) for block in read_blocks(page))
    ]


def shell_commands(text):
    """Yields the words of every command, without comments and variables set before it."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            yield words


def nucleus_arguments(words):
    """Returns the arguments for `nucleus`, in whichever way it is called, or None if another program is."""
    for start in (["nucleus"], ["python", "-m", "nucleus"], ["python", "samples/nucleus/nucleus.py"]):
        if words[: len(start)] == start:
            return words[len(start) :]
    return None


def extras_of_setup():
    """Returns the names of the optional dependencies in setup.py."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))) if is_setup(node)]
    (extras,) = [keyword.value for keyword in calls[0].keywords if keyword.arg == "extras_require"]
    return {key.value for key in extras.keys}


def is_setup(node):
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"


@pytest.fixture(scope="module")
def load_model():
    """`nucleus.load_model` that builds each model once for all pages."""
    built, load = {}, nucleus.load_model

    def load_once(*arguments, **options):
        key = repr((arguments, options))
        if key not in built:
            built[key] = load(*arguments, **options)
        return built[key]

    return load_once


@pytest.fixture
def workplace(tmp_path, monkeypatch, load_model):
    """A folder with what the pages name: cells.png, my_images/, my_set/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nucleus, "load_model", load_model, raising=False)
    images = sorted(Path(nucleus.shipped_data()).glob("*/*/images/*.png"), key=lambda path: path.stat().st_size)[:2]
    for folder in ("my_images", "my_set/images", "my_set/masks"):
        Path(folder).mkdir(parents=True)
    for image in images:
        for copy in ("cells.png", "my_images/cells.png", f"my_set/images/{image.name}"):
            shutil.copyfile(image, copy)
        pixels = nucleus.read_image(image)
        tifffile.imwrite(f"my_set/masks/{image.stem}.tif", (pixels[..., 0] > 60).astype(np.uint16))
        tifffile.imwrite("cells16.tif", pixels[..., 0].astype(np.uint16) * 200)
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run(page, workplace, eager):
    session = {"__name__": "__main__"}
    for block in read_blocks(page):
        if block.kind == "python":
            tree = ast.increment_lineno(ast.parse(block.text), block.line)
            if block.mark == "skip":
                tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(tree, str(page), "exec"), session)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_shell_blocks_are_commands_that_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    extras = extras_of_setup()
    for block in read_blocks(page):
        for words in shell_commands(block.text) if block.kind == "sh" else ():
            arguments = nucleus_arguments(words)
            if arguments is not None:
                _parse(arguments)
            elif words[0] == "make":
                assert set(words[1:]) <= targets, words
            elif words[:2] == ["pip", "install"]:
                asked = re.search(r"\[(.*)\]", " ".join(words))
                assert asked is None or set(asked[1].split(",")) <= extras, words
            elif words[0] == "python":
                assert words[1] == "-c" or (ROOT / words[1]).is_file(), words
            else:
                assert words[0] in _OTHER_COMMANDS, words


def _parse(arguments):
    try:
        make_parser().parse_args(arguments)
    except SystemExit as end:
        # --help and --version end with 0.
        assert end.code == 0, f"nucleus {shlex.join(arguments)} is not accepted"


@pytest.mark.parametrize("page", pages_with("sh", "run"))
def test_marked_shell_blocks_run(page, workplace):
    for block in read_blocks(page):
        for words in shell_commands(block.text) if (block.kind, block.mark) == ("sh", "run") else ():
            assert main(nucleus_arguments(words)) == 0, words


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_setting(generate):
    page = generate.settings()
    for model in MODELS:
        config = nucleus.make_config("training" if model in NETWORKS else "inference", model=model)
        part = re.search(rf"^## {model}$.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[0]
        shown = re.findall(r"^\| `([A-Z0-9_]+)` \|", part, re.MULTILINE)
        assert sorted(shown) == sorted(set(config.to_dict()) - set(config._COMPUTED))


def test_the_comment_above_a_setting_is_its_description(generate):
    described = {group.names[0]: group for group in generate.setting_groups(Example)}
    assert described["FIRST"].comment == "How many. Of what."
    assert described["FIRST"].names == ["FIRST", "SECOND"]
    assert described["THIRD"].section == "Part" and described["THIRD"].comment == "Alone."
    assert set(described) == {"FIRST", "THIRD"}


class Example:
    """Settings as configuration classes declare them."""

    _HIDDEN = 0
    # How many. Of
    # what.
    FIRST = 1
    SECOND = 2
    lower = 3
    # ---- Part -----------------------------------------------------------------------------------------------
    # Alone.
    THIRD = (
        1,
        2,
    )


def test_the_reference_shows_what_detect_writes(generate):
    written = generate.written_files()
    assert "labels/cells.png" in written and "ImageId,label,score,area" in written


def test_names_and_files_that_pages_mention_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:nucleus|mrcnn|unet|trainkit)(?:\.\w+)+)[`(]", text):
            assert pkgutil.resolve_name(name) is not None
        for path in re.findall(r"`((?:mrcnn|unet|trainkit|samples|tests|benchmarks|weights)/[\w./]+)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "samples/nucleus/RESULTS.md"])
def test_links_outside_of_the_site_lead_to_files(page):
    """The strict build checks those of the pages in docs/."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()] == []
