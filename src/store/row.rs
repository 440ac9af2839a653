//! What goes to a database and comes from it. The MySQL driver's type of a value serves both engines.

pub(super) use mysql::Value;
use mysql::prelude::FromValue;
use mysql::{FromValueError, from_value_opt};

use super::{Failure, Result, StoreError};
use crate::model::{AgentId, ChannelId, Conversation, MessageId, ThreadId};

macro_rules! is_a_column {
    ($($id:ident)*) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                id.0.into()
            }
        }

        impl TryFrom<Value> for $id {
            type Error = FromValueError;

            fn try_from(value: Value) -> std::result::Result<Self, FromValueError> {
                from_value_opt(value).map($id)
            }
        }

        impl FromValue for $id {
            type Intermediate = Self;
        }
    )*};
}

is_a_column!(AgentId ChannelId ThreadId MessageId);

/// One row of an answer, whose columns are taken from left to right.
pub(super) struct Row {
    /// What was being asked.
    pub operation: &'static str,
    /// What was not taken yet.
    pub values: std::vec::IntoIter<Value>,
}

impl Row {
    /// The next column.
    pub(super) fn take<T: FromValue>(&mut self) -> Result<T> {
        from_value_opt(self.values.next().unwrap_or(Value::NULL)).map_err(|_| {
            StoreError::new(
                self.operation,
                Failure::Refused,
                "unexpected types of columns",
            )
        })
    }

    /// The conversation that the next two columns name, a channel or a thread.
    pub(super) fn conversation(&mut self) -> Result<Conversation> {
        let (channel, thread) = (self.take::<Option<_>>()?, self.take::<Option<u64>>()?);
        let thread = ThreadId(thread.unwrap_or_default());
        Ok(channel.map_or(Conversation::Direct(thread), Conversation::Channel))
    }
}

/// No parameters.
pub(super) const NOTHING: [Value; 0] = [];

/// Parameters of one kind.
pub(super) fn values(all: impl IntoIterator<Item: Into<Value>>) -> Vec<Value> {
    all.into_iter().map(Into::into).collect()
}

/// The same for an `IN` list, the last one repeated up to a power of two: so that few different statements are prepared.
pub(super) fn padded(all: impl IntoIterator<Item: Into<Value>>) -> Vec<Value> {
    let mut padded = values(all);
    if let Some(last) = padded.last().cloned() {
        padded.resize(padded.len().next_power_of_two(), last);
    }
    padded
}

/// Places for so many parameters.
pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
