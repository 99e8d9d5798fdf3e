from plugin_worker.node.holding import holding
from plugin_worker.sandbox.policy import STANDARD
from protocol.limits import DEFAULTS, WORDS, Limits

GROUP = ("memory", "threads", "cpu")


class TestHolding:
    def test_every_limit_is_named(self) -> None:
        """
        With its value; one that there is not is None, and held by nobody.
        """
        found = holding(DEFAULTS, STANDARD, (), may_fork=False)
        assert tuple(found) == WORDS
        assert found["cpu"] == (None, "")
        assert found["files"] == (1024, "rlimit")

    def test_the_kernel_holds_what_it_can_and_the_node_watches_the_rest(self) -> None:
        """
        Without seccomp a plugin may fork, whatever it was granted.
        """
        limits = Limits(cpu=1.5, event_rate=10.0)
        alone = {name: by for name, (_, by) in holding(limits, STANDARD, (), may_fork=True).items()}
        assert alone["memory"] == "rlimit, watch"
        assert (alone["cpu"], alone["threads"], alone["processes"]) == ("watch",) * 3
        assert (alone["disk"], alone["log_rate"]) == ("watch", "node")
        assert (alone["event_rate"], alone["call_rate"]) == ("library", "")

        grouped = holding(limits, STANDARD, GROUP, may_fork=False)
        assert grouped["memory"] == (limits.memory, "rlimit, cgroup")
        assert grouped["cpu"] == (1.5, "cgroup")
        assert grouped["processes"] == (64, "seccomp")

    def test_without_layers_nothing_but_group_and_watch_holds(self) -> None:
        """
        With `--sandbox off` descriptors and the size of a file are nobody's business.
        """
        found = holding(DEFAULTS, (), GROUP, may_fork=False)
        assert found["files"] == (1024, "")
        assert found["memory"][1] == "cgroup"
        assert found["processes"][1] == "watch"
