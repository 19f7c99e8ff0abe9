//! A connection of the management port: HTTP/1.1, one request after the other.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    PASSWORD, Shared, USER,
    node::Stream,
    world::{Bucket, Making},
};

/// Largest form that is taken.
const FORM_MAX: usize = 64 << 10;

struct Request {
    method: String,
    path: String,
    authorization: String,
    form: BTreeMap<String, String>,
}

/// A status and a body.
type Answer = (u16, String);

/// Serves a connection until it ends.
pub(super) fn serve(stream: Box<dyn Stream>, node: usize, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        let (status, body) = answer(&request, node, shared);
        let head =
            format!("HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all((head + &body).as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

fn read(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or_default(),
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length.min(FORM_MAX)];
    from.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    // Names of buckets, scopes and collections need no escapes but `%25`.
    let form = pairs.map(|(name, value)| (name.to_owned(), value.replace("%25", "%"))).collect();
    Ok(Some(Request { method, path, authorization, form }))
}

fn answer(request: &Request, node: usize, shared: &Shared) -> Answer {
    if request.authorization != format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))) {
        return (401, String::new());
    }
    let steps: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), &steps[..]) {
        ("GET", ["pools", "default", "nodeServices"]) => config(node, shared, None),
        ("GET", ["pools", "default", "b", bucket]) => config(node, shared, Some(bucket)),
        ("GET", ["pools", "default", "buckets"]) => {
            let world = shared.world();
            let all: Value = world.buckets.iter().map(|(name, bucket)| settings(name, bucket)).collect();
            (200, all.to_string())
        }
        ("POST", ["pools", "default", "buckets"]) => make_bucket(request, shared),
        ("GET", ["pools", "default", "buckets", name]) => {
            in_bucket(shared, name, |bucket| (200, settings(name, bucket).to_string()))
        }
        ("GET", ["pools", "default", "buckets", name, "scopes"]) => {
            in_bucket(shared, name, |bucket| (200, manifest(bucket)))
        }
        ("POST", ["pools", "default", "buckets", name, "scopes"]) => in_bucket(shared, name, |bucket| {
            let scope = field(request, "name");
            let made = bucket.make_scope(&scope);
            told(made, bucket.manifest, &format!("Scope with name \"{scope}\""))
        }),
        ("POST", ["pools", "default", "buckets", name, "scopes", scope, "collections"]) => {
            in_bucket(shared, name, |bucket| {
                let collection = field(request, "name");
                let made = bucket.make_collection(scope, &collection);
                told(made, bucket.manifest, &format!("Collection with name \"{collection}\" in scope \"{scope}\""))
            })
        }
        ("DELETE", ["pools", "default", "buckets", name, "scopes", scope, "collections", collection]) => {
            in_bucket(shared, name, |bucket| match bucket.drop_collection(scope, collection) {
                true => (200, json!({"uid": format!("{:x}", bucket.manifest)}).to_string()),
                false => (404, format!("Collection with name \"{collection}\" in scope \"{scope}\" is not found")),
            })
        }
        _ => (404, "Object Not Found".into()),
    }
}

fn field(request: &Request, name: &str) -> String {
    request.form.get(name).cloned().unwrap_or_default()
}

fn config(node: usize, shared: &Shared, bucket: Option<&str>) -> Answer {
    let world = shared.world();
    let found = bucket.map(|name| world.buckets.get(name).map(|bucket| (name, bucket.uuid.as_str())));
    if found == Some(None) {
        return (404, "Requested resource not found.".into());
    }
    let config = shared.topology().config(node, found.flatten());
    (200, String::from_utf8_lossy(&config).into_owned())
}

fn in_bucket(shared: &Shared, name: &str, then: impl FnOnce(&mut Bucket) -> Answer) -> Answer {
    let mut world = shared.world();
    world.buckets.get_mut(name).map_or((404, "Requested resource not found.".into()), then)
}

fn make_bucket(request: &Request, shared: &Shared) -> Answer {
    let number = |name: &str| field(request, name).parse().unwrap_or_default();
    let (name, kind) = (field(request, "name"), field(request, "bucketType"));
    match shared.world().make_bucket(&name, &kind, number("ramQuotaMB"), number("replicaNumber")) {
        Making::Made => (202, String::new()),
        Making::TooBig => {
            let why = "RAM quota specified is too large to be provisioned into this cluster.";
            (400, json!({"errors": {"ramQuota": why}, "summaries": {}}).to_string())
        }
        _ => (400, json!({"errors": {"name": "Bucket with given name already exists"}, "summaries": {}}).to_string()),
    }
}

fn told(made: Making, manifest: u64, what: &str) -> Answer {
    match made {
        Making::Made => (200, json!({"uid": format!("{manifest:x}")}).to_string()),
        Making::Exists => (400, json!({"errors": {"_": format!("{what} already exists")}}).to_string()),
        Making::NoParent | Making::TooBig => (404, json!({"errors": {"_": "Scope not found"}}).to_string()),
    }
}

fn settings(name: &str, bucket: &Bucket) -> Value {
    let bytes = bucket.ram_mb << 20;
    json!({
        "name": name,
        "uuid": bucket.uuid,
        "bucketType": bucket.kind,
        "quota": {"ram": bytes, "rawRAM": bytes},
        "replicaNumber": bucket.replicas,
        "replicaIndex": false,
        "controllers": {},
    })
}

fn manifest(bucket: &Bucket) -> String {
    let scope = |(at, name): (usize, &String)| {
        let collections = bucket.in_scope(name).map(|(id, name)| json!({"uid": format!("{id:x}"), "name": name}));
        json!({"uid": format!("{at:x}"), "name": name, "collections": collections.collect::<Vec<Value>>()})
    };
    let scopes: Vec<Value> = bucket.scopes.iter().enumerate().map(scope).collect();
    json!({"uid": format!("{:x}", bucket.manifest), "scopes": scopes}).to_string()
}
