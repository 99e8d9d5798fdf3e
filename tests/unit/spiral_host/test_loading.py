from collections.abc import Callable
from pathlib import Path

from protocol.messages import Broken, Described, Place, PluginSource
from spiral_host.loading import Gathered, Gathering
from spiral_host.manifest import Manifest

Then = Callable[[Described | Broken], None]


class Look:
    """One look at some places, and who is asked meanwhile."""

    def __init__(self, *places: Path, taken: dict[str, str] | None = None) -> None:
        self.asked: list[tuple[PluginSource, Then]] = []
        self.results: list[Gathered] = []
        self._taken = dict(taken or {})
        where = [Place(str(place)) for place in places]
        Gathering(where, self.claim, self.describe, self.results.append)

    def claim(self, manifest: Manifest) -> str:
        other = self._taken.get(manifest.id, "")
        self._taken.setdefault(manifest.id, manifest.path)
        return other

    def describe(self, source: PluginSource, then: Then) -> None:
        self.asked.append((source, then))

    def summary(self) -> tuple[list[str], list[str]]:
        (result,) = self.results
        return [m.id for m in result.manifests], [one.reason for one in result.refused]


def declare(folder: Path, name: str) -> Path:
    folder.mkdir()
    text = f'[plugin]\nid = "{name}"\nversion = "1"\nentry = "m:C"\n'
    (folder / "plugin.toml").write_text(text)
    return folder


class TestGathering:
    def test_what_is_declared_is_known_at_once(self, tmp_path: Path) -> None:
        """
        Manifests need nobody to be asked; what is no plugin is refused beside them.
        """
        look = Look(declare(tmp_path / "x", "a"), tmp_path / "nowhere")
        ids, reasons = look.summary()

        assert (ids, look.asked) == (["a"], [])
        assert "no such file" in reasons[0]

    def test_what_declares_nothing_is_asked(self, tmp_path: Path) -> None:
        """
        The result comes when the last of those who were asked has answered.
        """
        for name in ("one.py", "two.py", "three.py"):
            (tmp_path / name).touch()
        look = Look(tmp_path)
        (_, first), (_, second), (_, third) = look.asked
        first(Described({"id": "one", "version": "1"}))
        second(Broken(stage="import", error="SyntaxError: bad", traceback="Traceback"))
        assert look.results == []
        third(Described({"id": "../x", "version": "1"}))

        ids, reasons = look.summary()
        assert ids == ["one"]
        assert reasons[0] == "import raised SyntaxError: bad"
        assert reasons[1].startswith("metadata: '../x' is no plugin id")

    def test_an_id_is_given_once(self, tmp_path: Path) -> None:
        """
        A second plugin of an id is refused, and told where the first one lies.
        """
        first, second = declare(tmp_path / "x", "a"), declare(tmp_path / "y", "a")
        _, reasons = Look(first, second).summary()
        _, again = Look(first, taken={"a": str(first)}).summary()

        assert reasons == [f"plugin a is loaded already, from {first}; give one of them another id"]
        assert "say: spiral-host restart a" in again[0]
