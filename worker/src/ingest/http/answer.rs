//! What a client hears.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use engine::value::{write_integer, write_json_string};

/// Answers what became of each event: `rejected` has a reason for those that were not taken.
#[must_use]
pub fn events(rejected: &[Option<String>]) -> Response<Body> {
    let bad = rejected.iter().flatten().count();
    let mut out = Vec::with_capacity(64 + 40 * rejected.len());
    out.extend_from_slice(b"{\"accepted\":");
    write_integer((rejected.len() - bad) as i64, &mut out);
    out.extend_from_slice(b",\"rejected\":");
    write_integer(bad as i64, &mut out);
    out.extend_from_slice(b",\"results\":[");
    for (index, reason) in rejected.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"index\":" } else { b",{\"index\":" });
        write_integer(index as i64, &mut out);
        match reason {
            None => out.extend_from_slice(b",\"status\":\"accepted\"}"),
            Some(reason) => {
                out.extend_from_slice(b",\"status\":\"rejected\",\"reason\":");
                write_json_string(reason, &mut out);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"]}\n");
    // Some were taken and must not be sent again, so that only all of them being bad is the client's error.
    let status = if bad == rejected.len() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    json(status, out)
}

/// Answers that nothing was taken, and why.
#[must_use]
pub fn refused(status: StatusCode, why: &str) -> Response<Body> {
    let mut out = b"{\"error\":".to_vec();
    write_json_string(why, &mut out);
    out.extend_from_slice(b"}\n");
    let mut response = json(status, out);
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        // The rest of a body that is not wanted would be read for nothing.
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"))
        }
        _ => None,
    };
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
