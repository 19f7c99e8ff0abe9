//! Looking up what a manifest names, and complaining well where it is not there.

use engine::value::Type;

use crate::{
    expression::scope::{Scope, ScopeColumn},
    problem::{Report, quote},
    spec::Duration,
};

/// Columns that every table has besides its own.
pub(crate) const RESERVED: [&str; 4] = ["window_start", "window_end", "final", "version"];

/// Finds the column called `name`, of type `ty` if one is wanted; `path` is the field that names it.
pub(super) fn find(report: &mut Report, path: &str, scope: &Scope, name: &str, ty: Option<Type>) -> Option<usize> {
    match scope.get(name) {
        Some(ScopeColumn { id, ty: found, .. }) => {
            if let (Some(ty), Some(found)) = (ty, found)
                && ty != *found
            {
                report.add(path, format!("must name a {} column, and {name} is a {}", ty.name(), found.name()));
            }
            Some(*id)
        }
        None => {
            if !scope.incomplete {
                let problem = report.problem(path, format!("unknown column {name} in {}", scope.what));
                report.push(problem.one_of(name, scope.names()));
            }
            None
        }
    }
}

/// Adds a column to `scope`; its name must be free.
pub(super) fn add(report: &mut Report, path: &str, scope: &mut Scope, name: &str, ty: Option<Type>) {
    if scope.get(name).is_some() {
        report.add(path, format!("{} already has a column {name}", scope.what));
    }
    scope.push(name, ty);
}

/// Complains that `name` is not in the list at `list`, unless it was left out of it.
pub(crate) fn unknown<'a>(
    report: &mut Report,
    path: &str,
    what: &str,
    name: &str,
    list: &str,
    names: impl Iterator<Item = &'a str>,
) {
    let (lost, unnamed) = report.lost_items(list);
    if unnamed || lost.iter().any(|lost| lost == name) {
        return;
    }
    let problem = report.problem(path, format!("unknown {what} {}", quote(name)));
    report.push(problem.one_of(name, names));
}

/// Complains about a duration of zero.
pub(crate) fn positive(report: &mut Report, path: &str, duration: Duration) {
    if duration.millis == 0 {
        report.add(path, "must be longer than zero");
    }
}
