//! A connection of the key-value port: who it is, its bucket, its documents.

use std::io::{self, BufReader};

use super::{
    Shared,
    faults::Fault,
    node::Stream,
    protocol::{Answer, Request, collection_and_id, durability, opcode, read_request, status, write_answer},
    scram::{Exchange, MECHANISM, is_plain_welcome},
    world::Write,
};

/// Features that are granted to who asks: extended errors, buckets, JSON, answers out of order, framing extras, durability,
/// collections.
const FEATURES: [u16; 7] = [0x07, 0x08, 0x0b, 0x0e, 0x10, 0x11, 0x12];

/// What becomes of a request.
enum Outcome {
    /// It is answered.
    Reply(Answer),
    /// The connection breaks.
    Drop,
}

struct Connection<'a> {
    node: usize,
    shared: &'a Shared,
    exchange: Option<Exchange>,
    is_in: bool,
    bucket: Option<String>,
}

/// Serves a connection until it ends. Answers of requests that came together leave together.
pub(super) fn serve(stream: Box<dyn Stream>, node: usize, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut connection = Connection { node, shared, exchange: None, is_in: false, bucket: None };
    let mut out = Vec::new();
    while let Some(request) = read_request(&mut stream)? {
        match connection.take(&request) {
            Outcome::Reply(answer) => write_answer(&request, &answer, &mut out),
            Outcome::Drop => return Ok(()),
        }
        if stream.buffer().is_empty() {
            stream.get_mut().write_all(&out)?;
            stream.get_mut().flush()?;
            out.clear();
        }
    }
    Ok(())
}

impl Connection<'_> {
    fn take(&mut self, request: &Request) -> Outcome {
        let is_open = matches!(
            request.opcode,
            opcode::HELLO | opcode::SASL_LIST_MECHS | opcode::SASL_AUTH | opcode::SASL_STEP | opcode::GET_ERROR_MAP
        );
        if !is_open && !self.is_in {
            return Outcome::Reply(Answer::status(status::ACCESS));
        }
        Outcome::Reply(match request.opcode {
            opcode::HELLO => hello(request),
            opcode::SASL_LIST_MECHS => Answer::value(format!("{MECHANISM} PLAIN")),
            opcode::SASL_AUTH => self.begin(request),
            opcode::SASL_STEP => self.end(request),
            opcode::GET_ERROR_MAP => Answer::value(r#"{"version":2,"revision":1,"errors":{}}"#),
            opcode::SELECT_BUCKET => self.select(request),
            opcode::GET_CLUSTER_CONFIG => Answer::value(self.config()),
            opcode::GET_COLLECTION_ID => self.collection_id(request),
            opcode::NOOP => Answer::default(),
            opcode::GET | opcode::ADD | opcode::REPLACE => return self.document(request),
            _ => Answer::status(status::UNKNOWN_COMMAND),
        })
    }

    fn begin(&mut self, request: &Request) -> Answer {
        if request.key == b"PLAIN" && is_plain_welcome(&request.value) {
            self.is_in = true;
            return Answer::default();
        }
        match (request.key == MECHANISM.as_bytes()).then(|| Exchange::begin(&request.value)).flatten() {
            Some((exchange, first)) => {
                self.exchange = Some(exchange);
                Answer { status: status::AUTH_CONTINUE, ..Answer::value(first) }
            }
            None => Answer::status(status::AUTH_ERROR),
        }
    }

    fn end(&mut self, request: &Request) -> Answer {
        match self.exchange.take().and_then(|exchange| exchange.end(&request.value)) {
            Some(proof) => {
                self.is_in = true;
                Answer::value(proof)
            }
            None => Answer::status(status::AUTH_ERROR),
        }
    }

    fn select(&mut self, request: &Request) -> Answer {
        let name = String::from_utf8_lossy(&request.key).into_owned();
        if !self.shared.world().buckets.contains_key(&name) {
            return Answer::status(status::KEY_NOT_FOUND);
        }
        self.bucket = Some(name);
        Answer::default()
    }

    fn config(&self) -> Vec<u8> {
        let world = self.shared.world();
        let bucket =
            self.bucket.as_ref().and_then(|name| Some((name.as_str(), world.buckets.get(name)?.uuid.as_str())));
        self.shared.topology().config(self.node, bucket)
    }

    fn collection_id(&self, request: &Request) -> Answer {
        let name = String::from_utf8_lossy(&request.value).into_owned();
        let world = self.shared.world();
        let Some(bucket) = self.bucket.as_ref().and_then(|bucket| world.buckets.get(bucket)) else {
            return Answer::status(status::NO_BUCKET);
        };
        let found = name.split_once('.').and_then(|(scope, name)| bucket.collection_id(scope, name));
        let Some(id) = found else { return Answer::status(status::UNKNOWN_COLLECTION) };
        let mut extras = bucket.manifest.to_be_bytes().to_vec();
        extras.extend_from_slice(&id.to_be_bytes());
        Answer { extras, ..Answer::default() }
    }

    fn document(&self, request: &Request) -> Outcome {
        let Some(bucket) = self.bucket.as_deref() else { return Outcome::Reply(Answer::status(status::NO_BUCKET)) };
        if !self.shared.topology().owns(self.node, request.vbucket) {
            return Outcome::Reply(Answer { status: status::NOT_MY_VBUCKET, ..Answer::value(self.config()) });
        }
        let place = collection_and_id(&request.key).and_then(|(at, id)| Some((at, std::str::from_utf8(id).ok()?)));
        let Some((collection, id)) = place else {
            return Outcome::Reply(Answer::status(status::UNKNOWN_COLLECTION));
        };
        let is_durable = durability(&request.framing) != 0;
        let fault = self.shared.faults.take();
        match fault {
            Some(Fault::TemporaryFailure) => return Outcome::Reply(Answer::status(status::TEMPORARY_FAILURE)),
            Some(Fault::WriteInProgress) if is_durable => {
                return Outcome::Reply(Answer::status(status::WRITE_IN_PROGRESS));
            }
            Some(Fault::DropBefore) => return Outcome::Drop,
            Some(Fault::Slow(by)) => std::thread::park_timeout(by),
            _ => {}
        }
        let answer = self.apply(bucket, collection, id, request);
        match fault {
            Some(Fault::DropAfter) => Outcome::Drop,
            Some(Fault::Ambiguous) if is_durable => Outcome::Reply(Answer::status(status::AMBIGUOUS)),
            Some(Fault::Race) => {
                self.shared.world().race(bucket, collection, id);
                Outcome::Reply(answer)
            }
            _ => Outcome::Reply(answer),
        }
    }

    fn apply(&self, bucket: &str, collection: u32, id: &str, request: &Request) -> Answer {
        let mut world = self.shared.world();
        let found = world.buckets.get(bucket).and_then(|bucket| bucket.collections.get(&collection));
        let Some(found) = found else { return Answer::status(status::UNKNOWN_COLLECTION) };
        match (request.opcode, found.documents.get(id)) {
            (opcode::GET, Some(document)) => {
                let extras = document.flags.to_be_bytes().to_vec();
                Answer { cas: document.cas, extras, ..Answer::value(document.value.as_slice()) }
            }
            (opcode::GET | opcode::REPLACE, None) => Answer::status(status::KEY_NOT_FOUND),
            (opcode::ADD, Some(_)) => Answer::status(status::KEY_EXISTS),
            (opcode::REPLACE, Some(document)) if request.cas != 0 && request.cas != document.cas => {
                Answer::status(status::KEY_EXISTS)
            }
            _ => {
                let number = |at: usize| request.extras.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                let (flags, expiry) =
                    (number(0).map_or(0, u32::from_be_bytes), number(4).map_or(0, u32::from_be_bytes));
                let durability = durability(&request.framing);
                let write = Write { id, value: &request.value, flags, expiry, durability };
                Answer { cas: world.write(bucket, collection, &write).unwrap_or_default(), ..Answer::default() }
            }
        }
    }
}

fn hello(request: &Request) -> Answer {
    let asked = request.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let granted: Vec<u8> = asked.filter(|code| FEATURES.contains(code)).flat_map(u16::to_be_bytes).collect();
    Answer::value(granted)
}
