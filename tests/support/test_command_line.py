import pytest

from trm.support.command_line import command
from trm.support.errors import InputError


def failing(error: BaseException, *settings):
    @command(*settings)
    def main() -> int:
        raise error

    return main


def test_the_status_is_what_main_returns():
    assert command()(lambda words: len(words))(["a", "b", "c"]) == 3


def test_what_can_be_mended_is_one_line(capsys):
    assert failing(InputError("--steps 0 must be at least 1"))() == 2
    assert capsys.readouterr().err == "error: --steps 0 must be at least 1\n"


def test_a_command_may_have_errors_and_words_of_its_own(capsys):
    assert failing(KeyError("steps"), (InputError, KeyError), lambda error: "no steps")() == 2
    assert capsys.readouterr().err == "error: no steps\n"


def test_an_interrupt_ends_as_in_a_shell():
    assert failing(KeyboardInterrupt())() == 130


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())()
