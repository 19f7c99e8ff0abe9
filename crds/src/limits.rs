//! Every bound on a manifest's text. Bounds on single fields are in the schema.

/// Bytes of a manifest. etcd takes objects of 1.5 MiB; nothing larger could ever be applied.
pub const TEXT_BYTES_MAX: usize = 3 << 19;

/// Depth of nested lists and maps. The deepest field of the schema lies at 11.
pub const YAML_DEPTH_MAX: usize = 64;

/// Nodes after aliases are followed: ten times what 1.5 MiB of plain scalars need at 80 bytes each. An alias bomb
/// passes it after a few doublings.
pub const YAML_NODES_MAX: usize = 200_000;

/// Problems that are told. Beyond it the first ones must be put right first.
pub const PROBLEMS_MAX: usize = 200;

/// Bytes of a value that a problem quotes.
pub const FOUND_BYTES_MAX: usize = 120;

/// Depth of an expression. Parsing, typing and evaluation recurse; 50 is what sqlparser allows itself.
pub const EXPRESSION_DEPTH_MAX: usize = 50;

/// Nodes of an expression after references to other columns are put in their place.
pub const EXPRESSION_NODES_MAX: usize = 10_000;

/// Windows that one event may fall into: a row for each is touched.
pub const WINDOWS_PER_EVENT_MAX: i64 = 1_000;

/// Panes of a hopping window (its size over gcd(size, every)): each open window adds up so many.
pub const PANES_PER_WINDOW_MAX: i64 = 10_000;
