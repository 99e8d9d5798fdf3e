from spiral_host.refusals import KEPT, MAX_PLUGINS, Refusal, Refusals


def test_the_last_comes_first_and_repeats_are_counted() -> None:
    refusals = Refusals()
    refusals.note("p", "read", "/etc/passwd", 1.0)
    refusals.note("p", "network", "80", 2.0, 5)
    refusals.note("p", "read", "/etc/passwd", 3.0)

    assert refusals.of("p") == [
        Refusal("read", "/etc/passwd", 2, 3.0),
        Refusal("network", "80", 5, 2.0),
    ]
    assert refusals.of("other") == []


def test_of_one_plugin_only_so_many_are_kept() -> None:
    """
    What it tried longest ago is forgotten, however many names it makes up.
    """
    refusals = Refusals()
    for number in range(KEPT + 3):
        refusals.note("p", "read", f"/{number}", float(number))
    refusals.note("p", "read", "/3", 99.0)
    found = refusals.of("p")
    assert (len(found), found[0].what, found[-1].what) == (KEPT, "/3", "/4")


def test_of_so_many_plugins_only() -> None:
    refusals = Refusals()
    for number in range(MAX_PLUGINS + 1):
        refusals.note(f"p{number}", "gpu", "", 0.0)
    assert (refusals.of("p0"), len(refusals.of("p1"))) == ([], 1)


def test_a_row_says_how_long_ago_it_was() -> None:
    row = Refusal("read", "/x", 2, 10.0).to_row(12.5)
    assert row == {"permission": "read", "what": "/x", "count": 2, "ago_s": 2.5}


def test_what_is_forgotten_is_gone() -> None:
    refusals = Refusals()
    refusals.note("p", "gpu", "", 0.0)
    refusals.forget("p")
    refusals.forget("nobody")
    assert refusals.of("p") == []
