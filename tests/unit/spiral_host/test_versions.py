import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from spiral_host.versions import parse_requirement, parse_version


class TestRequirement:
    @pytest.mark.parametrize(
        ("requirement", "fits", "does_not"),
        [
            ("*", "0.0.1", None),
            ("", "7", None),
            (">=1.0.0", "2.5", "0.9"),
            (">=1.0, <3", "2.9.9", "3.0"),
            ("==1.4", "1.4.0", "1.4.1"),
            ("=1.4", "1.4", "1.5"),
            ("1.2.3", "1.2.3", "1.2.4"),
            ("^2.0.0", "2.9.9", "3.0.0"),
            ("^2", "2.1", "3.0"),
            ("^1.", "1.9", "2.0"),
            ("^0.2.3", "0.2.9", "0.3.0"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("^0.0", "0.0.9", "0.1"),
            ("^0", "0.9", "1.0"),
            ("~1.2", "1.2.9", "1.3"),
            ("~1.2.3", "1.2.4", "1.2.2"),
            ("~1", "1.9", "2.0"),
            ("~ 0.2", "0.2.7", "0.3.0"),
            ("~=1.4", "1.9", "2.0"),
            ("!=1.5", "1.4", "1.5"),
            (">=1.0", "1.1.dev1", None),
        ],
    )
    def test_what_authors_write_is_understood(
        self, requirement: str, fits: str, does_not: str | None
    ) -> None:
        """
        npm's, Cargo's and Python's ways of saying which versions will do.
        """
        specifier = parse_requirement(requirement)

        assert parse_version(fits) in specifier
        if does_not is not None:
            assert parse_version(does_not) not in specifier

    @pytest.mark.parametrize("text", ["latest", "^1..2", "~.", "^", "^x", ">1 or <2", "=>1", "1.x"])
    def test_what_is_no_requirement_is_refused(self, text: str) -> None:
        """
        A requirement that nobody can read is the author's to correct.
        """
        with pytest.raises(UsageError, match="no version requirement"):
            parse_requirement(text)

    @given(st.text(st.sampled_from("^~<>=!.*,01 9ax²"), max_size=12))
    def test_nothing_else_is_raised(self, text: str) -> None:
        """
        Any text is a requirement or refused as none.
        """
        try:
            parse_requirement(text)
        except UsageError:
            return


class TestVersion:
    @pytest.mark.parametrize("text", ["", "one", "1..2", "v"])
    def test_what_is_no_version_is_refused(self, text: str) -> None:
        """
        A version that nobody can read is the author's to correct.
        """
        with pytest.raises(UsageError, match="no version"):
            parse_version(text)
