//! Made-up events: every field can be made, and from what.

use std::collections::BTreeSet;

use engine::{plan::ColumnPlan, value::Type};

use super::exactly_one;
use crate::{
    expression::{
        scope::{Scope, ScopeColumn},
        typed,
    },
    lower::{columns_of, positive, type_of, unknown},
    problem::{Report, field},
    spec::{Generator, Ingester, OneOf, Ordered, PipelineSpec, Synthetic},
};

pub(super) fn check(spec: &PipelineSpec, ingester: &Ingester, synthetic: &Synthetic, path: &str, report: &mut Report) {
    let fields_path = field(path, "fields");
    if synthetic.fields.is_empty() && !synthetic.realistic && !report.lost(&fields_path) {
        let problem = report.problem(&fields_path, "a generator says what the fields look like");
        report.push(problem.accepts("fields, or realistic: true"));
    }
    if let Some(duration) = synthetic.duration {
        positive(report, &field(path, "duration"), duration);
    }
    if let Some(late) = &synthetic.late {
        positive(report, &field(&field(path, "late"), "by"), late.by);
    }
    start(synthetic, path, report);
    let columns = columns_of(spec, synthetic);
    let scope = scope(spec, ingester, synthetic, &columns, report.lost(&fields_path));
    for (name, generator) in synthetic.fields.iter() {
        let path = field(&fields_path, name);
        one(spec, generator, &scope, &path, report);
    }
    if let Err(circle) = generation_order(synthetic) {
        let path = field(&fields_path, circle.first().map_or("", String::as_str));
        let problem = report.problem(&path, "the fields need each other in a circle");
        report.push(problem.found(circle.join(" → ")));
    }
}

fn start(synthetic: &Synthetic, path: &str, report: &mut Report) {
    let Some(start_at) = &synthetic.start_at else { return };
    let path = field(path, "startAt");
    if crate::expression::timestamp(start_at).is_none() {
        let problem = report.problem(&path, "is no time");
        report.push(problem.accepts("an RFC 3339 time such as 2025-01-31T12:00:00Z"));
    }
    if synthetic.events_per_second.is_none() {
        report.add(&path, "the generator's clock runs by eventsPerSecond, which is missing");
    }
}

/// What expressions of the generator see: its fields, and the columns of lookups that `from` fields choose.
fn scope(spec: &PipelineSpec, ingester: &Ingester, synthetic: &Synthetic, columns: &[ColumnPlan], lost: bool) -> Scope {
    let mut scope = Scope::of(columns);
    scope.what = format!("ingester {}", ingester.name);
    scope.incomplete = lost;
    let chosen = synthetic.fields.iter().filter_map(|(_, generator)| generator.from.as_deref());
    for lookup in chosen.filter_map(|name| spec.lookups.iter().find(|lookup| lookup.name == name)) {
        // Which columns the file has is not known here: only declared ones are certain.
        for declared in &lookup.fields {
            scope.push(&format!("{}.{}", lookup.name, declared.name), Some(type_of(declared.ty)));
        }
        scope.open.push(lookup.name.clone());
    }
    scope.columns.iter_mut().enumerate().for_each(|(id, column): (usize, &mut ScopeColumn)| column.id = id);
    scope
}

fn one(spec: &PipelineSpec, generator: &Generator, scope: &Scope, path: &str, report: &mut Report) {
    let kinds = [
        ("uuid", generator.uuid.is_some()),
        ("sequence", generator.sequence.is_some()),
        ("oneOf", generator.one_of.is_some()),
        ("choice", generator.choice.is_some()),
        ("weighted", generator.weighted.is_some()),
        ("now", generator.now.is_some()),
        ("decimal", generator.decimal.is_some()),
        ("integer", generator.integer.is_some()),
        ("const", generator.constant.is_some()),
        ("template", generator.template.is_some()),
        ("expression", generator.expression.is_some()),
        ("sessionOf", generator.session_of.is_some()),
        ("from", generator.from.is_some()),
    ];
    exactly_one(report, path, "a generated field", &kinds);
    formats(generator, path, report);
    ranges(generator, path, report);
    if let Some(weighted) = &generator.weighted {
        weights(weighted, &field(path, "weighted"), report);
    }
    if let Some(lookup) = &generator.from
        && !spec.lookups.iter().any(|known| known.name == *lookup)
    {
        let names = spec.lookups.iter().map(|lookup| lookup.name.as_str());
        unknown(report, &field(path, "from"), "lookup", lookup, "spec.lookups", names);
    }
    if let Some(text) = &generator.expression
        && let Err(problems) = typed(text, &mut scope.clone(), None)
    {
        report.expression(&field(path, "expression"), problems);
    }
    references(generator, scope, path, report);
    cases(generator, scope, path, report);
}

fn cases(generator: &Generator, scope: &Scope, path: &str, report: &mut Report) {
    for (at, case) in generator.cases.iter().enumerate() {
        let path = format!("{path}.cases[{at}]");
        let kinds = [
            ("weighted", case.weighted.is_some()),
            ("choice", case.choice.is_some()),
            ("const", case.constant.is_some()),
        ];
        exactly_one(report, &path, "a case", &kinds);
        if let Some(weighted) = &case.weighted {
            weights(weighted, &field(&path, "weighted"), report);
        }
        if let Err(problems) = typed(&case.when, &mut scope.clone(), Some(Type::Boolean)) {
            report.expression(&field(&path, "when"), problems);
        }
    }
}

/// Fields that are named without being an expression.
fn references(generator: &Generator, scope: &Scope, path: &str, report: &mut Report) {
    let mut check = |name: &str, part: &str| {
        if scope.get(name).is_none() && !scope.incomplete {
            let problem = report.problem(&field(path, part), format!("unknown field {name}"));
            report.push(problem.one_of(name, scope.names()));
        }
    };
    if let Some(name) = &generator.fixed_per {
        check(name, "fixedPer");
    }
    if let Some(session) = &generator.session_of {
        check(&session.key, "sessionOf.key");
    }
    if let Some(template) = &generator.template {
        placeholders(template).for_each(|name| check(name, "template"));
    }
}

/// The names in braces.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

fn formats(generator: &Generator, path: &str, report: &mut Report) {
    let mut check = |format: &str, part: &str| {
        if !is_format(format) {
            let problem = report.problem(&field(path, part), "must hold one number");
            report.push(problem.accepts("text with one %d, or %04d for leading zeros; %% is a per cent sign"));
        }
    };
    if let Some(format) = generator.sequence.as_ref().and_then(|sequence| sequence.format.as_deref()) {
        check(format, "sequence.format");
    }
    if let Some(session) = &generator.session_of {
        check(&session.format, "sessionOf.format");
    }
    if let Some(OneOf { format, share, .. }) = &generator.one_of {
        check(format, "oneOf.format");
        let sum: f64 = share.values().sum();
        if share.values().any(|value| *value < 0.0) || sum > 1.0 {
            let problem = report.problem(&field(path, "oneOf.share"), "shares are from 0 to 1, also their sum");
            report.push(problem.found(format!("a sum of {sum}")));
        }
    }
    if let Some(session) = &generator.session_of {
        positive(report, &field(path, "sessionOf.idle"), session.idle);
    }
}

/// Whether `format` has exactly one `%d` or `%0Nd`.
fn is_format(format: &str) -> bool {
    let plain = format.replace("%%", "");
    let mut parts = plain.split('%').skip(1);
    let number = |part: &str| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        digits <= 2 && part[digits..].starts_with('d')
    };
    parts.next().is_some_and(number) && parts.next().is_none()
}

fn ranges(generator: &Generator, path: &str, report: &mut Report) {
    let decimal = generator.decimal.as_ref().is_some_and(|range| range.min > range.max);
    let integer = generator.integer.as_ref().is_some_and(|range| range.min > range.max);
    for (part, wrong) in [("decimal", decimal), ("integer", integer)] {
        if wrong {
            report.add(&field(path, part), "min must be at most max");
        }
    }
}

fn weights(weighted: &Ordered<f64>, path: &str, report: &mut Report) {
    let mut negative = weighted.iter().filter(|(_, weight)| **weight < 0.0);
    if let Some((name, _)) = negative.next() {
        report.add(&field(path, name), "a weight is at least 0");
    } else if weighted.iter().map(|(_, weight)| *weight).sum::<f64>() <= 0.0 {
        report.add(path, "at least one weight is more than 0");
    }
}

/// The order in which the fields can be made, each after those that it needs.
///
/// # Errors
/// The fields of a circle.
pub fn generation_order(synthetic: &Synthetic) -> Result<Vec<&str>, Vec<String>> {
    let fields: Vec<(&str, BTreeSet<String>)> =
        synthetic.fields.iter().map(|(name, generator)| (name, needs(generator))).collect();
    let mut order: Vec<&str> = Vec::new();
    while order.len() < fields.len() {
        let waiting = || fields.iter().filter(|(name, _)| !order.contains(name));
        let ready = |needs: &BTreeSet<String>| !waiting().any(|(other, _)| needs.contains(*other));
        match waiting().find(|(_, needs)| ready(needs)).map(|(name, _)| *name) {
            Some(name) => order.push(name),
            None => return Err(waiting().map(|(name, _)| (*name).to_owned()).collect()),
        }
    }
    Ok(order)
}

/// The words that may be fields which `generator` needs. An expression's words are taken by their letters: a word more
/// only makes the order stricter.
fn needs(generator: &Generator) -> BTreeSet<String> {
    let mut needs: BTreeSet<String> = generator.fixed_per.iter().cloned().collect();
    needs.extend(generator.session_of.iter().map(|session| session.key.clone()));
    needs.extend(generator.template.iter().flat_map(|template| placeholders(template)).map(str::to_owned));
    let texts = generator.expression.iter().chain(generator.cases.iter().map(|case| &case.when));
    for text in texts {
        let mut bare = String::new();
        // Text constants hold no names.
        text.split('\'').step_by(2).for_each(|part| bare.push_str(part));
        let words = bare.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '.'));
        needs.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_hold_one_number() {
        let check = |format: &str, want: bool| assert_eq!(is_format(format), want, "{format}");
        check("evt_%08d", true);
        check("%d", true);
        check("100%% of %d", true);
        check("evt_", false);
        check("%d-%d", false);
        check("%s", false);
        check("%", false);
    }
}
