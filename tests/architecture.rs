//! The rules of the source tree, as tests: imports point to modules of a lower rank and never in a
//! circle, Node-API stays in `binding`, and the core has no `unsafe`.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path};

/// A module by its path from the crate: `["tokens", "key"]`.
type Module = Vec<String>;

fn read_files(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            found.insert(path.display().to_string().replace('\\', "/"), text);
        }
    }
}

/// The files of `src/`, by path.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    read_files(Path::new("src"), &mut found);
    assert!(found.len() > 5);
    found
}

/// The rank of a top module: it may import modules of a lower rank only.
fn rank(module: &str) -> Option<u8> {
    Some(match module {
        "clock" | "error" | "wake_channel" => 0,
        "limiter" | "metrics" | "resources" | "validators" => 1,
        "connections" | "sampler" | "tokens" => 2,
        "bans" | "cluster" | "host" => 3,
        "binding" => 4,
        _ => return None,
    })
}

/// `src/tokens/key.rs` is `["tokens", "key"]`, `src/tokens/mod.rs` is `["tokens"]`.
fn module_of(path: &str) -> Module {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("mod").unwrap_or(inner);
    inner
        .split('/')
        .filter(|name| !name.is_empty() && *name != "lib")
        .map(str::to_owned)
        .collect()
}

/// The text without comments and without its unit tests, which may import whatever they test.
fn code_of(text: &str) -> String {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    let code: Vec<_> = code.collect();
    let code = code.join("\n");
    match code.match_indices("#[cfg(test)]\n").find(|(at, found)| {
        let next = &code[at + found.len()..];
        next.starts_with("mod tests") || next.starts_with("pub(super) mod tests")
    }) {
        Some((at, _)) => code[..at].to_owned(),
        None => code,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        Some((head, rest)) => {
            let mut path = before.to_vec();
            path.extend(segments(head));
            let inner = rest.strip_suffix('}').expect("a closed use tree");
            let (mut depth, mut from) = (0, 0);
            for (at, c) in inner.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        leaves(&inner[from..at], &path, found);
                        from = at + 1;
                    }
                    _ => {}
                }
            }
            leaves(&inner[from..], &path, found);
        }
        None if tree.is_empty() => {}
        None => {
            let mut path = before.to_vec();
            let name = tree.split(" as ").next().unwrap_or(tree);
            path.extend(segments(name).into_iter().filter(|name| name != "self"));
            found.push(path);
        }
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::")
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The paths that a text imports, and whether it hands them on (`pub use`).
fn imports(code: &str) -> Vec<(Vec<String>, bool)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        let visibility = code[line..at].trim();
        let is_restricted = visibility.starts_with("pub(") && visibility.ends_with(')');
        if !matches!(visibility, "" | "pub") && !is_restricted {
            continue;
        }
        let tree = code[at + 4..].split(';').next().unwrap_or("");
        let mut paths = Vec::new();
        leaves(tree, &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (path, !visibility.is_empty())));
    }
    found
}

/// The paths that a text names where it stands, such as `super::portable::Portable::new`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let starts = code
        .match_indices("super::")
        .chain(code.match_indices("crate::"));
    starts
        .filter(|(at, _)| !code[..*at].ends_with(|c| is_word(c) || c == ':'))
        .map(|(at, _)| {
            let path: String = code[at..]
                .chars()
                .take_while(|c| is_word(*c) || *c == ':')
                .collect();
            segments(&path)
        })
        .collect()
}

/// Every module with the modules that its file imports, re-exports followed to their origin.
struct Graph {
    exports: BTreeMap<Module, Vec<Vec<String>>>,
    arrows: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    fn new(files: &BTreeMap<String, String>) -> Self {
        let files: Vec<_> = files
            .iter()
            .filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
            .map(|(path, text)| (module_of(path), code_of(text)))
            .collect();
        let mut graph = Self {
            exports: BTreeMap::new(),
            arrows: BTreeMap::new(),
        };
        for (module, code) in &files {
            let exported = imports(code)
                .into_iter()
                .filter(|(_, is_public)| *is_public);
            let exported = exported.map(|(path, _)| path).collect();
            graph.exports.insert(module.clone(), exported);
        }
        for (module, code) in &files {
            let paths = imports(code).into_iter().map(|(path, _)| path);
            let arrows = paths
                .chain(inline_paths(code))
                .filter_map(|path| graph.resolve(module, &path))
                .filter(|found| found != module)
                .collect();
            graph.arrows.insert(module.clone(), arrows);
        }
        graph
    }

    /// The module that declares the item at `path`, seen from `from`; `None` for other crates.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let mut module = from.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
            }
            name => {
                module.push(name.to_owned());
                if !self.exports.contains_key(&module) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        for name in rest {
            module.push(name.clone());
            if self.exports.contains_key(&module) {
                continue;
            }
            module.pop();
            let exported = self.exports[&module]
                .iter()
                .find(|path| path.last() == Some(name));
            return match exported {
                Some(path) => self.resolve(&module, path),
                None => Some(module),
            };
        }
        Some(module)
    }

    /// A circle through `module` along the modules in `path`, if there is one.
    fn circle(&self, path: &mut Vec<Module>, done: &mut BTreeSet<Module>) -> Option<Vec<Module>> {
        let module = path.last()?.clone();
        for next in &self.arrows[&module] {
            if let Some(at) = path.iter().position(|known| known == next) {
                return Some(path[at..].to_vec());
            }
            if done.contains(next) {
                continue;
            }
            path.push(next.clone());
            if let Some(circle) = self.circle(path, done) {
                return Some(circle);
            }
            path.pop();
        }
        done.insert(module);
        None
    }
}

fn name_of(module: &Module) -> String {
    match module.as_slice() {
        [] => "lib".to_owned(),
        names => names.join("::"),
    }
}

#[test]
fn modules_import_only_modules_of_a_lower_rank() {
    let graph = Graph::new(&sources());
    let mut wrong = Vec::new();
    for (module, arrows) in graph.arrows.iter().filter(|(module, _)| !module.is_empty()) {
        let own = rank(&module[0]);
        if own.is_none() {
            wrong.push(format!("{} has no rank", name_of(module)));
        }
        let upwards = arrows.iter().filter(|found| {
            let top = found.first();
            top != module.first() && top.and_then(|top| rank(top)) >= own
        });
        wrong.extend(upwards.map(|up| format!("{} imports {}", name_of(module), name_of(up))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let graph = Graph::new(&sources());
    let mut done = BTreeSet::new();
    for module in graph.arrows.keys() {
        if let Some(circle) = graph.circle(&mut vec![module.clone()], &mut done) {
            let names: Vec<_> = circle.iter().map(name_of).collect();
            panic!("a circle: {} -> {}", names.join(" -> "), names[0]);
        }
    }
    let arrows: usize = graph.arrows.values().map(BTreeSet::len).sum();
    assert!(arrows > 50, "only {arrows} imports were found");
}

#[test]
fn each_privilege_belongs_to_one_module() {
    let mut wrong = Vec::new();
    for (path, text) in &sources() {
        let module = module_of(path).into_iter().next().unwrap_or_default();
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: no module doc"));
        }
        let maps = path.ends_with("src/host/mapping.rs");
        if module != "binding"
            && !module.is_empty()
            && (text.contains("napi::") || text.contains("unsafe ") && !maps)
        {
            wrong.push(format!("{path}: Node-API or unsafe outside of binding"));
        }
        let may_read = ["sampler", "binding", "wake_channel"].contains(&module.as_str())
            || ["net", "connect", "resolve", "tls"]
                .iter()
                .any(|file| path.ends_with(&format!("src/cluster/{file}.rs")))
            || ["file", "mapping", "open", "seats", "watch", "tests"]
                .iter()
                .any(|file| path.ends_with(&format!("src/host/{file}.rs")));
        if !may_read && (text.contains("std::fs") || text.contains("std::io")) {
            wrong.push(format!("{path}: reads the operating system"));
        }
        if module != "clock" && (text.contains("Instant::") || text.contains("SystemTime")) {
            wrong.push(format!("{path}: reads a clock"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
