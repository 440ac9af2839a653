//! What the works of the suite are to reach, as ratios of figures of one run.

use super::goals::{Bound, Goal};
use super::suite::{
    ALONE, BATCHED, CHURN, CONNECT_BURST, CPU, CPU_REST, EASY, FANOUT, IDLE, MESSAGE_P99, MESSAGES,
    P50, P99, RATE, REFUSED, RIVAL, ROWS, RSS, RSS_EACH, SECONDS, SINGLE, TYPING_P99,
};

/// What is to be reached, row by row.
pub fn all_goals() -> Vec<Goal> {
    let goal = |work, case: &str, metric, beside: Option<&str>, bound| Goal {
        work,
        case: case.to_owned(),
        metric,
        beside: beside.map(str::to_owned),
        bound,
    };
    let sizes = ["50 members", "200 members", "1000 members"];
    let ten = "50 members, 10 send";
    let mut goals = Vec::new();
    for size in sizes {
        goals.extend([
            goal(FANOUT, size, RATE, Some(BATCHED), Bound::TimesAtLeast(0.6)),
            goal(FANOUT, size, RATE, Some(RIVAL.0), Bound::TimesAtLeast(1.0)),
        ]);
    }
    for size in sizes {
        goals.extend([
            goal(EASY, size, CPU, Some(SINGLE), Bound::TimesAtMost(1.3)),
            goal(EASY, size, P99, Some(SINGLE), Bound::TimesAtMost(1.5)),
        ]);
    }
    goals.extend([
        // Fifteen times the PHP daemon, which made 230 a second.
        goal(MESSAGES, ten, RATE, None, Bound::AtLeast(15.0 * 230.0)),
        goal(MESSAGES, ten, RATE, Some(ROWS), Bound::TimesAtLeast(0.6)),
        goal(MESSAGES, ten, P99, None, Bound::AtMost(10_000.0)),
        goal(ALONE, "2 members", P50, Some(ROWS), Bound::TimesAtMost(1.3)),
        goal(
            IDLE,
            "0 connections",
            RSS,
            None,
            Bound::AtMost(6.0 * 1024.0),
        ),
        goal(IDLE, "1000 connections", CPU_REST, None, Bound::AtMost(2.0)),
    ]);
    for connections in [1000, 5000, 10_000] {
        let case = format!("{connections} connections");
        goals.push(goal(
            IDLE,
            &case,
            RSS_EACH,
            None,
            Bound::AtMost(12.0 * 1024.0),
        ));
    }
    let close = "32 at a time, with close frames";
    goals.push(goal(
        CHURN,
        close,
        RATE,
        Some(RIVAL.0),
        Bound::AtLeast(10_000.0),
    ));
    for tabs in [1, 10] {
        let case = format!("10000, {tabs} of each agent");
        goals.extend([
            goal(CONNECT_BURST, &case, SECONDS, None, Bound::AtMost(5.0)),
            goal(CONNECT_BURST, &case, REFUSED, None, Bound::AtMost(0.0)),
            goal(
                CONNECT_BURST,
                &case,
                TYPING_P99,
                None,
                Bound::AtMost(100_000.0),
            ),
            goal(
                CONNECT_BURST,
                &case,
                MESSAGE_P99,
                None,
                Bound::AtMost(100_000.0),
            ),
        ]);
    }
    goals
}
