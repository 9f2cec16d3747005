//! The house rules, as a test: imports point downwards, Node-API stays in `binding`, the core has no `unsafe`.

use std::{fs, path::Path};

fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((
                path.display().to_string(),
                fs::read_to_string(&path).expect("text"),
            ));
        }
    }
}

fn rank(module: &str) -> Option<u8> {
    Some(match module {
        "clock" | "error" => 0,
        "metrics" | "resources" | "validators" => 1,
        "connections" | "sampler" | "tokens" => 2,
        "binding" => 3,
        _ => return None,
    })
}

#[test]
fn the_house_is_in_order() {
    let mut found = Vec::new();
    files(Path::new("src"), &mut found);
    let mut wrong = Vec::new();
    for (path, text) in &found {
        let module = path
            .trim_start_matches("src/")
            .split(['/', '.'])
            .next()
            .unwrap_or("");
        let own = rank(module);
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: no module doc"));
        }
        if module != "binding"
            && module != "lib"
            && (text.contains("napi::") || text.contains("unsafe "))
        {
            wrong.push(format!("{path}: Node-API or unsafe outside of binding"));
        }
        if !["sampler", "binding"].contains(&module)
            && (text.contains("std::fs") || text.contains("std::io"))
        {
            wrong.push(format!("{path}: reads the operating system"));
        }
        if module != "clock" && (text.contains("Instant::") || text.contains("SystemTime")) {
            wrong.push(format!("{path}: reads a clock"));
        }
        for used in text
            .match_indices("use crate::")
            .map(|(at, _)| &text[at + 11..])
        {
            let name: String = used
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if own.is_some() && rank(&name) >= own && name != module {
                wrong.push(format!("{path}: imports upwards: {name}"));
            }
        }
    }
    assert!(found.len() > 5 && wrong.is_empty(), "{}", wrong.join("\n"));
}
