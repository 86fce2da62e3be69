//! Integers of varying length, and the bounds-checked way to read them back.
//!
//! An unsigned integer is LEB128: seven bits a byte, lowest first, the top bit set on all bytes but the last. A signed one
//! is folded ("zigzag") onto the unsigned: 0, -1, 1, -2, ... become 0, 1, 2, 3, ...

use super::damage::Damage;

/// Appends an unsigned integer.
pub(super) fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends the signed difference `value - from`, which wraps: any two values have one.
pub(super) fn put_difference(to: &mut Vec<u8>, value: u64, from: u64) {
    let difference = value.wrapping_sub(from).cast_signed();
    put(to, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

/// Appends a byte string: its length, then the bytes.
pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// What is left to read of a stretch of bytes. The bytes themselves are handed in anew at each read, so that many spans
/// of one buffer can be kept beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: usize,
    end: usize,
}

impl Span {
    /// The bytes `at..at + len` of a buffer of `total` bytes.
    pub(super) fn new(at: usize, len: usize, total: usize) -> Result<Self, Damage> {
        match at.checked_add(len) {
            Some(end) if end <= total => Ok(Self { at, end }),
            _ => Err(Damage::Overrun),
        }
    }

    /// All of a buffer.
    pub(super) fn all(bytes: &[u8]) -> Self {
        Self {
            at: 0,
            end: bytes.len(),
        }
    }

    /// The same bytes, in a buffer that has so many more before them.
    pub(super) fn moved(self, by: usize) -> Self {
        Self {
            at: self.at + by,
            end: self.end + by,
        }
    }

    /// How many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Takes one byte off the front.
    pub(super) fn byte(&mut self, bytes: &[u8]) -> Result<u8, Damage> {
        Ok(self.take(bytes, 1)?[0])
    }

    /// Leaves the next `len` bytes of it, if there are as many.
    pub(super) fn shorten(&mut self, len: usize) {
        self.end = self.end.min(self.at.saturating_add(len));
    }

    /// The next `len` bytes.
    pub(super) fn take<'b>(&mut self, bytes: &'b [u8], len: usize) -> Result<&'b [u8], Damage> {
        let taken = Self::new(self.at, len, self.end)?;
        let slice = bytes.get(taken.at..taken.end).ok_or(Damage::Overrun)?;
        self.at = taken.end;
        Ok(slice)
    }

    /// An unsigned integer.
    #[inline]
    pub(super) fn unsigned(&mut self, bytes: &[u8]) -> Result<u64, Damage> {
        let rest = bytes.get(self.at..self.end).ok_or(Damage::Overrun)?;
        let mut value = 0u64;
        for (index, &byte) in rest.iter().enumerate() {
            // The tenth byte holds bit 63 alone.
            if index == 9 && byte > 1 {
                return Err(Damage::LongInteger);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(Damage::Overrun)
    }

    /// An unsigned integer that has to fit 32 bits.
    pub(super) fn unsigned_32(&mut self, bytes: &[u8]) -> Result<u32, Damage> {
        u32::try_from(self.unsigned(bytes)?).map_err(|_| Damage::LongInteger)
    }

    /// 0 for none, otherwise one more than the value.
    pub(super) fn optional_32(&mut self, bytes: &[u8]) -> Result<Option<u32>, Damage> {
        self.unsigned(bytes)?
            .checked_sub(1)
            .map(|value| u32::try_from(value).map_err(|_| Damage::LongInteger))
            .transpose()
    }

    /// The value that differs from `from` by what is written here.
    #[inline]
    pub(super) fn difference(&mut self, bytes: &[u8], from: u64) -> Result<u64, Damage> {
        let folded = self.unsigned(bytes)?;
        Ok(from.wrapping_add((folded >> 1) ^ (folded & 1).wrapping_neg()))
    }

    /// A byte string, which has to lie in this span.
    pub(super) fn bytes<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Damage> {
        let len = self.unsigned(bytes)?;
        self.take(bytes, usize::try_from(len).map_err(|_| Damage::Overrun)?)
    }

    /// A number of items of at least `least` bytes each, all of which have to lie in what is left of this span: so that
    /// room can be made for them without believing more than there is.
    pub(super) fn count(&mut self, bytes: &[u8], least: usize) -> Result<usize, Damage> {
        let count = usize::try_from(self.unsigned(bytes)?).map_err(|_| Damage::Overrun)?;
        if count > self.remaining() / least {
            return Err(Damage::Overrun);
        }
        Ok(count)
    }
}

/// Where the parts of a chunk of versions 1 to 3 lie: their number, at least `N`, their lengths, then they themselves. What follows the
/// `N` that are known is passed over.
pub(super) fn spans<const N: usize>(content: &[u8]) -> Result<[Span; N], Damage> {
    let mut numbers = content
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let count = numbers.next().ok_or(Damage::Overrun)?;
    let at = (count as usize)
        .checked_add(1)
        .and_then(|numbers| numbers.checked_mul(4))
        .ok_or(Damage::Overrun)?;
    lay_out(content, at, count.into(), || {
        numbers.next().map(u64::from).ok_or(Damage::Overrun)
    })
}

/// The same of later versions, whose numbers have no fixed width.
pub(super) fn parts<const N: usize>(content: &[u8], head: Span) -> Result<[Span; N], Damage> {
    let mut lengths = head;
    let count = lengths.unsigned(content)?;
    let mut sized = lengths;
    for _ in 0..count {
        sized.unsigned(content)?;
    }
    lay_out(content, sized.at, count, || lengths.unsigned(content))
}

/// Lays so many parts one after another, from `at` to the end.
fn lay_out<const N: usize>(
    content: &[u8],
    mut at: usize,
    count: u64,
    mut length: impl FnMut() -> Result<u64, Damage>,
) -> Result<[Span; N], Damage> {
    if count < N as u64 {
        return Err(Damage::ColumnCount(count));
    }
    let mut known = [Span::default(); N];
    for index in 0..count {
        let length = usize::try_from(length()?).map_err(|_| Damage::Overrun)?;
        let part = Span::new(at, length, content.len())?;
        if let Some(known) = known.get_mut(index as usize) {
            *known = part;
        }
        at = part.end;
    }
    if at != content.len() {
        return Err(Damage::LeftOver);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_back(value: u64, from: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            put_difference(&mut bytes, value, from);
            let mut span = Span::all(&bytes);
            prop_assert_eq!(span.unsigned(&bytes), Ok(value));
            prop_assert_eq!(span.difference(&bytes, from), Ok(value));
            prop_assert_eq!(span.remaining(), 0);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>) {
            let mut span = Span::all(&bytes);
            while span.unsigned(&bytes).is_ok() {}
            let mut span = Span::all(&bytes);
            while span.bytes(&bytes).is_ok() {}
        }
    }

    #[test]
    fn an_integer_that_exceeds_its_width_is_damage() {
        let read = |bytes: &[u8]| Span::all(bytes).unsigned(bytes);
        assert_eq!(read(&[0xff; 10]), Err(Damage::LongInteger));
        assert_eq!(read(&[0x80; 9]), Err(Damage::Overrun));
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(read(&largest), Ok(u64::MAX));
        assert_eq!(
            Span::all(&largest).unsigned_32(&largest),
            Err(Damage::LongInteger)
        );
    }

    #[test]
    fn small_differences_of_either_sign_take_one_byte() {
        for (value, from) in [(5, 5), (64, 100), (163, 100), (0, u64::MAX)] {
            let mut bytes = Vec::new();
            put_difference(&mut bytes, value, from);
            assert_eq!(bytes.len(), 1, "{value} from {from}");
        }
    }
}
