//! `time.Time`'s text form, always in UTC (kube-apiserver prints its server's zone).

/// Seconds from the first of March of the year -292277022400, before which Go knows no time, to 1970.
const GO_BEGIN: u64 = 9_223_372_028_741_760_000;

/// `2026-11-23 18:36:08 +0000 UTC` for Unix seconds; `None` is Go's zero time, the start of year 1. Compat: what lies before Go's
/// first second comes out at the other end.
pub(crate) fn text(unix: Option<i64>) -> String {
    let since_begin = unix.unwrap_or(-62_135_596_800).cast_unsigned().wrapping_add(GO_BEGIN);
    let seconds = i128::from(since_begin) - i128::from(GO_BEGIN);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let sign = if year < 0 { "-" } else { "" };
    let year = year.unsigned_abs();
    format!("{sign}{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// The proleptic Gregorian date of a day counted from 1970-01-01, by the usual reckoning in 400-year eras that begin on
/// the first of March.
const fn civil(days: i128) -> (i128, i128, i128) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_instants_as_go_does() {
        assert_eq!(text(Some(0)), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(text(Some(-1)), "1969-12-31 23:59:59 +0000 UTC");
        assert_eq!(text(Some(951_827_696)), "2000-02-29 12:34:56 +0000 UTC");
        assert_eq!(text(Some(1_795_459_368)), "2026-11-23 18:42:48 +0000 UTC");
        assert_eq!(text(Some(253_402_300_800)), "10000-01-01 00:00:00 +0000 UTC");
        assert_eq!(text(None), "0001-01-01 00:00:00 +0000 UTC");
        assert_eq!(text(Some(-62_135_596_801)), "0000-12-31 23:59:59 +0000 UTC");
        assert_eq!(text(Some(-63_000_000_000)), "-0027-08-11 08:00:00 +0000 UTC");
        assert_eq!(text(Some(-9_223_372_028_741_760_000)), "-292277022400-03-01 00:00:00 +0000 UTC");
        assert_eq!(text(Some(-9_223_372_028_741_760_001)), "292277026854-01-07 07:00:15 +0000 UTC");
        assert_eq!(text(Some(i64::MIN)), "292277026596-12-04 15:30:08 +0000 UTC");
        assert_eq!(text(Some(i64::MAX)), "292277026596-12-04 15:30:07 +0000 UTC");
    }
}
