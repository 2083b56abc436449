use std::collections::BTreeMap;

use super::table::{Measured, allocations, markdown, median, ratio};

#[test]
fn the_median_is_read_from_criterions_estimates() {
    let estimates = r#"{"mean":{"confidence_interval":{"confidence_level":0.95,"lower_bound":1.0,"upper_bound":3.0},"point_estimate":2.0,"standard_error":0.1},"median":{"confidence_interval":{"confidence_level":0.95,"lower_bound":1.0,"upper_bound":3.0},"point_estimate":12.5,"standard_error":0.1},"slope":null}"#;
    assert_eq!(
        median(estimates)
            .ok()
            .map(|time| time.to_string())
            .as_deref(),
        Some("12.5")
    );
    assert!(median("{}").is_err());
}

#[test]
fn allocations_and_ratios_are_read_from_the_output() {
    assert_eq!(
        allocations("allocations breaker/recloser 20000 in 10000 calls"),
        Some(("breaker/recloser".to_owned(), 2.0))
    );
    assert_eq!(allocations("breaker/recloser time: [1 ns]"), None);
    assert_eq!(
        ratio("ratio lock/holdfast 64 2.345"),
        Some((("lock/holdfast".to_owned(), "64".to_owned()), 2.345))
    );
    assert_eq!(ratio("lock/holdfast/64 time: [1 ns]"), None);
}

#[test]
fn the_table_compares_and_judges() {
    let measured: Measured = [
        (("breaker/recloser", "1"), 10.0),
        (("breaker/recloser", "2"), 20.0),
        (("breaker/holdfast-consecutive", "1"), 12.0),
        (("breaker/holdfast-consecutive", "2"), 31.0),
        (("lock/get", "1"), 40_000.0),
        (("lock/get", "64"), 5_000.0),
        (("lock/holdfast", "1"), 80_000.0),
        (("lock/holdfast", "64"), 12_500.0),
    ]
    .map(|((row, column), time)| ((row.to_owned(), column.to_owned()), time))
    .into();
    let allocations = BTreeMap::from([("breaker/holdfast-consecutive".to_owned(), 0.0)]);
    // A ratio that was measured in turns replaces the one of the times.
    let in_turns = [(("lock/holdfast".to_owned(), "1".to_owned()), 2.125)].into();
    let table = markdown(&measured, &in_turns, &allocations).expect("something was measured");
    let lines: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "| `recloser` | 10.0 ns | 20.0 ns |  |  |  |",
            "| **breaker, consecutive** | 12.0 ns | 31.0 ns | 1.20 and 1.55 × `recloser` | 0 | ≤ 1.5 ×: **no** |",
            "| | **1 in flight** | **64 in flight** | | | |",
            "| a bare GET | 40.0 µs | 200.0 k/s |  |  |  |",
            "| **lock, with fence, and unlock** | 80.0 µs | 80.0 k/s | 2.12 and 2.50 × `get` |  | ≤ 2.2 × 1 in flight, ≥ 60 k/s with 64: yes |",
        ]
    );
    assert!(markdown(&Measured::new(), &in_turns, &allocations).is_err());
}
