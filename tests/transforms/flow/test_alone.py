"""A process for calls that may kill it."""

import operator
import os
import signal
import sys
import time

import pytest

from transforms.flow.alone import Alone, CannotStartError, ProcessKilled


class OddError(Exception):
    """It cannot be pickled: what it is made of is not what it holds."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_oddly():
    raise OddError(1, 2)


@pytest.fixture
def alone():
    with Alone() as process:
        yield process


def test_a_call_returns_what_the_function_does(alone):
    assert alone.call(operator.add, 2, 3) == 5
    assert alone.call(os.getpid) == alone.call(os.getpid) != os.getpid()


def test_a_call_raises_what_the_function_does(alone):
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        alone.call(operator.truediv, 1, 0)
    assert alone.call(operator.add, 2, 3) == 5


def test_an_error_that_cannot_be_sent_is_named(alone):
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        alone.call(fail_oddly)


def test_a_call_that_kills_is_told_and_the_next_one_has_another_process(alone):
    first = alone.call(os.getpid)
    with pytest.raises(ProcessKilled, match="killed by SIGKILL"):
        alone.call(signal.raise_signal, signal.SIGKILL)
    assert alone.call(os.getpid) not in (first, os.getpid())


def test_a_call_that_ends_the_process_is_told(alone):
    with pytest.raises(ProcessKilled, match="ended with 3"):
        alone.call(os._exit, 3)


def test_each_new_process_is_made_ready_first():
    with Alone((os.chdir, ("/",))) as process:
        assert process.call(os.getcwd) == "/"
        with pytest.raises(ProcessKilled):
            process.call(signal.raise_signal, signal.SIGABRT)
        assert process.call(os.getcwd) == "/"


def test_a_process_that_dies_while_it_is_made_ready_is_no_call_s_fault():
    with (
        Alone((os._exit, (1,))) as process,
        pytest.raises(CannotStartError, match=r"it ended with 1; give the run more memory"),
    ):
        process.call(operator.add, 2, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_for_the_whole_run_do_not_reach_it(alone, number):
    alone.call(signal.raise_signal, number)
    assert alone.call(operator.add, 2, 3) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_it_ends_with_its_parent_even_in_the_middle_of_a_call():
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            process = Alone()
            os.write(writing, str(process.call(os.getpid)).encode())
            process.call(time.sleep, 60)
        finally:
            os._exit(1)
    number = int(os.read(reading, 100))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 10
    while is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(number)


def is_alive(number: int) -> bool:
    """Whether a process is there and is no zombie, which waits for whoever takes its exit code."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
