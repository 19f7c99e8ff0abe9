//! The page's files, in the binary.

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};

/// A file of the page.
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    ty: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $ty:literal, $file:literal) => {
        Asset { path: $path, ty: $ty, bytes: include_bytes!(concat!("../../assets/", $file)) }
    };
}

/// All files. There is no build step: what is here is what the browser gets.
pub const ASSETS: &[Asset] = &[
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/assets/style.css", "text/css; charset=utf-8", "style.css"),
    asset!("/assets/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/assets/app.js", "text/javascript; charset=utf-8", "app.js"),
    asset!("/assets/api.js", "text/javascript; charset=utf-8", "api.js"),
    asset!("/assets/dom.js", "text/javascript; charset=utf-8", "dom.js"),
    asset!("/assets/format.js", "text/javascript; charset=utf-8", "format.js"),
    asset!("/assets/choose.js", "text/javascript; charset=utf-8", "choose.js"),
    asset!("/assets/chart.js", "text/javascript; charset=utf-8", "chart.js"),
    asset!("/assets/panels.js", "text/javascript; charset=utf-8", "panels.js"),
    asset!("/assets/accounts.js", "text/javascript; charset=utf-8", "accounts.js"),
    asset!("/assets/grid.js", "text/javascript; charset=utf-8", "grid.js"),
    asset!("/assets/uplot/uPlot.js", "text/javascript; charset=utf-8", "uplot/uPlot.iife.min.js"),
    asset!("/assets/uplot/uPlot.css", "text/css; charset=utf-8", "uplot/uPlot.min.css"),
    asset!("/assets/uplot/LICENSE", "text/plain; charset=utf-8", "uplot/LICENSE"),
];

/// Answers with the file, or that the browser has it already.
pub fn answer(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(asset.bytes));
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let headers = [(CONTENT_TYPE, asset.ty), (CACHE_CONTROL, "no-cache"), (ETAG, &*tag)];
    (headers, asset.bytes).into_response()
}
