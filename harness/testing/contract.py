"""Check one method against every promise that a method makes."""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, FsbenchError, nearest
from harness.method import check_method, registry
from harness.testing.promise import NotChecked, Promise
from harness.testing.promises import PROMISES
from harness.testing.workbench import Workbench, preserved_random_state

LEFT_OUT = "not checked: left out by --quick"


@dataclass(frozen=True)
class Outcome:
    """What came of one promise.

    Attributes:
        name: of the promise, such as ``fits_in_seconds``.
        promise: the sentence.
        passed: None when it does not apply to this method, or could not be checked.
        message: one sentence: what broke, why it was not checked, or a figure worth knowing; may be empty.
        seconds: that the check took.
    """

    name: str
    promise: str
    passed: bool | None
    message: str
    seconds: float


class MethodContract:
    """The promises of one method, each checked once on a small set of drawn characters.

    The method is trained once, on a CPU, with its ``DEFAULTS["glyphs"]`` and above them the hyper-parameters of
    its optional class attribute ``CONTRACT``, such as ``{"epochs": 1}``: 16 base classes of 20 images, 28×28
    grey (or ``image_size`` of its Config). A fitted method must survive ``copy.deepcopy``.

    Args:
        reference: a name, ``./mine.py`` or ``./mine.py:Mine`` as on the command line, or a class.
        is_quick: whether the training is cut short after one pass over the base images, and the promises are left out
            that a short training says nothing of or that take hundreds of episodes.

    Raises:
        ConfigError: for an unknown name.
        PluginError: when the file cannot be read or the class is not a method.
    """

    def __init__(self, reference: str | type[Any], *, is_quick: bool = False) -> None:
        if isinstance(reference, str):
            cls = registry.load(reference).cls
        else:
            cls = reference
            check_method(cls, cls.__qualname__)
        self.name: str = cls.name
        self._bench = Workbench(cls, is_quick=is_quick)
        self._outcomes: dict[str, Outcome] = {}

    @staticmethod
    def promises() -> list[tuple[str, str]]:
        """Name and sentence of every promise, in the order of checking."""
        return [(promise.name, promise.sentence) for promise in PROMISES]

    def check(self, name: str) -> None:
        """Check one promise by itself.

        Raises:
            AssertionError or PluginError: when it is broken, with one sentence that says how.
            NotChecked: when this method does not make it, with the reason.
            ConfigError: when there is no such promise.
        """
        with preserved_random_state():
            _find(name).check(self._bench)

    def outcome(self, name: str) -> Outcome:
        """Check one promise, after those it rests on; the second call returns the first's outcome.

        Raises:
            ConfigError: when there is no such promise.
        """
        if name not in self._outcomes:
            self._outcomes[name] = self._outcome(_find(name))
        return self._outcomes[name]

    def run_all(self) -> list[Outcome]:
        """Check every promise."""
        return [self.outcome(promise.name) for promise in PROMISES]

    def _outcome(self, promise: Promise) -> Outcome:
        broken = self._broken_below(promise)
        passed: bool | None = True
        began = time.perf_counter()
        try:
            if self._bench.is_quick and not promise.is_quick:
                raise NotChecked(LEFT_OUT)
            if broken:
                raise NotChecked(f"not checked: it rests on {broken}, which is broken")
            if promise.protocol and promise.protocol not in self._bench.traits.protocols:
                raise NotChecked(f"not checked: the method does not speak the {promise.protocol} protocol")
            if self._bench.traits.takes == "names" and not promise.name.startswith(("builds", "config")):
                raise NotChecked("does not apply: its features are in a table that comes with a run")
            with preserved_random_state():
                message = promise.check(self._bench)
        except NotChecked as reason:
            passed, message = None, str(reason)
        except Exception as error:  # noqa: BLE001 -- a plugin may raise anything; it becomes the message
            passed, message = False, _describe(error, self._bench.cls)
        return Outcome(promise.name, promise.sentence, passed, message, time.perf_counter() - began)

    def _broken_below(self, promise: Promise) -> str:
        """Name the first broken promise that this one rests on, however indirectly."""
        for name in promise.rests_on:
            if self.outcome(name).passed is False:
                return name
            if below := self._broken_below(_find(name)):
                return below
        return ""


def _find(name: str) -> Promise:
    by_name = {promise.name: promise for promise in PROMISES}
    if name not in by_name:
        raise ConfigError(
            f"`{name}` is not a promise.{nearest(name, by_name)} The promises are {', '.join(by_name)}."
        )
    return by_name[name]


def _describe(error: Exception, cls: type[Any]) -> str:
    """Say what happened, and in which line of the method's own file, or else where."""
    if isinstance(error, FsbenchError | AssertionError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(sys.modules.get(cls.__module__), "__file__", None)
    last = next((f for f in reversed(frames) if f.filename == own), frames[-1])
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno}, in {last.name})"
