import pytest

from protocol.errors import UsageError
from spiral_host.cli.arguments import parse_argument, parse_target, parse_topics
from spiral_host.cli.failure import Failure, Status


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('{"a": [1, "b"]}', {"a": [1, "b"]}),
        ('"1"', "1"),
        (" 2 ", 2),
    ],
)
def test_json_is_read_as_json(text: str, value: object) -> None:
    """
    Whatever is JSON is that value.
    """
    parsed = parse_argument(text)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["word", "two words", "a.b/c", "3d", "True", "NaN", "größe", ""])
def test_a_bare_word_is_a_string(text: str) -> None:
    """
    Text that does not begin like JSON needs no quotes.
    """
    assert parse_argument(text) == text


BROKEN = {
    "object": '{"a":',
    "list": "[1,",
    "string": '"open',
    "more": "{} {}",
    "number": "1.2.3",
    "leading zero": "007",
    "option": "--jsno",
    "nan inside": "[NaN]",
    "deep": "[" * 100_000,
    "digits": "9" * 5_000,
    "not utf-8": "\udcff",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_broken_json_is_refused_by_name(text: str) -> None:
    """
    JSON gone wrong is wrong usage: one short line that says which argument and what to do.
    """
    with pytest.raises(Failure, match=r"\Aargument 2 '.*; ") as refused:
        parse_argument(text, "argument 2")

    assert refused.value.status is Status.USAGE
    assert len(refused.value.text) < 300
    assert refused.value.text.isprintable()


def test_a_service_may_have_dots_of_its_own() -> None:
    """
    The last dot separates the method.
    """
    assert parse_target("my.math.add") == ("my.math", "add")


@pytest.mark.parametrize("text", ["math", ".add", "math.", "", ".", "../x.add", "a b.add"])
def test_what_names_no_method_is_refused(text: str) -> None:
    """
    A target has two halves, and the first is a service name.
    """
    with pytest.raises((Failure, UsageError), match=r"SERVICE\.METHOD|no service name"):
        parse_target(text)


def test_topics_are_asked_for_once() -> None:
    """
    Nothing, or `*` among others, is everything; a type named twice is subscribed to once.
    """
    assert parse_topics([]) == ["*"]
    assert parse_topics(["EpochEnd", "*"]) == ["*"]
    assert parse_topics(["B", "A.*", "B"]) == ["B", "A.*"]
    with pytest.raises(UsageError, match="no event type"):
        parse_topics(["x" * 300])
