//! Near misses: the names that a mistyped name may have meant.

/// Returns the name nearest to `wanted`, if one is near; otherwise all names.
pub fn nearest_or_all<'a>(wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    match nearest(wanted, names.clone()) {
        Some(name) => vec![name.into()],
        None => names.map(Into::into).collect(),
    }
}

/// Returns the name nearest to `wanted` if at most a third of it would have to be changed.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let scored = names.map(|name| (distance(&wanted, &name.to_lowercase()), name));
    let (edits, name) = scored.min()?;
    (edits <= wanted.chars().count().max(3) / 3).then_some(name)
}

/// Levenshtein's distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, to) in right.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let names = ["category_sales", "sessions"];
        let check = |wanted: &str, found: Option<&str>| assert_eq!(nearest(wanted, names.into_iter()), found);
        check("category_sale", Some("category_sales"));
        check("Sesions", Some("sessions"));
        check("orders", None);
        assert_eq!(nearest_or_all("x", names.into_iter()), names);
    }
}
