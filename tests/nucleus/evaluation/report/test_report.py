"""The report: complete in itself, its numbers those of the scores, the same twice, and sound at its edges."""

import base64
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.evaluation.report import figures
from nucleus.evaluation.report.gallery import LONGEST, choose, picture_shape, stretch_contrast
from nucleus.evaluation.report.measures import FURTHER, MAIN
from nucleus.evaluation.report.writing import write_report
from nucleus.evaluation.scores import recall_by
from nucleus.images.writing import write_labels
from nucleus.models.recipe import Recipe
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.predictions import KeptPredictions, ModelPredictions

ODD_NAME = '_<b onclick="x">&amp; $\\frac$ naïve/細胞 {{ 7*7 }}'


class Document(HTMLParser):
    """Collects tags, the sources of pictures, text, and the tables by id or caption as rows of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words, self.tables, self.links = [], [], [], {}, []
        self._table = self._cell = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "img":
            self.sources.append(attributes["src"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id", f"table{len(self.tables)}"), [])
        if tag == "tr":
            self._table.append([])
        if tag in ("th", "td"):
            self._cell = []
            self._table[-1].append((self._cell, attributes))

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self._cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def rows(self, table):
        return [["".join(cell).strip() for cell, _ in row] for row in self.tables[table]]


def read(page):
    return Document(page.read_text(encoding="utf-8"))


def report(folder, dataset, *sources, threshold=0.7, **options):
    evaluations = [evaluate_fully(source, dataset, threshold, progress=False) for source in sources]
    return read(write_report(folder, dataset, evaluations, sources, **options)), evaluations


def test_every_number_is_that_of_the_scores(compared):
    page, evaluations = read(compared.page), compared.evaluations
    assert [evaluation.name for evaluation in evaluations] == ["good", "bad"]
    for table, measures in (("scores", MAIN), ("further-scores", FURTHER)):
        head, *rows = page.rows(table)
        assert [cell.split()[0] for cell in head[1:]] == [measure.key for measure in measures]
        for number, group in enumerate(("all", "fluorescence", "h&e-white")):
            title, *of_models = rows[3 * number : 3 * number + 3]
            assert title[0].startswith("All images" if group == "all" else group)
            for row, evaluation in zip(of_models, evaluations, strict=True):
                values = evaluation.summary.loc[group]
                expected = [
                    measure.text(values[measure.key]) if measure.key in values else "\u2013" for measure in measures
                ]
                assert row == [evaluation.name, *expected]
    curve = page.rows("average-precision")
    assert curve[2][1:] == [f"{evaluations[0].summary.loc['all', f'AP{t}']:.3f}" for t in range(50, 100, 5)]
    for number, column in enumerate(("area", "eccentricity", "cluster_size")):
        groups = recall_by(evaluations[1].nuclei, column, 6, 0.7)
        rows = page.rows(f"table{3 + number}")
        assert rows[1] == ["nuclei", *map(str, groups["nuclei"])]
        assert rows[3] == ["bad", *(f"{value:.3f}" for value in groups["recall"])]


def test_the_best_values_are_marked(bench, dataset, tmp_path, without_plots):
    page, evaluations = report(tmp_path, dataset, PredictionFolder(bench.bad), PredictionFolder(bench.good))
    marked = [[attributes.get("class") == "best" for _, attributes in row[1:]] for row in page.tables["scores"][2:4]]
    assert marked[1] == [measure.better != "" for measure in MAIN]
    tied = {"oseg"} if evaluations[0].summary.loc["all", "oseg"] == 0 else set()
    tied |= {"useg"} if evaluations[0].summary.loc["all", "useg"] == 0 else set()
    assert marked[0] == [measure.key in tied for measure in MAIN]
    alone, _ = report(tmp_path, dataset, PredictionFolder(bench.bad))
    assert not any(attributes.get("class") == "best" for _, attributes in alone.tags)


def test_the_page_needs_nothing_else_and_lies_beside_its_pictures(compared):
    page, folder = read(compared.page), compared.page.parent
    pictures = [base64.b64decode(source.partition(";base64,")[2], validate=True) for source in page.sources]
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in page.sources)
    assert all(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None for data in pictures)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    anchors = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert page.links and set(page.links) <= anchors
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)

    plots = {"ap_curve.png", "ap_curve_by_modality.png", "sensitivity.png", "iou_histograms.png"}
    gallery = {
        f"gallery_0{number}_{kind}_{what}.png"
        for number, kind in enumerate(("best", "median", "worst"), start=1)
        for what in ("image", "model1", "model2")
    }
    assert {path.name for path in folder.iterdir()} == {"report.html"} | plots | gallery
    assert sorted(data for data in pictures if data.startswith(b"\x89PNG")) == sorted(
        (folder / name).read_bytes() for name in plots
    )


def test_two_reports_of_the_same_scores_are_the_same(compared, tmp_path):
    write_report(tmp_path, compared.dataset, compared.evaluations, compared.sources, description="train")
    for path in compared.page.parent.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_odd_names_are_shown_as_they_are(bench, dataset, tmp_path, without_plots):
    sources = PredictionFolder(bench.good, ODD_NAME), PredictionFolder(bench.bad, "x" * 200)
    page, _ = report(tmp_path / "report", dataset, *sources, description="<i>of</i>")
    assert not {tag for tag, _ in page.tags} & {"b", "script"}
    assert page.rows("scores")[2][0] == ODD_NAME
    assert any("<i>of</i>" in word for word in page.words)
    assert len(list((tmp_path / "report").glob("gallery_*"))) == 9


def test_plots_take_odd_names_as_they_are(compared):
    first, second = compared.evaluations
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odd = figures.ap_curve([replace(first, name=ODD_NAME), replace(second, name="$" + "x" * 200)])
    assert odd != figures.ap_curve([replace(first, name=ODD_NAME[1:]), replace(second, name="$" + "x" * 200)])


def test_pictures_show_what_was_found(bench, dataset, tmp_path, without_plots):
    page, (evaluation,) = report(tmp_path, dataset, PredictionFolder(bench.bad), threshold=0.5)
    worst = evaluation.images.loc[evaluation.images["mAP"].idxmin()]
    words = "".join(page.words)
    assert f"mAP {worst['mAP']:.3f}: {worst['matched']} true positives, {worst['spurious']} false, " in words
    picture = cv2.imread(str(tmp_path / "gallery_03_worst_model1.png"))
    # An image of 40 x 48 pixels is shown 13 times as large.
    assert picture.shape == (520, 624, 3)
    blue, green, red = np.moveaxis(picture.astype(int), 2, 0)
    assert (((green > red + 40) & (green > blue + 40)).sum() > 0) == (worst["matched"] > 0)
    assert ((red > green + 40).sum() > 0) == (worst["spurious"] > 0)
    assert ((blue > green + 40).sum() > 0) == (worst["missed"] > 0)


@pytest.mark.parametrize("what", ["no prediction", "no truth", "neither"])
def test_without_nuclei_there_is_a_page_all_the_same(bench, dataset, tmp_path, what, monkeypatch):
    if what != "no truth":
        for name in "abc":
            write_labels(bench.good / f"{name}.png", np.zeros((40, 48), int))
    if what != "no prediction":
        monkeypatch.setattr(dataset, "load_labels", lambda index: (np.zeros((40, 48), np.int32), np.ones(0, np.int32)))
    page, (evaluation,) = report(tmp_path / "report", dataset, PredictionFolder(bench.good))
    assert evaluation.summary.loc["all", "mAP"] == (1 if what == "neither" else 0)
    assert page.rows("scores")[2][1] == f"{evaluation.summary.loc['all', 'mAP']:.3f}"
    assert (tmp_path / "report" / "sensitivity.png").exists() == (what == "no prediction")
    assert not any("nan" in word for word in page.words)


def test_a_single_image_is_shown_once(bench, dataset, tmp_path, without_plots):
    dataset.image_info = dataset.image_info[:1]
    dataset.prepare()
    page, _ = report(tmp_path, dataset, PredictionFolder(bench.good))
    assert len(list(tmp_path.glob("gallery_01_only_*.png"))) == 2
    assert not (tmp_path / "ap_curve_by_modality.png").exists()
    assert [row[0] for row in page.rows("scores")] == ["Model", "All images \u00b7 1 image, 6 nuclei", "good"]


def test_models_that_cannot_be_compared_are_refused(bench, dataset, tmp_path):
    good, bad = PredictionFolder(bench.good), PredictionFolder(bench.bad)
    first = evaluate_fully(good, dataset, progress=False)
    with pytest.raises(ValueError, match="called 'good'"):
        write_report(tmp_path / "report", dataset, [first, first], [good, good])
    with pytest.raises(ValueError, match=r"good and bad .* 0\.7 and 0\.5"):
        write_report(
            tmp_path / "report", dataset, [first, evaluate_fully(bad, dataset, 0.5, progress=False)], [good, bad]
        )
    with pytest.raises(ValueError, match="no evaluation"):
        write_report(tmp_path / "report", dataset, [], [])
    with pytest.raises(ValueError, match="2 sources"):
        write_report(tmp_path / "report", dataset, [first], [good, bad])
    dataset.image_info = dataset.image_info[:2]
    dataset.prepare()
    with pytest.raises(ValueError, match=r"good was scored on other images .*: c is in one"):
        write_report(tmp_path / "report", dataset, [first], [good])
    assert not (tmp_path / "report").exists()


def test_a_model_that_runs_is_asked_once(dataset, threshold_model, fake_model, tmp_path, without_plots):
    asked = []

    def find(image):
        asked.append(image.shape)
        return threshold_model.find(image)

    _, (evaluation,) = report(tmp_path, dataset, KeptPredictions(ModelPredictions(fake_model(find), "net", "net.h5")))
    assert len(asked) == 3
    assert "COCO_AP" in evaluation.summary
    assert "net.h5" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_images_are_chosen_from_both_ends_and_the_middle():
    scores = [0.1, 0.9, 0.5, 0.7, 0.3, 0.6, 0.2, 0.8]
    assert choose(scores, 2) == [("best", 1), ("best", 7), ("median", 5), ("median", 2), ("worst", 6), ("worst", 0)]
    assert choose(scores, 1) == [("best", 1), ("median", 2), ("worst", 0)]
    assert choose([0.1, 0.2], 2) == [("best", 1), ("worst", 0)]
    assert choose([0.5], 2) == [("only", 0)]
    for count in range(1, 9):
        chosen = [index for _, index in choose([0.5] * count, 3)]
        assert len(set(chosen)) == len(chosen)


def test_pictures_are_neither_large_nor_tiny():
    assert picture_shape((2000, 1000)) == (LONGEST, LONGEST // 2)
    assert picture_shape((256, 320)) == (512, 640)
    assert picture_shape((520, 600)) == (520, 600)
    assert picture_shape((1, 5000)) == (1, LONGEST)
    dark = np.linspace(0, 50, 300, dtype=np.uint8).reshape(10, 10, 3)
    stretched = stretch_contrast(dark)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (stretch_contrast(np.full((4, 4, 3), 7, np.uint8)) == 7).all()


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_the_command_compares_folders(bench, tmp_path, capsys, without_plots):
    common = ("evaluate", "--dataset", bench.path, "--subset=train", "--iou=0.6", "--output", tmp_path / "out")
    report_folder = tmp_path / "a report"
    assert run(*common, "--predictions", bench.good, f"--predictions=a/b={bench.bad}", "--report", report_folder) == 0
    printed = capsys.readouterr().out
    assert "  a/b " in printed and "fluorescence (2 images, 12 nuclei)" in printed and "report.html" in printed
    assert max(map(len, printed.splitlines()[:6])) <= 110
    page = Document((report_folder / "report.html").read_text(encoding="utf-8"))
    for row, folder in zip(page.rows("scores")[2:4], ("good", "a_b"), strict=True):
        summary = json.loads((tmp_path / "out" / folder / "summary.json").read_text())
        assert row[1:] == [measure.text(summary["all"][measure.key]) for measure in MAIN]
        assert summary["all"]["detection_IoU"] == 0.6
        scores = pd.read_csv(tmp_path / "out" / folder / "scores.csv")
        assert row[1] == f"{scores['mAP'].mean():.3f}"
        assert summary["h&e-white"]["object_Hausdorff"] == pytest.approx(scores["object_Hausdorff"][1], abs=1e-5)


def test_a_model_that_runs_is_one_more(bench, tmp_path, capsys, monkeypatch, threshold_model, without_plots):
    monkeypatch.setattr("nucleus.models.loading.ChosenModel.load", lambda chosen: threshold_model)
    weights = tmp_path / "net.h5"
    weights.touch()
    Recipe("lineage").save_beside(weights)
    common = ("evaluate", "--dataset", bench.path, "--subset=train", "--output", tmp_path / "out")
    assert run(*common, "--predictions", bench.bad, "--weights", weights, "--report", tmp_path / "report") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bad", "net"]
    page = read(tmp_path / "report" / "report.html")
    assert [row[0] for row in page.rows("scores")[2:4]] == ["bad", "net"]
    assert any(word == str(weights) for word in page.words)
    # Nuclei that touch are one to a threshold.
    summary = json.loads((tmp_path / "out" / "net" / "summary.json").read_text())
    assert summary["all"]["Dice"] == 1 and "COCO_AP" in summary["all"]


def test_results_that_cannot_be_compared_are_refused_before_anything_is_written(bench, tmp_path, capsys):
    common = ("evaluate", "--dataset", bench.path, "--subset=train", "--output", tmp_path / "out")
    assert run(*common, "--predictions", bench.good, "--predictions", f"good={bench.bad}") == 1
    assert "Two models are called 'good'" in capsys.readouterr().err
    (bench.bad / "b.png").unlink()
    assert run(*common, "--predictions", bench.good, "--predictions", bench.bad, "--report", tmp_path / "report") == 1
    message = capsys.readouterr().err
    assert f"{bench.bad}: no label image b.png" in message
    assert not (tmp_path / "out").exists() and not (tmp_path / "report").exists()
    for wrong in ("--predictions==x", "--iou=0.3", "--iou=much"):
        with pytest.raises(SystemExit) as end:
            run(*common, wrong)
        assert end.value.code == 2
