//! Errors as answers: a status and a JSON object with `error`, and where the user's text is wrong, `part`, `position`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::store::{QueryError, StoreError};

/// Why a request has no answer.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    error: String,
    /// Which parameter is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'static str>,
    /// Where, in characters from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suggestions: Vec<String>,
}

impl Problem {
    /// An answer with a message.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), part: None, position: None, suggestions: vec![] }
    }

    /// The request is wrong.
    pub fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Something of ours failed; the log says what, the answer does not.
    pub fn ours(error: &dyn std::error::Error) -> Self {
        let mut causes = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            causes += &format!(": {cause}");
            next = cause.source();
        }
        tracing::warn!(error = causes, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something failed here; the log says what")
    }

    /// What a query has to say; `text` is the user's text of the part that is wrong, for the position in characters.
    pub fn of_query(error: QueryError, text: impl Fn(&str) -> Option<String>) -> Self {
        let message = error.to_string();
        match error {
            QueryError::UnknownTable { suggestions, .. } => {
                Self { suggestions, ..Self::new(StatusCode::NOT_FOUND, message) }
            }
            QueryError::BadText { part, position, .. } => {
                let characters = |at: usize| match text(part.name()) {
                    Some(text) => text.bytes().take(at).filter(|byte| byte & 0xc0 != 0x80).count(),
                    None => at,
                };
                Self { part: Some(part.name()), position: position.map(characters), ..Self::bad(message) }
            }
            QueryError::TooSlow { .. } | QueryError::TooLarge => Self::bad(message),
            QueryError::Store(error) => Self::ours(&error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::ours(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
