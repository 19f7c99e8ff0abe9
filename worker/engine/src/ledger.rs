//! The ledger: where every event went. Counters only grow; they travel with the data and are compared at the end.

use crate::{
    codec::{Corrupt, Reader, put_u64},
    value::Value,
};

/// What became of the records of a stream in one source partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLedger {
    /// Records seen.
    pub read: u64,
    /// Valid and new.
    pub accepted: u64,
    /// Valid, but its id was remembered.
    pub duplicate: u64,
    /// Not decodable or against a rule.
    pub invalid: u64,
    /// Gone by retention before they were read.
    pub expired: u64,
}

impl StreamLedger {
    /// Records that are nowhere: zero, or there is a bug.
    #[must_use]
    pub fn unaccounted(&self) -> i64 {
        self.read as i64 - (self.accepted + self.duplicate + self.invalid + self.expired) as i64
    }

    /// The counters as row values, in the order of the system table.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        [self.read, self.accepted, self.duplicate, self.invalid, self.expired].map(count).to_vec()
    }

    /// Appends the counters.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let counts = [self.read, self.accepted, self.duplicate, self.invalid, self.expired];
        counts.iter().for_each(|count| put_u64(*count, out));
    }

    /// Reads what [`StreamLedger::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            read: reader.u64()?,
            accepted: reader.u64()?,
            duplicate: reader.u64()?,
            invalid: reader.u64()?,
            expired: reader.u64()?,
        })
    }
}

/// What became of the accepted events in one table, as one task saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableLedger {
    /// Offered to the table.
    pub accepted: u64,
    /// Not wanted by the table.
    pub filtered: u64,
    /// No open window could take them.
    pub late: u64,
    /// In the table.
    pub counted: u64,
}

impl TableLedger {
    /// The counters as row values, in the order of the system table.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        [self.accepted, self.filtered, self.late, self.counted].map(count).to_vec()
    }

    /// Appends the counters.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let counts = [self.accepted, self.filtered, self.late, self.counted];
        counts.iter().for_each(|count| put_u64(*count, out));
    }

    /// Reads what [`TableLedger::snapshot`] wrote.
    ///
    /// # Errors
    /// On corrupt bytes.
    pub fn restore(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self { accepted: reader.u64()?, filtered: reader.u64()?, late: reader.u64()?, counted: reader.u64()? })
    }
}

fn count(value: u64) -> Value {
    Value::Integer(value as i64)
}
