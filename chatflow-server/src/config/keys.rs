//! Every key: what it means, and what it may be.

use std::fmt;

/// What a key's value may be. Where serde can't say it, this is checked as well; it is what an error tells.
#[derive(Debug, Clone, Copy)]
pub(super) enum Allowed {
    /// A whole number in this range.
    Number(i64, i64),
    /// A duration in this range, in milliseconds.
    Time(u64, u64),
    /// `true` or `false`.
    Truth,
    /// One of these texts.
    One(&'static [&'static str]),
    /// A text of this form.
    Form(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(least, most) => write!(f, "a whole number from {least} to {most}"),
            Self::Time(least, most) => write!(f, "a duration such as \"5s\", from {} to {}", Millis(*least), Millis(*most)),
            Self::Truth => f.write_str("true or false"),
            Self::One(texts) => write!(f, "one of {}", texts.join(", ")),
            Self::Form(form) => f.write_str(form),
        }
    }
}

struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}s", self.0 / 1000) } else { write!(f, "{}ms", self.0) }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// `section.key`.
    pub(super) path: &'static str,
    /// What it means.
    pub(super) about: &'static str,
    /// What it may be.
    pub(super) allowed: Allowed,
    /// Whether its value must not be shown.
    pub(super) secret: bool,
}

const fn key(path: &'static str, allowed: Allowed, about: &'static str) -> Key {
    Key { path, about, allowed, secret: false }
}

use Allowed::{Form, Number, One, Time, Truth};

const RANGE: Allowed = Form("a range such as \"1..500\"");
const GIB: i64 = 1 << 30;
const MANY: i64 = 100_000_000;
const HOUR: u64 = 3_600_000;

/// The keys, in the order of the default configuration.
pub(super) const KEYS: &[Key] = &[
    key("server.listen", Form("an IP address and port such as 127.0.0.1:8080; port 0 takes a free one"), "Where clients connect."),
    key(
        "server.admin_listen",
        Form("an IP address and port such as 127.0.0.1:9090, or empty; a loopback address unless admin.token is set"),
        "A second address that serves admin calls, without a token when it is loopback. Empty: none.",
    ),
    key(
        "server.public_url",
        Form("an http:// or https:// URL without a path, or empty"),
        "How clients reach this server, when that is not the address that it listens on: other nodes and clients are told it, and its origin is taken as same-origin.",
    ),
    key(
        "server.origins",
        Form("a list of origins such as \"https://chat.example.com\""),
        "Other sites whose pages may connect, exactly as browsers name them.",
    ),
    key("server.drain", Time(0, HOUR), "How long a shutdown may take before connections are cut."),
    key("server.threads", Number(0, 1024), "Worker threads; 0 takes one for each processor that the process may use."),
    key(
        "node.id",
        Form("1 to 64 of A-Z a-z 0-9 . _ -, or empty"),
        "This node's name, unique among the nodes that share a store, a broker or a directory, and the same after a restart. Empty: host name and port.",
    ),
    key(
        "node.roles",
        Form("a list of one or more of gateway, history, api"),
        "What the node does: gateway serves WebSockets, history writes the history, api answers /api/v1.",
    ),
    key(
        "cluster.directory",
        Form("none, broker:, redis://HOST, rediss://HOST, redis-cluster://HOST,HOST, rediss-cluster://HOST,HOST, or empty"),
        "Where nodes find each other. Empty: through the broker where nodes share it (broker:), else none.",
    ),
    key(
        "rooms.allow",
        Form("room names and ranges of numbers such as \"1..20, lobby\", or empty"),
        "The rooms that there are. Empty: any name of 1 to 64 of A-Z a-z 0-9 _ - is a room.",
    ),
    key(
        "rooms.strip_prefix",
        Form("up to 63 of A-Z a-z 0-9 _ -"),
        "Taken off the front of a room's name in a URL or message: with \"room\", room7 is another name of room 7.",
    ),
    key(
        "broker.url",
        Form(
            "memory:, redis://HOST, rediss://HOST, redis-cluster://HOST,HOST, rediss-cluster://HOST,HOST, amqp://HOST, amqps://HOST or sqs://REGION",
        ),
        "The broker. Users and passwords go into the URL as in redis://user:password@host:6379; for sqs: they come from the environment.",
    ),
    key(
        "broker.prefix",
        Form("1 to 32 of A-Z a-z 0-9 _ -"),
        "What all names at a broker that nodes share, and in a directory, begin with: nodes with the same one belong together.",
    ),
    key("broker.logs", Number(1, 1024), "Logs that rooms are spread over."),
    key("broker.entries", Number(16, MANY), "The most messages of one log that wait for the history."),
    key("broker.bytes", Number(1 << 16, 64 * GIB), "The most bytes of one log that wait for the history."),
    key(
        "broker.retain",
        Number(0, MANY),
        "Messages of each log that stay readable once the history has them (RabbitMQ keeps whole segments instead).",
    ),
    key(
        "store.url",
        Form("none, memory:, sqlite:FILE, postgres://HOST/DATABASE or mysql://HOST/DATABASE"),
        "The history. Users and passwords go into the URL as in postgres://user:password@host:5432/database.",
    ),
    key(
        "store.reader_url",
        Form("a URL as store.url, or empty"),
        "Where pages of the history are read (postgres: and mysql:): a replica of store.url. What it lacks of a page is read at store.url; lists of rooms and numbers are as old as the replica. Empty: at store.url.",
    ),
    key("store.writers", Number(1, 256), "Connections that write (postgres: and mysql:)."),
    key("store.readers", Number(1, 64), "Connections that read beside those that write (sqlite:, postgres: and mysql:)."),
    key(
        "store.lease",
        Time(1_000, 600_000),
        "How long a node that is not heard of keeps its place as the writer of a log, where nodes share the history.",
    ),
    key(
        "store.migrate",
        Truth,
        "Whether the start makes and updates the tables (postgres: and mysql:); false: `chatflow-server migrate` does, perhaps as another user.",
    ),
    key(
        "store.summaries",
        Truth,
        "Whether questions about users and numbers are answered from summaries (sqlite:, postgres: and mysql:), which are counted after the commits; false: from the messages themselves.",
    ),
    key(
        "store.retention",
        Form("0s, or a duration such as \"30d\" that is no shorter than engine.dedup_window"),
        "How long messages are kept: older ones are removed by the node that writes their log, but for the newest of each room. 0 = for ever.",
    ),
    key("store.keep", Number(1, MANY), "The newest messages of each room that are kept (memory: only)."),
    key(
        "store.dead_letters",
        Form("a file's path, or empty"),
        "Where messages are kept that the store refuses for good. Empty: FILE.dead-letters beside the SQLite file, NODE.dead-letters in the current folder where nodes share the history; in memory without any.",
    ),
    key("backup.every", Time(0, 365 * 24 * HOUR), "How often the history is copied into a file of its own; 0 = never."),
    key("backup.dir", Form("a folder"), "Where those files go. It is made if it is not there."),
    key("backup.keep", Number(1, 100_000), "How many of them are kept; older ones are removed."),
    key(
        "cache.url",
        Form("none, memory:, redis://HOST or rediss://HOST"),
        "The cache in front of the history: in this process (memory:), with one behind it that nodes share (redis:), or none. A history in memory has none.",
    ),
    key("cache.bytes", Number(1 << 16, 1024 * GIB), "Bytes of pages in this process."),
    key("cache.idle", Time(1_000, 24 * HOUR), "How long a page is kept that nobody asks for."),
    key("cache.figures", Time(0, HOUR), "How old figures (analytics) may be; 0 counts anew for everybody."),
    key(
        "engine.delivery",
        One(&["broadcast", "answer-only"]),
        "broadcast: every member of the room is sent the message. answer-only: only the sender is answered, with the message's fields.",
    ),
    key("engine.live", One(&["committed", "accepted"]), "When members see a message: once it is safe, or (sooner) once the broker has it."),
    key("engine.frame", Number(1024, 16 << 20), "The largest frame and message from a client, in bytes."),
    key("engine.in_flight", Number(1, 1_000_000), "Messages of one connection that wait for their answer, beyond which it is not read."),
    key("engine.rooms", Number(1, 1_000_000), "Rooms on one connection."),
    key(
        "engine.slow_policy",
        One(&["disconnect", "skip"]),
        "What happens to a member that reads too slowly: disconnect (3008, resumable), or skip to the present with a gap event.",
    ),
    key("engine.slow_bytes", Number(1 << 12, 64 * GIB), "Bytes that may wait for one member."),
    key("engine.slow_messages", Number(1, MANY), "Messages that may wait for one member."),
    key("engine.recent_messages", Number(0, MANY), "Messages of each room that stay in memory for members who come back."),
    key("engine.recent_bytes", Number(1 << 16, 1024 * GIB), "Bytes of recent messages in memory, all rooms together."),
    key("engine.history", Number(0, 1000), "The largest history that a join may ask for."),
    key("engine.presence_members", Number(0, 1_000_000), "Rooms up to this many members tell them who comes and goes; 0 = off."),
    key("engine.catch_ups", Number(1, 10_000), "Members that read the store at the same time to catch up."),
    key("engine.dedup_messages", Number(0, MANY), "Message ids that are remembered for each log to tell repeats before a store does."),
    key("engine.dedup_window", Time(0, 24 * HOUR), "How long message ids are remembered."),
    key("engine.batch_rows", Number(1, 100_000), "The most messages in one commit to the store."),
    key("engine.batch_bytes", Number(1 << 12, GIB), "The most bytes in one commit to the store."),
    key("engine.ping", Time(100, HOUR), "How long a silent connection goes without a ping."),
    key("engine.pong", Time(100, HOUR), "How long after the ping a connection must have said something."),
    key("engine.authentication", Time(100, HOUR), "How long finding out who connects may take."),
    key("engine.write", Time(100, HOUR), "How long the last frames of a closing connection may take."),
    key("limits.connections", Number(0, 10_000_000), "WebSocket connections on this node, beyond which 503 is answered; 0 = off."),
    key(
        "limits.connections_per_address",
        Number(0, 10_000_000),
        "The same for one client address (loopback is exempt; behind a trusted proxy the forwarded address counts); 0 = off.",
    ),
    key("limits.connections_per_user", Number(0, 10_000_000), "The same for one authenticated user; 0 = off."),
    key(
        "limits.trusted_proxies",
        Form("a list of IP addresses and networks such as \"10.0.0.0/8\""),
        "Proxies whose X-Forwarded-For says who the client is. From others the header is ignored.",
    ),
    key("limits.body", Number(1024, 16 << 20), "The largest HTTP body, in bytes."),
    key("limits.headers", Number(8192, 1 << 20), "The largest HTTP request head, in bytes."),
    key("limits.handshake", Time(50, 600_000), "How long a client may take to send a request, and stay silent between two."),
    key(
        "limits.publish_rate",
        Number(0, 1_000_000),
        "Messages per second that an authenticated user may publish, twice that in a burst; 0 = off.",
    ),
    key("limits.publish_rate_anonymous", Number(0, 1_000_000), "The same for a connection without authentication; 0 = off."),
    key("validator.message", RANGE, "Length of a message's text, in characters."),
    key("validator.username", RANGE, "Length of a username, in characters."),
    key("validator.username_alphanumeric", Truth, "Whether a username may hold only A-Z a-z 0-9."),
    key(
        "validator.user_id",
        Form("a range such as \"1..100000\", or \"any\""),
        "What a userId must be a whole number of; any: any text of 1 to 128 bytes.",
    ),
    key("validator.kinds", Form("a list of message types, each 1 to 32 of A-Z a-z 0-9 _ -"), "The message types that are taken."),
    key("log.level", Form("error, warn, info, debug, trace, or a filter such as \"info,chatflow_core=debug\""), "What is logged."),
    key("log.format", One(&["auto", "text", "json"]), "auto: text on a terminal, JSON otherwise."),
    key("auth.required", Truth, "Whether everybody must show a token, of the API as well. Otherwise whoever shows none is anonymous."),
    Key {
        secret: true,
        ..key(
            "auth.secret",
            Form("32 or more printable ASCII characters without spaces, or empty"),
            "What tokens are signed with, the same on all nodes. Empty: a secret that was made with the store.",
        )
    },
    key("auth.token_ttl", Time(60_000, 365 * 24 * HOUR), "How long a login is good."),
    key("auth.ticket_ttl", Time(1_000, HOUR), "How long a ticket is good."),
    key(
        "auth.notice",
        Time(0, HOUR),
        "How long a node may take to notice that a session was ended or an account changed; 0 asks the store each time.",
    ),
    key(
        "auth.login_rate",
        Number(0, 1_000_000),
        "Attempts to log in that fail, in a minute: so many from one address, and so many under one name; 0 = off.",
    ),
    Key {
        secret: true,
        ..key(
            "admin.token",
            Form("16 or more printable ASCII characters without spaces, or empty"),
            "Whoever shows it (Authorization: Bearer) may make admin calls. Empty: nobody may, except on server.admin_listen.",
        )
    },
];

/// The key called `path`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key that was probably meant.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let name = |path: &str| path.split('.').next_back().unwrap_or_default().to_owned();
    // The right name in the wrong section is as likely as a slip of the finger.
    let moved = KEYS.iter().filter(|key| name(key.path) == name(path)).map(|key| key.path);
    let distance = |key: &&str| strsim::damerau_levenshtein(key, path);
    let close = KEYS.iter().map(|key| key.path).min_by_key(distance).filter(|key| distance(key) <= 3);
    close.or_else(|| Some(moved).filter(|m| m.clone().count() == 1)?.next())
}
