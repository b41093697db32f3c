//! A re-INVITE from the peer: a refresh is answered with what is agreed already, a change of media refused.
//!
//! Source: RFC 3261 §14.2. A refresh is an empty offer (the peer asks for ours) or one with the same addresses,
//! ports and directions that still lists the payload type we chose.

use crate::sip::message::Message;
use crate::sip::message::write::Response;
use crate::sip::transaction::{Hop, TxId};
use crate::sip::ua::{ALLOW, Ua};
use crate::time::Instant;

use super::{SessionId, State};

/// What of a description decides where and how media flows.
fn shape(sdp: &str) -> Vec<String> {
    let directions = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let mut shape = Vec::new();
    for line in sdp.lines().map(str::trim) {
        if line.starts_with("c=") || directions.contains(&line) && line != "a=sendrecv" {
            shape.push(line.to_owned());
        } else if line.starts_with("m=") {
            shape.push(line.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" "));
        }
    }
    shape
}

/// The payload types of the first media line.
fn formats(sdp: &str) -> impl Iterator<Item = &str> {
    let line = sdp.lines().find(|l| l.starts_with("m=")).unwrap_or_default();
    line.trim().split_ascii_whitespace().skip(3)
}

/// Whether an offer changes nothing we would have to act on.
fn is_refresh(offer: &[u8], agreed_remote: &[u8], agreed_local: &[u8]) -> bool {
    if offer.is_empty() {
        return !agreed_local.is_empty();
    }
    let (offer, remote) = (String::from_utf8_lossy(offer), String::from_utf8_lossy(agreed_remote));
    let local = String::from_utf8_lossy(agreed_local);
    let chosen = formats(&local).next();
    shape(&offer) == shape(&remote) && chosen.is_some_and(|c| formats(&offer).any(|f| f == c))
}

impl Ua {
    /// An INVITE inside a dialog.
    pub(crate) fn handle_reinvite(
        &mut self,
        now: Instant,
        tx: TxId,
        invite: &Message,
        id: SessionId,
        hop: Hop,
        source: Hop,
    ) {
        let contact = self.contact();
        let agent = self.config.user_agent.clone();
        let Some(session) = self.session_mut(id) else { return };
        let status = match session.state {
            State::Over => 481,
            State::Calling => 491,
            State::Ringing | State::Accepted => 500,
            State::Established if session.awaiting_ack.is_some() => 500,
            State::Established => {
                let foreign = !invite.body.is_empty() && invite.sdp().is_none();
                let same = is_refresh(&invite.body, &session.remote_sdp, &session.local_sdp);
                if foreign {
                    415
                } else if same {
                    200
                } else {
                    488
                }
            }
        };
        if status != 200 {
            let extra: &[_] = match status {
                500 => &[("Retry-After", "2")],
                415 => &[("Accept", "application/sdp")],
                _ => &[],
            };
            self.reply(now, tx, invite, status, extra);
            return;
        }
        if let Some(dialog) = &mut session.dialog {
            dialog.refresh(invite, source);
        }
        let mut response = Response::new(invite, 200, "OK", &session.local_tag);
        response.record_route = true;
        let extra = [("Contact", contact.as_str()), ("Allow", ALLOW), ("Server", &agent)];
        let bytes = response.write(&extra, Some(("application/sdp", &session.local_sdp)));
        self.transactions.respond(now, tx, 200, bytes.clone(), &mut self.out);
        self.await_ack(now, id, invite.cseq.number, bytes, hop);
    }
}

#[cfg(test)]
mod tests {
    use super::is_refresh;

    const REMOTE: &str =
        "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n";
    const LOCAL: &str = "v=0\r\nm=audio 5000 RTP/AVP 8 101\r\n";

    #[test]
    fn a_new_version_of_the_same_offer_is_a_refresh() {
        let offer = REMOTE.replace("1 1 IN", "1 2 IN") + "a=sendrecv\r\n";
        assert!(is_refresh(offer.as_bytes(), REMOTE.as_bytes(), LOCAL.as_bytes()));
        assert!(is_refresh(b"", REMOTE.as_bytes(), LOCAL.as_bytes()));
    }

    #[test]
    fn hold_moved_media_and_lost_codec_are_not() {
        for offer in [
            REMOTE.to_owned() + "a=sendonly\r\n",
            REMOTE.replace("4000", "4002"),
            REMOTE.replace("192.0.2.1", "0.0.0.0"),
            REMOTE.replace(" 8 101", " 101"),
        ] {
            assert!(!is_refresh(offer.as_bytes(), REMOTE.as_bytes(), LOCAL.as_bytes()), "{offer}");
        }
    }
}
