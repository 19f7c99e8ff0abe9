//! The bytes of a body, no more than allowed and no slower.

use std::{future::poll_fn, pin::pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::StatusCode,
};

use super::{Refused, body::BodyError, refused};
use crate::ingest::limits::BODY_BYTES_DRAINED;

/// Reads a body of at most `bytes_max` bytes.
pub(super) async fn read(body: Body, bytes_max: usize, timeout: Duration) -> Result<Vec<u8>, Refused> {
    let (bytes, len) = in_time(timeout, collect(body, bytes_max)).await?;
    if len > bytes_max { Err(refused(BodyError::TooLong(bytes_max))) } else { Ok(bytes) }
}

/// Reads a body that nobody wants, so that the client comes to hear the answer.
pub(super) async fn drain(body: Body, timeout: Duration) -> Result<(), Refused> {
    in_time(timeout, collect(body, 0)).await.map(|_| ())
}

async fn in_time<T>(timeout: Duration, read: impl Future<Output = Result<T, axum::Error>>) -> Result<T, Refused> {
    match tokio::time::timeout(timeout, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body ended too early".into())),
        Err(_) => {
            Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not end within {} s", timeout.as_secs_f64())))
        }
    }
}

/// Keeps up to `kept_max` bytes and returns how many there were; looks at no more than [`BODY_BYTES_DRAINED`] behind
/// those.
async fn collect(body: Body, kept_max: usize) -> Result<(Vec<u8>, usize), axum::Error> {
    let mut body = pin!(body);
    let (mut kept, mut len) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(bytes) = frame?.into_data() else { continue };
        len += bytes.len();
        if len <= kept_max {
            kept.extend_from_slice(&bytes);
        } else if len > kept_max + BODY_BYTES_DRAINED {
            break;
        }
    }
    Ok((kept, len))
}
