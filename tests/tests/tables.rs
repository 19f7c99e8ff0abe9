//! Every kind of table against the naive reference, over random streams with disorder, repetitions and bad records.
//!
//! `PROPTEST_CASES` says how many cases there are; a failure prints a seed and as few events as still show it.

use proptest::prelude::*;
use tests::pipeline;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

fn cases() -> impl Strategy<Value = (u64, u64)> {
    (any::<u64>().no_shrink(), 0_u64..300)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tables_are_what_the_reference_says((seed, count) in cases()) {
        pipeline::on_time(seed, count).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn tables_that_can_be_exact_beyond_the_bound_are((seed, count) in cases()) {
        pipeline::late(seed, count).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn one_partition_is_exact_beyond_the_bound((seed, count) in cases()) {
        pipeline::in_order(seed, count).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn layout_and_order_of_arrival_change_nothing((seed, count) in cases()) {
        pipeline::same_in_any_layout(seed, count).map_err(TestCaseError::fail)?;
    }
}
