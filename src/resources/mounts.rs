//! Mounts of control-group trees, and the directories of a group in them.

/// Decodes the octal escapes of mountinfo, such as `\040`.
fn unescaped(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// A mounted file system.
pub(super) struct Mount {
    root: String,
    point: String,
    /// Type, such as `cgroup2`.
    pub(super) kind: String,
    /// Options of the file system; for v1 they include the controllers.
    pub(super) options: String,
}

/// Parses `36 35 98:0 /root /point rw,noatime master:1 - type source options`.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    Some(Mount {
        root: unescaped(left.next()?),
        point: unescaped(left.next()?),
        kind: right.next()?.to_owned(),
        options: right.nth(1)?.to_owned(),
    })
}

/// Returns the mounts of a mountinfo text; unreadable lines are skipped.
pub(super) fn mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

/// Levels of a path that are read; real trees are far less deep.
const LEVELS_MAX: usize = 64;

/// Returns the directories of group `path`, the deepest first.
pub(super) fn levels(mount: &Mount, path: &str) -> Vec<String> {
    let below = if mount.root == "/" {
        path
    } else {
        path.strip_prefix(mount.root.as_str())
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or("")
    };
    // A group outside the namespace's root is shown as `/..`: only the mount point can be read.
    let names: Vec<&str> = below
        .split('/')
        .filter(|name| !name.is_empty())
        .take(LEVELS_MAX)
        .collect();
    let names = if names.contains(&"..") {
        &[][..]
    } else {
        &names[..]
    };
    let point = mount.point.trim_end_matches('/');
    (0..=names.len())
        .rev()
        .map(|depth| {
            names[..depth]
                .iter()
                .fold(point.to_owned(), |mut path, name| {
                    path.push('/');
                    path.push_str(name);
                    path
                })
        })
        .collect()
}
