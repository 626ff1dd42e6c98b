//! Protobuf's wire format: tags, varints, fixed numbers, length-delimited fields.

use crate::decode::decoded::WireError;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;
const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;

/// The tag of a varint field.
pub(super) const fn varint(field: u32) -> u32 {
    field << 3 | VARINT
}

/// The tag of a `fixed64` or `double` field.
pub(super) const fn fixed64(field: u32) -> u32 {
    field << 3 | FIXED64
}

/// The tag of a `fixed32` field.
pub(super) const fn fixed32(field: u32) -> u32 {
    field << 3 | FIXED32
}

/// The tag of a string, bytes or message field.
pub(super) const fn delimited(field: u32) -> u32 {
    field << 3 | LENGTH_DELIMITED
}

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a>(pub(super) &'a [u8]);

impl<'a> Wire<'a> {
    /// The tag of the next field, or `None` at the end.
    #[inline(always)]
    pub(super) fn tag(&mut self) -> Result<Option<u32>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        // Tags of one byte, which are most, can't have too large a number.
        if tag < 8 || tag > u64::from(FIELD_NUMBER_MAX << 3 | 7) {
            return Err(WireError::FieldNumber);
        }
        Ok(Some(tag as u32))
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        match *self.0 {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(byte))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.0 = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        const BYTES_MAX: usize = 10;
        let mut value = 0;
        for (at, &byte) in self.0.iter().take(BYTES_MAX).enumerate() {
            // Bits beyond 64 are lost, as every implementation does.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < BYTES_MAX { WireError::Truncated } else { WireError::Varint })
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline(always)]
    pub(super) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*taken))
    }

    #[inline(always)]
    pub(super) fn fixed32(&mut self) -> Result<u32, WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }

    /// Passes over the field of a tag just read. Groups, which proto3 doesn't have, are refused: to skip them would
    /// need recursion.
    #[inline]
    pub(super) fn skip(&mut self, tag: u32) -> Result<(), WireError> {
        match tag & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            LENGTH_DELIMITED => self.bytes().map(drop),
            FIXED32 => self.fixed32().map(drop),
            _ => Err(WireError::WireType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        let cases: [(&[u8], Result<u64, WireError>); 9] = [
            (&[0], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0x96, 0x01], Ok(150)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u64::from(u32::MAX))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(u64::MAX)),
            (&[0x80; 10], Err(WireError::Varint)),
            (&[0x80; 9], Err(WireError::Truncated)),
            (&[], Err(WireError::Truncated)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Wire(bytes).varint(), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn wrong_fields() {
        assert_eq!(Wire(&[0x02, 0x00]).tag(), Err(WireError::FieldNumber));
        assert_eq!(Wire(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).tag(), Err(WireError::FieldNumber));
        assert_eq!(Wire(&[0; 4]).skip(delimited(1) + 1), Err(WireError::WireType));
        assert_eq!(Wire(&[0x05, 0, 0]).skip(delimited(1)), Err(WireError::Truncated));
        assert_eq!(
            Wire(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]).bytes(),
            Err(WireError::Truncated)
        );
        assert_eq!(Wire(&[0; 7]).fixed64(), Err(WireError::Truncated));
        assert_eq!(Wire(&[0; 3]).fixed32(), Err(WireError::Truncated));
    }
}
