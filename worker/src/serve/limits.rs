//! Bounds of the server, each with its reason.

use std::time::Duration;

/// Connections at once; at 64 kB of buffers each this is 32 MB.
pub const CONNECTIONS_MAX: usize = 512;

/// Listeners to events at once. Browsers hold six connections to a host, so this is many tabs.
pub const LISTENERS_MAX: usize = 128;

/// How long a client may take to send the head of a request, also of the next one on the same connection.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a request may take, its body included, until its answer begins. Above [`crate::store::limits::QUERY_TIME_MAX`].
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);

/// How long a query waits for its turn.
pub const TURN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the server waits at its end for requests under way.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Changes are gathered for so long before they are announced: the page asks anew a few times a second at most.
pub const GATHER_TIME: Duration = Duration::from_millis(200);

/// A comment is sent after so long without news, so that proxies keep the connection and dead ones are noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Dead letters a page may ask for: at most 64 kB each.
pub const DEAD_LETTERS_MAX: usize = 1_000;

/// Dead letters when nobody says.
pub const DEAD_LETTERS_DEFAULT: usize = 50;

/// Alerts a page may ask for.
pub const ALERTS_MAX: u64 = 10_000;

/// Pause before the next connection is accepted when the process has no file descriptors left.
pub const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(100);

/// Clients that follow topics at once: each keeps a thread waiting.
pub const TAILS_MAX: usize = 16;

/// Records of each partition that a follower may ask for at first, and those it gets unless it says.
pub const TAIL_LAST_MAX: u64 = 1_000;

/// See [`TAIL_LAST_MAX`].
pub const TAIL_LAST_DEFAULT: u64 = 10;

/// How long a follower's thread waits before it looks whether the server stops.
pub const TAIL_WAIT: Duration = Duration::from_millis(500);
