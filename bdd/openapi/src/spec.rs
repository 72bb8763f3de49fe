//! Names and limits of the OpenAPI document.

/// The version that is written. (OpenAPI Specification 3.1.0, §4.8.1)
pub const VERSION: &str = "3.1.0";

/// The fields of a path item that are operations. (OpenAPI Specification 3.1.0, §4.8.9)
pub const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// The media type of problem documents. (RFC 9457 §3)
pub const PROBLEM: &str = "application/problem+json";

/// The media type of other documents. (RFC 8259 §11)
pub const JSON: &str = "application/json";

/// The reason phrases used as descriptions, which 3.1 demands of every response. (RFC 9110 §15)
pub const REASONS: [(u16, &str); 18] = [
    (200, "OK"),
    (201, "Created"),
    (202, "Accepted"),
    (204, "No content"),
    (304, "Not modified"),
    (400, "Bad request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not found"),
    (405, "Method not allowed"),
    (409, "Conflict"),
    (412, "Precondition failed"),
    (415, "Unsupported media type"),
    (422, "Unprocessable content"),
    (428, "Precondition required"),
    (429, "Too many requests"),
    (500, "Internal server error"),
    (503, "Service unavailable"),
];
