//! What a finished call looks like on the terminal.

use serde_json::Value;

/// Outcome, who answered, what became of the task.
pub(super) fn print_outcome(call: &Value) {
    let text = |v: &Value| v.as_str().unwrap_or("?").to_owned();
    println!();
    println!("outcome:      {}", text(&call["outcome"]));
    let by = &call["answered_by"];
    if by["class"] != "unknown" {
        let evidence: Vec<String> = by["evidence"].as_array().into_iter().flatten().map(text).collect();
        println!("answered by:  {} ({})", text(&by["class"]), evidence.join("; "));
    }
    let task = &call["task_result"];
    if task["status"] != "unknown" || task["summary"] != "" {
        println!("task:         {} — {}", text(&task["status"]), text(&task["summary"]));
    }
    println!(
        "ended:        {} (SIP {}), by {}",
        text(&call["hangup_cause"]),
        call["sip_hangup_cause"].as_str().unwrap_or("–"),
        text(&call["outcome_detail"]["hangup_source"])
    );
    println!("talk:         {} s", call["talk_seconds"]);
}

/// Latencies of one or many calls, collected for the table.
#[derive(Default)]
pub(super) struct Latencies {
    response: Vec<f64>,
    barge_in: Vec<f64>,
    engine: Vec<f64>,
    parts: [Vec<f64>; 4],
}

const PARTS: [(&str, &str); 4] = [
    ("endpointing_ms", "  waiting whether the turn is over"),
    ("recognition_ms", "  recognition after that"),
    ("language_ms", "  language model, first clause"),
    ("synthesis_ms", "  synthesis, first audio"),
];

impl Latencies {
    pub(super) fn add(&mut self, call: &Value) {
        let samples = &call["latency"]["samples"];
        let list = |key: &str| samples[key].as_array().into_iter().flatten().filter_map(Value::as_f64);
        self.response.extend(list("response_ms"));
        self.barge_in.extend(list("barge_in_ms"));
        self.engine.extend(list("engine_ms"));
        for turn in samples["turns"].as_array().into_iter().flatten() {
            for ((key, _), part) in PARTS.iter().zip(&mut self.parts) {
                part.extend(turn[*key].as_f64());
            }
        }
    }

    /// A single call prints its values, many print percentiles with their number.
    pub(super) fn print(&self, single: bool) {
        println!();
        row("callee's last word → our first sample", &self.response, single);
        for ((_, label), part) in PARTS.iter().zip(&self.parts) {
            row(label, part, single);
        }
        row("  the engine's own share", &self.engine, single);
        row("barge-in: their first sample → our silence", &self.barge_in, single);
    }
}

fn row(label: &str, values: &[f64], single: bool) {
    if values.is_empty() {
        return;
    }
    if single {
        let list: Vec<String> = values.iter().map(|v| format!("{v:.0}")).collect();
        println!("{label:<44} {} ms", list.join(", "));
        return;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |p: f64| sorted[((p * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1];
    println!(
        "{label:<44} p50 {:5.0}  p95 {:5.0}  p99 {:5.0}  max {:5.0} ms  (n = {})",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        sorted.len()
    );
}
