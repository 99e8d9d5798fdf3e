"""Every message that crosses a boundary, one frozen class each, grouped by conversation.

    daemon <-> node      ZeroMQ      TO_NODE, FROM_NODE
    daemon <-> client    ZeroMQ      TO_CLIENT, FROM_CLIENT
    daemon <-> worker    relayed     TO_WORKER, FROM_WORKER   (the node passes it on unread)
    node   <-> endpoint  umbilical   TO_ENDPOINT, FROM_ENDPOINT   (an endpoint: worker or client)

Calls travel on lanes (calls.py) and events in batches (feed.py); both have formats of their own,
because they are built by the hundred thousand. This file is large because it is a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

from protocol.codec import Conversation

# --- what several conversations share ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of every connection; nothing else is accepted before it.

    Its layout never changes, so that two versions can tell each other apart.

    Attributes:
        role: `node`, `client` or `worker`.
        body: What this role says of itself, encoded in the conversation of this version.
    """

    protocol: int
    role: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The other side does not speak with this one; its connection ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for."""

    request: str
    value: object


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was asked for cannot be had; the error as `errors.to_wire` gives it."""

    request: str
    kind: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """How a process ended.

    Attributes:
        kind: `exit`, `signal` or `unknown`.
        code: The exit status or the signal's number.
        rule: Which rule of the host's made it end, or empty.
    """

    kind: str
    code: int = 0
    rule: str = ""

    @property
    def is_unasked_kill(self) -> bool:
        """Whether it was killed, and by no rule of the host's."""
        return self.kind == "signal" and _signal(self.code) == "SIGKILL" and not self.rule

    def __str__(self) -> str:
        how = {"exit": f"exit status {self.code}", "signal": _signal(self.code)}
        text = how.get(self.kind, "unknown cause")
        return f"{text} ({self.rule})" if self.rule else text


def _signal(code: int) -> str:
    return _SIGNALS.get(code, f"signal {code}")


_SIGNALS: Final = {
    number: f"SIG{name}"
    for number, name in enumerate(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT "
        "STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(),
        start=1,
    )
}
"""Linux's own numbers; a table, because deciders do not import `signal`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSource:
    """Where a plugin's code lies, for a process that may import it.

    Attributes:
        root: Folder that is put on the plugin's `sys.path` and granted for reading, or empty.
        entry: `module:Class`, or `file.py` (relative to `root`) with a single `Plugin` in it.
    """

    root: str
    entry: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where plugins are looked for.

    Attributes:
        path: A plugin's folder, a `.py` file, or a folder of these; for a class its import root.
        entry: `module:Class` when one class is meant, else empty.
    """

    path: str
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """Say that you are there; a worker answers in the thread that runs its handlers only."""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to the ping of that number, and how many descriptors its sender has open."""

    number: int
    descriptors: int


# --- daemon and node -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One living worker, as a node tells it to a daemon; its facts follow, each as a `Relay`.

    Attributes:
        silence: Why the loop that runs its handlers counts as silent, or empty.
        limits: Each limit's name, with its value, None for none, and what holds it.
    """

    incarnation: int
    plugin_id: str
    pid: int
    start_time: int
    confined: bool
    layers: tuple[str, ...]
    silence: str = ""
    limits: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A worker is gone and reaped. Repeated in every greeting until the daemon has seen it."""

    incarnation: int
    plugin_id: str
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A call that a worker was in the middle of when it died, by its own word.

    Attributes:
        caller: The caller's incarnation; `caller_name` its plugin or client, or empty.
        left_s: Seconds that were left until its deadline; negative when that had passed.
    """

    service: str
    number: int
    caller: int
    caller_name: str
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """What a worker used at one moment: bytes, CPU seconds since it began, threads."""

    ago_s: float
    memory: int
    cpu_s: float
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a worker that nobody had asked to leave left behind; told before its `Exited`.

    Attributes:
        lived_s: From its fork to its death, seconds.
        stacks: Every thread's stack as faulthandler wrote them, or empty.
        log: The last lines that it wrote.
        events: The last events that it was given, one line each, newest last.
        vitals: Its figures over time, oldest first.
    """

    incarnation: int
    plugin_id: str
    lived_s: float
    stacks: str
    log: str
    calls: int
    errors: int
    flights: tuple[Flight, ...]
    events: tuple[str, ...]
    vitals: tuple[Vital, ...]


@dataclass(frozen=True, slots=True)
class Silent:
    """The loop that runs a worker's handlers does not answer, or a call has outstayed its time."""

    incarnation: int
    why: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker that was silent has shown that its loop turns."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Permitted:
    """What a living worker was started with, whatever was granted since; behind a greeting.

    Attributes:
        permissions: All that are in force for it, as `SpawnWorker` had them.
    """

    incarnation: int
    permissions: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Denied:
    """A worker was refused what it has no permission for; the first time at once, then counts.

    Attributes:
        permission: The word of `[permissions]`.
        what: What it tried, in its own words where the kernel refused it.
        count: How often since it was last told.
    """

    incarnation: int
    permission: str
    what: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetails:
    """What a node says of itself when it greets a daemon.

    Attributes:
        limits_by: What there is on this machine to hold limits with, for people.
    """

    name: str
    pid: int
    socket: str
    sandbox: str
    missing: Mapping[str, str]
    workers: tuple[WorkerReport, ...]
    exits: tuple[Exited, ...]
    limits_by: str = ""


@dataclass(frozen=True, slots=True)
class AllTold:
    """Every fact of every living worker has been told."""


@dataclass(frozen=True, slots=True)
class NodeWelcome:
    """The daemon takes the node on."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnWorker:
    """Start a worker for one plugin; done once however often it is said.

    Attributes:
        concurrency: How many threads serve it; of more than one the loop's is asked by pings alone.
        permissions: Those in force, as `Permissions.to_wire` gives them; paths lead nowhere else.
        limits: As `Limits.to_wire` gives them.
        profile: `standard`, `strict` or `off`.
    """

    incarnation: int
    plugin_id: str
    source: PluginSource
    data_dir: str
    concurrency: int = 1
    permissions: Mapping[str, object] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)
    profile: str = "standard"


@dataclass(frozen=True, slots=True)
class EndWorker:
    """End a worker by SIGTERM, or by SIGKILL when forced; `rule` becomes part of its cause.

    Attributes:
        stacks: Whether it has to write down every thread's stack first.
    """

    incarnation: int
    rule: str
    force: bool
    stacks: bool = False


@dataclass(frozen=True, slots=True)
class ExitSeen:
    """The daemon has written an exit down; the node may forget it."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Relay:
    """A lifecycle frame for or from one worker, byte for byte."""

    incarnation: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLane:
    """Tie a caller to a callee: one socket pair, one end to each."""

    lane: int
    request: str
    caller: int
    callee: int
    caller_name: str
    callee_name: str
    service: str
    idempotent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitClient:
    """A client may come to the node's socket with this ticket, once."""

    incarnation: int
    name: str
    ticket: bytes


@dataclass(frozen=True, slots=True)
class ExpelClient:
    """A client is gone; so are its lanes."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class TakeSample:
    """Measure every worker now."""

    request: str


@dataclass(frozen=True, slots=True)
class StopNode:
    """End every worker that is left, then leave."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A worker process exists."""

    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """A worker process could not be made.

    Attributes:
        is_final: Whether it cannot be made here at all, and need not be tried again.
    """

    incarnation: int
    reason: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Confined:
    """A worker said hello from inside its confinement, and the kernel's view agrees.

    Attributes:
        limits: Each limit's name, with its value, None for none, and what holds it.
    """

    incarnation: int
    layers: tuple[str, ...]
    limits: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violated:
    """A worker broke the protocol on its umbilical and was ended for it."""

    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class LaneFailed:
    """A lane that was granted cannot be made.

    Attributes:
        gone: Whether that is because the callee has just gone; another one may come.
    """

    lane: int
    why: str
    gone: bool


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """A client's connection to the node is at its end."""

    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One worker's figures. Memory in bytes, CPU time in seconds; calls are its own word.

    Attributes:
        lag: Events that it has been given and has not run.
        missed: Events that it was too far behind to be given.
        descriptors: How many it has open, by its own word; None before it has been asked.
    """

    incarnation: int
    memory: int
    cpu_s: float
    threads: int
    calls: int
    errors: int
    lag: int
    missed: int
    descriptors: int | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """The figures of every worker of a node."""

    request: str
    samples: tuple[Sample, ...]


ToNode: TypeAlias = (
    Refused
    | NodeWelcome
    | SpawnWorker
    | EndWorker
    | ExitSeen
    | Relay
    | GrantLane
    | AdmitClient
    | ExpelClient
    | TakeSample
    | StopNode
    | Ping
)
FromNode: TypeAlias = (
    Hello
    | NodeDetails
    | Spawned
    | SpawnFailed
    | Confined
    | Exited
    | Relay
    | Violated
    | Samples
    | ClientLeft
    | LaneFailed
    | AllTold
    | Silent
    | Heard
    | Remains
    | Pong
    | Denied
    | Permitted
)

TO_NODE: Final[Conversation[ToNode]] = Conversation(
    "daemon to node",
    {
        1: Refused,
        2: NodeWelcome,
        3: SpawnWorker,
        4: EndWorker,
        5: ExitSeen,
        6: Relay,
        7: GrantLane,
        8: AdmitClient,
        9: ExpelClient,
        10: TakeSample,
        11: StopNode,
        12: Ping,
    },
)
FROM_NODE: Final[Conversation[FromNode]] = Conversation(
    "node to daemon",
    {
        0: Hello,
        1: NodeDetails,
        2: Spawned,
        3: SpawnFailed,
        4: Confined,
        5: Exited,
        6: Relay,
        7: Violated,
        8: Samples,
        9: ClientLeft,
        10: LaneFailed,
        11: AllTold,
        12: Silent,
        13: Heard,
        14: Remains,
        15: Pong,
        16: Denied,
        17: Permitted,
    },
)

# --- daemon and worker, relayed by the node ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribePlugin:
    """Import the plugin, say its metadata, leave; `on_load` is not run."""

    source: PluginSource


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlugin:
    """Import the plugin and run its `on_load`; done once however often it is said.

    Attributes:
        metadata: What the manifest declares; the class may repeat it but not contradict it.
        events: The types that `on_event` is subscribed to when it is overridden.
        concurrency: How many of the plugin's handlers may run at the same time.
        reentrant: Whether calls that its own calls lead to are served while it waits.
    """

    source: PluginSource
    metadata: Mapping[str, object]
    data_dir: str
    events: tuple[str, ...]
    concurrency: int
    reentrant: bool


@dataclass(frozen=True, slots=True)
class StopPlugin:
    """Finish what is running, accept nothing new, run `on_unload`, leave."""


@dataclass(frozen=True, slots=True)
class Described:
    """The plugin's own metadata, untrusted."""

    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Loaded:
    """`on_load` has returned; the plugin is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The plugin's import, metadata, `on_load` or `on_unload` raised."""

    stage: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A service is there to be called.

    Attributes:
        idempotent: Those of the methods that may be called again when a call was lost.
    """

    service: str
    methods: tuple[str, ...]
    idempotent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A service is no longer there."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """Ask for a lane to whoever offers a service.

    Attributes:
        wait_s: How long the daemon may hold the question while nobody offers it, seconds.
    """

    request: str
    service: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class ListServices:
    """Ask who offers what."""

    request: str


@dataclass(frozen=True, slots=True)
class FindByCapability:
    """Ask which plugins can do something."""

    request: str
    capability: str


@dataclass(frozen=True, slots=True)
class GetConfig:
    """Ask for every configured value whose key begins with a prefix."""

    request: str
    prefix: str


@dataclass(frozen=True, slots=True)
class SetConfig:
    """Configure a value; None takes it away."""

    request: str
    key: str
    value: str | None


Question: TypeAlias = Resolve | ListServices | FindByCapability | GetConfig | SetConfig
ToWorker: TypeAlias = DescribePlugin | LoadPlugin | StopPlugin | Answer | Refusal
FromWorker: TypeAlias = Described | Loaded | Broken | Offer | Withdraw | Question

TO_WORKER: Final[Conversation[ToWorker]] = Conversation(
    "daemon to worker",
    {1: DescribePlugin, 2: LoadPlugin, 3: StopPlugin, 4: Answer, 5: Refusal},
)
FROM_WORKER: Final[Conversation[FromWorker]] = Conversation(
    "worker to daemon",
    {
        1: Described,
        2: Loaded,
        3: Broken,
        4: Offer,
        5: Withdraw,
        6: Resolve,
        7: ListServices,
        8: FindByCapability,
        9: GetConfig,
        10: SetConfig,
    },
)

# --- daemon and client ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDetails:
    """What a client says of itself; `incarnation` is what an earlier daemon gave it, or 0."""

    name: str
    pid: int
    incarnation: int
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWelcome:
    """The daemon takes the client on; the ticket opens the node's socket once."""

    epoch: int
    incarnation: int
    ticket: bytes
    node_socket: str


@dataclass(frozen=True, slots=True)
class LoadPlugins:
    """Load what lies at these places; answered when each is ready or has failed."""

    request: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class UnloadPlugin:
    """Stop a plugin and forget it."""

    request: str
    plugin_id: str


@dataclass(frozen=True, slots=True)
class RestartPlugin:
    """Stop a plugin and start it again; a person's restart is never refused."""

    request: str
    plugin_id: str


@dataclass(frozen=True, slots=True)
class InitializeAll:
    """Wait until every plugin is ready or has failed, then publish SystemInit."""

    request: str


@dataclass(frozen=True, slots=True)
class ListPlugins:
    """Ask for every plugin; `fresh` has the workers measured first."""

    request: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask how the daemon itself is."""

    request: str


@dataclass(frozen=True, slots=True)
class GrantPermissions:
    """Grant a plugin what it asks for; answered when it is ready or has failed.

    Attributes:
        permissions: The part that is granted, as `parse_permissions` reads it; None is all.
        digest: Of what the operator was shown; if it asks for anything else by now that is refused.
            Empty for whatever it asks for.
    """

    request: str
    plugin_id: str
    permissions: Mapping[str, object] | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RevokePermissions:
    """Take a plugin's grant away; answered when it goes on without, or has stopped."""

    request: str
    plugin_id: str


@dataclass(frozen=True, slots=True)
class ListPermissions:
    """Ask what a plugin asks for, was granted and may do; without an id, what each one does."""

    request: str
    plugin_id: str = ""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Publish SystemShutdown, unload everything in reverse order, end."""

    request: str


ClientQuestion: TypeAlias = (
    Question
    | LoadPlugins
    | UnloadPlugin
    | RestartPlugin
    | InitializeAll
    | ListPlugins
    | GetStatus
    | ShutDown
    | GrantPermissions
    | RevokePermissions
    | ListPermissions
)
ToClient: TypeAlias = Refused | ClientWelcome | Answer | Refusal
FromClient: TypeAlias = ClientDetails | Offer | Withdraw | ClientQuestion

TO_CLIENT: Final[Conversation[ToClient]] = Conversation(
    "daemon to client", {1: Refused, 2: ClientWelcome, 3: Answer, 4: Refusal}
)
FROM_CLIENT: Final[Conversation[FromClient]] = Conversation(
    "client to daemon",
    {
        1: ClientDetails,
        2: Offer,
        3: Withdraw,
        4: Resolve,
        5: ListServices,
        6: FindByCapability,
        7: GetConfig,
        8: SetConfig,
        9: LoadPlugins,
        10: UnloadPlugin,
        11: RestartPlugin,
        12: InitializeAll,
        13: ListPlugins,
        14: GetStatus,
        15: ShutDown,
        16: GrantPermissions,
        17: RevokePermissions,
        18: ListPermissions,
    },
)

# --- node and endpoint: the umbilical of a worker, the node's socket for a client ----------------


@dataclass(frozen=True, slots=True)
class WorkerDetails:
    """Which layers a worker has applied to itself; the node checks what the kernel shows."""

    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClientTicket:
    """What a client shows to the node."""

    ticket: bytes


@dataclass(frozen=True, slots=True)
class Greeted:
    """The node knows this endpoint."""

    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOpened:
    """One end of a lane; its descriptor travels with the packet.

    Attributes:
        request: The caller's question that this answers; empty for the callee.
        peer: The other side's incarnation, `peer_name` its plugin's id or application's name.
        service: What the caller asked for, and `idempotent` those of its methods that may be
            called again when a call was lost; both empty for the callee.
        services: What the caller may call, as patterns, and `call_rate` how often a second; told to
            the callee. A lane would serve all that it offers.
    """

    lane: int
    request: str
    peer: int
    peer_name: str
    service: str = ""
    idempotent: tuple[str, ...] = ()
    services: tuple[str, ...] = ("*",)
    call_rate: float = inf


@dataclass(frozen=True, slots=True)
class Down:
    """Somebody that this endpoint has lanes with is gone."""

    incarnation: int
    name: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class DaemonChanged:
    """A daemon is there, or none is. Questions that were on their way have to be asked again."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send this endpoint the events of a pattern; answered when none published from now on is
    missed, with what is kept of the past: see `Recall`.
    """

    request: str
    pattern: str
    last: int
    since: float


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Send no more of them."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription holds; `frames` are the runs that hold what was asked of the past."""

    request: str
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """So many events of this endpoint have entered the bus, or were given up; it may send more."""

    events: int
    size: int


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of an event of this endpoint's, by the number that it gave it.

    Attributes:
        failures: Subscribers and what their callbacks raised; the first of them.
    """

    report: int
    matched: int
    delivered: int
    failures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A call of this endpoint can never be answered: it waits, over others, for itself.

    Attributes:
        number: The call's number; this endpoint has told that it waits for it.
        circle: Who waits for whom, for people: `a -> b -> a`.
    """

    number: int
    circle: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Ask how a peer ended, because a lane with it has: `Down` says so, or `Unexplained`."""

    request: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Unexplained:
    """No death is about to be told that would explain the lane's end: the peer lives, or its death
    has been told, or it is no peer of the one who asks."""

    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A thread of this endpoint owes a call an answer and waits for one of its own first.

    Attributes:
        waits: The number of its own call, and `waits_for` the callee's incarnation.
        holds: The number of the call that it owes an answer: one that it holds until it waits no
            longer, or one that it is in the middle of. `holds_of` is the caller's incarnation.
    """

    waits: int
    waits_for: int
    holds: int
    holds_of: int


@dataclass(frozen=True, slots=True)
class WaitOver:
    """A wait that `Held` has told of is over, however it ended."""

    waits: int


@dataclass(frozen=True, slots=True)
class Allocate:
    """Ask for a segment: shared memory for what the other end of a lane will read.

    Attributes:
        lane: The lane, of which the one who asks holds one end; 0 for one that is shared later.
        size: Bytes, whole pages.
    """

    request: str
    lane: int
    size: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """Its writer has mapped a segment; nobody else may map it for writing any more."""

    request: str
    segment: int


@dataclass(frozen=True, slots=True)
class Share:
    """Let the other end of a lane read a segment too."""

    request: str
    segment: int
    lane: int


@dataclass(frozen=True, slots=True)
class Release:
    """Its writer has no use for a segment any more; readers keep what they still look at."""

    segment: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """A segment, for its writer; its descriptor travels with the packet."""

    request: str
    segment: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A segment is sealed, and its reader has been sent it."""

    request: str


@dataclass(frozen=True, slots=True)
class Shared:
    """A segment that the other end of a lane writes; its descriptor travels with the packet."""

    lane: int
    segment: int
    size: int


@dataclass(frozen=True, slots=True)
class Unshared:
    """Nothing more will lie in a segment; of a lane that is over, in any: the number is 0."""

    lane: int
    segment: int


@dataclass(frozen=True, slots=True)
class LaneClosed:
    """The callee's end of a lane has come to its end."""

    lane: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events that never entered the bus, because its rings were full for too long."""

    topic: str
    count: int


@dataclass(frozen=True, slots=True)
class CallbacksRan:
    """This endpoint has run its callbacks for an event whose publisher waits for that.

    Attributes:
        incarnation: The publisher's.
        failures: What the first of those that failed raised.
    """

    incarnation: int
    report: int
    matched: int
    failed: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WasDenied:
    """This endpoint was refused something, by its kernel or its own library: see `Denied`."""

    permission: str
    what: str
    count: int


ToEndpoint: TypeAlias = (
    Refused
    | Greeted
    | LaneOpened
    | Down
    | DaemonChanged
    | Subscribed
    | Published
    | Reported
    | Deadlock
    | Allocated
    | Ready
    | Shared
    | Unshared
    | Refusal
    | Ping
    | Unexplained
)
FromEndpoint: TypeAlias = (
    WorkerDetails
    | ClientTicket
    | Subscribe
    | Unsubscribe
    | Dropped
    | LaneClosed
    | Held
    | WaitOver
    | Allocate
    | Mapped
    | Share
    | Release
    | CallbacksRan
    | Pong
    | WasDenied
    | Explain
)

TO_ENDPOINT: Final[Conversation[ToEndpoint]] = Conversation(
    "node to endpoint",
    {
        1: Refused,
        2: Greeted,
        3: LaneOpened,
        4: Down,
        5: DaemonChanged,
        6: Subscribed,
        7: Published,
        8: Deadlock,
        9: Allocated,
        10: Ready,
        11: Shared,
        12: Unshared,
        13: Refusal,
        14: Reported,
        15: Ping,
        16: Unexplained,
    },
)
FROM_ENDPOINT: Final[Conversation[FromEndpoint]] = Conversation(
    "endpoint to node",
    {
        1: WorkerDetails,
        2: ClientTicket,
        3: Subscribe,
        4: Unsubscribe,
        5: Dropped,
        6: LaneClosed,
        7: Held,
        8: WaitOver,
        9: Allocate,
        10: Mapped,
        11: Share,
        12: Release,
        13: CallbacksRan,
        14: Pong,
        15: WasDenied,
        16: Explain,
    },
    longest=64,  # what a worker can say to its node must not take the others' time
)

HELLO: Final[Conversation[Hello]] = Conversation("handshake", {0: Hello})
