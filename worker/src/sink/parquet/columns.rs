//! Typed columns of a row group.

use std::{fmt::Write as _, fs::File, sync::Arc};

use engine::{
    plan::ColumnPlan,
    value::{Type, Value},
};
use parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type},
    errors::Result,
    file::{
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::TypePtr},
};

/// What all files of a source have in common.
pub(super) struct Layout {
    columns: Vec<Type>,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
}

impl Layout {
    /// Columns of `columns`, all of which may be null.
    ///
    /// # Errors
    /// Where a name cannot be one in Parquet.
    pub(super) fn new(columns: &[ColumnPlan]) -> Result<Self> {
        let mut text = "message event {\n".to_owned();
        for column in columns {
            let (physical, logical) = physical(column.ty);
            // The schema's little language splits at these; names of manifests hold dots at most.
            let name: String =
                column.name.chars().map(|c| if c.is_whitespace() || "();{},=".contains(c) { '_' } else { c }).collect();
            writeln!(text, "  optional {physical} {name}{logical};").expect("a string takes all text");
        }
        text.push('}');
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        Ok(Self {
            columns: columns.iter().map(|column| column.ty).collect(),
            schema: Arc::new(parse_message_type(&text)?),
            properties: Arc::new(properties),
        })
    }

    pub(super) fn cells(&self) -> Vec<Cells> {
        self.columns.iter().map(|ty| Cells::new(*ty)).collect()
    }

    pub(super) fn writer(&self, file: File) -> Result<SerializedFileWriter<File>> {
        SerializedFileWriter::new(file, Arc::clone(&self.schema), Arc::clone(&self.properties))
    }
}

fn physical(ty: Type) -> (&'static str, &'static str) {
    match ty {
        Type::Boolean => ("boolean", ""),
        Type::Integer => ("int64", ""),
        Type::Decimal => ("fixed_len_byte_array(16)", " (DECIMAL(38,9))"),
        Type::Timestamp => ("int64", " (TIMESTAMP(MILLIS,true))"),
        Type::String | Type::List => ("binary", " (UTF8)"),
    }
}

/// A column's values on their way into a row group: nulls are in `present` only.
pub(super) struct Cells {
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Booleans(Vec<bool>),
    Integers(Vec<i64>),
    Decimals(Vec<FixedLenByteArray>),
    Texts(Vec<ByteArray>),
}

impl Cells {
    fn new(ty: Type) -> Self {
        let values = match ty {
            Type::Boolean => Values::Booleans(Vec::new()),
            Type::Integer | Type::Timestamp => Values::Integers(Vec::new()),
            Type::Decimal => Values::Decimals(Vec::new()),
            Type::String | Type::List => Values::Texts(Vec::new()),
        };
        Self { present: Vec::new(), values }
    }

    /// Appends a value; one of another type is null.
    pub(super) fn push(&mut self, value: Value) {
        let fits = match (&mut self.values, value) {
            (Values::Booleans(all), Value::Boolean(value)) => {
                all.push(value);
                true
            }
            (Values::Integers(all), Value::Integer(value) | Value::Timestamp(value)) => {
                all.push(value);
                true
            }
            (Values::Decimals(all), Value::Decimal(value)) => {
                all.push(ByteArray::from(value.0.to_be_bytes().to_vec()).into());
                true
            }
            (Values::Texts(all), Value::String(value)) => {
                all.push(ByteArray::from(value.into_string().into_bytes()));
                true
            }
            _ => false,
        };
        self.present.push(i16::from(fits));
    }

    /// Appends bytes, or null, to a column of texts.
    pub(super) fn push_bytes(&mut self, bytes: Option<&[u8]>) {
        if let Values::Texts(all) = &mut self.values {
            all.extend(bytes.map(|bytes| ByteArray::from(bytes.to_vec())));
        }
        self.present.push(i16::from(bytes.is_some()));
    }
}

/// Writes all cells as one row group and forgets them.
pub(super) fn write_group(mut group: SerializedRowGroupWriter<'_, File>, cells: &mut [Cells]) -> Result<()> {
    for cells in cells {
        let Some(mut column) = group.next_column()? else { break };
        let present = Some(&cells.present[..]);
        match &cells.values {
            Values::Booleans(values) => column.typed::<BoolType>().write_batch(values, present, None)?,
            Values::Integers(values) => column.typed::<Int64Type>().write_batch(values, present, None)?,
            Values::Decimals(values) => column.typed::<FixedLenByteArrayType>().write_batch(values, present, None)?,
            Values::Texts(values) => column.typed::<ByteArrayType>().write_batch(values, present, None)?,
        };
        column.close()?;
        cells.present.clear();
        match &mut cells.values {
            Values::Booleans(values) => values.clear(),
            Values::Integers(values) => values.clear(),
            Values::Decimals(values) => values.clear(),
            Values::Texts(values) => values.clear(),
        }
    }
    group.close().map(drop)
}
