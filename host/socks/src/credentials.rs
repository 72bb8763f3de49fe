//! A user name and a password (RFC 1929).

use std::fmt;
use thiserror::Error;

/// A user name and a password, 1 to 255 bytes each. Debug output hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

/// A field that RFC 1929 cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the {field} has {length} bytes: SOCKS5 carries 1 to 255")]
pub struct CredentialsError {
    field: &'static str,
    length: usize,
}

impl Credentials {
    /// Keeps both.
    ///
    /// # Errors
    /// A field is empty or longer than 255 bytes.
    pub fn new(
        user: impl Into<Vec<u8>>,
        password: impl Into<Vec<u8>>,
    ) -> Result<Credentials, CredentialsError> {
        let credentials = Credentials { user: user.into(), password: password.into() };
        for (field, value) in
            [("user name", &credentials.user), ("password", &credentials.password)]
        {
            if !(1..=255).contains(&value.len()) {
                return Err(CredentialsError { field, length: value.len() });
            }
        }
        Ok(credentials)
    }

    /// Whether both are these; the time taken tells the lengths and nothing else.
    pub(crate) fn are(&self, user: &[u8], password: &[u8]) -> bool {
        same(&self.user, user) & same(&self.password, password)
    }

    /// Appends both fields with their lengths (RFC 1929 §2).
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        for field in [&self.user, &self.password] {
            to.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
            to.extend(field);
        }
    }
}

fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let differences = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
    ours.len() == theirs.len() && std::hint::black_box(differences) == 0
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", String::from_utf8_lossy(&self.user))
    }
}
