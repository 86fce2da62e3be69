use super::*;

#[test]
fn of_a_program_that_hardly_runs_nobody_is_asked() {
    let forecast = Forecast {
        cost: HitCost {
            counted_ns: 400.0,
            allocation_ns: 1400.0,
            free_ns: 500.0,
            rare_ns: 18_100.0,
        },
        rate: Rate {
            allocations_per_s: 16.0,
            frees_per_s: 16.0,
            rare_per_s: 16.0,
            cpu_ns_per_s: 2.0,
            is_at_most: true,
        },
    };
    assert!(forecast.slowdown() > 1000.0);
    assert!(!forecast.is_much());
}

#[test]
fn a_forecast_reads_as_a_sentence() {
    let forecast = Forecast {
        cost: HitCost {
            counted_ns: 400.0,
            allocation_ns: 1400.0,
            free_ns: 500.0,
            rare_ns: 18_100.0,
        },
        rate: Rate {
            allocations_per_s: 106_000.0,
            frees_per_s: 106_000.0,
            rare_per_s: 0.0,
            cpu_ns_per_s: 650_000_000.0,
            is_at_most: false,
        },
    };
    assert_eq!(
        told(&forecast, &[1234], 0),
        "expects to take about 20 % of a processor from process 1234 (it uses 65 % now): 212,000 calls/s, 1.9 us a malloc and free"
    );
    assert!(forecast.is_much());
    let idle = Forecast {
        rate: Rate::default(),
        ..forecast
    };
    assert_eq!(
        told(&idle, &[1234], 0),
        "expects no calls of process 1234, and to take 1.9 us a malloc and free, 20 us after a pause"
    );
    let rare = Rate {
        allocations_per_s: 5.0,
        frees_per_s: 5.0,
        rare_per_s: 5.0,
        cpu_ns_per_s: 1_000_000.0,
        is_at_most: false,
    };
    let rare = Forecast {
        rate: rare,
        ..forecast
    };
    assert_eq!(
        told(&rare, &[1234], 0),
        "expects to take less than 0.1 % of a processor from process 1234 (it uses 0.1 % now): 10 calls/s, 20 us a malloc and free"
    );
    let rate = Rate {
        is_at_most: true,
        ..forecast.rate
    };
    let told = told(&Forecast { rate, ..forecast }, &[1234], 0);
    assert!(told.contains("to take at least 20 %"), "{told}");
}

#[test]
fn many_processes_cost_each_other_what_was_measured_by_kind_of_link() {
    let session = price_of_many(LinkKind::Session, 40).expect("it was measured");
    assert!(
        session.contains("about 70 ns") && session.ends_with("40 of them some 2.8 us"),
        "{session}"
    );
    let multi = price_of_many(LinkKind::Multi, 40).expect("it was measured");
    assert!(multi.ends_with("40 of them some 1.1 us"), "{multi}");
    assert_eq!(price_of_many(LinkKind::Perf, 40), None);
}
