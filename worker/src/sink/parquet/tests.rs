//! Files read back by the crate's own reader.

use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

fn rolling(directory: &Path) -> Rolling {
    let every = Duration::from_secs(3_600);
    Rolling { directory: directory.to_owned(), partition_by: PartitionBy::Date, every, bytes_max: 1 << 20, shelf: None }
}

fn columns() -> Vec<ColumnPlan> {
    let all =
        [("price", Type::Decimal), ("_topic", Type::String), ("_partition", Type::Integer), ("_offset", Type::Integer)];
    all.map(|(name, ty)| ColumnPlan { name: name.into(), ty }).to_vec()
}

/// Every file below the directory with its rows.
fn rows(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rows(&path));
            continue;
        }
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        found.insert(path.file_name().unwrap().to_string_lossy().into_owned(), rows);
    }
    found
}

fn write(files: &mut ParquetFiles, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let time = 1_767_225_600_000 + offset as i64 * 43_200_000;
        let place = Place { offset, time, topic: "t", partition: 2, source_offset: offset + 7, bytes: 10 };
        let price = if offset == 0 { Value::Null } else { value(&format!("{offset}.25")) };
        files.event(place, [price].into_iter()).unwrap();
    }
}

fn value(text: &str) -> Value {
    Value::Decimal(engine::decimal::Decimal::parse(text.as_bytes()).unwrap())
}

#[test]
fn a_roll_that_was_not_counted_is_written_again_and_nothing_is_there_twice() {
    let directory = tempfile::tempdir().unwrap();
    let open = |position| ParquetFiles::open(rolling(directory.path()), "e-0".into(), &columns(), position).unwrap();
    let mut files = open(0);
    write(&mut files, 0..2);
    assert_eq!(files.finish().unwrap(), Some(2));
    write(&mut files, 2..6);
    assert_eq!(files.finish().unwrap(), Some(6));
    // Killed before the position moved behind the second roll, and within a third.
    write(&mut files, 6..7);
    drop(files);
    let mut files = open(2);
    write(&mut files, 2..4);
    assert_eq!(files.finish().unwrap(), Some(4));
    assert_eq!(files.finish().unwrap(), None);
    let found = rows(directory.path());
    let all: Vec<&String> = found.values().flatten().collect();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        [
            "e-0-00000000000000000000-00000000000000000001.parquet",
            "e-0-00000000000000000002-00000000000000000003.parquet"
        ]
    );
    assert_eq!(all.len(), 4, "{found:#?}");
    assert!(all[0].contains("price: null") && all[0].contains("_offset: 7"), "{all:?}");
    assert!(all[1].contains("price: 1.250000000") && all[1].contains("_topic: \"t\""), "{all:?}");
}

#[test]
fn directories_follow_the_time() {
    assert_eq!(below(PartitionBy::Hour, 1_763_700_000_050), "date=2025-11-21/hour=04");
    assert_eq!(below(PartitionBy::Date, 1_763_700_000_050), "date=2025-11-21");
    assert_eq!(below(PartitionBy::None, 0), "");
}

#[test]
fn files_of_another_source_are_not_ours() {
    let name = |source: &str, first: u64, last: u64| format!("{source}-{first:020}-{last:020}.parquet");
    assert_eq!(reach(&name("views-1", 7, 9), "views-1"), Some((7, 9)));
    for (other, source) in
        [("views-10", "views-1"), ("views-1-0", "views-1"), ("seen.e2-0", "seen-0"), ("seen-0", "seen.e2-0")]
    {
        assert_eq!(reach(&name(other, 7, 9), source), None, "{other}");
    }
    assert_eq!([1, 2].map(|epoch| source_of_events("seen", epoch)), ["seen-0", "seen.e2-0"]);
}

#[test]
fn an_end_is_that_of_the_last_file() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(end_of(&rolling(directory.path()), "e-0").unwrap(), None);
    let mut files = ParquetFiles::open(rolling(directory.path()), "e-0".into(), &columns(), 0).unwrap();
    write(&mut files, 0..6);
    files.finish().unwrap();
    assert_eq!(end_of(&rolling(directory.path()), "e-0").unwrap(), Some(6));
    assert_eq!(end_of(&rolling(directory.path()), "f-0").unwrap(), None);
    assert_eq!(end_of(&rolling(&directory.path().join("none")), "e-0").unwrap(), None);
}

#[test]
fn two_that_believe_a_source_theirs_do_not_touch_what_the_other_writes() {
    let directory = tempfile::tempdir().unwrap();
    let in_one = Rolling { partition_by: PartitionBy::None, ..rolling(directory.path()) };
    let open = || ParquetFiles::open(in_one.clone(), "e-0".into(), &columns(), 0).unwrap();
    let mut sleeper = open();
    write(&mut sleeper, 0..3);
    let mut successor = open();
    write(&mut successor, 0..5);
    let failed = sleeper.finish().unwrap_err().to_string();
    assert!(failed.starts_with("failed to name "), "{failed}");
    assert_eq!(successor.finish().unwrap(), Some(5));
    assert_eq!(rows(directory.path()).values().map(Vec::len).sum::<usize>(), 5);
}

#[test]
fn files_without_a_name_are_known_by_theirs() {
    for (name, is_ours) in [
        (".e-0.tmp", true),
        (".e-0.0aZ9bcde.tmp", true),
        (".e-0.e2-0.tmp", false),
        (".e-01.0aZ9bcde.tmp", false),
        (".e.e2-0.0aZ9bcde.tmp", false),
        ("e-0.0aZ9bcde.tmp", false),
    ] {
        assert_eq!(is_leftover(name, "e-0", 0), is_ours, "{name}");
    }
}
