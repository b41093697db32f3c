//! Which numbers may be dialled: E.164 form, the North American plan's own rules, and the operator's policy.
//!
//! Source: ITU-T E.164 (at most 15 digits); NANP: area code and exchange are `[2-9]XX`, and `N11` is a service code.

/// Why a number is not dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It is not a number that could exist.
    #[error("{0}")]
    Invalid(&'static str),
    /// It could exist, but policy forbids it.
    #[error("{0}")]
    Blocked(String),
}

/// The operator's policy.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    allowed_prefixes: Vec<String>,
    blocked_area_codes: Vec<String>,
}

impl Policy {
    /// A policy that allows numbers with these prefixes (`+1`), except those with these NANP area codes (`900`).
    pub(super) fn new(allowed_prefixes: Vec<String>, blocked_area_codes: Vec<String>) -> Self {
        Self { allowed_prefixes, blocked_area_codes }
    }

    /// Whether `number` may be dialled.
    pub(super) fn check(&self, number: &str) -> Result<(), Refused> {
        valid(number)?;
        if !self.allowed_prefixes.iter().any(|p| number.starts_with(p.as_str())) {
            let allowed = self.allowed_prefixes.join(", ");
            return Err(Refused::Blocked(format!(
                "this service dials only numbers that begin with {allowed}"
            )));
        }
        let blocked = number
            .strip_prefix("+1")
            .and_then(|rest| self.blocked_area_codes.iter().find(|code| rest.starts_with(code.as_str())));
        match blocked {
            Some(code) => Err(Refused::Blocked(format!("this service does not dial area code {code}"))),
            None => Ok(()),
        }
    }
}

/// Whether `number` is E.164, and under `+1` a valid NANP number.
pub(super) fn valid(number: &str) -> Result<(), Refused> {
    let digits = number.strip_prefix('+').ok_or(Refused::Invalid(
        "expected E.164: a plus sign, the country code and the number, digits only",
    ))?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refused::Invalid("expected only digits after the plus sign"));
    }
    if !(7..=15).contains(&digits.len()) || digits.starts_with('0') {
        return Err(Refused::Invalid("expected 7 to 15 digits after the plus sign, the first not 0"));
    }
    match digits.as_bytes() {
        [b'1', rest @ ..] => nanp(rest),
        _ => Ok(()),
    }
}

fn nanp(national: &[u8]) -> Result<(), Refused> {
    let [a, b, c, d, e, f, _, _, _, _] = national else {
        return Err(Refused::Invalid("expected ten digits after +1"));
    };
    if !assignable([*a, *b, *c]) {
        return Err(Refused::Invalid("the area code after +1 is not one of the North American plan"));
    }
    if !assignable([*d, *e, *f]) {
        return Err(Refused::Invalid(
            "the exchange (digits 4 to 6 after +1) is not one of the North American plan",
        ));
    }
    Ok(())
}

/// `[2-9]XX` and not `N11`.
fn assignable(code: [u8; 3]) -> bool {
    (b'2'..=b'9').contains(&code[0]) && code[1..] != *b"11"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new(vec!["+1".into()], vec!["900".into(), "976".into()])
    }

    #[test]
    fn ordinary_north_american_numbers_pass() {
        for number in ["+14155550134", "+12125550100", "+19995550100", "+18005550199"] {
            assert_eq!(policy().check(number), Ok(()), "{number}");
        }
    }

    #[test]
    fn what_is_no_number_is_invalid() {
        let wrong = [
            "",
            "+",
            "4155550134",
            "+1",
            "+1415555013",
            "+141555501345",
            "+1 415 555 0134",
            "+1415555O134",
            "+10155550134",
            "+11155550134",
            "+14150550134",
            "+14151550134",
            "+19115550134",
            "+14154110134",
            "+014155550134",
            "+1234567890123456",
            "++14155550134",
            "tel:+14155550134",
            "+१४१५५५५०१३४",
        ];
        for number in wrong {
            assert!(matches!(policy().check(number), Err(Refused::Invalid(_))), "{number}");
        }
    }

    #[test]
    fn policy_blocks_other_countries_and_paid_area_codes() {
        for number in ["+442079460000", "+19005550134", "+19765550134"] {
            assert!(matches!(policy().check(number), Err(Refused::Blocked(_))), "{number}");
        }
    }

    #[test]
    fn the_policy_is_the_operators() {
        let abroad = Policy::new(vec!["+44".into()], vec![]);
        assert_eq!(abroad.check("+442079460000"), Ok(()));
        assert!(matches!(abroad.check("+14155550134"), Err(Refused::Blocked(_))));
        let open = Policy::new(vec!["+".into()], vec!["415".into()]);
        assert_eq!(open.check("+19005550134"), Ok(()));
        assert!(matches!(open.check("+14155550134"), Err(Refused::Blocked(_))));
    }
}
