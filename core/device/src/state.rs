//! Saved device state: a versioned envelope around a device's own state type.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A device's saved state. The payload's type belongs to the device, lives apart from its run-time
/// types and only ever grows a new version.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SavedState {
    /// The kind of device: `"serial-16550"`.
    pub kind: String,
    /// The version of the payload.
    pub version: u32,
    /// The payload.
    pub payload: serde_json::Value,
}

/// Why a saved state was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was saved by another kind of device.
    #[error("state is of a '{found}', not of a '{wanted}'")]
    OtherKind {
        /// The kind that was asked for.
        wanted: String,
        /// The kind that was found.
        found: String,
    },
    /// Its version is not known.
    #[error("state of '{kind}' has version {found}; this kezhan knows up to {known}")]
    OtherVersion {
        /// The kind of device.
        kind: String,
        /// The newest version known.
        known: u32,
        /// The version found.
        found: u32,
    },
    /// The payload is damaged or contradicts itself.
    #[error("state of '{kind}' is not valid: {reason}")]
    Invalid {
        /// The kind of device.
        kind: String,
        /// What is wrong.
        reason: String,
    },
}

impl RestoreError {
    /// The payload of a `kind` is not valid, because of `reason`.
    pub fn invalid(kind: &str, reason: &str) -> RestoreError {
        RestoreError::Invalid { kind: kind.to_owned(), reason: reason.to_owned() }
    }
}

impl SavedState {
    /// Wraps a device's state; a payload that cannot be expressed becomes `null`, which no device restores.
    pub fn new<T: Serialize>(kind: &str, version: u32, payload: &T) -> SavedState {
        let payload = serde_json::to_value(payload).unwrap_or(serde_json::Value::Null);
        SavedState { kind: kind.to_owned(), version, payload }
    }

    /// Unwraps the state of a `kind` at exactly `version`.
    ///
    /// # Errors
    /// [`RestoreError`] when kind, version or payload do not fit.
    pub fn open<T: DeserializeOwned>(&self, kind: &str, version: u32) -> Result<T, RestoreError> {
        if self.kind != kind {
            return Err(RestoreError::OtherKind {
                wanted: kind.to_owned(),
                found: self.kind.clone(),
            });
        }
        if self.version != version {
            return Err(RestoreError::OtherVersion {
                kind: kind.to_owned(),
                known: version,
                found: self.version,
            });
        }
        serde_json::from_value(self.payload.clone()).map_err(|error| RestoreError::Invalid {
            kind: kind.to_owned(),
            reason: error.to_string(),
        })
    }
}
