//! Alerts against the page: every answer from all rows there ever were.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    codec::Reader,
    decimal::Decimal,
    expr::Expr,
    plan::{
        AlertPlan, ColumnPlan, Emit, FunnelPlan, GroupPlan, Input, OutputPlan, TableKind, TablePlan, Window, ZScorePlan,
    },
};

const EVERY: Millis = 10;
const LATENESS: Millis = 35;

fn column(name: &str, ty: Type) -> ColumnPlan {
    ColumnPlan { name: name.into(), ty }
}

fn plan(window: Window, for_windows: u32, windows: u32, missing_is_zero: bool) -> Plan {
    let output = OutputPlan { column: column("views", Type::Integer), expr: Expr::Column(1, Type::Integer) };
    let table = TablePlan {
        name: "interest".into(),
        epoch: 1,
        fingerprint: 0,
        input: Input::Stream(0),
        filter: None,
        window,
        lateness_ms: LATENESS,
        group_by: vec![GroupPlan { column: column("product", Type::String), expr: Expr::Column(0, Type::String) }],
        kind: TableKind::Aggregate(vec![]),
        outputs: vec![output],
        keep_for_ms: None,
        max_groups: None,
        emit: Emit { every_ms: None },
    };
    let alert = AlertPlan {
        name: "unusual".into(),
        table: 0,
        when: Expr::Literal(Value::Boolean(true), Type::Boolean),
        zscores: vec![ZScorePlan { output: 0, windows, missing_is_zero }],
        for_windows,
    };
    Plan {
        pipeline: "shop".into(),
        topics: vec![],
        lookups: vec![],
        streams: vec![],
        joins: vec![],
        tables: vec![table],
        alerts: vec![alert],
        shuffle_partitions: 1,
    }
}

/// `views >= 8 or zscore > 1`.
fn when(columns: &[Value]) -> bool {
    let [Value::String(_), views, score] = columns else { panic!("{columns:?}") };
    matches!(views, Value::Integer(8..)) || matches!(score, Value::Decimal(score) if *score > Decimal::from_int(1))
}

/// Rows of one group by window start; a row may have a null.
type Rows = BTreeMap<Millis, Option<i64>>;

/// Returns the starts of the windows that are raised.
fn naive(rows: &Rows, for_windows: u32, windows: u32, missing_is_zero: bool) -> BTreeSet<Millis> {
    let holds = |start: Millis| {
        let Some(Some(views)) = rows.get(&start) else { return false };
        let mut first = start;
        for earlier in rows.range(..start).rev().map(|(start, _)| *start) {
            if first - earlier <= i64::from(windows) * EVERY {
                first = earlier;
            } else {
                break;
            }
        }
        let mut numbers = Vec::new();
        for back in (1..=i64::from(windows)).rev() {
            match rows.get(&(start - back * EVERY)) {
                Some(Some(number)) => numbers.push(*number as f64 * 1e9),
                None if missing_is_zero && start - back * EVERY >= first => numbers.push(0.0),
                _ => {}
            }
        }
        let count = numbers.len();
        let mean = numbers.iter().sum::<f64>() / count as f64;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count as f64;
        let enough = count >= 2 && count >= windows as usize / 2 && variance > 0.0;
        *views >= 8 || (enough && (*views as f64 * 1e9 - mean) / variance.sqrt() >= 1.000_000_5)
    };
    let raised = |start: &&Millis| (0..i64::from(for_windows)).all(|back| holds(**start - back * EVERY));
    rows.keys().filter(raised).copied().collect()
}

/// Follows what is emitted and checks that it always changes something.
fn follow(raised: &mut BTreeSet<Millis>, change: &AlertChange<'_>) {
    let start = change.window.map_or(0, |window| window.0);
    let changed = if change.raised { raised.insert(start) } else { raised.remove(&start) };
    assert!(changed, "an answer that was known: {change:?}");
}

fn bytes_of(state: &AlertState) -> Vec<u8> {
    let mut out = Vec::new();
    state.snapshot(&mut out);
    out
}

/// What happens in one step of time: rows that become final (place in the step), corrections (windows back).
#[derive(Clone, Debug)]
struct Step {
    finals: Vec<Option<Option<i64>>>,
    corrections: Vec<(u8, Option<Option<i64>>)>,
    prune: bool,
    restore: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let views = || prop_oneof![6 => (0_i64..10).prop_map(Some), 1 => Just(None)];
    let row = || prop_oneof![3 => views().prop_map(Some), 2 => Just(None)];
    let sparse = prop_oneof![3 => vec(row(), 1..3), 1 => (0_usize..9).prop_map(|len| vec![None; len])];
    let step = (sparse, vec((0_u8..4, row()), 0..3), any::<bool>(), any::<bool>());
    let step = step.prop_map(|(finals, corrections, prune, restore)| Step { finals, corrections, prune, restore });
    vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn answers_are_what_the_page_says(
        steps in steps(), for_windows in 1_u32..4, windows in 2_u32..7, missing_is_zero: bool, hopping: bool,
    ) {
        let size_ms = if hopping { 2 * EVERY } else { EVERY };
        let window = if hopping { Window::Hopping { size_ms, every_ms: EVERY } } else { Window::Tumbling { size_ms } };
        let plan = plan(window, for_windows, windows, missing_is_zero);
        let mut state = AlertState::new(&plan, 0);
        let (mut rows, mut raised, mut next) = (Rows::new(), BTreeSet::new(), 0_i64);
        let group = [Value::String("shoe".into())];
        for step in steps {
            let finals: Vec<_> = step.finals.iter().enumerate().map(|(at, row)| (next + at as i64 * EVERY, *row)).collect();
            next += finals.len() as i64 * EVERY;
            // Windows before `next` are final; the watermark is the end of the last one.
            let watermark = next - EVERY + size_ms;
            let corrected = step.corrections.iter().map(|(back, row)| (next - EVERY * (1 + i64::from(*back)), *row));
            let corrected = corrected.filter(|(start, _)| *start >= 0 && start + size_ms + LATENESS > watermark);
            for (start, row) in finals.into_iter().chain(corrected) {
                let window = Some((start, start + size_ms));
                let mut emit = |change: AlertChange<'_>| follow(&mut raised, &change);
                match row {
                    Some(views) => {
                        rows.insert(start, views);
                        let outputs = [views.map_or(Value::Null, Value::Integer)];
                        state.judge(&group, b"shoe", window, &outputs, &mut when, &mut emit);
                    }
                    None => {
                        rows.remove(&start);
                        state.remove(&group, b"shoe", window, &mut when, &mut emit);
                    }
                }
            }
            prop_assert_eq!(&raised, &naive(&rows, for_windows, windows, missing_is_zero));
            if step.prune {
                state.advance(watermark);
            }
            if step.restore {
                let bytes = bytes_of(&state);
                let mut reader = Reader::new(&bytes);
                state = AlertState::restore(&plan, 0, &mut reader).unwrap();
                prop_assert!(reader.is_empty());
                prop_assert_eq!(bytes_of(&state), bytes);
            }
        }
        state.advance(next + 1_000);
        prop_assert_eq!(state.groups(), 0);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(views in vec(0_i64..20, 1..20), at: Index, byte: u8, cut: Index) {
        let plan = plan(Window::Tumbling { size_ms: EVERY }, 2, 5, true);
        let mut state = AlertState::new(&plan, 0);
        let group = [Value::String("shoe".into())];
        let judge = |state: &mut AlertState, start: i64, views| {
            let window = Some((start * EVERY, (start + 1) * EVERY));
            state.judge(&group, b"shoe", window, &[Value::Integer(views)], &mut when, &mut |_| {});
        };
        views.iter().enumerate().for_each(|(start, views)| judge(&mut state, start as i64, *views));
        let mut bytes = bytes_of(&state);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 4).max(1));
        if let Ok(mut state) = AlertState::restore(&plan, 0, &mut Reader::new(&bytes)) {
            judge(&mut state, 3, 7);
            judge(&mut state, 30, 7);
            state.advance(1_000);
        }
    }
}

/// Judges (window, views) in order and returns what was emitted.
fn emitted(window: Window, for_windows: u32, rows: &[(Option<(Millis, Millis)>, i64)]) -> Vec<String> {
    let mut state = AlertState::new(&plan(window, for_windows, 4, true), 0);
    let mut seen = Vec::new();
    for (window, views) in rows {
        let group = [Value::String("shoe".into())];
        state.judge(&group, b"shoe", *window, &[Value::Integer(*views)], &mut when, &mut |change| {
            let start = change.window.map(|window| window.0);
            seen.push(format!("{start:?} {} {:?}", if change.raised { "raised" } else { "withdrawn" }, change.detail));
        });
    }
    seen
}

#[test]
fn a_table_without_windows_is_judged_by_its_latest_row() {
    let seen = emitted(Window::None, 3, &[(None, 7), (None, 8), (None, 9), (None, 7), (None, 7)]);
    assert_eq!(
        seen,
        [
            "None raised [(\"views\", Integer(8)), (\"zscore(views, 4)\", Null)]",
            "None withdrawn [(\"views\", Integer(7)), (\"zscore(views, 4)\", Null)]",
        ]
    );
}

#[test]
fn sessions_are_judged_by_themselves() {
    let session = |start: Millis| Some((start, start + 10));
    let seen = emitted(Window::Session { gap_ms: 10 }, 3, &[(session(0), 8), (session(20), 7), (session(0), 7)]);
    assert_eq!(
        seen,
        [
            "Some(0) raised [(\"views\", Integer(8)), (\"zscore(views, 4)\", Null)]",
            "Some(0) withdrawn [(\"views\", Integer(7)), (\"zscore(views, 4)\", Null)]",
        ]
    );
}

#[test]
fn windows_of_a_funnel_stay_open_for_its_passages() {
    let mut plan = plan(Window::Tumbling { size_ms: EVERY }, 2, 4, true);
    let by = Expr::Column(0, Type::String);
    plan.tables[0].kind =
        TableKind::Funnel(FunnelPlan { by, within_ms: 500, same_key: None, steps: vec![], forget_after_ms: 0 });
    let (mut state, mut raised) = (AlertState::new(&plan, 0), BTreeSet::new());
    let group = [Value::String("shoe".into())];
    for start in [0, 10] {
        let (window, outputs) = (Some((start, start + EVERY)), [Value::Integer(9)]);
        state.judge(&group, b"shoe", window, &outputs, &mut when, &mut |change| follow(&mut raised, &change));
        state.advance(start + EVERY + 500);
    }
    assert_eq!(raised, BTreeSet::from([10]));
}

#[test]
fn a_correction_withdraws_what_later_windows_built_upon() {
    let window = |start: Millis| Some((start, start + EVERY));
    let rows = [(window(0), 8), (window(10), 8), (window(20), 9), (window(10), 1)];
    let seen = emitted(Window::Tumbling { size_ms: EVERY }, 2, &rows);
    assert_eq!(
        seen.iter().map(|line| &line[..15]).collect::<Vec<_>>(),
        ["Some(10) raised", "Some(20) raised", "Some(10) withdr", "Some(20) withdr",]
    );
}
