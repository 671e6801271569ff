"""Reading experiments from TOML files: inheritance, references between files, and errors that name file and entry."""

import shutil

import pytest

from nucleus import cli
from nucleus.experiments.publications import EXAMPLE_FILE, EXPERIMENTS, with_files
from nucleus.experiments.publications.experiment import PREVIOUS
from nucleus.experiments.publications.reading import read_experiments
from nucleus.experiments.publications.schema import DATA_SET, EXPERIMENT, FILE, EntryError

HEAD = """
[publication]
authors = "A"
title = "B"
published = "2024"

[notes]
common = ["first", "second"]

[defaults]
data = "dsb2018"
settings = { CLAHE = true, AUGMENTATION = "none" }

[experiments.root]
summary = "a U-Net"
place = "table 1"
model = "unet"
preset = "small"
figures = [{ mAP = 0.5, Dice = "drawn" }]
notes = ["own", "$common"]
"""
MORE = '\n[experiments.more]\nsummary = "more"\nplace = "table 2"\nfigures = [{ mAP = 0.4 }]\n'


@pytest.fixture
def read(tmp_path):
    """Returns a function that reads a file of some content beside the shipped ones."""

    def write_and_read(text):
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return with_files([path])

    return write_and_read


def test_an_entry_takes_over_defaults_and_base(read):
    known = read(
        HEAD + MORE + 'base = "root"\nsettings = { AUGMENTATION = "gentle", STAGES = [["all", 2]] }\nfolds = 3\n'
    )
    root, more = known["root"], known["more"]
    assert root.trainings[0].settings == {"CLAHE": True, "AUGMENTATION": "none"}
    assert root.notes == more.notes == ("own", "first", "second")
    assert [(figure.metric, figure.value) for figure in root.figures] == [("mAP", 0.5), ("Dice", None)]
    assert more.trainings[0].settings == {"CLAHE": True, "AUGMENTATION": "gentle", "STAGES": (("all", 2),)}
    assert (more.model, more.trainings[0].preset, len(more.figures)) == ("unet", "small", 1)
    assert (root.source.folds, more.source.folds, more.source.held_out) == (0, 3, (1, 2, 3))


def test_a_shipped_experiment_can_be_a_base_with_a_setting_changed(read):
    more = read(HEAD + MORE + 'base = "vuola-unet-hc-plain"\nsettings = { LOSS = "dice" }\n')["more"]
    base = EXPERIMENTS["vuola-unet-hc-plain"]
    expected = {**base.trainings[0].settings, "LOSS": "dice", "CLAHE": True}
    assert more.trainings[0].settings == expected and expected["ENCODER_WEIGHTS"] is None
    assert (more.inference, more.source, more.notes) == (base.inference, base.source, base.notes)
    assert str(more.citation) == "A. B. 2024."


def test_several_trainings_share_settings(read):
    trainings = """trainings = [
        { preset = "small" },
        { preset = "original", weights = "previous", settings = { CLAHE = false } },
    ]
    """
    first, second = read(HEAD + MORE + 'model = "unet"\n' + trainings)["more"].trainings
    assert (first.weights, second.weights) == ("none", PREVIOUS)
    assert (first.settings["CLAHE"], second.settings["CLAHE"], second.settings["AUGMENTATION"]) == (True, False, "none")


ENTRY = MORE + 'base = "root"\n'
ENSEMBLE = MORE.replace("more", "both") + 'model = "ensemble"\nfolds = 4\n'


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("[experiments", ("not a TOML file",)),
        ("[experiment.a]", ("unknown key 'experiment'", "experiments")),
        (HEAD.replace("title", "titel"), ("publication", "unknown key 'titel'", "title")),
        (HEAD.replace('title = "B"', ""), ("publication", "title is missing")),
        (HEAD + "\n[experiments.root]\n", ("not a TOML file", "root")),
        (HEAD + ENTRY.replace("more", "zhang-final"), ("'zhang-final'", "used by another file")),
        (HEAD + ENTRY.replace(".more]", '."../up"]'), ("'../up'", "a name consists of")),
        (HEAD + ENTRY + "colour = 1", ("'more'", "unknown key 'colour'")),
        (HEAD + ENTRY + 'fit = "512"', ("'more'", "fit needs a whole number of pixels", "'512'")),
        (HEAD + ENTRY + "folds = true", ("'more'", "folds needs 0 or a whole number from 2 on")),
        (HEAD + ENTRY + "folds = 2\nheld_out = [3]", ("'more'", "held_out names folds from 1 to 2", "[3]")),
        (HEAD + ENTRY + 'notes = "one"', ("'more'", "notes needs a list of texts")),
        (HEAD + ENTRY + 'notes = ["$comon"]', ("'more'", "unknown note '$comon'", "$common")),
        (HEAD + ENTRY + 'ranked_as = "DTU-NET"', ("'more'", "unknown published entry 'DTU-NET'", "DTU-UNET")),
        (HEAD + ENTRY + "whole_epochs = 1", ("'more'", "whole_epochs needs true or false")),
        (HEAD + MORE, ("'more'", "model is missing")),
        (HEAD + MORE + 'model = "unet"', ("'more'", "preset is missing")),
        (HEAD + ENTRY.replace('"root"', '"rot"'), ("'more'", "unknown base 'rot'", "root")),
        (HEAD + ENTRY.replace('"root"', '"more"'), ("'more'", "based on this entry")),
        (HEAD + ENTRY + 'model = "classical"', ("'more'", "unknown model 'classical'", "ensemble")),
        (HEAD + ENTRY + 'data = "dsb2019"', ("'more'", "unknown data 'dsb2019'", "dsb2018")),
        (HEAD + ENTRY + 'preset = "smal"', ("'more'", "Unknown preset 'smal'", "small")),
        (HEAD + ENTRY + 'weights = "coco"', ("'more'", "unknown weights 'coco'", "imagenet, none")),
        (HEAD + ENTRY + 'weights = "previous"', ("'more'", "unknown weights 'previous'")),
        (HEAD + ENTRY + "settings = { CLAHEE = true }", ("'more'", "CLAHEE", "CLAHE")),
        (HEAD + ENTRY + 'settings = { BATCH_SIZE = "many" }', ("'more'", "BATCH_SIZE", "many")),
        (HEAD + ENTRY + 'inference = { TEST_TIME_AUGMENTATION = "spin" }', ("'more'", "TEST_TIME_AUGMENTATION")),
        (HEAD + ENTRY + 'trainings = [{ preset = "small" }]', ("'more'", "preset belongs in each table of trainings")),
        (HEAD + ENTRY + 'trainings = [{ name = "small" }]', ("'more': training 1", "unknown key 'name'")),
        (HEAD + ENTRY.replace("mAP", "mAPP"), ("'more'", "unknown score 'mAPP'", "mAP")),
        (HEAD + ENTRY.replace("0.4", '"high"'), ("'more'", "mAP needs a number or 'drawn'", "high")),
        (HEAD + ENTRY.replace("0.4", "nan"), ("'more'", "mAP needs a number or 'drawn'", "nan")),
        (HEAD + ENTRY.replace("{ mAP", "{ mAP = 0.1 }, { mAP"), ("'more'", "mAP is there twice")),
        (HEAD + ENTRY.replace("{ mAP", '{ part = "A", mAP'), ("'more'", "unknown part 'A'", "fluorescence")),
        (HEAD + ENTRY + 'data = "glas"', ("'more': all images", "unknown score 'mAP'", "rank_sum")),
        (HEAD + ENTRY + 'members = ["root"]', ("'more'", "members has no use", "'unet'")),
        (HEAD + ENSEMBLE + 'members = ["root", "rot"]', ("'both'", "settings has no use", "'ensemble'")),
    ],
)
def test_what_cannot_be_used_is_named_with_file_and_entry(read, text, causes):
    with pytest.raises(EntryError) as raised:
        read(text)
    message = str(raised.value)
    assert all(cause in message for cause in ("my.toml", *causes)), message


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ('["zhang-fcn8s", "zhang-finale"]', "unknown member 'zhang-finale'"),
        ('["zhang-fcn8s"]', "two or more members"),
        ('["vuola-unet-hc-plain", "vuola-unet-hc-plain-fpn"]', "each of another model"),
        ('["vuola-unet-hc-plain", "zhang-final"]', "the same data and the same folds"),
        ('["vuola-unet-hc-plain", "vuola-ensemble"]', "member 'vuola-ensemble' is an ensemble itself"),
    ],
)
def test_members_that_make_no_ensemble_are_refused(read, members, cause):
    with pytest.raises(EntryError, match=rf"my\.toml: experiment 'both': .*{cause}"):
        read(HEAD.partition("[defaults]")[0] + ENSEMBLE + f'data = "dsb2018"\nmembers = {members}\n')


def test_names_of_two_files_must_differ(tmp_path):
    shutil.copy(EXAMPLE_FILE, tmp_path / "other.toml")
    with pytest.raises(EntryError, match=r"other\.toml: data set 'my-data': this name is used"):
        with_files([EXAMPLE_FILE, tmp_path / "other.toml"])


def test_the_example_can_be_used_and_shows_every_key(capsys, tmp_path):
    assert cli.main(["reproduce", "--example"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    own = [name for name in with_files([path]) if name not in EXPERIMENTS]
    assert all(f"\n{key} = " in text or f"\n[{key}" in text for key in {**FILE, **DATA_SET, **EXPERIMENT})
    assert cli.main(["reproduce", "--file", str(path), "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in (*own, "zhang-final"))


def test_a_missing_file_ends_with_status_1(tmp_path, capsys):
    assert cli.main(["reproduce", "--file", str(tmp_path / "gone.toml"), "--list"]) == 1
    assert "gone.toml" in capsys.readouterr().err


def test_files_are_read_alone_where_they_need_no_other(tmp_path):
    path = tmp_path / "my.toml"
    own = '[data_sets.own]\nname = "Own"\nfolder = "own"\nobtain = "Ask."\n'
    path.write_text(own + HEAD.replace("dsb2018", "own"), encoding="utf-8")
    assert read_experiments([path])["root"].source.default == "own"
