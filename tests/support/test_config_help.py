"""What help says is what the config files say."""

from trm.support.config_help import Commented, config_help

TEXT = """\
# Do things: python -m things
defaults:
  - _self_
  - colour: red  # of the paint
  - override hydra/job_logging: none

size: 3  # in metres,
# or in feet
deep:
  'n': null  # how deep
  both: {left: 1, right: [2]}  # sides
"""


def test_comments_are_found_by_the_names_of_their_keys():
    found = Commented.of(TEXT)
    assert found.heading == "Do things: python -m things"
    assert found.groups == {"colour": "of the paint"}
    assert found.keys["size"] == "in metres, or in feet"
    assert found.keys["deep.n"] == "how deep"
    assert found.keys["deep.both"] == "sides"


def test_help_has_every_key_and_the_options_of_its_groups_alone(tmp_path, capsys):
    (tmp_path / "colour").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "things.yaml").write_text(TEXT)
    (tmp_path / "colour" / "red.yaml").write_text("defaults:\n  - any\nshade: 1\n")
    (tmp_path / "colour" / "any.yaml").write_text("shade: 0  # [of it]\n")
    config = {"size": 3, "colour": {"_target_": "x", "shade": 1}, "deep": {"n": None}}
    config["deep"]["both"] = {"left": 1, "right": [2]}
    config_help("things", config, {"colour": "red"}, [tmp_path])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Do things: python -m things"
    for expected in (
        "colour any, red of the paint",
        "size=3 in metres, or in feet",
        "colour.shade=1 [of it]",
        "deep.n=null how deep",
        "deep.both.left=1 sides",
        "deep.both.right=[2]",
    ):
        assert expected in lines


def test_nothing_is_cut_on_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "40")
    (tmp_path / "things.yaml").write_text("# T\ndefaults:\n  - colour: red\na: 0  # b\n")
    long = {"a_key_with_a_name_that_is_long": 1234567890, "another": 1}
    config_help("things", {"a": 0, **long}, {"colour": "red"}, [tmp_path])
    shown = "".join(capsys.readouterr().out.split())
    assert "…" not in shown
    assert "a_key_with_a_name_that_is_long=1234567890" in shown
