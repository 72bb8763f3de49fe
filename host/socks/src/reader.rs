//! Taking fields off the front of what has come in so far.

/// The field is not whole yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing;

/// A cursor over bytes; a field that is not whole leaves the message to be read again later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Missing> {
        let (field, rest) = self.0.split_at_checked(count).ok_or(Missing)?;
        self.0 = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Missing> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Missing)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Missing> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn port(&mut self) -> Result<u16, Missing> {
        self.array().map(u16::from_be_bytes)
    }

    /// A length byte and that many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Missing> {
        let count = self.byte()?;
        self.bytes(count.into())
    }

    /// Bytes up to a NUL, which is taken as well; `Ok(None)` when none of the first `limit` bytes is one.
    pub(crate) fn until_nul(&mut self, limit: usize) -> Result<Option<&'a [u8]>, Missing> {
        match self.0.iter().take(limit).position(|&byte| byte == 0) {
            Some(length) => {
                let field = self.bytes(length)?;
                self.byte()?;
                Ok(Some(field))
            }
            None if self.0.len() >= limit => Ok(None),
            None => Err(Missing),
        }
    }
}
