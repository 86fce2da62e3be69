//! Sizes, as people write and read them.
//!
//! `MB` is 10⁶ bytes and `MiB` is 2²⁰, always. A headline prints both, because a limit may be set in either; elsewhere
//! sizes are binary, because that is what the kernel, cgroups and Kubernetes limits count in.

use std::str::FromStr;

use thiserror::Error;

const DECIMAL: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in both units, for headlines: `400.0 MB (381.5 MiB)`. Below 1 kB the exact number of bytes: `812 B`.
pub fn headline(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    format!("{} ({})", scaled(bytes, 1000, &DECIMAL), short(bytes))
}

/// A size in binary units with one decimal: `381.5 MiB`, `1.0 KiB`, `812 B`.
pub fn short(bytes: u64) -> String {
    scaled(bytes, 1024, &BINARY)
}

/// A number with a comma between groups of three digits: `1,204`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent with one decimal: `65.5 %`. Any part of nothing is 0.0 %.
pub fn percent(part: u64, whole: u64) -> String {
    let tenths = match whole {
        0 => 0,
        whole => rounded(u128::from(part) * 1000, u128::from(whole)),
    };
    format!("{}.{} %", thousands_wide(tenths / 10), tenths % 10)
}

fn scaled(bytes: u64, base: u64, units: &[&str; 7]) -> String {
    if bytes < base {
        return format!("{} B", thousands(bytes));
    }
    let base = u128::from(base);
    let mut scale = base;
    let mut unit = 1;
    // Rounded first, compared after: 1,023.96 KiB reads 1.0 MiB, not 1024.0 KiB.
    while tenths(bytes, scale) >= base * 10 && unit + 1 < units.len() {
        scale *= base;
        unit += 1;
    }
    let tenths = tenths(bytes, scale);
    let unit = units[unit];
    format!("{}.{} {unit}", thousands_wide(tenths / 10), tenths % 10)
}

fn tenths(bytes: u64, scale: u128) -> u128 {
    rounded(u128::from(bytes) * 10, scale)
}

/// `number / divisor`, halves rounded up.
fn rounded(number: u128, divisor: u128) -> u128 {
    (number + divisor / 2) / divisor
}

fn thousands_wide(number: u128) -> String {
    u64::try_from(number).map_or_else(|_| number.to_string(), thousands)
}

/// One unit for a column of sizes, so that the eye can add them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnUnit {
    name: &'static str,
    scale: u128,
}

impl ColumnUnit {
    /// The unit for a column whose largest size is this: MiB from 1 MiB on, GiB only from 1 TiB on.
    pub fn for_largest(bytes: u64) -> Self {
        let unit = match bytes {
            0..1024 => 0,
            1024..0x10_0000 => 1,
            0x10_0000..0x100_0000_0000 => 2,
            _ => 3,
        };
        Self {
            name: BINARY[unit],
            scale: 1024_u128.pow(unit as u32),
        }
    }

    /// A size, which may be negative, in this unit: `-2.5 MiB`. Nothing at all is a bare `0`.
    pub fn format(self, bytes: i128) -> String {
        if bytes == 0 {
            return "0".to_owned();
        }
        let sign = if bytes < 0 { "-" } else { "" };
        let magnitude = bytes.unsigned_abs();
        if self.scale == 1 {
            return format!("{sign}{} B", thousands_wide(magnitude));
        }
        let tenths = rounded(magnitude * 10, self.scale);
        let sign = if tenths == 0 { "" } else { sign };
        format!(
            "{sign}{}.{} {}",
            thousands_wide(tenths / 10),
            tenths % 10,
            self.name
        )
    }
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// It does not begin with a number.
    #[error(
        "`{0}` is not a size: it should begin with a number, as in `250MB`, `250MiB` or `512Mi`"
    )]
    NoNumber(String),
    /// What follows the number is not a unit.
    #[error(
        "`{unit}` in `{text}` is not a unit of size: use B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB \
         (powers of 1024); Kubernetes' k, M, G and Ki, Mi, Gi work too"
    )]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What stands for the unit.
        unit: String,
    },
    /// A lone `m`, which means a thousandth in Kubernetes.
    #[error(
        "`{0}`: a lone `m` means a thousandth in Kubernetes; use `M` or `MB` (10^6 bytes), `Mi` or `MiB` (2^20)"
    )]
    Milli(String),
    /// More than fits in 64 bits.
    #[error("`{0}` is more than 16 EiB, the most that can be said")]
    TooLarge(String),
}

/// A number of bytes, read as [`parse`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text).map(Self)
    }
}

/// Reads a size: plain bytes (`1048576`), `250MB` = 250·10⁶, `250MiB` = 250·2²⁰, Kubernetes' `512Mi` and `512M`, and
/// decimals (`1.5GiB`), with or without a space before the unit, in upper or lower case. A fraction of a byte is
/// rounded to the nearest byte.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let unit = unit.trim_start();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let no_number = || SizeError::NoNumber(trimmed.to_owned());
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(no_number());
    }
    if unit == "m" {
        return Err(SizeError::Milli(trimmed.to_owned()));
    }
    let scale = unit_scale(unit).ok_or_else(|| SizeError::UnknownUnit {
        text: trimmed.to_owned(),
        unit: unit.to_owned(),
    })?;
    let too_large = || SizeError::TooLarge(trimmed.to_owned());
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| too_large())?,
    };
    // Eighteen decimals tell a byte in an EiB; what follows cannot matter.
    let fraction = &fraction[..fraction.len().min(18)];
    let divisor = 10_u128.pow(fraction.len() as u32);
    let fraction: u64 = match fraction {
        "" => 0,
        digits => digits.parse().map_err(|_| no_number())?,
    };
    let bytes = u128::from(whole) * scale + rounded(u128::from(fraction) * scale, divisor);
    u64::try_from(bytes).map_err(|_| too_large())
}

fn unit_scale(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let prefix = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match prefix.strip_suffix('i') {
        Some(prefix) => (prefix, 1024_u128),
        None => (prefix, 1000),
    };
    let power = ["k", "m", "g", "t", "p", "e"]
        .iter()
        .position(|p| *p == prefix)?;
    Some(base.pow(power as u32 + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_headline_says_both_units() {
        assert_eq!(headline(400_000_000), "400.0 MB (381.5 MiB)");
        assert_eq!(headline(3 << 30), "3.2 GB (3.0 GiB)");
        assert_eq!(headline(1000), "1.0 kB (1,000 B)");
        assert_eq!(headline(0), "0 B");
        assert_eq!(headline(u64::MAX), "18.4 EB (16.0 EiB)");
    }

    #[test]
    fn rounding_up_reaches_the_next_unit() {
        assert_eq!(short(1023), "1,023 B");
        assert_eq!(short(1024), "1.0 KiB");
        assert_eq!(short((1 << 20) - 1), "1.0 MiB");
        assert_eq!(short(1000 << 20), "1,000.0 MiB");
    }

    #[test]
    fn a_column_keeps_one_unit() {
        let unit = ColumnUnit::for_largest(3 << 30);
        assert_eq!(unit.format(3 << 30), "3,072.0 MiB");
        assert_eq!(unit.format(-(5 << 19)), "-2.5 MiB");
        assert_eq!(unit.format(-1), "0.0 MiB");
        assert_eq!(unit.format(0), "0");
        assert_eq!(ColumnUnit::for_largest(900).format(-900), "-900 B");
        assert_eq!(
            ColumnUnit::for_largest(2 << 40).format(3 << 40),
            "3,072.0 GiB"
        );
    }

    #[test]
    fn shares_are_rounded_to_a_tenth() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(2, 3), "66.7 %");
        assert_eq!(percent(5, 0), "0.0 %");
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("17B", 17),
            ("250MB", 250_000_000),
            ("250MiB", 250 << 20),
            ("512Mi", 512 << 20),
            ("512M", 512_000_000),
            ("64k", 64_000),
            ("64Ki", 64 << 10),
            ("1.5GiB", 3 << 29),
            (" 1.5 gib ", 3 << 29),
            (".5KiB", 512),
            ("0.3MiB", 314_573),
            ("2.TB", 2_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_told_why() {
        for text in ["", "MB", "-5MB", "ten", ".", "1.2.3MB"] {
            assert!(matches!(parse(text), Err(SizeError::NoNumber(_))), "{text}");
        }
        for text in ["5 parsecs", "5iB", "5Mib/s", "5,000"] {
            assert!(
                matches!(parse(text), Err(SizeError::UnknownUnit { .. })),
                "{text}"
            );
        }
        assert_eq!(parse("100m"), Err(SizeError::Milli("100m".into())));
        for text in ["16EiB", "99999999999999999999", "18446744073709551616"] {
            assert!(matches!(parse(text), Err(SizeError::TooLarge(_))), "{text}");
        }
        assert_eq!(
            parse("5 XB").map_err(|error| error.to_string()),
            Err("`XB` in `5 XB` is not a unit of size: use B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB \
                 (powers of 1024); Kubernetes' k, M, G and Ki, Mi, Gi work too"
                .into())
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn plain_bytes_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(thousands(bytes).replace(',', ""), bytes.to_string());
        }

        /// The printed size, read back, is right to half of its last digit.
        #[test]
        fn a_short_size_is_right_to_its_last_digit(bytes in any::<u64>()) {
            let text = short(bytes).replace(',', "");
            let read = parse(&text).or_else(|error| match error {
                SizeError::TooLarge(_) => Ok(u64::MAX),
                error => Err(error),
            }).unwrap();
            let unit = unit_scale(text.split_once(' ').unwrap().1).unwrap();
            prop_assert!(u128::from(read.abs_diff(bytes)) <= unit / 20 + 1, "{} {}", bytes, text);
        }
    }
}
