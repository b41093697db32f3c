//! The architecture, held: imports point one way, and `async` stays at the edges.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer; a module may import itself and lower layers, never a sibling or a higher one, unless the
/// table of allowed siblings says so. `error` modules and the crate root are exempt from nothing.
const LAYERS: &[&[&str]] = &[
    &["time", "ring", "signal", "pii", "seed"],
    &["audio", "rtp", "sdp", "sip"],
    &["detect", "turn", "answer", "agent"],
    &["call"],
    &["sim", "media"],
    &["backend"],
    &["engine"],
    &["server"],
    &["cli"],
];

/// Arrows between siblings of one layer that are part of the design: the leaf comes second.
const SIBLINGS: &[(&str, &str)] =
    &[("signal", "time"), ("ring", "time"), ("rtp", "audio"), ("agent", "answer"), ("agent", "turn")];

const ASYNC_ALLOWED: &[&str] = &["backend", "engine", "server", "cli", "main"];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).expect("src is readable").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn module_of(path: &Path) -> String {
    let rel = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("under src");
    let first = rel.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&module))
}

/// The code of a file without comments and without its test module: tests may reach sideways.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("utf-8 source");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
    text.lines().map(|l| l.split("//").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn imports_point_one_way() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let module = module_of(file);
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(from) = layer(&module) else { panic!("{} is in no layer", file.display()) };
        for (number, line) in code(file).iter().enumerate() {
            for part in line.split("crate::").skip(1) {
                let names: Vec<&str> = if let Some(list) = part.strip_prefix('{') {
                    list.split(',').collect()
                } else {
                    vec![part]
                };
                for name in names {
                    let to: String =
                        name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let Some(target) = layer(&to) else { continue };
                    let sibling = SIBLINGS.contains(&(module.as_str(), to.as_str()));
                    if to != module && target >= from && !sibling {
                        wrong.push(format!("{}:{}: {module} imports {to}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(files.len() > 10, "the walk found the sources");
    assert!(wrong.is_empty(), "imports that point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn async_stays_at_the_edges() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        if ASYNC_ALLOWED.contains(&module_of(file).as_str()) {
            continue;
        }
        for (number, line) in code(file).iter().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.into_iter().any(|w| matches!(w, "async" | "await" | "tokio")) {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "async below the edges:\n{}", wrong.join("\n"));
}
