"""Attacks by a plugin that was granted nothing, on what others offer, say, hear and set."""

from typing import TYPE_CHECKING, Any

from plugin_worker import PluginEvent
from protocol.messages import GetConfig, Question, Resolve, SetConfig, Subscribe
from protocol.names import Topic
from protocol.packets import Kind, cut
from protocol.runs import Publication, pack_body, pack_publication

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import PATIENCE_S, Gauntlet, Nothing, Scene, attack
else:
    import raw
    from gauntlet import PATIENCE_S, Gauntlet, Nothing, Scene, attack

__all__ = ["Gauntlet"]


def desk(scene: Scene) -> Any:  # noqa: ANN401 - behind the library's back
    """Give what sits at the upper end of the umbilical."""
    return scene.ctx._host._desk  # type: ignore[attr-defined]


@attack("perm-call")
def call(scene: Scene) -> str:
    return str(scene.ctx.wait_service("victim", PATIENCE_S).add(1, 1))


@attack("perm-call-behind-the-library")
def call_behind(scene: Scene) -> str:
    """The question that leads to a lane, asked by itself."""

    def resolve(request: str) -> Question:
        return Resolve(request=request, service="victim", wait_s=0.0)

    return str(desk(scene).ask(resolve, PATIENCE_S))


@attack("perm-publish")
def publish(scene: Scene) -> str:
    scene.ctx.event_bus.publish(PluginEvent.custom("Forbidden", "said"))
    return "it was said"


@attack("perm-publish-behind-the-library")
def publish_behind(scene: Scene) -> str:
    """Whether anybody heard it is seen from outside."""
    event = pack_publication(Publication(Topic("Forbidden"), pack_body([b"\xc0"]), 1))
    for packet in cut(Kind.EVENTS, event):
        raw.call("sendto", desk(scene).fd, packet, len(packet), 0, None, 0)
    scene.ctx.list_services()
    raise Nothing("it was said")


@attack("perm-sticky")
def sticky(scene: Scene) -> str:
    scene.ctx.event_bus.make_sticky("Forbidden")
    return "it stays"


@attack("perm-subscribe")
def subscribe(scene: Scene) -> str:
    return str(scene.ctx.subscribe("*", print))


@attack("perm-subscribe-behind-the-library")
def subscribe_behind(scene: Scene) -> str:
    """The answer would hold what is kept of the past."""

    def wish(request: str) -> Any:  # noqa: ANN401
        return Subscribe(request, "*", 1000, 0.0)

    return f"{desk(scene).ask_node(wish, PATIENCE_S)}"


@attack("perm-read-settings")
def read_settings(scene: Scene) -> str:
    value = scene.ctx.get_config("secret")
    if value is None:
        raise KeyError("nothing")
    return value


@attack("perm-read-settings-behind-the-library")
def read_settings_behind(scene: Scene) -> str:
    def ask(request: str) -> Question:
        return GetConfig(request, "")

    found = desk(scene).ask(ask, PATIENCE_S)
    if not found:
        raise Nothing("it was told of none")
    return str(found)


@attack("perm-change-settings")
def change_settings(scene: Scene) -> str:
    scene.ctx.set_config("secret", "another")
    return "another"


@attack("perm-change-settings-behind-the-library")
def change_settings_behind(scene: Scene) -> str:
    def ask(request: str) -> Question:
        return SetConfig(request, "secret", "another")

    return str(desk(scene).ask(ask, PATIENCE_S))
