from dataclasses import replace

import msgpack
import pytest

from plugin_worker.confine import _STEPS, Confinement, scrubbed_environment
from plugin_worker.sandbox import canary
from plugin_worker.sandbox.errors import ConfinementError, MissingLayer
from plugin_worker.sandbox.policy import CHANGES, RLIMITS, STANDARD

WHOLE = Confinement(
    read=("/usr/share/a",),
    write=("/data",),
    run=("/opt/b",),
    granted_read=("/srv/a",),
    granted_write=("/srv/b",),
    identities={"/srv/a": "1:2"},
    ports=(443,),
    subprocess=True,
    devices=("/dev/null",),
    tmp="/tmp/1",
    node_pid=7,
)


class TestConfinement:
    def test_it_survives_the_wire(self) -> None:
        """
        What the node decided is what the worker applies, whole.
        """
        assert Confinement.from_wire(msgpack.unpackb(msgpack.packb(WHOLE.to_wire()))) == WHOLE

    def test_the_default_is_every_layer_and_every_limit(self) -> None:
        """
        Less has to be asked for.
        """
        assert WHOLE.layers == STANDARD
        assert WHOLE.limits == RLIMITS

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("read", "/usr"),
            ("read", ["usr"]),
            ("read", [b"/usr"]),
            ("write", ["/a\0b"]),
            ("run", None),
            ("tmp", "tmp"),
            ("tmp", 1),
            ("node_pid", 0),
            ("node_pid", True),
            ("node_pid", "7"),
            ("layers", ["magic"]),
            ("layers", ["seccomp"]),
            ("limits", {"NPROC": 1}),
            ("limits", {"AS": -1}),
            ("limits", {"AS": 1 << 63}),
            ("limits", {"AS": "much"}),
            ("limits", []),
            ("granted_read", ["srv"]),
            ("granted_write", ["/a\0b"]),
            ("identities", {"/srv/a": 1}),
            ("identities", []),
            ("ports", [0]),
            ("ports", [65536]),
            ("ports", [True]),
            ("ports", ["443"]),
            ("subprocess", 1),
            ("devices", ["null"]),
        ],
    )
    def test_a_wrong_field_is_refused(self, field: str, value: object) -> None:
        """
        A worker that cannot read its confinement does not start.
        """
        with pytest.raises(ValueError, match=r"\w"):
            Confinement.from_wire({**WHOLE.to_wire(), field: value})

    @pytest.mark.parametrize("change", [{"extra": 1}, {"tmp": None}])
    def test_fields_are_exactly_those_known(self, change: dict[str, object]) -> None:
        """
        An unknown field might have meant less freedom; a missing one too.
        """
        wire = {k: v for k, v in {**WHOLE.to_wire(), **change}.items() if v is not None}
        with pytest.raises(ValueError, match="has the fields"):
            Confinement.from_wire(wire)

    @pytest.mark.parametrize("wire", [None, [], "text", {}])
    def test_what_is_no_map_is_refused(self, wire: object) -> None:
        """
        Whatever arrives, the answer is a ValueError.
        """
        with pytest.raises(ValueError, match="has the fields"):
            Confinement.from_wire(wire)


class TestVariant:
    def test_it_names_the_permissions_that_change_the_filter(self) -> None:
        """
        Every set of them has a filter of its own; paths are none of the filter's business.
        """
        plain = Confinement(read=(), write=(), granted_read=("/srv",), tmp="/tmp/1", node_pid=7)
        assert plain.variant == frozenset()
        assert replace(plain, ports=(443,)).variant == {"network"}
        assert WHOLE.variant == set(CHANGES)


class TestCanary:
    @pytest.mark.parametrize(
        ("layer", "what"), [("landlock", "opening /"), ("seccomp", "making a socket")]
    )
    def test_a_process_that_is_free_is_found_out(self, layer: str, what: str) -> None:
        """
        This one is: what was to be refused works, whatever was said of the layer.
        """
        confinement = Confinement(
            read=(), write=(), tmp="/tmp/1", node_pid=7, layers=("no-new-privs", layer)
        )
        with pytest.raises(ConfinementError) as caught:
            canary.sing(confinement)
        assert caught.value.layer == layer
        assert what in caught.value.why

    def test_what_was_granted_is_no_sign(self) -> None:
        """
        Where everything may be read, no file tells whether Landlock holds.
        """
        layers = ("no-new-privs", "landlock")
        canary.sing(
            Confinement(
                read=(), write=(), granted_read=("/",), tmp="/tmp/1", node_pid=7, layers=layers
            )
        )


class TestSteps:
    def test_every_layer_has_its_step_in_the_published_order(self) -> None:
        """
        Seccomp comes last: it forbids the calls that the others need.
        """
        assert tuple(_STEPS) == STANDARD
        assert STANDARD[-1] == "seccomp"
        assert STANDARD.index("no-new-privs") < STANDARD.index("landlock")


class TestErrors:
    def test_one_line_names_layer_reason_and_cure(self) -> None:
        """
        The operator reads what is missing and what to do.
        """
        text = str(MissingLayer("seccomp", "Unable to find libseccomp"))
        assert text.startswith("seccomp: Unable to find libseccomp; cure: apt install libseccomp2")

    def test_what_is_no_layer_has_no_cure(self) -> None:
        """
        A step that every worker takes fails with its reason only.
        """
        assert str(ConfinementError("process", "orphaned")) == "process: orphaned"


class TestEnvironment:
    def test_nothing_of_ours_is_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        It is built from nothing, not filtered from what we have.
        """
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment = scrubbed_environment("/tmp/1", "/data")
        assert "AWS_SECRET_ACCESS_KEY" not in environment
        assert (environment["TMPDIR"], environment["HOME"]) == ("/tmp/1", "/data")
        assert environment["MPLCONFIGDIR"].startswith("/data/")
