//! Checkpoints that older versions wrote are read, and go on where they were.

use std::fs;

use tests::{binary::root, golden};

#[test]
fn every_checkpoint_that_was_ever_kept_goes_on() {
    let mut folders = 0;
    for version in fs::read_dir(root().join("tests/golden")).unwrap() {
        for folder in fs::read_dir(version.unwrap().path()).unwrap() {
            let folder = folder.unwrap().path();
            let rows = golden::check(&folder).unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()));
            assert!(rows > 5, "{}: {rows} rows prove little", folder.display());
            folders += 1;
        }
    }
    assert!(folders >= 7, "{folders} folders: somebody deleted what must be kept");
}
