"""Notes of what a folder was made from: old ones stay readable, and every difference is put in words."""

import json

import pytest

from nucleus.datasets.provenance import ProvenanceError, check_note, differences, read_note, write_note

# As comparisons have always written it.
OLD_MEMBER = """{
  "name": "first",
  "model": "unet",
  "preset": "small",
  "settings": {
    "SEED": "0"
  },
  "weights": "none",
  "epochs": null
}
"""


def test_a_note_of_an_earlier_version_is_compared(tmp_path):
    path = tmp_path / "member.json"
    path.write_text(OLD_MEMBER)
    given = json.loads(OLD_MEMBER)
    check_note(path, "settings", given)
    given["settings"] = {"SEED": "3", "DROPOUT": "0.1"}
    message = (
        r"member\.json: made with other settings than those given now "
        r"\(settings\.SEED was '0', is now '3'; and 1 more\)\. Choose another output folder\."
    )
    with pytest.raises(ProvenanceError, match=message):
        check_note(path, "settings", given)


@pytest.mark.parametrize(
    ("noted", "given", "expected"),
    [
        ({"sizes": [1, 2], "a": {"b": None}}, {"a": {"b": None}, "sizes": (1, 2)}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b was 1, is now 2"]),
        ({"a": None}, {}, ["a was None, is not given now"]),
        ({"a": {}}, {"a": {"b": ""}}, ["a.b was not given, is now ''"]),
        ({"ids": ["x"]}, {"ids": ["x", "y"]}, ["ids.1 was not given, is now 'y'"]),
        ({"a": 1}, {"a": {"b": 1}}, ["a was 1, is not given now", "a.b was not given, is now 1"]),
    ],
)
def test_differences_are_named(noted, given, expected):
    assert differences(noted, given) == expected


def test_a_note_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "note.json"
    assert read_note(path) is None
    write_note(path, {"images": "2 images, ab", "sizes": (1, 2)})
    assert read_note(path) == {"images": "2 images, ab", "sizes": [1, 2]}


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff"])
def test_a_note_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "images.json").write_text(text, encoding="latin-1")
    with pytest.raises(ProvenanceError, match=r"images\.json: no note of what its folder was made from"):
        check_note(tmp_path / "images.json", "images", {})


def test_a_folder_without_a_note_goes_on_with_a_warning(tmp_path, caplog):
    check_note(tmp_path / "images.json", "images", {"images": "x"})
    assert "images.json: missing, so the images that its folder was made with are unknown" in caplog.text
