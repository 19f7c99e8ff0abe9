//! A join's state as bytes. Equal states have equal bytes: rows are written in their order.

use super::JoinState;
use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64},
    plan::JoinPlan,
};

impl JoinState {
    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        put_u64(self.waiting.len() as u64, out);
        self.waiting.for_each(&mut |left| {
            put_i64(left.time, out);
            [left.key, left.id, left.row].iter().for_each(|part| put_bytes(part, out));
        });
        let keys = self.kept.sorted();
        put_u64(keys.len() as u64, out);
        for key in keys {
            put_bytes(&key.key, out);
            put_u64(key.rows.len() as u64, out);
            for right in &key.rows {
                put_i64(right.start, out);
                put_i64(right.end, out);
                [right.id(), right.row()].iter().for_each(|part| put_bytes(part, out));
            }
        }
    }

    /// Reads what [`JoinState::snapshot`] wrote under the same plan.
    ///
    /// # Errors
    /// Where the bytes are not a state.
    pub fn restore(plan: &JoinPlan, reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut state = Self::new(plan);
        for _ in 0..reader.count()? {
            let time = reader.i64()?;
            let (key, id, row) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
            state.left(key, time, id, row);
        }
        for _ in 0..reader.count()? {
            let key = reader.bytes()?;
            for _ in 0..reader.count()? {
                let (start, end) = (reader.i64()?, reader.i64()?);
                let (id, row) = (reader.bytes()?, reader.bytes()?);
                state.right(key, start, end, id, row);
            }
        }
        Ok(state)
    }
}
