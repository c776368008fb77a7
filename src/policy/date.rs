//! A day of the calendar.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A day of the calendar, written `2027-03-31`.
///
/// ```
/// use tch_audit::policy::Date;
///
/// let day: Date = "2027-03-31".parse()?;
/// assert!(day < "2027-04-01".parse()?);
/// assert!("2027-02-30".parse::<Date>().is_err());
/// # Ok::<(), tch_audit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "date"))]
pub struct Date(jiff::civil::Date);

impl Date {
    /// Today, in UTC, so that it is the same day everywhere.
    pub fn today() -> Self {
        Self(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Date {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused =
            || crate::Error::invalid("date", format!("`{text}`"), "a day of the calendar, such as 2027-03-31");
        // jiff reads times and zones as well, and drops them.
        let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if plain { text.parse().map(Self).map_err(|_| refused()) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Date {
    type Error = crate::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}
