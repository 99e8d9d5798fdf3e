import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.plugin import MAX_TEXT, PluginCapability, PluginMetadata

printable = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F).filter(str.isprintable), min_size=1
)


class TestPluginCapability:
    @pytest.mark.parametrize("text", ["LossFunctions", "loss_functions", "LOSS-FUNCTIONS"])
    def test_known_words_are_folded(self, text: str) -> None:
        """
        Case, `_` and `-` do not count in SpiralTorch's own words.
        """
        assert PluginCapability.parse(text) == PluginCapability.LossFunctions

    @pytest.mark.parametrize("text", ["Backend(wgpu)", "backend:wgpu", "Backend( wgpu )"])
    def test_a_backend_has_a_name(self, text: str) -> None:
        """
        A backend can be written with brackets or a colon.
        """
        assert PluginCapability.parse(text) == PluginCapability.Backend("wgpu")

    @pytest.mark.parametrize("text", ["x:y", "Operators(fast)", "(odd", "speech"])
    def test_any_other_text_is_a_custom_capability(self, text: str) -> None:
        """
        What is no known word is kept whole, as the author wrote it.
        """
        assert PluginCapability.parse(text) == PluginCapability.Custom(text)

    @given(st.sampled_from([PluginCapability.Custom, PluginCapability.Backend]), printable)
    def test_its_text_means_itself(self, kind: type[PluginCapability], name: str) -> None:
        """
        A capability that travels as text arrives as itself, whatever its name holds.
        """
        capability = kind(name[:180])

        assert PluginCapability.parse(str(capability)) == capability

    def test_a_capability_is_given_back(self) -> None:
        """
        An application may pass a capability where text is expected.
        """
        assert PluginCapability.parse(PluginCapability.Vision) is PluginCapability.Vision

    @pytest.mark.parametrize("text", ["", "  ", "a\nb", "x" * 201, 3, None])
    def test_what_is_no_word_is_refused(self, text: object) -> None:
        """
        Empty, unprintable, long or no text at all is no capability.
        """
        with pytest.raises(UsageError):
            PluginCapability.parse(text)


class TestPluginMetadata:
    def test_with_methods_copy(self) -> None:
        """
        Every `with_` gives a copy with one thing more and leaves the first as it was.
        """
        bare = PluginMetadata("greeter", "1.0.0")
        full = (
            bare.with_name("Greeter")
            .with_description("greets")
            .with_author("Ada")
            .with_capability(PluginCapability.Language)
            .with_dependency("base", ">=1")
            .with_metadata("license", "MIT")
        )

        assert bare == PluginMetadata("greeter", "1.0.0")
        assert PluginMetadata.from_wire(full.to_wire()) == full

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"id": "a"},
            {"id": "a/b", "version": "1"},
            {"id": "a", "version": 1},
            {"id": "a", "version": "1", "colour": "red"},
            {"id": "a", "version": "1", "capabilities": "Operators"},
            {"id": "a", "version": "1", "capabilities": [1]},
            {"id": "a", "version": "1", "dependencies": ["b"]},
            {"id": "a", "version": "1", "dependencies": {"b": 1}},
            {"id": "a", "version": "1", "dependencies": {"../b": "*"}},
            {"id": "a", "version": "1", "metadata": {1: "x"}},
            {"id": "a", "version": "1", "name": "\x1b[2J"},
            {"id": "a", "version": "1", "description": "x" * (MAX_TEXT + 1)},
        ],
    )
    def test_what_a_worker_says_is_checked(self, fields: dict[str, object]) -> None:
        """
        Untrusted metadata with a wrong, unknown or missing field is refused.
        """
        with pytest.raises(UsageError):
            PluginMetadata.from_wire(fields)

    def test_a_text_that_is_none_is_refused(self) -> None:
        """
        What exists is valid: an author's number where text belongs fails when it is built.
        """
        with pytest.raises(UsageError, match="is no text"):
            PluginMetadata("a", "1", name=5)  # type: ignore[arg-type]

    def test_a_description_may_have_lines(self) -> None:
        """
        Line breaks and tabs are no control characters to a description.
        """
        assert PluginMetadata("a", "1", description="one\n\ttwo").description == "one\n\ttwo"
