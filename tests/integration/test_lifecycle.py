"""Plugins come up in order of their dependencies, fail alone, and leave in reverse."""

import textwrap
import threading
from pathlib import Path

import pytest

from spiral_host import (
    DynamicPluginLoader,
    Host,
    LoadResult,
    PluginCapability,
    PluginEvent,
    RemoteError,
    ServiceUnavailable,
    StaticPluginLoader,
    UsageError,
)
from tests.hosts import PLUGINS, Run, all_ready, eventually, plugin

CODE = """
from plugin_worker import Plugin, PluginMetadata


class Answer:
    def answer(self):
        return 42


class Only(Plugin):
    def on_load(self, ctx):
        ctx.register_service(ctx.plugin_id, Answer())
"""


def make(
    folder: Path, plugin_id: str, *, code: str = CODE, entry: str = "body:Only", more: str = ""
) -> str:
    """Write a plugin's folder and give its path."""
    place = folder / f"{plugin_id}.d"
    place.mkdir()
    (place / "body.py").write_text(textwrap.dedent(code))
    manifest = f'[plugin]\nid = "{plugin_id}"\nversion = "1.0.0"\nentry = "{entry}"\n{more}'
    (place / "plugin.toml").write_text(manifest)
    return str(place)


def needing(**dependencies: str) -> str:
    """Write the part of a manifest that says what a plugin depends on."""
    rows = (f'{name} = "{requirement}"\n' for name, requirement in dependencies.items())
    return "[plugin.dependencies]\n" + "".join(rows)


def only(results: list[LoadResult]) -> LoadResult:
    """Give the one result, of a plugin that is not usable, for one harmless line of reason."""
    (result,) = results
    assert not result.ok
    assert result.reason.isprintable()
    return result


def states(host: Host) -> dict[str, str]:
    return {plugin.id: plugin.state for plugin in host.list_plugins()}


class TestOrder:
    def test_dependencies_are_ready_first_and_leave_last(self, run: Run, tmp_path: Path) -> None:
        """However they are named and given, what a plugin needs is there before and after it."""
        leave = """
            import time
            from plugin_worker import Plugin

            class Only(Plugin):
                def on_load(self, ctx):
                    (ctx.data_dir / "came").write_text(str(time.monotonic_ns()))

                def on_unload(self, ctx):
                    (ctx.data_dir / "left").write_text(str(time.monotonic_ns()))
        """
        places = [
            make(tmp_path, "a_top", code=leave, more=needing(m_middle=">=1.0", z_base="*")),
            make(tmp_path, "m_middle", code=leave, more=needing(z_base="^1.0.0")),
            make(tmp_path, "z_base", code=leave),
        ]
        host = run.embed()
        loaded: list[object] = []
        host.subscribe("PluginLoaded", lambda event: loaded.append(event.fields()["plugin_id"]))
        assert all_ready(host.load(places))
        eventually(lambda: len(loaded) == len(places))
        host.shutdown()
        assert loaded == ["z_base", "m_middle", "a_top"]

        def noted(word: str) -> list[str]:
            names = ["a_top", "m_middle", "z_base"]
            return sorted(names, key=lambda name: int((run.data_dir / name / word).read_text()))

        assert noted("came") == ["z_base", "m_middle", "a_top"]
        assert noted("left") == ["a_top", "m_middle", "z_base"]

    def test_on_load_may_use_the_host_while_it_serves_others(self, run: Run) -> None:
        """It publishes, calls an earlier plugin, asks and configures; nobody waits for it."""
        host = run.embed()
        early: list[PluginEvent] = []
        host.subscribe("Early", early.append)
        assert all_ready(host.load([plugin("eager"), plugin("polite")]))
        assert host.get_service("eager").found() == {
            "sum": 42,
            "nobody": None,
            "services": ["polite"],
            "operators": ["polite"],
            "colour": "blue",
        }
        assert eventually(lambda: early)
        assert (early[0].source, early[0].to_dict()["data"]) == ("eager", "from on_load")
        assert host.get_config("eager.colour") == "blue"

    def test_a_slow_on_load_keeps_nobody_waiting(self, run: Run, tmp_path: Path) -> None:
        """While one plugin is still starting, the daemon and the others answer."""
        host = run.embed("polite")
        slow = """
            from plugin_worker import Plugin

            class Only(Plugin):
                def on_load(self, ctx):
                    ctx.wait_service("late", 20.0).go()
        """

        class Late:
            def go(self) -> None:
                pass

        results: list[LoadResult] = []
        place = make(tmp_path, "slow", code=slow)
        loading = threading.Thread(target=lambda: results.extend(host.load(place)))
        loading.start()
        eventually(lambda: states(host).get("slow") == "starting")
        assert host.get_service("polite").add(1, 1) == 2
        assert host.load(plugin("relay"))[0].ok
        assert states(host)["slow"] == "starting"
        host.register_service("late", Late())
        loading.join()
        assert results[0].ok

    def test_the_daemon_says_what_happens(self, run: Run) -> None:
        """SystemInit, PluginLoaded, PluginUnloaded and SystemShutdown come from it and are seen."""
        host = run.embed("polite")
        seen: list[PluginEvent] = []
        host.subscribe("*", seen.append)
        host.initialize_all()
        assert host.load(plugin("eager"))[0].ok
        host.unload("eager")
        told = ["SystemInit", "ServiceUp", "PluginLoaded", "ServiceDown", "PluginUnloaded"]

        def kinds() -> list[str]:
            return [event.type for event in seen if event.source == "spiral-host"]

        assert eventually(lambda: len(kinds()) >= len(told))
        assert kinds() == told
        assert all(event.ts > 0 for event in seen)

    def test_plugins_hear_of_the_shutdown(self, run: Run, tmp_path: Path) -> None:
        """SystemShutdown reaches a plugin before its on_unload."""
        listen = """
            from plugin_worker import Plugin

            class Only(Plugin):
                heard = False

                def on_event(self, event, ctx):
                    self.heard = self.heard or event.type == "SystemShutdown"

                def on_unload(self, ctx):
                    (ctx.data_dir / "heard").write_text(str(self.heard))
        """
        host = run.embed()
        assert host.load(make(tmp_path, "listener", code=listen))[0].ok
        host.shutdown()
        assert (run.data_dir / "listener" / "heard").read_text() == "True"


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import no_such_module", "import raised ModuleNotFoundError"),
            ("raise RuntimeError('in the module')", "import raised RuntimeError: in the module"),
            ("def broken(:", "import raised SyntaxError"),
            ("import sys; sys.exit(5)", "import raised SystemExit"),
            (
                """
                from plugin_worker import Plugin
                class Only(Plugin):
                    def metadata(self):
                        raise ValueError("in metadata")
                """,
                "metadata raised ValueError: in metadata",
            ),
            (
                """
                from plugin_worker import Plugin
                class Only(Plugin):
                    def on_load(self, ctx):
                        raise KeyError("in on_load")
                """,
                "on_load raised KeyError: 'in on_load'",
            ),
            (
                """
                from plugin_worker import Plugin, PluginMetadata
                class Only(Plugin):
                    def metadata(self):
                        return PluginMetadata("somebody_else", "1.0.0")
                """,
                "metadata() says somebody_else 1.0.0, the manifest failing 1.0.0",
            ),
            ("from plugin_worker import Plugin", "module body has no class Only"),
            ("class Only: pass", "body:Only is no subclass of plugin_worker.Plugin"),
        ],
    )
    def test_what_raises_is_reported_and_stops_nobody(
        self, shared: Host, tmp_path: Path, code: str, words: str
    ) -> None:
        """The reason is one line, the traceback is the author's, the others are ready."""
        good = make(tmp_path, "good")
        failed, loaded = shared.load([make(tmp_path, "failing", code=code), good])
        assert loaded.ok
        assert (failed.id, failed.ok, failed.state) == ("failing", False, "quarantined")
        assert words in failed.reason
        assert "Traceback" in failed.traceback or "Error" in failed.traceback
        assert "\n" not in failed.reason
        info = shared.get("failing")
        assert (info.reason, info.pid) == (failed.reason, None)
        assert shared.get_service("good").answer() == 42
        shared.unload("failing")
        shared.unload("good")

    def test_the_traceback_shows_the_author_s_code(self, shared: Host, tmp_path: Path) -> None:
        """It names the plugin's file and line and nothing of ours."""
        code = """
            from plugin_worker import Plugin

            class Only(Plugin):
                def on_load(self, ctx):
                    self.deeper()

                def deeper(self):
                    return 1 / 0
        """
        result = only(shared.load(make(tmp_path, "deep", code=code)))
        assert "return 1 / 0" in result.traceback
        assert "in deeper" in result.traceback
        assert "runtime.py" not in result.traceback
        assert any("ZeroDivisionError" in line for line in shared.logs("deep"))
        shared.unload("deep")

    def test_a_missing_dependency_blocks_until_it_is_there(
        self, shared: Host, tmp_path: Path
    ) -> None:
        """The reason names it; the plugin starts as soon as it comes."""
        result = only(shared.load(make(tmp_path, "needy", more=needing(absent=">=2.0"))))
        assert result.state == "blocked"
        assert "depends on absent >=2.0, which is not there" in result.reason
        assert shared.load(make(tmp_path, "absent"))[0].ok
        assert "needs absent >=2.0, but 1.0.0 is there" in shared.get("needy").reason
        shared.unload("needy")
        shared.unload("absent")
        assert only(shared.load(tmp_path / "needy.d")).state == "blocked"
        manifest = tmp_path / "absent.d" / "plugin.toml"
        manifest.write_text(manifest.read_text().replace("1.0.0", "2.1.0"))
        assert shared.load(tmp_path / "absent.d")[0].ok
        eventually(lambda: shared.get("needy").state == "ready")
        shared.unload("needy")
        shared.unload("absent")

    @pytest.mark.parametrize("requirement", [">=1.1", "^2.0.0", "~0.9", "==1.0.1", "<1.0.0"])
    def test_a_wrong_version_is_named(self, shared: Host, tmp_path: Path, requirement: str) -> None:
        """What is wanted, what is there, and that it has to be changed."""
        make(tmp_path, "base")
        make(tmp_path, "picky", more=needing(base=requirement))
        base, picky = sorted(shared.load(tmp_path), key=lambda result: str(result.id))
        assert base.ok
        assert picky.state == "blocked"
        assert f"needs base {requirement}, but 1.0.0 is there" in picky.reason
        shared.unload("picky")
        shared.unload("base")

    def test_a_requirement_that_is_none_is_refused(self, shared: Host, tmp_path: Path) -> None:
        """Nonsense where a version is expected is quoted, and says how to write it."""
        assert shared.load(make(tmp_path, "base"))[0].ok
        result = only(shared.load(make(tmp_path, "odd", more=needing(base="soon"))))
        assert "'soon' is no version requirement" in result.reason
        shared.unload("odd")
        shared.unload("base")

    def test_a_cycle_is_shown_as_one(self, shared: Host, tmp_path: Path) -> None:
        """Each plugin in it is blocked, with the way round in its reason."""
        make(tmp_path, "one", more=needing(two="*"))
        make(tmp_path, "two", more=needing(three="*"))
        make(tmp_path, "three", more=needing(one="*"))
        make(tmp_path, "apart")
        results = {result.id: result for result in shared.load(tmp_path)}
        assert results.pop("apart").ok
        assert {result.state for result in results.values()} == {"blocked"}
        assert "one -> two -> three -> one" in results["one"].reason
        for name in ("one", "two", "three", "apart"):
            shared.unload(name)

    def test_two_plugins_with_one_id(self, shared: Host, tmp_path: Path) -> None:
        """The first stays as it is; the second is refused with both places."""
        (tmp_path / "x").mkdir()
        first = make(tmp_path, "twin")
        assert shared.load(first)[0].ok
        pid = shared.get("twin").pid
        result = only(shared.load(make(tmp_path / "x", "twin")))
        assert (result.state, result.id) == ("refused", None)
        assert f"plugin twin is loaded already, from {first}" in result.reason
        assert "restart twin" in only(shared.load(first)).reason
        assert shared.get("twin").pid == pid
        shared.unload("twin")

    @pytest.mark.parametrize(
        ("manifest", "words"),
        [
            ("[plugin\nid = 1", "TOML"),
            ("id = 'x'", "[plugin]"),
            ("[plugin]\nid = 'x'\nversion = '1'", "entry"),
            ("[plugin]\nid = 'x'\nversion = '1'\nentry = 'os.system'", "entry"),
            ("[plugin]\nversion = '1'\nentry = 'body:Only'", "no plugin id"),
            ("[plugin]\nid = '../x'\nversion = '1'\nentry = 'body:Only'", "'../x' is no plugin id"),
            ("[plugin]\nid = ''\nversion = '1'\nentry = 'body:Only'", "'' is no plugin id"),
            ('[plugin]\nid = "a\\u0007"\nversion = "1"\nentry = "body:Only"', "no plugin id"),
            (f"[plugin]\nid = '{'i' * 300}'\nversion = '1'\nentry = 'body:Only'", "no plugin id"),
            ("[plugin]\nid = 7\nversion = '1'\nentry = 'body:Only'", "7 is no plugin id"),
            ("[plugin]\nid = 'x'\nentry = 'body:Only'", "version"),
            ("[plugin]\nid = 'x'\nversion = '1'\nentry = 'body:Only'\ncolour = 'red'", "'colour'"),
            ("[plugin]\nid = 'x'\nversion = '1'\nentry = 'body:Only'\nname = 5", "name"),
            ("[plugin]\nid = 'x'\nversion = '1'\nentry = 'c:O'\ncapabilities = 'Vision'", "list"),
            ("[plugin]\nid = 'x'\nversion = '1'\nentry = 'c:O'\nevents = ['']", "event type"),
            ("a" * 300_000, "bytes"),
        ],
    )
    def test_a_manifest_that_cannot_be_meant(
        self, shared: Host, tmp_path: Path, manifest: str, words: str
    ) -> None:
        """It is refused in one line that names the place and the field."""
        (tmp_path / "plugin.toml").write_text(manifest)
        result = only(shared.load(tmp_path))
        assert (result.state, result.id) == ("refused", None)
        assert words in result.reason
        assert result.path == str(tmp_path)
        assert shared.get_service("polite").add(1, 1) == 2

    def test_a_path_that_holds_no_plugin(self, shared: Host, tmp_path: Path) -> None:
        """Nothing there, an empty folder, another kind of file: each says so."""
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").write_text("hello")
        gone, empty, text = shared.load([tmp_path / x for x in ("gone", "empty", "notes.txt")])
        assert "no such file or folder" in gone.reason
        assert "no plugin there" in empty.reason
        assert "is no plugin" in text.reason

    @pytest.mark.parametrize("name", ["../x", "i" * 300, "a\x07b", "", "nobody"])
    def test_ids_of_nobody(self, shared: Host, name: str) -> None:
        """Asking for a plugin that cannot be or is not there is a usage error in one line."""
        for ask in (shared.get, shared.unload, shared.restart, shared.logs):
            with pytest.raises(UsageError) as caught:
                ask(name)
            assert str(caught.value).isprintable()


class TestSingleFiles:
    def test_without_a_word_of_declaration(self, shared: Host, tmp_path: Path) -> None:
        """A worker is asked for what metadata() says; the daemon imports nothing."""
        file = tmp_path / "alone.py"
        file.write_text(
            CODE + "\n    def metadata(self):\n"
            "        return PluginMetadata('alone', '3.1').with_description('asked')\n"
        )
        assert shared.load(file)[0].ok
        info = shared.get("alone")
        assert (info.version, info.description, info.path) == ("3.1", "asked", str(file))
        assert shared.get_service("alone").answer() == 42
        shared.unload("alone")

    def test_with_inline_metadata(self, shared: Host, tmp_path: Path) -> None:
        """The comment block is the manifest; nobody has to be asked."""
        file = tmp_path / "inline.py"
        block = [
            "# /// script",
            '# requires-python = ">=3.11"',
            "# [tool.spiral-host]",
            '# id = "inlined"',
            '# version = "0.3.0"',
            '# capabilities = ["Vision", "Custom(odd)"]',
            "# [tool.spiral-host.dependencies]",
            '# polite = "~1.2"',
            "# ///",
        ]
        file.write_text("\n".join(block) + "\n" + CODE)
        assert shared.load(file)[0].ok
        info = shared.get("inlined")
        assert info.capabilities == ("Vision", "Custom(odd)")
        assert info.dependencies == {"polite": "~1.2"}
        assert shared.find_by_capability(PluginCapability.Vision) == ["inlined"]
        assert shared.get_service("inlined").answer() == 42
        shared.unload("inlined")

    def test_two_plugins_in_one_file(self, shared: Host, tmp_path: Path) -> None:
        """Which one is meant cannot be known, so it is refused with their names."""
        file = tmp_path / "both.py"
        file.write_text(CODE + "\n\nclass Other(Plugin):\n    pass\n")
        result = only(shared.load(file))
        assert "one subclass of plugin_worker.Plugin; found Only, Other" in result.reason

    def test_a_file_that_dies_when_it_is_asked(self, shared: Host, tmp_path: Path) -> None:
        """Its end is its own: the reason says how, and the host goes on."""
        file = tmp_path / "deadly.py"
        file.write_text("import os\nos._exit(9)\n")
        assert "exit status 9" in only(shared.load(file)).reason
        assert shared.get_service("polite").add(1, 1) == 2


class TestLoaders:
    def test_classes_by_import_path(self, shared: Host) -> None:
        """The application names classes; workers import them."""
        loader = StaticPluginLoader(["relay.relay:Relay"], root=PLUGINS)
        result = only(shared.load(loader))
        assert "no metadata" in result.reason

    def test_classes_that_say_who_they_are(self, shared: Host, tmp_path: Path) -> None:
        """A class with metadata() needs no manifest, in a package or not."""
        package = tmp_path / "known"
        package.mkdir()
        (package / "__init__.py").touch()
        says = "\n    def metadata(self):\n        return PluginMetadata('static', '1.0')\n"
        (package / "classes.py").write_text(CODE + says)
        loader = StaticPluginLoader(["known.classes:Only"], root=tmp_path)
        (result,) = shared.load(loader)
        assert (result.id, result.state) == ("static", "ready")
        assert shared.get_service("static").answer() == 42
        shared.unload("static")

    def test_a_folder_of_plugins(self, shared: Host, tmp_path: Path) -> None:
        """Folders and files in it are plugins; what is hidden or private is not."""
        make(tmp_path, "in_folder")
        says = "\n    def metadata(self):\n        return PluginMetadata('in_file', '1.0')\n"
        (tmp_path / "in_file.py").write_text(CODE + says)
        (tmp_path / "_private.py").write_text("raise RuntimeError")
        (tmp_path / ".hidden.py").write_text("raise RuntimeError")
        (tmp_path / "data").mkdir()
        results = shared.load(DynamicPluginLoader(tmp_path))
        assert sorted(str(result.id) for result in results if result.ok) == ["in_file", "in_folder"]
        assert len(results) == 2
        shared.unload("in_folder")
        shared.unload("in_file")


class TestLeaving:
    def test_what_is_needed_is_not_unloaded(self, run: Run) -> None:
        """The refusal names who needs it; afterwards it goes, with its services."""
        host = run.embed("polite", "eager")
        with pytest.raises(UsageError, match="needed by eager; unload eager first"):
            host.unload("polite")
        assert states(host) == {"polite": "ready", "eager": "ready"}
        host.unload("eager")
        host.unload("polite")
        assert host.list_plugins() == []
        assert host.list_services() == []
        assert host.get_service("eager") is None
        assert (run.data_dir / "polite" / "left").exists()
        assert host.load(plugin("polite"))[0].ok

    def test_a_restart_is_a_new_life(self, run: Run) -> None:
        """Another process, the same plugin; not counted as a crash; stubs go on."""
        host = run.embed("polite", "relay")
        polite = host.get_service("polite")
        assert host.get_service("relay").call("polite", "add", 1, 2) == {"value": 3}
        before = host.get("polite")
        result = host.restart("polite")
        assert result.ok
        after = host.get("polite")
        assert after.pid != before.pid
        assert after.restarts == 0
        assert (run.data_dir / "polite" / "left").exists()
        assert polite.pid() == after.pid
        assert host.get_service("relay").call("polite", "pid") == {"value": after.pid}

    def test_on_unload_that_raises_stops_nobody(self, run: Run, tmp_path: Path) -> None:
        """The plugin goes all the same, and its log tells why it raised."""
        code = """
            from plugin_worker import Plugin

            class Only(Plugin):
                def on_unload(self, ctx):
                    raise RuntimeError("I want to stay")
        """
        host = run.embed("polite")
        assert host.load(make(tmp_path, "sticky", code=code))[0].ok
        host.unload("sticky")
        assert states(host) == {"polite": "ready"}
        assert "RuntimeError: I want to stay" in "\n".join(host.logs("sticky"))

    def test_a_service_of_the_plugin_s_raises(self, run: Run) -> None:
        """Its exception comes as text, with its traceback; the worker goes on."""
        polite = run.embed("polite").get_service("polite")
        with pytest.raises(RemoteError, match="polite.fail raised ValueError: no") as caught:
            polite.fail("no")
        assert caught.value.type_name == "ValueError"
        assert "raise ValueError(text)" in caught.value.traceback
        assert polite.add(1, 1) == 2

    def test_methods_and_services_that_are_not_there(self, run: Run) -> None:
        """A service that nobody offers is None; a method that is not there is named."""
        host = run.embed("polite")
        assert host.get_service("nobody") is None
        with pytest.raises(ServiceUnavailable, match=r"nobody offered it within 0\.01 s"):
            host.wait_service("nobody", 0.01)
        with pytest.raises(UsageError, match=r"no method 'dance'; it has add, echo, fail, pid"):
            host.get_service("polite").dance()

    def test_figures_of_a_plugin(self, run: Run) -> None:
        """Metadata as declared; calls, errors and memory as they are."""
        host = run.embed("polite")
        polite = host.get_service("polite")
        for number in range(5):
            polite.add(number, 1)
        with pytest.raises(RemoteError):
            polite.fail("no")
        info = host.get("polite")
        assert (info.name, info.author) == ("Polite", "The tests")
        assert info.capabilities == ("Operators", "Backend(quiet)")
        assert (info.calls, info.errors, info.services) == (5, 1, ("polite",))
        assert info.pid == polite.pid()
        assert info.memory is not None
        assert info.memory > 1 << 20
        assert info.threads == 1
        assert host.find_by_capability(PluginCapability.Backend("quiet")) == ["polite"]
        assert host.find_by_capability("Operators") == ["polite"]
        assert host.find_by_capability("Vision") == []
        status = host.status()
        assert status["plugins"] == {"ready": 1}
        assert status["protocol"] == 1
