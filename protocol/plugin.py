"""Plugin metadata and capabilities: the words that authors and applications share.

The names follow the SpiralTorch plugin system. A *capability* is something a plugin can do;
what it is allowed to do is a permission and lives elsewhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Self

from protocol.errors import UsageError
from protocol.names import parse_plugin_id, shown

MAX_TEXT: Final = 4096
"""Characters in any one text of the metadata; a description is a paragraph, not a book."""


@dataclass(frozen=True, slots=True)
class PluginCapability:
    """Something a plugin can do, as an application looks for it.

    Attributes:
        kind: One of SpiralTorch's words, or `Custom`.
        name: Which backend, or which custom capability; empty for all others.
    """

    kind: str
    name: str = ""

    Operators: ClassVar["PluginCapability"]
    LossFunctions: ClassVar["PluginCapability"]
    Optimizers: ClassVar["PluginCapability"]
    DataLoaders: ClassVar["PluginCapability"]
    Visualization: ClassVar["PluginCapability"]
    Telemetry: ClassVar["PluginCapability"]
    Language: ClassVar["PluginCapability"]
    Vision: ClassVar["PluginCapability"]
    ReinforcementLearning: ClassVar["PluginCapability"]
    GraphNeuralNetworks: ClassVar["PluginCapability"]
    Recommender: ClassVar["PluginCapability"]
    Backend: ClassVar[Callable[[str], "PluginCapability"]]
    Custom: ClassVar[Callable[[str], "PluginCapability"]]

    def __str__(self) -> str:
        return f"{self.kind}({self.name})" if self.name else self.kind

    @classmethod
    def parse(cls, text: object) -> "PluginCapability":
        """Read `Operators`, `Backend(x)`, `Backend:x`, `Custom(x)`; other text is custom.

        Case, `_`, `-` and spaces do not count in the known words, as in SpiralTorch.

        Raises:
            UsageError: It is no text, empty, too long or unprintable.
        """
        if isinstance(text, PluginCapability):
            return text
        if not isinstance(text, str) or not text.strip() or not text.isprintable():
            raise UsageError(f"{shown(text)} is no capability; use a word such as 'Operators'")
        if len(text) > 200:
            raise UsageError(f"{shown(text)} is no capability; it has more than 200 characters")
        shape = _SHAPE.match(text.strip())
        word, name = shape.group("word", "name") if shape else ("", "")
        folded = "".join(c for c in word.lower() if c not in "_- ")
        if name and folded in {"backend", "custom"}:
            return cls(folded.capitalize(), name.strip())
        known = _WORDS.get(folded)
        return known if known and not name else cls("Custom", text.strip())


def _named(kind: str) -> Callable[[str], PluginCapability]:
    def build(name: str) -> PluginCapability:
        return PluginCapability(kind, name)

    return build


PluginCapability.Backend = staticmethod(_named("Backend"))
PluginCapability.Custom = staticmethod(_named("Custom"))

_SHAPE: Final = re.compile(r"(?P<word>[^(:]+)(?:\(|:)?(?P<name>.*?)\)?\Z")
_WORDS: Final[dict[str, PluginCapability]] = {}
for _word in (
    "Operators",
    "LossFunctions",
    "Optimizers",
    "DataLoaders",
    "Visualization",
    "Telemetry",
    "Language",
    "Vision",
    "ReinforcementLearning",
    "GraphNeuralNetworks",
    "Recommender",
):
    _WORDS[_word.lower()] = PluginCapability(_word)
    setattr(PluginCapability, _word, _WORDS[_word.lower()])


@dataclass(frozen=True, slots=True)
class PluginMetadata:
    """Who a plugin is, what it needs and what it can do; checked when built.

    Attributes:
        dependencies: Plugin id to version requirement: `>=1.0.0`, `^2.0.0`, `~1.2`, `*`.
        metadata: Free text of the author's, key to value.

    Raises:
        UsageError: The id is no plugin id, or a text is missing, too long or unprintable.
    """

    id: str
    version: str
    name: str = ""
    description: str = ""
    author: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[PluginCapability, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parse_plugin_id(self.id)
        if not self.version:
            raise UsageError(f"plugin {self.id} has no version; give one such as '1.0.0'")
        for text in (self.version, self.name, self.description, self.author):
            _check_text(self.id, text)
        for dependency, requirement in self.dependencies.items():
            parse_plugin_id(dependency)
            _check_text(self.id, requirement)
        for key, text in self.metadata.items():
            _check_text(self.id, key)
            _check_text(self.id, text)

    def with_name(self, name: str) -> Self:
        """Return a copy with this name for people."""
        return replace(self, name=name)

    def with_description(self, description: str) -> Self:
        """Return a copy with this description."""
        return replace(self, description=description)

    def with_author(self, author: str) -> Self:
        """Return a copy with this author."""
        return replace(self, author=author)

    def with_capability(self, capability: PluginCapability) -> Self:
        """Return a copy that can do one thing more."""
        return replace(self, capabilities=(*self.capabilities, capability))

    def with_dependency(self, plugin_id: str, requirement: str) -> Self:
        """Return a copy that needs one plugin more, in a version that meets `requirement`."""
        return replace(self, dependencies={**self.dependencies, plugin_id: requirement})

    def with_metadata(self, key: str, value: str) -> Self:
        """Return a copy with one free text more."""
        return replace(self, metadata={**self.metadata, key: value})

    def to_wire(self) -> dict[str, object]:
        """Give plain values that every codec carries."""
        return {
            "id": self.id,
            "version": self.version,
            "name": self.name,
            "description": self.description,
            "author": self.author,
            "dependencies": dict(self.dependencies),
            "capabilities": [str(capability) for capability in self.capabilities],
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_wire(cls, fields: Mapping[str, object]) -> "PluginMetadata":
        """Build it from untrusted plain values.

        Raises:
            UsageError: A field is unknown, missing or of the wrong type.
        """
        unknown = sorted(set(fields) - set(cls.__slots__))
        if unknown:
            raise UsageError(f"metadata has no field {shown(unknown[0])}")
        capabilities = fields.get("capabilities", [])
        if not isinstance(capabilities, list | tuple):
            raise UsageError("metadata: capabilities must be a list of words")
        return cls(
            id=parse_plugin_id(fields.get("id")),
            version=_text(fields, "version"),
            name=_text(fields, "name"),
            description=_text(fields, "description"),
            author=_text(fields, "author"),
            dependencies=_texts(fields, "dependencies"),
            capabilities=tuple(PluginCapability.parse(text) for text in capabilities),
            metadata=_texts(fields, "metadata"),
        )


def _check_text(plugin_id: str, text: object) -> None:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise UsageError(
            f"plugin {plugin_id}: {shown(text)} is no text of <= {MAX_TEXT} characters"
        )
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise UsageError(f"plugin {plugin_id}: {shown(text)} has control characters")


def _text(fields: Mapping[str, object], key: str) -> str:
    text = fields.get(key, "")
    if not isinstance(text, str):
        raise UsageError(f"metadata: {key} must be text, not {shown(text)}")
    return text


def _texts(fields: Mapping[str, object], key: str) -> dict[str, str]:
    table = fields.get(key, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"metadata: {key} must be a table of texts, not {shown(table)}")
    for name, text in table.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise UsageError(f"metadata: {key}: {shown(name)} must be text, not {shown(text)}")
    return dict(table)
