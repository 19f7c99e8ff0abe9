//! The join against the page: every left row with every right row, whole input in memory.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    codec::Reader,
    expr::Expr,
    time::{BEGINNING_OF_TIME, END_OF_TIME},
    value::{Type, Value},
};

const WITHIN: Millis = 400;

fn plan() -> JoinPlan {
    let key = || Expr::Literal(Value::Null, Type::String);
    JoinPlan {
        name: "promoted".into(),
        left: 0,
        right: 1,
        left_key: key(),
        right_key: key(),
        start: 0,
        end: 1,
        within_ms: WITHIN,
        columns: vec![],
    }
}

/// A row with fields in the order in which rows are handed over. A left row has no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    time: Millis,
    id: Vec<u8>,
    row: Vec<u8>,
    end: Option<Millis>,
    key: Vec<u8>,
}

type OwnedPair = (Millis, Vec<u8>, Vec<u8>, Vec<u8>);

fn owned(pair: Pair<'_>) -> OwnedPair {
    (pair.time, pair.id.to_vec(), pair.left.to_vec(), pair.right.to_vec())
}

fn naive(rows: &[Sample]) -> Vec<OwnedPair> {
    let mut rows = rows.to_vec();
    rows.sort();
    let mut pairs = Vec::new();
    for left in rows.iter().filter(|row| row.end.is_none()) {
        for right in rows.iter().filter(|row| row.end.is_some() && row.key == left.key) {
            if right.time <= left.time && Some(left.time) <= right.end {
                pairs.push((left.time, left.id.clone(), left.row.clone(), right.row.clone()));
            }
        }
    }
    pairs
}

fn sample() -> impl Strategy<Value = Sample> {
    let short = |max: u8| (0..=max).prop_map(|byte| if byte == 0 { vec![] } else { vec![byte] });
    let end = prop_oneof![1 => Just(None), 1 => (0..=WITHIN).prop_map(Some)];
    let fields = (0_i64..1_500, short(2), short(3), end, short(2));
    fields.prop_map(|(time, id, row, end, key)| Sample { time, id, row, end: end.map(|end| time + end), key })
}

/// Rows in order of arrival: each side's out of order by up to 100, and one side behind the other.
fn arrivals() -> impl Strategy<Value = Vec<Sample>> {
    let delayed = vec((sample(), 0_i64..100), 0..80);
    (delayed, 0_i64..600, any::<bool>()).prop_map(|(mut rows, behind, is_left_behind)| {
        let delay = |row: &Sample| if row.end.is_none() == is_left_behind { behind } else { 0 };
        rows.sort_by_key(|(row, late)| row.time + late + delay(row));
        rows.into_iter().map(|(row, _)| row).collect()
    })
}

fn apply(row: &Sample, state: &mut JoinState) {
    match row.end {
        None => state.left(&row.key, row.time, &row.id, &row.row),
        Some(end) => state.right(&row.key, row.time, end, &row.id, &row.row),
    }
}

fn bytes_of(state: &JoinState) -> Vec<u8> {
    let mut out = Vec::new();
    state.snapshot(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_join_is_what_the_page_says(rows in arrivals(), acts in vec(0_u8..6, 80)) {
        let mut state = JoinState::new(&plan());
        let (mut pairs, mut watermarks) = (Vec::new(), [BEGINNING_OF_TIME; 2]);
        for (at, (row, act)) in rows.iter().zip(acts).enumerate() {
            apply(row, &mut state);
            let watermark = &mut watermarks[usize::from(row.end.is_some())];
            *watermark = (*watermark).max(row.time - 100);
            if act < 3 {
                let from = pairs.len();
                state.advance(watermarks[0], watermarks[1], &mut |pair| pairs.push(owned(pair)));
                prop_assert!(pairs[from..].is_sorted_by_key(|pair| (&pair.0, &pair.1, &pair.2)));
                let waiting = rows[..=at].iter().filter(|row| row.end.is_none() && row.time >= watermarks[1]);
                prop_assert_eq!(state.waiting(), waiting.count());
            }
            if act == 5 {
                let bytes = bytes_of(&state);
                let mut reader = Reader::new(&bytes);
                let restored = JoinState::restore(&plan(), &mut reader).unwrap();
                prop_assert!(reader.is_empty());
                prop_assert_eq!(bytes_of(&restored), bytes);
                prop_assert_eq!((restored.bytes(), restored.kept()), (state.bytes(), state.kept()));
                state = restored;
            }
        }
        state.advance(END_OF_TIME, END_OF_TIME, &mut |pair| pairs.push(owned(pair)));
        prop_assert_eq!((state.waiting(), state.kept(), state.bytes()), (0, 0, 0));
        let mut expected = naive(&rows);
        expected.sort();
        pairs.sort();
        prop_assert_eq!(pairs, expected);
    }

    #[test]
    fn one_call_hands_over_in_order(rows in arrivals()) {
        let mut state = JoinState::new(&plan());
        rows.iter().for_each(|row| apply(row, &mut state));
        let mut pairs = Vec::new();
        state.advance(END_OF_TIME, END_OF_TIME, &mut |pair| pairs.push(owned(pair)));
        prop_assert_eq!(pairs, naive(&rows));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(rows in arrivals(), at: Index, byte: u8, cut: Index) {
        let mut state = JoinState::new(&plan());
        rows.iter().for_each(|row| apply(row, &mut state));
        let mut bytes = bytes_of(&state);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 4).max(1));
        if let Ok(mut state) = JoinState::restore(&plan(), &mut Reader::new(&bytes)) {
            state.advance(500, 700, &mut |_| {});
            state.advance(END_OF_TIME, END_OF_TIME, &mut |_| {});
        }
    }
}

#[test]
fn rows_are_let_go_as_soon_as_nothing_can_meet_them() {
    let mut state = JoinState::new(&plan());
    let mut pairs = 0;
    let mut advance = |state: &mut JoinState, left, right| {
        state.advance(left, right, &mut |_| pairs += 1);
        (state.waiting(), state.kept())
    };
    state.right(b"shoe", 1_000, 1_300, b"", b"sale");
    state.left(b"shoe", 1_200, b"", b"click");
    assert_eq!(advance(&mut state, 5_000, 1_200), (1, 1), "a left row waits that can still pair");
    assert_eq!(advance(&mut state, 5_000, 1_201), (0, 0));
    state.right(b"shoe", 6_000, 6_300, b"", b"sale");
    assert_eq!(advance(&mut state, 6_300, 9_000), (0, 1), "a left row at its end may come");
    assert_eq!(advance(&mut state, 6_301, 9_000), (0, 0));
    assert_eq!(pairs, 1);
}
