//! Bounds of the sinks, with their arithmetic.

use std::time::Duration;

/// Bytes of records that wait in memory for their row group. Cells take about twice their JSON: some 20 MiB a source.
pub const ROW_GROUP_BYTES: usize = 8 << 20;

/// Days or hours that have an open file; with more, all files are closed. Each costs a descriptor and some KiB.
pub const OPEN_FILES_MAX: usize = 64;

/// Bytes that a sink reads at a time.
pub const READ_BYTES: usize = 2 << 20;

/// How long a sink waits before it looks whether it should end or close a file.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
