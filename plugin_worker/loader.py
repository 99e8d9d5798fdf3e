"""Import the plugin; the only foreign import in the tree. Runs in the worker, confined."""

import importlib
import importlib.util
import inspect
import site
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from plugin_worker.plugin import Plugin
from protocol.errors import UsageError
from protocol.messages import PluginSource
from protocol.plugin import PluginMetadata


def open_environment(root: str, site_packages: Iterable[str]) -> None:
    """Put the plugin's folder and its environment behind what is ours on `sys.path`.

    Behind, so that a plugin's `json.py` or `msgpack.py` shadows nothing. What `.pth` files run
    is run here, inside the confinement.
    """
    if root:
        sys.path.append(root)
    for folder in site_packages:
        site.addsitedir(folder)


def load(source: PluginSource) -> Plugin:
    """Import the plugin and make it.

    Raises:
        UsageError: The module has no such class, or the file not exactly one plugin.
        BaseException: Whatever the plugin's own import or constructor raises.
    """
    if source.entry.endswith(".py"):
        kind = _only_plugin(_import_file(Path(source.root) / source.entry))
    else:
        module, _, name = source.entry.partition(":")
        kind = _class(importlib.import_module(module), name)
    return kind()


def check_metadata(plugin: Plugin, declared: PluginMetadata | None) -> PluginMetadata:
    """Give the plugin's metadata; a manifest is the truth, and the class must not contradict it.

    Raises:
        UsageError: It does, or there is neither.
    """
    said = plugin.metadata()
    if said is None:
        if declared is None:
            raise UsageError("the plugin has no metadata; return PluginMetadata from metadata()")
        return declared
    if not isinstance(said, PluginMetadata):
        raise UsageError(f"metadata() returned a {type(said).__name__}, not PluginMetadata")
    if declared is not None and (said.id, said.version) != (declared.id, declared.version):
        raise UsageError(
            f"metadata() says {said.id} {said.version}, the manifest {declared.id} "
            f"{declared.version}; make them agree"
        )
    return declared or said


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _class(module: ModuleType, name: str) -> type[Plugin]:
    kind = getattr(module, name, None)
    if kind is None:
        raise UsageError(f"module {module.__name__} has no class {name}; correct the entry")
    if not inspect.isclass(kind) or not issubclass(kind, Plugin):
        raise UsageError(f"{module.__name__}:{name} is no subclass of plugin_worker.Plugin")
    return kind


def _only_plugin(module: ModuleType) -> type[Plugin]:
    found = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Plugin) and kind.__module__ == module.__name__
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(kind.__name__ for kind in found) or "none"
    raise UsageError(f"a plugin's file has one subclass of plugin_worker.Plugin; found {names}")
