"""Work in a thread that ends with it."""

import threading

import pytest

from llm_workshop.serving.own_thread import in_own_thread


def test_the_result_comes_from_another_thread_that_has_ended():
    name, thread = in_own_thread(lambda greeting: (greeting, threading.current_thread()), "hello")
    assert name == "hello" and thread is not threading.current_thread() and not thread.is_alive()


def test_its_exception_is_raised_here():
    def fails():
        raise ValueError("no model there: make one")

    with pytest.raises(ValueError, match="make one"):
        in_own_thread(fails)
