//! `clickstream plan`: what will be computed, for people.

use crate::Checked;

/// Describes the plan of a manifest.
#[must_use]
pub fn describe(checked: &Checked) -> String {
    format!("pipeline {}\n", checked.manifest.name)
}
