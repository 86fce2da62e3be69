//! The fields of a body, one after another.

use super::damage::Damage;
use super::varint::{Span, put};

/// 0 for none, otherwise one more than the length, then the bytes.
pub(super) fn put_optional_text(to: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => put(to, 0),
        Some(text) => {
            put(to, text.len() as u64 + 1);
            to.extend_from_slice(text.as_bytes());
        }
    }
}

/// Reads the fields of a body one after another.
pub(super) struct Fields<'b> {
    pub(super) body: &'b [u8],
    pub(super) span: Span,
}

impl<'b> Fields<'b> {
    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        self.span.byte(self.body)
    }

    /// Nothing more was written.
    pub(super) fn is_empty(&self) -> bool {
        self.span.remaining() == 0
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Damage> {
        self.span.unsigned(self.body)
    }

    pub(super) fn unsigned_32(&mut self) -> Result<u32, Damage> {
        self.span.unsigned_32(self.body)
    }

    /// 0 for none, otherwise one more than the value.
    pub(super) fn optional_32(&mut self) -> Result<Option<u32>, Damage> {
        self.span.optional_32(self.body)
    }

    pub(super) fn count(&mut self, least: usize) -> Result<usize, Damage> {
        self.span.count(self.body, least)
    }

    pub(super) fn bytes(&mut self) -> Result<&'b [u8], Damage> {
        self.span.bytes(self.body)
    }

    pub(super) fn text(&mut self) -> Result<String, Damage> {
        text(self.bytes()?)
    }

    /// 0 for none, otherwise one more than the length, then the bytes.
    pub(super) fn optional_text(&mut self) -> Result<Option<String>, Damage> {
        let Some(len) = self.unsigned()?.checked_sub(1) else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| Damage::Overrun)?;
        text(self.span.take(self.body, len)?).map(Some)
    }
}

fn text(bytes: &[u8]) -> Result<String, Damage> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Damage::Text),
    }
}
