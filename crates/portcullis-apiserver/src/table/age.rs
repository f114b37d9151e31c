//! Ages as kubectl words them: `5s`, `3m20s`, `4h`, `2d3h`, `400d`, `3y20d`.
//!
//! Compat: the steps are those of `apimachinery/pkg/util/duration`, so that columns match a real server's.

const SECOND: i64 = 1_000_000_000;

/// `nanos` nanoseconds in at most two units.
pub(super) fn human(nanos: i64) -> String {
    let seconds = nanos / SECOND;
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    if seconds < 120 {
        return format!("{seconds}s");
    }
    let minutes = seconds / 60;
    if minutes < 10 {
        return two(minutes, 'm', seconds % 60, 's');
    }
    if minutes < 180 {
        return format!("{minutes}m");
    }
    let hours = minutes / 60;
    if hours < 8 {
        return two(hours, 'h', minutes % 60, 'm');
    }
    if hours < 48 {
        return format!("{hours}h");
    }
    let days = hours / 24;
    if hours < 192 {
        return two(days, 'd', hours % 24, 'h');
    }
    if hours < 24 * 365 * 2 {
        return format!("{days}d");
    }
    if hours < 24 * 365 * 8 {
        return two(days / 365, 'y', days % 365, 'd');
    }
    format!("{}y", days / 365)
}

fn two(large: i64, large_unit: char, small: i64, small_unit: char) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_step_reads_as_kubectl_prints_it() {
        let (minute, hour, day) = (60, 3_600, 86_400);
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (10 * minute, "10m"),
            (179 * minute + 59, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 5 * minute, "3h5m"),
            (8 * hour + 5 * minute, "8h"),
            (47 * hour, "47h"),
            (48 * hour, "2d"),
            (51 * hour, "2d3h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (740 * day, "2y10d"),
            (8 * 365 * day, "8y"),
        ] {
            assert_eq!(human(seconds * SECOND), want, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn any_duration_has_at_most_two_units(nanos in any::<i64>()) {
            let text = human(nanos);
            let units = text.chars().filter(char::is_ascii_alphabetic).count();
            prop_assert!(text == "<invalid>" || (1..=2).contains(&units), "{}", text);
        }
    }
}
