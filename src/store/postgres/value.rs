//! Values to and from the database, in PostgreSQL's binary form.

use std::error::Error;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;
use postgres_protocol::types::{self, ArrayDimension};
use postgres_protocol::{IsNull, Oid};

use super::error::PgError;

// The types of PostgreSQL's catalogue: pg_type.dat.
const BOOL: Oid = 16;
const INT8: Oid = 20;
const INT2: Oid = 21;
const INT4: Oid = 23;
const TEXT: Oid = 25;
const INT2_ARRAY: Oid = 1005;
const INT4_ARRAY: Oid = 1007;
const TEXT_ARRAY: Oid = 1009;
const INT8_ARRAY: Oid = 1016;

/// A parameter of a statement. Each variant is one type of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param<'a> {
    /// boolean
    Bool(bool),
    /// smallint
    Int2(i16),
    /// integer
    Int4(i32),
    /// integer
    Int4OrNull(Option<i32>),
    /// bigint
    Int8(i64),
    /// bigint
    Int8OrNull(Option<i64>),
    /// text
    Text(&'a str),
    /// text
    TextOrNull(Option<&'a str>),
    /// smallint[]
    Int2s(&'a [i16]),
    /// integer[]
    Int4s(&'a [i32]),
    /// bigint[]
    Int8s(&'a [i64]),
    /// bigint[]
    Int8sOrNull(&'a [Option<i64>]),
    /// text[]
    Texts(&'a [Option<&'a str>]),
}

type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;

impl Param<'_> {
    /// Its type.
    pub(super) fn oid(&self) -> Oid {
        match self {
            Param::Bool(_) => BOOL,
            Param::Int2(_) => INT2,
            Param::Int4(_) | Param::Int4OrNull(_) => INT4,
            Param::Int8(_) | Param::Int8OrNull(_) => INT8,
            Param::Text(_) | Param::TextOrNull(_) => TEXT,
            Param::Int2s(_) => INT2_ARRAY,
            Param::Int4s(_) => INT4_ARRAY,
            Param::Int8s(_) | Param::Int8sOrNull(_) => INT8_ARRAY,
            Param::Texts(_) => TEXT_ARRAY,
        }
    }

    /// Writes it without its length.
    pub(super) fn encode(&self, buffer: &mut BytesMut) -> Encoded {
        let int4 = |value: i32, buffer: &mut BytesMut| buffer.put_i32(value);
        let int8 = |value: i64, buffer: &mut BytesMut| buffer.put_i64(value);
        let text = |value: &str, buffer: &mut BytesMut| buffer.put_slice(value.as_bytes());
        match *self {
            Param::Bool(value) => Ok(put(Some(value), buffer, |value, buffer| buffer.put_u8(value.into()))),
            Param::Int2(value) => Ok(put(Some(value), buffer, |value, buffer| buffer.put_i16(value))),
            Param::Int4(value) => Ok(put(Some(value), buffer, int4)),
            Param::Int4OrNull(value) => Ok(put(value, buffer, int4)),
            Param::Int8(value) => Ok(put(Some(value), buffer, int8)),
            Param::Int8OrNull(value) => Ok(put(value, buffer, int8)),
            Param::Text(value) => Ok(put(Some(value), buffer, text)),
            Param::TextOrNull(value) => Ok(put(value, buffer, text)),
            Param::Int2s(values) => {
                put_array(INT2, values.iter().map(|value| Some(*value)), buffer, |value, buffer| buffer.put_i16(value))
            }
            Param::Int4s(values) => put_array(INT4, values.iter().map(|value| Some(*value)), buffer, int4),
            Param::Int8s(values) => put_array(INT8, values.iter().map(|value| Some(*value)), buffer, int8),
            Param::Int8sOrNull(values) => put_array(INT8, values.iter().copied(), buffer, int8),
            Param::Texts(values) => put_array(TEXT, values.iter().copied(), buffer, text),
        }
    }
}

fn put<T>(value: Option<T>, buffer: &mut BytesMut, write: impl Fn(T, &mut BytesMut)) -> IsNull {
    let Some(value) = value else { return IsNull::Yes };
    write(value, buffer);
    IsNull::No
}

fn put_array<T>(
    element: Oid,
    values: impl ExactSizeIterator<Item = Option<T>>,
    buffer: &mut BytesMut,
    write: impl Fn(T, &mut BytesMut),
) -> Encoded {
    let dimension = ArrayDimension { len: i32::try_from(values.len())?, lower_bound: 1 };
    types::array_to_sql([dimension], element, values, |value, buffer| Ok(put(value, buffer, &write)), buffer)?;
    Ok(IsNull::No)
}

/// The first row of an answer that has one.
pub(super) fn first(rows: Vec<Row>) -> Result<Row, PgError> {
    rows.into_iter().next().ok_or_else(|| PgError::Unexpected("an answer has no row".into()))
}

/// A row of an answer. A column that is not there or has another type is an error, never a panic.
#[derive(Debug, Clone)]
pub struct Row {
    bytes: Bytes,
    columns: Vec<Option<Range<usize>>>,
}

impl Row {
    pub(super) fn new(body: &DataRowBody) -> Result<Row, PgError> {
        let columns = body.ranges().collect().map_err(|error| PgError::Unexpected(format!("a row: {error}")))?;
        Ok(Row { bytes: body.buffer_bytes().clone(), columns })
    }

    /// How many columns it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether it has no column.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// A bigint.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or is null.
    pub fn int8(&self, column: usize) -> Result<i64, PgError> {
        self.int8_or_null(column)?.ok_or_else(|| is_null(column))
    }

    /// A bigint or null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type.
    pub fn int8_or_null(&self, column: usize) -> Result<Option<i64>, PgError> {
        self.column(column, int8)
    }

    /// An integer.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or is null.
    pub fn int4(&self, column: usize) -> Result<i32, PgError> {
        self.int4_or_null(column)?.ok_or_else(|| is_null(column))
    }

    /// An integer or null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type.
    pub fn int4_or_null(&self, column: usize) -> Result<Option<i32>, PgError> {
        self.column(column, int4)
    }

    /// A smallint.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or is null.
    pub fn int2(&self, column: usize) -> Result<i16, PgError> {
        self.column(column, int2)?.ok_or_else(|| is_null(column))
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or is null.
    pub fn bool(&self, column: usize) -> Result<bool, PgError> {
        let value = self.column(column, |bytes| match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        });
        value?.ok_or_else(|| is_null(column))
    }

    /// A text.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column is not UTF-8, or is null.
    pub fn text(&self, column: usize) -> Result<&str, PgError> {
        self.text_or_null(column)?.ok_or_else(|| is_null(column))
    }

    /// A text or null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column is not UTF-8.
    pub fn text_or_null(&self, column: usize) -> Result<Option<&str>, PgError> {
        self.column(column, text)
    }

    /// A bigint[] without nulls; a null stands for an empty one.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or an element is null.
    pub fn int8s(&self, column: usize) -> Result<Vec<i64>, PgError> {
        self.array(column, INT8, int8)
    }

    /// A bigint[]; a null stands for an empty one.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type.
    pub fn int8s_or_null(&self, column: usize) -> Result<Vec<Option<i64>>, PgError> {
        self.array_or_null(column, INT8, int8)
    }

    /// An integer[] without nulls; a null stands for an empty one.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or an element is null.
    pub fn int4s(&self, column: usize) -> Result<Vec<i32>, PgError> {
        self.array(column, INT4, int4)
    }

    /// A smallint[] without nulls; a null stands for an empty one.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type, or an element is null.
    pub fn int2s(&self, column: usize) -> Result<Vec<i16>, PgError> {
        self.array(column, INT2, int2)
    }

    /// A text[]; a null stands for an empty one.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] when the column has another type.
    pub fn texts_or_null(&self, column: usize) -> Result<Vec<Option<&str>>, PgError> {
        self.array_or_null(column, TEXT, text)
    }

    /// A value, `None` if it is null. `read` gives `None` for bytes of another type.
    fn column<'a, T>(&'a self, column: usize, read: impl Fn(&'a [u8]) -> Option<T>) -> Result<Option<T>, PgError> {
        let range = self.columns.get(column).ok_or_else(|| wrong(column))?;
        let Some(range) = range else { return Ok(None) };
        self.bytes.get(range.clone()).and_then(read).map(Some).ok_or_else(|| wrong(column))
    }

    fn array_or_null<'a, T>(
        &'a self,
        column: usize,
        element: Oid,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Vec<Option<T>>, PgError> {
        Ok(self.column(column, |bytes| elements(bytes, element, &read))?.unwrap_or_default())
    }

    fn array<'a, T>(
        &'a self,
        column: usize,
        element: Oid,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Vec<T>, PgError> {
        let values: Option<Vec<T>> = self.array_or_null(column, element, read)?.into_iter().collect();
        values.ok_or_else(|| is_null(column))
    }
}

fn wrong(column: usize) -> PgError {
    PgError::Unexpected(format!("column {column} of an answer is missing or has another type"))
}

fn is_null(column: usize) -> PgError {
    PgError::Unexpected(format!("column {column} of an answer is null"))
}

fn int8(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

fn int4(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_be_bytes)
}

fn int2(bytes: &[u8]) -> Option<i16> {
    bytes.try_into().ok().map(i16::from_be_bytes)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Takes the next four bytes as a number.
fn take_int4(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*number))
}

/// The elements of an array of one dimension (`array_recv` of PostgreSQL's `arrayfuncs.c`): the number of dimensions, whether
/// there are nulls, the type, then the length and the lower bound, and each element behind its length.
fn elements<'a, T>(mut bytes: &'a [u8], element: Oid, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<Vec<Option<T>>> {
    let (dimensions, _has_nulls) = (take_int4(&mut bytes)?, take_int4(&mut bytes)?);
    let is_of_type = take_int4(&mut bytes)?.cast_unsigned() == element;
    if !is_of_type || !(0..=1).contains(&dimensions) {
        return None;
    }
    if dimensions == 0 {
        return bytes.is_empty().then(Vec::new);
    }
    let (count, _lower_bound) = (usize::try_from(take_int4(&mut bytes)?).ok()?, take_int4(&mut bytes)?);
    // Each element has at least its length: the number that is claimed chooses no allocation.
    let mut values = Vec::with_capacity(count.min(bytes.len() / size_of::<i32>()));
    for _ in 0..count {
        let length = take_int4(&mut bytes)?;
        if length == -1 {
            values.push(None);
            continue;
        }
        let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        values.push(Some(read(value)?));
        bytes = rest;
    }
    bytes.is_empty().then_some(values)
}
