//! Synthetic events.
pub mod clock;
pub mod compile;
mod feed;
pub mod field;
mod fill;
pub mod generator;
pub mod lookup;
pub mod pattern;
pub mod random;
mod realistic;
mod render;
mod sessions;
mod ways;
#[cfg(test)]
mod tests;
pub use feed::Feed;
