"""Steps of long work: when one is done again, and when not."""

import json

import pytest

from nucleus.experiments.comparison.steps import Steps


@pytest.fixture
def step(tmp_path):
    """Runs one step with some inputs; returns its record and how often it has run."""
    done = []

    def run(inputs, results=()):
        def work():
            done.append(inputs)
            return {"number": len(done)}

        return Steps().run("a step", tmp_path / "step", inputs, work, results), len(done)

    return run


def test_a_step_is_done_once_for_the_same_inputs(step, tmp_path, capsys):
    first, _ = step({"sizes": (1, 2)})
    again, count = step({"sizes": (1, 2)})
    assert count == 1 and again == first and again.outcome == {"number": 1}
    assert json.loads((tmp_path / "step" / "step.json").read_text())["inputs"] == {"sizes": [1, 2]}
    capsys.readouterr()
    other, count = step({"sizes": (1, 3)})
    assert count == 2 and other.finished > first.finished
    assert "a step: to be done again, since sizes.1 was 2, is now 3" in capsys.readouterr().out


def test_a_record_of_an_earlier_version_stands(step, tmp_path):
    old = {"name": "a step", "inputs": {"member": {"SEED": "0"}, "folds": ["x"]}, "outcome": {"images": 3}}
    old |= {"seconds": 1.5, "finished": "2024-01-01T00:00:00+00:00", "environment": {"backend": "jax"}}
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "step.json").write_text(json.dumps(old, indent=2) + "\n")
    record, count = step(old["inputs"])
    assert count == 0 and record.outcome == {"images": 3}


def test_a_step_whose_results_are_gone_is_done_again(step, tmp_path):
    result = tmp_path / "result"
    assert step({}, [result])[1] == 1
    assert step({}, [result])[1] == 2
    result.touch()
    assert step({}, [result])[1] == 2


def test_a_step_that_fails_leaves_no_record(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps().run("a step", tmp_path / "step", {}, fail)
    assert not (tmp_path / "step").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a step"}'])
def test_a_broken_record_is_named(step, tmp_path, text):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "step.json").write_text(text)
    with pytest.raises(ValueError, match=r"step\.json: no note of what its folder was made from"):
        step({})
