//! From a SIP status to the network's result and the Q.850 cause (ITU-T Q.850 table 1; RFC 3398 §7.2.4.1).

use crate::call::outcome::Outcome;

/// What a final status before the answer means for the call. `local` says that no peer sent it: our own transaction
/// gave up.
pub(super) const fn outcome_of(status: u16, local: bool, ringing: bool) -> Outcome {
    match status {
        486 | 600 => Outcome::Busy,
        403 | 433 | 603 | 607 | 608 => Outcome::DeclinedByCallee,
        404 | 410 | 484 | 604 => Outcome::InvalidNumber,
        408 if local && !ringing => Outcome::NetworkError,
        408 => Outcome::NoAnswer,
        480 | 502 | 503 | 504 => Outcome::Unreachable,
        487 => Outcome::Cancelled,
        _ if local => Outcome::NetworkError,
        _ => Outcome::Failed,
    }
}

/// The Q.850 cause name for a SIP status.
pub(super) const fn cause_of(status: u16) -> &'static str {
    match status {
        200 | 487 => "normal_clearing",
        404 | 485 | 604 => "unallocated_number",
        410 => "number_changed",
        484 => "invalid_number_format",
        486 | 600 => "user_busy",
        480 => "no_user_responding",
        401 | 402 | 403 | 407 | 433 | 603 | 607 | 608 => "call_rejected",
        408 | 504 => "recovery_on_timer_expiry",
        415 | 488 | 606 => "incompatible_destination",
        482 | 483 => "exchange_routing_error",
        500 | 503 => "temporary_failure",
        501 | 405 => "service_not_implemented",
        502 => "network_out_of_order",
        _ => "interworking",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_the_contract_says() {
        for (statuses, outcome) in [
            (&[486, 600][..], Outcome::Busy),
            (&[603, 403], Outcome::DeclinedByCallee),
            (&[404, 410, 484, 604], Outcome::InvalidNumber),
            (&[480, 502, 503], Outcome::Unreachable),
            (&[408], Outcome::NoAnswer),
            (&[400, 488, 500, 501, 302], Outcome::Failed),
        ] {
            for status in statuses {
                assert_eq!(outcome_of(*status, false, true), outcome, "{status}");
            }
        }
        assert_eq!(outcome_of(408, true, false), Outcome::NetworkError);
        assert_eq!(outcome_of(500, true, false), Outcome::NetworkError);
        assert_eq!(
            (cause_of(486), cause_of(404), cause_of(200)),
            ("user_busy", "unallocated_number", "normal_clearing")
        );
    }
}
