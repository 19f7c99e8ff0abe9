//! Readers that stop reading: no command panics over it, and none counts it as a failure.

use std::{
    io,
    process::{Command, Stdio},
};

use super::{dead_letters::shop, program::clickstream};

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn nobody_has_to_read_what_a_command_says() {
    let shop = shop();
    let manifest = shop.manifest();
    for arguments in [&["plan", &manifest][..], &["validate", &manifest], &["test", &manifest]] {
        let heard = clickstream(arguments);
        let unheard = Command::new(env!("CARGO_BIN_EXE_clickstream"))
            .args(arguments)
            .stdout(closed())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&unheard.stderr);
        assert_eq!(unheard.status.code(), heard.status.code(), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
        let mut deaf = Command::new(env!("CARGO_BIN_EXE_clickstream"));
        let deaf = deaf.args(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(deaf.code(), heard.status.code(), "{arguments:?}");
    }
}

#[test]
fn a_mistake_that_nobody_hears_keeps_its_exit_code() {
    for (arguments, code) in [(&["validate", "/nowhere.yaml"][..], 1), (&["plan", "/nowhere.yaml"], 1), (&["plan"], 2)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream"));
        let ended = command.args(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(ended.code(), Some(code), "{arguments:?}");
    }
}
