"""Reference pages made from the code: commands, settings, presets, scores, layouts, written files, experiments.

Each function of `FRAGMENTS` returns Markdown. `docs/hooks.py` puts it where a page has `<!-- generated: NAME -->`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import nucleus
from nucleus.cli import main, make_parser
from nucleus.datasets.layouts import LAYOUTS
from nucleus.evaluation.report import measures
from nucleus.models.registry import MODELS, NETWORKS
from nucleus.prediction.writers import WRITERS

PACKAGES = ("nucleus", "mrcnn", "unet", "trainkit")
_SECTION = re.compile(r"-{4} (.+?)\.? -{4,}")


@dataclass
class Group:
    """Settings that stand together below one comment.

    Attributes:
        names: The settings, in their order.
        comment: The comment above them; empty where there is none.
        section: Title of the part of the class that they stand in; empty where there is none.
    """

    names: list[str]
    comment: str
    section: str


def escape(text: str) -> str:
    """Escapes what Markdown and HTML would interpret, except in `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _escape_plain(part) for part in parts)


def _escape_plain(text: str) -> str:
    return re.sub(r"([\\*_|\[\]])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lays out a Markdown table of cells that are Markdown already."""
    header = list(header)
    lines = [header, ["---"] * len(header), *([cell.replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def commands() -> str:
    """Documents every command and option of the parser."""
    return "\n\n".join(_command(parser, "##") for parser in _subparsers(make_parser()))


def settings() -> str:
    """Documents every setting of every model: default and comment, as declared in the configuration classes."""
    parts = []
    for name, kind in MODELS.items():
        parts += [f"## {name}", escape(_sentence(kind.summary)), _settings_of(name)]
    return "\n\n".join(parts)


def presets() -> str:
    """Lists the presets of every model with the settings in which they differ from the defaults."""
    parts = []
    for model, kind in MODELS.items():
        parts.append(f"## {model}")
        for name, preset in kind.presets.items():
            changed = _differences(model, name)
            parts += [f"### {name} {{ #{model}-{name} }}", escape(_sentence(preset.summary))]
            parts += [f"Source: {escape(preset.source)}."] if preset.source else []
            parts.append(_code(changed) if changed else "The defaults.")
    return "\n\n".join(parts)


def scores() -> str:
    """Lists the scores with their definitions, as the report prints them."""
    rows = [
        (
            f"`{measure.key}`",
            {"more": "higher", "less": "lower", "": ""}[measure.better],
            escape(measure.definition.format(threshold="0.7 (`--iou`)")),
            escape(measure.source),
        )
        for measure in (*measures.MAIN, *measures.FURTHER)
    ]
    return table(("score", "better", "definition", "source"), rows)


def layouts() -> str:
    """Lists the layouts of data sets."""
    return table(("`--layout`", "files"), ((f"`{layout.name}`", escape(layout.summary)) for layout in LAYOUTS.values()))


def reading_rules() -> str:
    """Quotes the rules by which image files become RGB."""
    module = importlib.import_module("nucleus.images.reading")
    rules = inspect.getdoc(module).partition("\n\n* ")[2]
    return f"* {rules}"


def written_files() -> str:
    """Lists the files that `nucleus detect` writes, with the first lines of the tables, from a run on a small image."""
    image = min(Path(nucleus.shipped_data()).glob("*/*/images/*.png"), key=lambda path: path.stat().st_size)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "cells.png"), Path(folder, "results")
        source.write_bytes(image.read_bytes())
        _run("detect", str(source), "--preset=watershed", f"--output={output}")
        files = sorted(path for path in output.rglob("*") if path.is_file() and ".nucleus" not in path.parts)
        parts = [_code(path.relative_to(output).as_posix() for path in files)]
        for path in files:
            if path.suffix == ".csv":
                lines = path.read_text(encoding="utf-8").replace(f"{folder}/", "").splitlines()[:3]
                parts += [f"`{path.name}`", _code(_shorten(line) for line in lines)]
    return "\n\n".join(parts)


def writers() -> str:
    """Lists the formats of results with the descriptions of the modules that write them."""
    rows = []
    for name, writer in WRITERS.items():
        summary = inspect.getdoc(sys.modules[writer.__module__]).partition("\n\n")[0]
        rows.append((f"`{name}`", escape(" ".join(summary.split()))))
    return table(("format", "files"), rows)


def experiments() -> str:
    """Lists the experiments of publications as `nucleus reproduce --list` does."""
    return _code(_run("reproduce", "--list").rstrip().splitlines())


def public_names() -> str:
    """Lists the names that `import nucleus` offers, each linked to its documentation."""
    rows = []
    for name in sorted(nucleus.__all__, key=str.lower):
        value = getattr(nucleus, name)
        home = getattr(value, "__module__", None)
        if home and home.split(".")[0] in PACKAGES:
            summary = inspect.getdoc(value).partition("\n\n")[0]
            rows.append((f"[`nucleus.{name}`][{home}.{value.__qualname__}]", escape(" ".join(summary.split()))))
    return table(("name", "description"), rows)


FRAGMENTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "presets": presets,
    "scores": scores,
    "layouts": layouts,
    "reading-rules": reading_rules,
    "writers": writers,
    "written-files": written_files,
    "experiments": experiments,
    "public-names": public_names,
}


def python_pages() -> dict[str, str]:
    """Returns the Python reference: dotted name of a package -> Markdown with a directive for each of its modules.

    The package `nucleus` has a page of its own modules and one for each package in it; the others have one page each.
    """
    pages: dict[str, list[str]] = {}
    for package in PACKAGES:
        for module in _modules(package):
            page = ".".join(module.split(".")[:2]) if package == "nucleus" and _in_package(module) else package
            pages.setdefault(page, []).append(module)
    return {
        page: f"# {page}\n\n" + "\n\n".join(f"::: {module}" for module in modules)
        for page, modules in sorted(pages.items(), key=lambda item: (PACKAGES.index(item[0].split(".")[0]), item[0]))
    }


def setting_groups(cls: type) -> list[Group]:
    """Reads the settings that a class itself declares, from its source.

    Args:
        cls: A class of settings.

    Returns:
        The settings in the order of the source, grouped by the comments above them.
    """
    source = inspect.getsource(cls)
    lines = source.splitlines()
    groups: list[Group] = []
    section, last_line = "", 0
    for node in ast.parse(source).body[0].body:
        names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
        if not names or not names[0].isupper() or names[0].startswith("_"):
            continue
        above = _lines_above(lines, node.lineno)
        title = next((found[1] for line in above if (found := _SECTION.search(line))), None)
        section = section if title is None else title.partition(": see ")[0]
        comment = _join(line for line in above if not _SECTION.search(line))
        if groups and not above and node.lineno == last_line + 1:
            groups[-1].names += names
        else:
            groups.append(Group(names, comment, section))
        last_line = node.end_lineno
    return groups


def _settings_of(model: str) -> str:
    """Returns a table for each section of a model's settings."""
    training = nucleus.make_config("training" if model in NETWORKS else "inference", model=model)
    defaults = type(training)().to_dict()
    detecting = type(nucleus.make_config("inference", model=model))().to_dict()
    classes = [cls for cls in reversed(type(training).__mro__) if cls.__module__.split(".")[0] in PACKAGES]
    declared: set[str] = set()
    remarks: dict[str, list[str]] = {}
    sections: dict[str, list[list[str]]] = {}
    for cls in classes:
        for group in setting_groups(cls):
            comment = _with_choices(group.comment, cls)
            new = [name for name in group.names if name not in declared]
            if comment and group.names[0] in declared:
                remarks.setdefault(group.names[0], []).append(comment)
            if new:
                # A comment is about the first setting below it, and only loosely about those that follow.
                comment = comment if new[0] == group.names[0] else ""
                sections.setdefault(group.section or _title(cls.__name__), []).append([*new, comment])
                declared.update(new)
    parts = []
    for section, groups in sections.items():
        rows = []
        for *names, comment in groups:
            for place, name in enumerate(names):
                texts = [comment if place == 0 else "", *remarks.get(name, ())]
                if detecting.get(name) is not None and _text(detecting[name]) != _text(defaults[name]):
                    texts.append(f"In detection `{_text(detecting[name])}`.")
                described = " ".join(escape(_sentence(text)) for text in texts if text).replace("\n", "<br>")
                rows.append((f"`{name}`", f"`{_text(defaults[name])}`", described))
        parts += [f"### {section} {{ #{model}-{_slug(section)} }}", table(("setting", "default", "description"), rows)]
    return "\n\n".join(parts)


def _differences(model: str, preset: str) -> list[str]:
    """Returns the settings of a preset that are not the model's defaults, a line each."""
    lines = []
    for mode in ("training", "inference") if model in NETWORKS else ("inference",):
        config = nucleus.make_config(mode, preset, model=model)
        defaults = type(config)().to_dict()
        remark = "  # in detection" if mode == "inference" and model in NETWORKS else ""
        changed = {name: _text(value) for name, value in config.to_dict().items() if name not in config._COMPUTED}
        for name, value in changed.items():
            if value != _text(defaults[name]) and f"{name} = {value}" not in lines:
                lines.append(f"{name} = {value}{remark}")
    return lines


def _with_choices(comment: str, cls: type) -> str:
    """Puts the values of a constant where a comment says "One of CONSTANT"."""

    def values(match: re.Match) -> str:
        constant = match[1].rpartition(".")[2]
        modules = [sys.modules[cls.__module__], *(m for n, m in sys.modules.items() if n.split(".")[0] in PACKAGES)]
        found = (getattr(module, constant, None) for module in modules)
        choices = next((value for value in found if isinstance(value, Mapping | tuple | list)), None)
        return match[0] if choices is None else "One of " + ", ".join(f"`{choice}`" for choice in choices)

    return re.sub(r"One of ([\w.]*[A-Z]{3,})\b", values, comment)


def _command(parser: argparse.ArgumentParser, level: str) -> str:
    """Documents one command, and the commands in it."""
    # The usage is wrapped to the width of a terminal unless it is formatted for one.
    formatter = argparse.HelpFormatter(parser.prog, width=90)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    parts = [f"{level} {parser.prog}", escape(parser.description or ""), _code([formatter.format_help().rstrip()])]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        shown = formatter._format_action_invocation(action)
        parts.append(f"`{shown}`\n:   {escape(_sentence(formatter._expand_help(action)))}")
    epilog = "\n".join(line for line in (parser.epilog or "").splitlines() if line.strip())
    if epilog.startswith("presets of"):
        parts.append("Presets: see [Presets](presets.md).")
    elif epilog:
        parts.append(_code(epilog.splitlines()))
    return "\n\n".join([*parts, *(_command(child, f"{level}#") for child in _subparsers(parser))])


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _run(*arguments: str) -> str:
    """Runs a command in this process and returns what it prints.

    Raises:
        RuntimeError: The command failed.
    """
    printed, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
        status = main(arguments)
    if status:
        raise RuntimeError(f"nucleus {' '.join(arguments)}: {complaints.getvalue()}")
    return printed.getvalue()


def _modules(package: str) -> list[str]:
    """Returns the dotted names of a package's modules, found by walking its folder."""
    root = Path(next(iter(find_spec(package).submodule_search_locations)))
    names = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts) and (path.parent / "__init__.py").is_file():
            names.append(".".join((package, *parts)))
    return names


def _in_package(module: str) -> bool:
    """Returns True if a module of `nucleus` is, or is in, one of its packages."""
    parts = module.split(".")
    return len(parts) > 1 and find_spec(".".join(parts[:2])).submodule_search_locations is not None


def _lines_above(lines: list[str], number: int) -> list[str]:
    """Returns the comment lines directly above a line, the first being 1, without their `#`."""
    first = number - 1
    while first > 0 and lines[first - 1].strip().startswith("#"):
        first -= 1
    return [line.strip().lstrip("# ") for line in lines[first : number - 1]]


def _text(value: Any) -> str:
    """Returns a setting's value as Python text."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _title(name: str) -> str:
    """Returns the name of a class as a title: "ViewSettings" as "View settings"."""
    first, *others = re.split(r"(?<=[a-z])(?=[A-Z])", name)
    return " ".join([first, *(word.lower() for word in others)])


def _join(lines: Iterable[str]) -> str:
    """Joins the lines of a comment; lines that explain a value ("square: ...") stay lines."""
    return re.sub(
        r"\s+(?=\n)", "", " ".join(f"\n{line}" if re.match(r"\w+:\s", line) else line for line in lines)
    ).strip()


def _sentence(text: str) -> str:
    """Begins a text with a capital letter and ends it with a full stop."""
    text = text.strip()
    text = text if text.startswith("`") or "\n" in text else text[:1].upper() + text[1:]
    return text if text.endswith((".", ":")) else f"{text}."


def _shorten(line: str, width: int = 110) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _code(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])
