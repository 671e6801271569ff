"""Settings by name: types from defaults up the classes, what subclasses declare, refusals that change nothing."""

import pytest

from trainkit.settings import Settings, SettingsError, parse_stages


class Base(Settings):
    _COMPUTED = ("AREA",)
    _OPTIONAL = ("LIMIT", "TITLE")
    _CALLABLE = ("PAINT",)
    _TYPES = {"TITLE": str}

    SIDE = 3
    RATE = 0.5
    LIMIT = 7
    TITLE = None
    PAINT = "plain"
    SIZES = (1, 2)
    MODE = "fast"
    LOUD = False

    def _derive(self):
        self.AREA = self.SIDE**2

    def validate(self):
        self.require_choice("MODE", ("fast", "slow"))
        self.require_at_least(1, "SIDE")
        self.require_share("RATE")


class Derived(Base):
    RATE = 1
    LIMIT = None
    PAINT = staticmethod(lambda: None)


def test_computed_settings_follow_an_update():
    assert Base().update({"SIDE": "4"}).AREA == 16


def test_the_type_is_found_up_the_classes_when_a_subclass_hides_it():
    settings = Derived().update({"RATE": "0.25", "LIMIT": "9", "PAINT": "gloss"})
    assert (settings.RATE, settings.LIMIT, settings.PAINT) == (0.25, 9, "gloss")
    with pytest.raises(SettingsError, match="LIMIT needs a value like 9"):
        settings.update({"LIMIT": 1.5})


@pytest.mark.parametrize("value", [None, "None"])
def test_an_optional_setting_can_be_emptied_and_filled_again(value):
    settings = Base().update({"LIMIT": value, "TITLE": value})
    assert settings.LIMIT is None
    assert settings.TITLE is None
    assert settings.update({"LIMIT": 3, "TITLE": "some"}).LIMIT == 3
    assert settings.TITLE == "some"


@pytest.mark.parametrize(("text", "value"), [("True", True), ("true", True), ("FALSE", False)])
def test_yes_and_no_in_any_case(text, value):
    assert Base().update({"LOUD": text}).LOUD is value
    with pytest.raises(SettingsError, match="LOUD needs a value like False"):
        Base().update({"LOUD": "1"})


def test_none_and_callables_only_where_they_are_declared():
    for name, value in (("SIDE", None), ("MODE", len), ("RATE", "None")):
        with pytest.raises(SettingsError, match=f"{name} needs a value like"):
            Base().update({name: value})
    assert Base().update({"PAINT": len}).PAINT is len


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODE", "idle", r"MODE must be one of \('fast', 'slow'\). Received: 'idle'"),
        ("SIDE", 0, "SIDE must be at least 1. Received: 0"),
        ("RATE", 0.0, "RATE must be above 0 and at most 1. Received: 0.0"),
        ("RATE", float("nan"), "RATE must be above 0 and at most 1. Received: nan"),
        ("AREA", 4, "AREA is computed"),
        ("SIZES", (1, True), r"SIZES needs a value like \(1, 2\) \(tuple\)"),
    ],
)
def test_refusals_name_what_was_expected_and_received(name, value, message):
    with pytest.raises(SettingsError, match=message):
        Base().update({name: value})


def test_stages_from_text_and_lists():
    assert parse_stages("[('all', 2), ['heads', 3, 1e-3]]", "…") == (("all", 2), ("heads", 3, 1e-3))


@pytest.mark.parametrize("value", ["all", 5, (), [("all",)], [("all", 0)], [("all", True)], [(1, 2)], [("all", 1, 0)]])
def test_what_is_no_list_of_stages(value):
    with pytest.raises(SettingsError, match=r"STAGES needs a list of .*such as EXAMPLE. Received"):
        parse_stages(value, "EXAMPLE")
