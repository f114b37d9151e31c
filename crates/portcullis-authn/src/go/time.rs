//! `time.Time`'s text form, always in UTC (kube-apiserver prints its server's zone).

/// `2026-11-23 18:36:08 +0000 UTC` for Unix seconds; `None` is Go's zero time, the start of year 1.
pub(crate) fn text(unix: Option<i64>) -> String {
    let seconds = i128::from(unix.unwrap_or(-62_135_596_800));
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
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
        // Extremes must not overflow.
        assert!(text(Some(i64::MIN)).ends_with("UTC") && text(Some(i64::MAX)).ends_with("UTC"));
    }
}
