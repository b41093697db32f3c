//! A call as a picture: both waveforms, speech, turns, digits, beep and barge-in on one time axis (SVG).

use std::fmt::Write as _;

use serde_json::Value;

/// Pixels per second of call, within the bounds on the whole width.
const SCALE: f64 = 42.0;
const MARGIN: f64 = 90.0;
const LANE: f64 = 64.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1b2733}.small{font-size:11px;fill:#5b6b7a}\
    .title{font-size:16px;font-weight:600}.far{fill:#2a7f62}.near{fill:#3565b0}.farbg{fill:#dff1ea}.nearbg{fill:#e1e9f7}\
    .axis{stroke:#c9d3dc;stroke-width:1}.mark{stroke:#c0392b;stroke-width:1.5}.cut{fill:#c0392b}.beep{fill:#e0a100}\
    .digit{fill:#8e44ad}";

/// Draws `call` (the JSON of `GET /call/{id}`) with its stereo recording: left the far end, right ours, 8 kHz.
pub(super) fn draw(call: &Value, left: &[i16], right: &[i16]) -> String {
    let seconds = (left.len().max(right.len()) as f64 / 8000.0).max(1.0);
    let width = (seconds * SCALE).clamp(900.0, 6000.0);
    let plot = Plot { scale: width / seconds, svg: String::new() };
    plot.render(call, left, right, seconds, width)
}

struct Plot {
    scale: f64,
    svg: String,
}

impl Plot {
    fn render(mut self, call: &Value, left: &[i16], right: &[i16], seconds: f64, width: f64) -> String {
        let (far_y, near_y) = (96.0, 96.0 + 2.0 * LANE + 30.0);
        let text_y = near_y + LANE + 46.0;
        let rows = self.place_texts(call, width);
        let height = text_y + rows.iter().map(|r| r.row + 1).max().unwrap_or(0) as f64 * 34.0 + 30.0;
        let total = width + MARGIN + 30.0;
        let _ = write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total:.0} {height:.0}\" width=\"{total:.0}\" \
             height=\"{height:.0}\"><style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        );
        self.header(call);
        self.axis(seconds, 62.0, height - 24.0);
        self.lane("callee", far_y, left, "far");
        self.lane("agent", near_y, right, "near");
        self.events(call, far_y, near_y);
        self.keys(call, near_y);
        for text in rows {
            self.text_box(&text, text_y);
        }
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn x(&self, seconds: f64) -> f64 {
        MARGIN + seconds * self.scale
    }

    fn header(&mut self, call: &Value) {
        let text = |v: &Value| escape(v.as_str().unwrap_or("?"));
        let _ = write!(
            self.svg,
            "<text class=\"title\" x=\"14\" y=\"26\">{}, answered by {}</text><text class=\"small\" x=\"14\" y=\"44\">{}</text>",
            text(&call["outcome"]),
            text(&call["answered_by"]["class"]),
            text(&call["task"]),
        );
    }

    fn axis(&mut self, seconds: f64, top: f64, bottom: f64) {
        let step = if seconds > 120.0 { 10.0 } else { 2.0 };
        let mut at = 0.0;
        while at <= seconds {
            let x = self.x(at);
            let _ = write!(
                self.svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{bottom:.0}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{at:.0} s</text>",
                x + 3.0,
                top + 4.0
            );
            at += step;
        }
    }

    /// A waveform: per pixel column the smallest and largest sample.
    fn lane(&mut self, name: &str, top: f64, samples: &[i16], class: &str) {
        let middle = top + LANE / 2.0;
        let _ = write!(self.svg, "<text x=\"14\" y=\"{:.0}\">{name}</text>", middle + 4.0);
        let column = (8000.0 / self.scale).max(1.0) as usize;
        let mut path = String::new();
        for (i, chunk) in samples.chunks(column).enumerate() {
            let low = f64::from(chunk.iter().copied().min().unwrap_or(0)) / 32768.0;
            let high = f64::from(chunk.iter().copied().max().unwrap_or(0)) / 32768.0;
            // Telephone speech is quiet: the lane shows half of full scale.
            let y = |v: f64| middle - (v * LANE).clamp(-LANE / 2.0, LANE / 2.0);
            let x = self.x(i as f64 * column as f64 / 8000.0);
            let _ = write!(path, "M{x:.1} {:.1}V{:.1}", y(high) - 0.4, y(low) + 0.4);
        }
        let colour = if class == "far" { "#2a7f62" } else { "#3565b0" };
        let _ = write!(self.svg, "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1\" fill=\"none\"/>");
    }

    fn events(&mut self, call: &Value, far_y: f64, near_y: f64) {
        for event in call["events"].as_array().into_iter().flatten() {
            let Some(at) = event["at_ms"].as_f64() else { continue };
            let start = self.x(at / 1000.0);
            let end = self.x(event["end_ms"].as_f64().unwrap_or(at) / 1000.0).max(start + 2.0);
            let detail = escape(event["detail"].as_str().unwrap_or_default());
            match event["type"].as_str().unwrap_or_default() {
                "speech" => self.bar("far", start, end, far_y + LANE + 4.0),
                "agent_speech" => self.bar("near", start, end, near_y + LANE + 4.0),
                "beep" => self.flag("beep", start, end, far_y - 12.0, &format!("beep {detail}")),
                "digit" => self.flag("digit", start, end, far_y - 12.0, &format!("key {detail}")),
                "barge_in" => {
                    let _ = write!(
                        self.svg,
                        "<line class=\"mark\" x1=\"{start:.1}\" x2=\"{start:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"/>",
                        far_y - 4.0,
                        near_y + LANE
                    );
                    self.flag("cut", start, end, near_y - 12.0, &format!("barge-in {detail}"));
                }
                _ => {}
            }
        }
    }

    /// Keys we pressed stand in the transcript, as turns of their tool.
    fn keys(&mut self, call: &Value, near_y: f64) {
        for turn in call["transcript"].as_array().into_iter().flatten() {
            let Some(digits) = turn["toolArgs"]["digits"].as_str() else { continue };
            let start = self.x(turn["start_ms"].as_f64().unwrap_or_default() / 1000.0);
            let end = self.x(turn["end_ms"].as_f64().unwrap_or_default() / 1000.0).max(start + 2.0);
            self.flag("digit", start, end, near_y - 12.0, &format!("key {}", escape(digits)));
        }
    }

    fn bar(&mut self, class: &str, start: f64, end: f64, y: f64) {
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{start:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"6\" rx=\"3\"/>",
            end - start
        );
    }

    fn flag(&mut self, class: &str, start: f64, end: f64, y: f64, label: &str) {
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{start:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"5\"/>\
             <text class=\"small\" x=\"{start:.1}\" y=\"{:.0}\">{label}</text>",
            y + 4.0,
            end - start,
            y + 1.0
        );
    }

    /// Gives each turn a row in which it overlaps no other.
    fn place_texts(&self, call: &Value, width: f64) -> Vec<TextBox> {
        let mut free_from: Vec<f64> = Vec::new();
        let mut boxes = Vec::new();
        for turn in call["transcript"].as_array().into_iter().flatten() {
            let text = match turn["tool"].as_str() {
                Some(tool) => tool_label(tool, &turn["toolArgs"]),
                None => turn["text"].as_str().unwrap_or_default().to_owned(),
            };
            let cut = if turn["interrupted"] == true { " —" } else { "" };
            let start = self.x(turn["start_ms"].as_f64().unwrap_or_default() / 1000.0);
            let end = self.x(turn["end_ms"].as_f64().unwrap_or_default() / 1000.0);
            let label = format!("{text}{cut}");
            let needed = (label.chars().count() as f64 * 6.6 + 16.0).max(end - start);
            let start = start.min((width + MARGIN + 20.0 - needed).max(MARGIN));
            let row = free_from.iter().position(|&x| x <= start).unwrap_or(free_from.len());
            if row == free_from.len() {
                free_from.push(0.0);
            }
            free_from[row] = start + needed + 8.0;
            boxes.push(TextBox { row, start, width: needed, near: turn["role"] != "user", label });
        }
        boxes
    }

    fn text_box(&mut self, text: &TextBox, top: f64) {
        let y = top + text.row as f64 * 34.0;
        let class = if text.near { "nearbg" } else { "farbg" };
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"26\" rx=\"5\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            text.start,
            text.width,
            text.start + 8.0,
            y + 17.0,
            escape(&text.label)
        );
    }
}

/// A tool and the one argument that tells most.
fn tool_label(tool: &str, arguments: &Value) -> String {
    let telling = ["digits", "task_status", "message", "seconds"]
        .iter()
        .map(|key| &arguments[*key])
        .find(|v| !v.is_null());
    match telling {
        Some(Value::String(text)) => format!("{tool}: {text}"),
        Some(value) => format!("{tool}: {value}"),
        None => tool.to_owned(),
    }
}

struct TextBox {
    row: usize,
    start: f64,
    width: f64,
    near: bool,
    label: String,
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_that_happened_is_on_the_picture_and_markup_is_escaped() {
        let call = json!({"outcome": "completed", "task": "Ask <b>&", "answered_by": {"class": "human"},
            "transcript": [{"role": "user", "text": "Who's there?", "start_ms": 0, "end_ms": 900},
                {"role": "assistant", "text": "An AI", "start_ms": 1000, "end_ms": 1500, "interrupted": true},
                {"role": "system", "text": "", "tool": "send_dtmf", "toolArgs": {"digits": "2"}, "start_ms": 1600, "end_ms": 1700}],
            "events": [{"type": "beep", "at_ms": 100, "end_ms": 500, "detail": "1000 Hz"},
                {"type": "barge_in", "at_ms": 1400},
                {"type": "speech", "at_ms": 0, "end_ms": 900}]});
        let svg = draw(&call, &[1000; 16000], &[0; 16000]);
        for part in [
            "beep 1000 Hz",
            "key 2",
            "barge-in",
            "Who's there?",
            "An AI —",
            "Ask &lt;b&gt;&amp;",
            "2 s</text>",
        ] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}
