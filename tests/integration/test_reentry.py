"""A plugin that waits serves the calls that its own call has led to, and no others."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spiral_host import Host, RemoteError
from tests.actors import Aside
from tests.hosts import DEADLINE, all_ready

PLUGIN = '''
# /// script
# [tool.spiral-host]
# id = "{me}"
# version = "1.0.0"
# reentrant = {reentrant}
# ///
import threading
from plugin_worker import Plugin

class Service:
    def __init__(self, ctx):
        self.ctx, self.log, self.go_on = ctx, [], threading.Event()

    def bounce(self, height):
        """Call the other's bounce, one lower, down to 0."""
        self.log.append(height)
        if not height:
            return ["{me}"]
        return ["{me}", *self.ctx.wait_service("{other}", 10).bounce(height - 1)]

    def wait_for_other(self):
        self.log.append("began")
        self.ctx.wait_service("{other}", 10).hold()
        self.log.append("ended")

    def hold(self):
        """Return when the application says so."""
        self.ctx.wait_service("app", 10).wait()

    def seen(self):
        return self.log

class Circle(Plugin):
    def on_load(self, ctx):
        ctx.register_service("{me}", Service(ctx))
'''


class App:
    """The application's own service, which holds a plugin until a stranger has called it."""

    def __init__(self, host: Host) -> None:
        self.waits, self.is_called = threading.Event(), threading.Event()
        self._host = host

    def wait(self) -> None:
        """Hold the caller; it has looked at the stranger's call when it has answered ours."""
        self.waits.set()
        assert self.is_called.wait(DEADLINE)
        assert self._host.get_service("left").bounce(0) == ["left"]


@pytest.fixture
def circle(tmp_path: Path, shared: Host) -> Iterator[Host]:
    """A host with `left`, which may be entered again, and `right`, which calls it back."""
    yield from _loaded(tmp_path, shared, reentrant="true")


@pytest.fixture
def straight(tmp_path: Path, shared: Host) -> Iterator[Host]:
    """The same, but neither may be entered again."""
    yield from _loaded(tmp_path, shared, reentrant="false")


def _loaded(folder: Path, host: Host, reentrant: str) -> Iterator[Host]:
    for me, other in (("left", "right"), ("right", "left")):
        text = PLUGIN.format(me=me, other=other, reentrant=reentrant)
        (folder / f"{me}.py").write_text(text)
    assert all_ready(host.load(folder))
    yield host
    host.unload("left")
    host.unload("right")


class TestReentry:
    def test_plugins_may_call_each_other_back(self, circle: Host) -> None:
        """A calls B, B calls A, A calls B again: each call is answered, in order."""
        left = circle.get_service("left")

        assert left.bounce(4) == ["left", "right", "left", "right", "left"]
        assert left.seen() == [4, 2, 0]

    def test_a_strangers_call_waits(self, circle: Host) -> None:
        """What the waiting plugin's own call has not led to is served when it waits no longer."""
        app = App(circle)
        circle.register_service("app", app)
        caller = Aside(circle.get_service("left").wait_for_other)

        def call() -> object:
            assert app.waits.wait(DEADLINE)
            called = circle.get_service("left").seen.submit()
            app.is_called.set()
            return called.result(DEADLINE)

        stranger = Aside(call)
        caller.outcome()
        assert stranger.outcome() == ["began", 0, "ended"]
        circle.unregister_service("app")

    def test_an_application_may_call_from_its_own_service(self, circle: Host) -> None:
        """A plugin calls the application, whose service calls the plugin: no deadlock."""

        class Right:
            def bounce(self, height: int) -> list[str]:
                return ["app", *circle.get_service("left").bounce(0)] if height else ["app"]

        circle.register_service("right", Right())
        try:
            assert _bounce_over_application(circle) == ["left", "app", "left"]
        finally:
            circle.unregister_service("right")

    def test_a_plugin_may_refuse(self, straight: Host) -> None:
        """With `reentrant = false` the circle is named, at once, instead."""
        with pytest.raises(RemoteError, match="left -> right -> here"):
            straight.get_service("left").bounce(2)


def _bounce_over_application(host: Host) -> list[str]:
    # The newest offer of a name is the one that is called: ours, for the moment.
    found: list[str] = host.get_service("left").bounce(2)
    return found
