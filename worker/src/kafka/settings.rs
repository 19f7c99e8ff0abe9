//! Settings of a topic, changed one by one: what is not named stays as it is. rdkafka's safe interface has only the older
//! call, which resets every setting that it does not name: it is not to be used here.
//!
//! Audit, once for the whole module:
//! - What librdkafka makes for us lies in an [`Owned`] from the same line on, which destroys it once, before the client goes:
//!   the client is borrowed for as long as the call takes.
//! - librdkafka copies the resource and the options, and keeps the queue itself while an answer is on its way: giving up a
//!   queue that was never answered is allowed.
//! - The queue is ours alone and one question is asked of it, so that its first event is the answer. What is read out of the
//!   event is copied before the event is destroyed.
#![expect(unsafe_code, reason = "incremental changes stand only in librdkafka's C interface; see the audit above")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char},
    ptr::NonNull,
    slice,
    time::Duration,
};

use rdkafka::{error::RDKafkaErrorCode, types::RDKafkaRespErr};
use rdkafka_sys as native;

use super::{client::REQUEST_TIME_MAX, connection::Native};

/// How much longer than the request the answer may take to reach us: librdkafka answers by itself once it is too late.
const ANSWER_TIME_MAX: Duration = REQUEST_TIME_MAX.saturating_mul(2);

/// Why settings are as they were.
#[derive(Debug, thiserror::Error)]
#[error("{told} ({code:?})")]
pub struct Refused {
    /// What kind of refusal it is.
    pub code: RDKafkaErrorCode,
    /// What the broker says; it names the setting.
    pub told: String,
}

/// Changes the named settings of a topic, all of them or none. Once more changes nothing.
///
/// # Errors
/// What the broker says, or that it did not answer.
///
/// # Panics
/// If the topic's name holds a zero byte, which no topic's does.
pub fn change(client: &impl Native, topic: &str, settings: &BTreeMap<String, String>) -> Result<(), Refused> {
    let client = client.native();
    let resource = resource(topic, settings)?;
    let options = options(client)?;
    let queue = unsafe {
        // SAFETY: the client lives; the queue is ours.
        Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)
    };
    let mut resources = [resource.pointer()];
    let event = unsafe {
        // SAFETY: all of them live; the array has as many elements as we say.
        native::rd_kafka_IncrementalAlterConfigs(
            client,
            resources.as_mut_ptr(),
            resources.len(),
            options.pointer(),
            queue.pointer(),
        );
        // SAFETY: the queue lives; a null pointer says that nothing came in time.
        native::rd_kafka_queue_poll(queue.pointer(), ANSWER_TIME_MAX.as_millis() as i32)
    };
    if event.is_null() {
        return Err(Refused { code: RDKafkaErrorCode::OperationTimedOut, told: "no answer".into() });
    }
    // SAFETY: the event is ours, as everything that a queue was polled for.
    answer(&unsafe { Owned::new(event, native::rd_kafka_event_destroy) })
}

/// A topic, and what each of its named settings is to be.
fn resource(
    topic: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Owned<native::rd_kafka_ConfigResource_t>, Refused> {
    let kind = native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
    let topic = CString::new(topic).expect("names of topics have no zero bytes");
    // SAFETY: the name is a C string and is copied; what comes back is ours.
    let resource = unsafe {
        Owned::new(native::rd_kafka_ConfigResource_new(kind, topic.as_ptr()), native::rd_kafka_ConfigResource_destroy)
    };
    for (name, value) in settings {
        let zero = |_| Refused { code: RDKafkaErrorCode::InvalidConfig, told: format!("{name} holds a zero byte") };
        let (key, value) = (CString::new(name.as_str()).map_err(zero)?, CString::new(value.as_str()).map_err(zero)?);
        let set = native::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
        // SAFETY: the resource lives; both strings are C strings and are copied. An error that comes back is ours.
        unsafe {
            let pointer = resource.pointer();
            let error =
                native::rd_kafka_ConfigResource_add_incremental_config(pointer, key.as_ptr(), set, value.as_ptr());
            if let Some(error) = NonNull::new(error) {
                let error = Owned { pointer: error, destroy: native::rd_kafka_error_destroy };
                let told = text(native::rd_kafka_error_string(error.pointer()));
                return Err(Refused { code: native::rd_kafka_error_code(error.pointer()).into(), told });
            }
        }
    }
    Ok(resource)
}

fn options(client: *mut native::rd_kafka_t) -> Result<Owned<native::rd_kafka_AdminOptions_t>, Refused> {
    let what = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS;
    let mut told: [c_char; 256] = [0; 256];
    // SAFETY: the client lives; the options are ours; the buffer is as long as we say, and ends with a zero byte.
    unsafe {
        let options =
            Owned::new(native::rd_kafka_AdminOptions_new(client, what), native::rd_kafka_AdminOptions_destroy);
        let limit = REQUEST_TIME_MAX.as_millis() as i32;
        let code =
            native::rd_kafka_AdminOptions_set_request_timeout(options.pointer(), limit, told.as_mut_ptr(), told.len());
        refused(code, || text(told.as_ptr())).map(|()| options)
    }
}

/// What the event says: of the question as a whole, then of the topic.
fn answer(event: &Owned<native::rd_kafka_event_t>) -> Result<(), Refused> {
    // SAFETY: the event lives, and with it all that it points to. Asked for another kind of answer librdkafka gives null.
    unsafe {
        let event = event.pointer();
        refused(native::rd_kafka_event_error(event), || text(native::rd_kafka_event_error_string(event)))?;
        let result = native::rd_kafka_event_IncrementalAlterConfigs_result(event);
        assert!(!result.is_null(), "bug: the answer to another question");
        let mut count = 0;
        let resources = native::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count);
        if count == 0 {
            return Err(Refused { code: RDKafkaErrorCode::BadMessage, told: "the answer is empty".into() });
        }
        slice::from_raw_parts(resources, count).iter().try_for_each(|resource| {
            let told = || text(native::rd_kafka_ConfigResource_error_string(*resource));
            refused(native::rd_kafka_ConfigResource_error(*resource), told)
        })
    }
}

fn refused(code: RDKafkaRespErr, told: impl FnOnce() -> String) -> Result<(), Refused> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(Refused { code: code.into(), told: told() }),
    }
}

/// Copies a text of librdkafka's.
///
/// # Safety
/// `pointer` is null, or a string that ends with a zero byte.
unsafe fn text(pointer: *const c_char) -> String {
    match pointer.is_null() {
        true => String::new(),
        // SAFETY: as above.
        false => unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned(),
    }
}

/// Something that librdkafka made for us, and that we destroy.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    /// `pointer` is ours, and `destroy` is what ends it.
    unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Self {
        let pointer = NonNull::new(pointer).expect("librdkafka ends the program where there is no memory");
        Self { pointer, destroy }
    }

    fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: ours since `new`, and not used again.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}
