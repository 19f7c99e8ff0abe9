//! An alert's state as bytes. Equal states have equal bytes: groups are written by key, rows by window.

use super::{
    AlertState,
    history::{Group, Row},
};
use crate::{
    codec::{Corrupt, Reader, put_bytes, put_i64, put_u64, put_value},
    plan::Plan,
    time::{Millis, TIME_MAX},
    value::{Type, Value},
};

impl AlertState {
    /// Appends the state.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        put_u64(self.groups.len() as u64, out);
        for (key, group) in &self.groups {
            put_bytes(key, out);
            out.push(u8::from(group.gone.is_some()));
            group.gone.iter().for_each(|gone| put_i64(*gone, out));
            put_u64(group.rows.len() as u64, out);
            for row in &group.rows {
                put_i64(row.window.0, out);
                put_i64(row.window.1, out);
                put_u64(u64::from(row.run), out);
                out.push(u8::from(row.raised));
                row.outputs.iter().for_each(|value| put_value(value, out));
            }
        }
    }

    /// Reads what [`AlertState::snapshot`] wrote under the same plan.
    ///
    /// # Errors
    /// Where the bytes are not a state of this alert.
    pub fn restore(plan: &Plan, alert: usize, reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let mut state = Self::new(plan, alert);
        for _ in 0..reader.count()? {
            let key = reader.bytes()?;
            let mut group = Group::default();
            if reader.u8()? != 0 {
                group.gone = Some(read_time(reader)?);
            }
            for _ in 0..reader.count()? {
                let row = read_row(&state.types, reader)?;
                if group.rows.last().is_some_and(|last| last.window.0 >= row.window.0) {
                    return Err(Corrupt("windows out of order"));
                }
                group.rows.push(row);
            }
            state.groups.insert(key.into(), group);
        }
        Ok(state)
    }
}

fn read_row(types: &[Type], reader: &mut Reader<'_>) -> Result<Row, Corrupt> {
    let window = (read_time(reader)?, read_time(reader)?);
    let run = u32::try_from(reader.u64()?).map_err(|_| Corrupt("run too long"))?;
    let raised = reader.u8()? != 0;
    let outputs: Box<[Value]> = types.iter().map(|_| reader.value()).collect::<Result<_, _>>()?;
    let fits = |(value, ty): (&Value, &Type)| value.type_of().is_none_or(|of| of == *ty);
    if !outputs.iter().zip(types).all(fits) {
        return Err(Corrupt("value of another type"));
    }
    Ok(Row { window, outputs, run, raised })
}

fn read_time(reader: &mut Reader<'_>) -> Result<Millis, Corrupt> {
    let time = reader.i64()?;
    // Windows may begin before 1970 and end after the last instant, by at most their size.
    (-2 * TIME_MAX..=2 * TIME_MAX).contains(&time).then_some(time).ok_or(Corrupt("time out of range"))
}
