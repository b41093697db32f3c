//! A call as the API contract shows it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::store::{CallRecord, StampedTurn, talk_seconds};
use crate::call::outcome::{Latencies, Quality};
use crate::call::{CallReport, Lifecycle};

/// The JSON of `GET /call/{id}`. While the call lives, the parts that only its end decides are absent.
pub(super) fn call(record: &CallRecord, base_url: &str) -> Value {
    let mut view = json!({
        "id": record.id,
        "call_id": record.id,
        "direction": "outbound",
        "handling_mode": "agent",
        "task": record.task.reveal(),
        "voice": record.voice,
        "personality": record.personality,
        "greeting": record.greeting,
        "language": record.language,
        "max_duration_seconds": record.max_duration_seconds,
        "metadata": record.metadata,
        "numbers": {"to": record.to.reveal(), "from": record.from, "bridge_from": null},
        "lifecycle": record.lifecycle,
        "timestamps": {
            "queued_at": timestamp(record.queued_at),
            "dialing_at": record.dialing_at.map(timestamp),
            "answered_at": record.answered_at.map(timestamp),
            "bridged_at": null,
            "finalized_at": record.finalized_at.map(timestamp),
        },
        "transcript": transcript(record),
    });
    if let (Some(report), Some(fields)) = (&record.report, view.as_object_mut())
        && record.lifecycle == Lifecycle::Finalized
    {
        fields.extend(ending(record, report, base_url));
    }
    view
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `null` until the first turn of a living call; a list, maybe empty, once it is over.
fn transcript(record: &CallRecord) -> Value {
    if record.turns.is_empty() && record.lifecycle != Lifecycle::Finalized {
        return Value::Null;
    }
    record.turns.iter().map(turn).collect()
}

fn turn(stamped: &StampedTurn) -> Value {
    let turn = &stamped.turn;
    let mut view = json!({
        "role": turn.role,
        "text": turn.text,
        "timestamp": timestamp(stamped.at),
        "start_ms": turn.start.as_ms(),
        "end_ms": turn.end.as_ms(),
        "interrupted": turn.interrupted,
    });
    if let Some(tool) = &turn.tool {
        view["tool"] = json!(tool.name);
        view["toolArgs"] =
            serde_json::from_str(&tool.arguments).unwrap_or_else(|_| json!({"raw": tool.arguments}));
    }
    view
}

fn ending(record: &CallRecord, report: &CallReport, base_url: &str) -> Map<String, Value> {
    let sip_cause = (report.sip_status != 0).then(|| report.sip_status.to_string());
    let recording = record.has_recording.then(|| format!("{base_url}/call/{}/recording", record.id));
    let events: Vec<Value> = report
        .events
        .iter()
        .map(|event| {
            json!({
                "at_ms": event.at.as_ms(),
                "end_ms": event.end.map(|end| end.as_ms()),
                "type": event.kind,
                "detail": event.detail,
            })
        })
        .collect();
    let view = json!({
        "outcome": report.outcome,
        "outcome_detail": {
            "hangup_cause": report.hangup_cause,
            "sip_hangup_cause": sip_cause,
            "hangup_source": report.hangup_source,
        },
        "hangup_cause": report.hangup_cause,
        "sip_hangup_cause": sip_cause,
        "answered_by": {
            "class": report.answered_by.class,
            "confidence": rounded(f64::from(report.answered_by.confidence), 100.0),
            "decided_ms": report.answered_by.decided.as_ms(),
            "evidence": report.answered_by.evidence,
        },
        "task_result": report.task_result,
        "talk_seconds": talk_seconds(report.talk_samples),
        "recording_url": recording,
        "events": events,
        "latency": latency(&report.latency),
        "quality": quality(&report.quality),
        "_meta": {"balance_seconds": record.balance_seconds},
    });
    match view {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn latency(latency: &Latencies) -> Value {
    json!({
        "turns": latency.response_ms.len(),
        "response_ms": percentiles(&latency.response_ms),
        "barge_in_ms": percentiles(&latency.barge_in_ms),
        "engine_ms": percentiles(&latency.engine_ms),
        "samples": {
            "response_ms": latency.response_ms,
            "barge_in_ms": latency.barge_in_ms,
            "engine_ms": latency.engine_ms,
            "turns": latency.turns,
        },
    })
}

fn percentiles(values: &[u32]) -> Value {
    json!({"p50": percentile(values, 50), "p95": percentile(values, 95)})
}

/// Nearest rank; `None` of nothing.
fn percentile(values: &[u32], percent: usize) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Loss and jitter as measured, and a listening MOS estimated from the loss alone.
fn quality(quality: &Quality) -> Value {
    let expected = quality.packets_received + quality.packets_lost;
    let loss = if expected == 0 { 0.0 } else { quality.packets_lost as f64 * 100.0 / expected as f64 };
    let mos = (quality.packets_received > 0).then(|| rounded(mos_g711(loss), 10.0));
    json!({
        "mos": mos,
        "loss_percent": rounded(loss, 100.0),
        "jitter_ms": rounded(f64::from(quality.jitter_ms), 10.0),
    })
}

/// ITU-T G.107 with every input at its default but the loss; G.711 with concealment has `Ie = 0`, `Bpl = 25.1`
/// (G.113 appendix I). `R` to MOS by G.107 annex B.
fn mos_g711(loss_percent: f64) -> f64 {
    let r = 93.2 - 95.0 * loss_percent / (loss_percent + 25.1);
    if r <= 0.0 {
        return 1.0;
    }
    1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)
}

fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[7], 95), Some(7));
        let hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 95), Some(95));
    }

    // G.107 table B.1: R 93.2 is MOS 4.41; R 50 is 2.58.
    #[test]
    fn mos_follows_g_107() {
        assert_eq!(rounded(mos_g711(0.0), 100.0), 4.41);
        let loss_for_r_50 = 25.1 * 43.2 / (95.0 - 43.2);
        assert_eq!(rounded(mos_g711(loss_for_r_50), 100.0), 2.58);
        assert!(mos_g711(100.0) >= 1.0);
    }

    #[test]
    fn no_packets_give_no_score() {
        let view = quality(&Quality::default());
        assert_eq!(view, json!({"mos": null, "loss_percent": 0.0, "jitter_ms": 0.0}));
    }
}
