//! No text makes `check` panic, hang or take memory without bound: examples are mutated, and bombs are tried.

#![expect(clippy::unwrap_used, reason = "a failing fixture is a failing test")]

use std::{fs, panic, path::Path, time::Instant};

/// A small generator of numbers: the same seed, the same mutations.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides.max(1) as u64).unwrap()
    }
}

const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "!!str ",
    "|",
    ">",
    "- ",
    "#",
    "\t",
    "\n",
    "\u{0}",
    "é",
    "💥",
    "null",
    "true",
    "-1",
    "99999999999999999999",
    "1e999",
    "0.1",
    "5m",
    "~",
    "<<: ",
    "(",
    ")",
    " and ",
    " / ",
    "sum(",
    "case when ",
    "zscore(",
    "between ",
    "select ",
    "''",
    "\u{feff}",
];

fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(text.len());
        match dice.roll(5) {
            0 => {
                let end = (at + dice.roll(40)).min(text.len());
                text.drain(at..end);
            }
            1 => {
                let piece = PIECES[dice.roll(PIECES.len())];
                text.splice(at..at, piece.chars());
            }
            2 => text.truncate(at),
            3 => {
                let end = (at + dice.roll(200)).min(text.len());
                let copy: Vec<char> = text[at..end].to_vec();
                let to = dice.roll(text.len());
                text.splice(to..to, copy);
            }
            _ => {
                let other = dice.roll(text.len());
                if !text.is_empty() {
                    text.swap(at, other);
                }
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn mutated_examples_never_panic() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut examples = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            examples.push(fs::read_to_string(path).unwrap());
        }
    }
    examples.sort();
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(400);
    for seed in 0..rounds {
        let mut dice = Dice(seed);
        let text = mutate(&examples[dice.roll(examples.len())], &mut dice);
        let result = panic::catch_unwind(|| match crds::check(&text, &[]) {
            Ok(checked) => crds::describe(&checked),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        });
        assert!(!result.unwrap_or_else(|_| panic!("seed {seed} panics:\n{text}")).is_empty());
    }
}

#[track_caller]
fn refused_quickly(text: &str, want: &str) {
    let started = Instant::now();
    let problems = crds::check(text, &[]).unwrap_err();
    let told: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    assert!(told.contains(want), "{want} is not in {}", &told[..told.len().min(2_000)]);
    assert!(started.elapsed().as_secs() < 10, "it took {:?}", started.elapsed());
}

fn with_check(expression: &str) -> String {
    let head = "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata: {name: a}\nspec:\n";
    let stream =
        "  topics: [{name: t}]\n  streams:\n  - name: s\n    topics: [t]\n    fields: [{name: a, type: integer}]\n";
    format!("{head}{stream}    rules:\n    - name: r\n      check: {expression}\n")
}

#[test]
fn bombs_are_refused_quickly() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let last = level - 1;
        let aliases = vec![format!("*a{last}"); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    refused_quickly(&bomb, "values, aliases followed");
    refused_quickly(&"[".repeat(100_000), "");
    refused_quickly(&"{a: ".repeat(100_000), "");
    refused_quickly(&"- ".repeat(100_000), "");
    let nested: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused_quickly(&nested, "nested deeper");
    refused_quickly(&"a: b\n".repeat(1_000_000), "bytes");
    refused_quickly("a: &a [*a]", "");
    refused_quickly("? {a: b}\n: c", "as a key");
}

#[test]
fn monstrous_expressions_are_refused_quickly() {
    let chain = vec!["a"; 1_900].join("+");
    refused_quickly(&with_check(&format!("{chain} > 1")), "nested deeper than");
    let deep = format!("{}a > 1{}", "(".repeat(1_500), ")".repeat(1_500));
    refused_quickly(&with_check(&deep), "nested too deep");
    let nots = format!("{}a > 1", "not ".repeat(900));
    refused_quickly(&with_check(&nots), "");
    refused_quickly(&with_check(&format!("\"{}\"", "x".repeat(5_000))), "at most 4096 characters");
    let long = vec!["a = 1"; 100].join(" or ");
    assert!(crds::check(&with_check(&long), &[]).is_ok());
}

#[test]
fn columns_that_double_each_other_are_bounded() {
    let mut select = "x0: count()".to_owned();
    for at in 1..60 {
        select += &format!(", x{at}: x{} + x{}", at - 1, at - 1);
    }
    let text = with_check("a > 1") + &format!("  tables:\n  - {{name: t, from: s, select: {{{select}}}}}\n");
    refused_quickly(&text, "too large");
}
