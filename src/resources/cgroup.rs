//! The control groups of the process, v1 and v2, with their ancestors: the lowest limit applies, at
//! whichever level it is set.
//!
//! `/proc/self/cgroup` names the group, `/proc/self/mountinfo` says where its tree is mounted. A
//! container cannot read ancestors that are not mounted; for those, v1's
//! `hierarchical_memory_limit` is read.

use super::mounts::{Mount, levels, mounts};
use super::parse::{Pressure, keyed, pressure};
use super::source::Source;

/// The groups of the process: one directory for each controller and level, the process's own group
/// first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cgroup {
    memory: Option<Tree>,
    cpu: Option<Tree>,
    unified: Option<Tree>,
}

/// A directory and its ancestors as far as they are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    is_v2: bool,
    levels: Vec<String>,
}

/// A memory limit and the usage it applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Limit, bytes.
    pub limit: u64,
    /// True for `memory.high`, where the kernel slows the group down instead of killing in it.
    pub is_soft: bool,
    /// Levels above the process's own group.
    pub level: usize,
    /// Bytes charged to the group, page cache included.
    pub usage: u64,
    /// Bytes charged, without the page cache that can be dropped at once.
    pub working_set: u64,
}

/// CPU throttling of a group by its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuStat {
    /// Periods in which the group was throttled.
    pub throttled_periods: u64,
    /// Time for which the group was throttled, ns.
    pub throttled_ns: u64,
}

/// The CPU quota of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quota {
    /// No quota.
    Unlimited,
    /// Number of CPUs.
    Cpus(f64),
}

impl Cgroup {
    /// Finds the groups of the process.
    #[must_use]
    pub fn find(source: &dyn Source) -> Self {
        let groups = source.read("/proc/self/cgroup").unwrap_or_default();
        let mounts: Vec<Mount> = mounts(&source.read("/proc/self/mountinfo").unwrap_or_default());
        let group = |controller: &str| {
            groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers
                    .split(',')
                    .any(|name| name == controller)
                    .then_some(path)
            })
        };
        let v1 = |controller: &str| {
            let path = group(controller)?;
            let mount = mounts.iter().find(|mount| {
                mount.kind == "cgroup" && mount.options.split(',').any(|name| name == controller)
            })?;
            Some(Tree {
                is_v2: false,
                levels: levels(mount, path),
            })
        };
        let unified = || {
            let path = group("")?;
            let mount = mounts.iter().find(|mount| mount.kind == "cgroup2")?;
            Some(Tree {
                is_v2: true,
                levels: levels(mount, path),
            })
        };
        // A hybrid system has both trees, and each controller is in one of them: in v1 if it is
        // mounted there.
        Self {
            memory: v1("memory").or_else(unified),
            cpu: v1("cpu").or_else(unified),
            unified: unified(),
        }
    }

    /// Returns 1 or 2; `None` if no group controls memory.
    #[must_use]
    pub fn version(&self) -> Option<u8> {
        self.memory
            .as_ref()
            .map(|tree| if tree.is_v2 { 2 } else { 1 })
    }

    /// Returns every memory limit below `total`, with its current usage. A limit above `total` has
    /// no effect.
    #[must_use]
    pub fn memory_limits(&self, source: &dyn Source, total: Option<u64>) -> Vec<MemoryLimit> {
        let Some(tree) = &self.memory else {
            return Vec::new();
        };
        let bounded =
            |limit: u64| limit > 0 && total.is_none_or(|total| limit <= total) && limit < UNLIMITED;
        let mut found = Vec::new();
        for (level, folder) in tree.levels.iter().enumerate() {
            let limits = tree.limits(source, folder, level == 0).into_iter();
            found.extend(
                limits
                    .filter(|(limit, _)| bounded(*limit))
                    .map(|(limit, is_soft)| MemoryLimit {
                        limit,
                        is_soft,
                        level,
                        usage: 0,
                        working_set: 0,
                    }),
            );
        }
        self.refresh(source, &mut found);
        found
    }

    /// Reads the usage of the limits again; limits whose usage cannot be read are dropped.
    pub fn refresh(&self, source: &dyn Source, limits: &mut Vec<MemoryLimit>) {
        let mut last = None;
        limits.retain_mut(|limit| {
            let usage = match last {
                Some((level, usage)) if level == limit.level => usage,
                _ => self.usage(source, limit.level),
            };
            last = Some((limit.level, usage));
            if let Some((usage, working_set)) = usage {
                (limit.usage, limit.working_set) = (usage, working_set);
            }
            usage.is_some()
        });
    }

    fn usage(&self, source: &dyn Source, level: usize) -> Option<(u64, u64)> {
        let tree = self.memory.as_ref()?;
        tree.usage(source, tree.levels.get(level)?)
    }

    /// Returns the bytes charged to the process's own group, without the droppable page cache.
    #[must_use]
    pub fn working_set(&self, source: &dyn Source) -> Option<u64> {
        Some(self.usage(source, 0)?.1)
    }

    /// Returns how often the kernel killed a process of the own group for memory.
    #[must_use]
    pub fn oom_kills(&self, source: &dyn Source) -> Option<u64> {
        let tree = self.memory.as_ref()?;
        let name = if tree.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        keyed(
            &source.read(&format!("{}/{name}", tree.levels.first()?))?,
            "oom_kill",
        )
    }

    /// Returns the lowest quota; `None` if no level has readable quota files.
    #[must_use]
    pub fn quota(&self, source: &dyn Source) -> Option<Quota> {
        let tree = self.cpu.as_ref()?;
        tree.levels
            .iter()
            .filter_map(|folder| tree.quota(source, folder))
            .reduce(|a, b| match (a, b) {
                (Quota::Cpus(a), Quota::Cpus(b)) => Quota::Cpus(a.min(b)),
                (Quota::Unlimited, other) | (other, Quota::Unlimited) => other,
            })
    }

    /// Returns the throttling of the process's own group.
    #[must_use]
    pub fn cpu_stat(&self, source: &dyn Source) -> Option<CpuStat> {
        let tree = self.cpu.as_ref()?;
        let text = source.read_often(&format!("{}/cpu.stat", tree.levels.first()?))?;
        let throttled_ns = match keyed(&text, "throttled_usec") {
            Some(microseconds) => microseconds.saturating_mul(1000),
            None => keyed(&text, "throttled_time")?,
        };
        Some(CpuStat {
            throttled_periods: keyed(&text, "nr_throttled")?,
            throttled_ns,
        })
    }

    /// Returns the PSI of `resource` (`memory`, `cpu`, `io`), and `true` if it is the group's own,
    /// else the system's. v1 has no PSI per group, and the root group's is the system's.
    #[must_use]
    pub fn pressure(&self, source: &dyn Source, resource: &str) -> Option<(Pressure, bool)> {
        let own = self
            .unified
            .as_ref()
            .filter(|tree| tree.levels.len() > 1)
            .and_then(|tree| {
                pressure(&source.read(&format!("{}/{resource}.pressure", tree.levels.first()?))?)
            });
        match own {
            Some(own) => Some((own, true)),
            None => Some((
                pressure(&source.read(&format!("/proc/pressure/{resource}"))?)?,
                false,
            )),
        }
    }
}

/// From here on the kernel means "no limit": v1 writes 2^63 less a page.
const UNLIMITED: u64 = 1 << 60;

/// Reads a whole number; `None` for `max` and -1.
fn number(source: &dyn Source, folder: &str, name: &str) -> Option<u64> {
    source
        .read(&format!("{folder}/{name}"))?
        .trim()
        .parse()
        .ok()
}

impl Tree {
    /// Returns the limits of one level, and whether they are soft.
    fn limits(&self, source: &dyn Source, folder: &str, is_own: bool) -> Vec<(u64, bool)> {
        let limit =
            |name: &str, is_soft| number(source, folder, name).map(|limit| (limit, is_soft));
        if self.is_v2 {
            return [limit("memory.max", false), limit("memory.high", true)]
                .into_iter()
                .flatten()
                .collect();
        }
        // The limit that ancestors impose, for the case that they are not mounted.
        let inherited = is_own
            .then(|| {
                keyed(
                    &source.read(&format!("{folder}/memory.stat"))?,
                    "hierarchical_memory_limit",
                )
            })
            .flatten()
            .map(|limit| (limit, false));
        let own = limit("memory.limit_in_bytes", false);
        let inherited =
            inherited.filter(|inherited| self.levels.len() == 1 && Some(*inherited) != own);
        [own, inherited].into_iter().flatten().collect()
    }

    /// Returns usage and working set of one level.
    fn usage(&self, source: &dyn Source, folder: &str) -> Option<(u64, u64)> {
        let (usage, inactive) = if self.is_v2 {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let usage = source
            .read_often(&format!("{folder}/{usage}"))?
            .trim()
            .parse()
            .ok()?;
        let droppable = source
            .read_often(&format!("{folder}/memory.stat"))
            .and_then(|text| keyed(&text, inactive))
            .unwrap_or(0);
        Some((usage, usage.saturating_sub(droppable)))
    }

    /// Returns the quota of one level.
    fn quota(&self, source: &dyn Source, folder: &str) -> Option<Quota> {
        let (quota, period) = if self.is_v2 {
            let text = source.read(&format!("{folder}/cpu.max"))?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        } else {
            let word = |name| source.read(&format!("{folder}/{name}"));
            (word("cpu.cfs_quota_us")?, word("cpu.cfs_period_us")?)
        };
        if matches!(quota.trim(), "max" | "-1") {
            return Some(Quota::Unlimited);
        }
        let quota: u64 = quota.trim().parse().ok()?;
        let period: u64 = period.trim().parse().ok()?;
        (quota > 0 && period > 0).then(|| Quota::Cpus(quota as f64 / period as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::Table;
    use super::*;

    const GIB: u64 = 1 << 30;
    const V2: &str = "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      36 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n";

    fn v2(files: &[(&str, &str)]) -> Table {
        let mut table = Table::new(files);
        table.put("/proc/self/mountinfo", V2);
        table.put("/proc/self/cgroup", "0::/kube/pod/app\n");
        table
    }

    fn lowest(table: &Table) -> Option<(u64, usize)> {
        Cgroup::find(table)
            .memory_limits(table, Some(16 * GIB))
            .into_iter()
            .map(|limit| (limit.limit, limit.level))
            .min()
    }

    #[test]
    fn all_five_spellings_of_unlimited_are_no_limit() {
        for sentinel in [
            "max",
            "-1",
            "9223372036854771712",
            "18446744073709551615",
            "34359738368",
        ] {
            let table = v2(&[
                ("/sys/fs/cgroup/kube/pod/app/memory.max", sentinel),
                ("/sys/fs/cgroup/kube/pod/app/memory.current", "5"),
            ]);
            assert_eq!(lowest(&table), None, "{sentinel}");
        }
    }

    #[test]
    fn v2_takes_the_lowest_limit_of_all_ancestors() {
        let table = v2(&[
            ("/sys/fs/cgroup/kube/pod/app/memory.max", "max\n"),
            ("/sys/fs/cgroup/kube/pod/app/memory.current", "4000"),
            ("/sys/fs/cgroup/kube/pod/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/kube/pod/memory.current", "900000000\n"),
            (
                "/sys/fs/cgroup/kube/pod/memory.stat",
                "anon 5\ninactive_file 100000000\n",
            ),
            ("/sys/fs/cgroup/kube/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/kube/memory.current", "1"),
        ]);
        let limits = Cgroup::find(&table).memory_limits(&table, Some(16 * GIB));
        assert_eq!(limits.len(), 2);
        assert_eq!(
            limits[0],
            MemoryLimit {
                limit: GIB,
                is_soft: false,
                level: 1,
                usage: 900_000_000,
                working_set: 800_000_000
            }
        );
    }

    #[test]
    fn memory_high_below_max_is_the_lower_limit() {
        let table = v2(&[
            ("/sys/fs/cgroup/kube/pod/app/memory.max", "1073741824"),
            ("/sys/fs/cgroup/kube/pod/app/memory.high", "536870912"),
            ("/sys/fs/cgroup/kube/pod/app/memory.current", "7"),
        ]);
        assert_eq!(lowest(&table), Some((GIB / 2, 0)));
    }

    #[test]
    fn v1_reads_its_own_file_names_and_the_inherited_limit() {
        let mut table = Table::new(&[
            (
                "/proc/self/mountinfo",
                "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            (
                "/proc/self/cgroup",
                "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/\n",
            ),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "hierarchical_memory_limit 1073741824\ntotal_inactive_file 1000\n",
            ),
        ]);
        assert_eq!(lowest(&table), Some((GIB, 0)));
        assert_eq!(Cgroup::find(&table).version(), Some(1));
        assert_eq!(Cgroup::find(&table).working_set(&table), Some(4000));
        table.put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912");
        assert_eq!(lowest(&table), Some((GIB / 2, 0)));
    }

    #[test]
    fn the_quota_is_the_lowest_of_all_ancestors_and_may_be_a_fraction() {
        let table = v2(&[
            ("/sys/fs/cgroup/kube/pod/app/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/kube/pod/cpu.max", "50000 100000\n"),
            ("/sys/fs/cgroup/kube/cpu.max", "400000 100000\n"),
            (
                "/sys/fs/cgroup/kube/pod/app/cpu.stat",
                "usage_usec 9\nnr_throttled 3\nthrottled_usec 250\n",
            ),
        ]);
        let cgroup = Cgroup::find(&table);
        assert_eq!(cgroup.quota(&table), Some(Quota::Cpus(0.5)));
        assert_eq!(
            cgroup.cpu_stat(&table),
            Some(CpuStat {
                throttled_periods: 3,
                throttled_ns: 250_000
            })
        );
        let table = Table::new(&[
            ("/proc/self/mountinfo", V1),
            ("/proc/self/cgroup", "1:cpu,cpuacct:/a\n4:memory:/a\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1"),
            ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000"),
            (
                "/sys/fs/cgroup/cpu,cpuacct/a/cpu.stat",
                "nr_periods 1\nnr_throttled 2\nthrottled_time 77\n",
            ),
        ]);
        assert_eq!(Cgroup::find(&table).quota(&table), Some(Quota::Unlimited));
        assert_eq!(
            Cgroup::find(&table).cpu_stat(&table),
            Some(CpuStat {
                throttled_periods: 2,
                throttled_ns: 77
            })
        );
    }

    #[test]
    fn a_hybrid_system_takes_memory_from_v1_and_pressure_from_v2() {
        let table = Table::new(&[
            (
                "/proc/self/mountinfo",
                &format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"),
            ),
            ("/proc/self/cgroup", "4:memory:/a\n0::/a\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576"),
            ("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "4096"),
            (
                "/sys/fs/cgroup/unified/a/memory.pressure",
                "some avg10=3.00 avg60=2.00 avg300=0 total=0\n",
            ),
            (
                "/proc/pressure/cpu",
                "some avg10=9.00 avg60=8.00 avg300=0 total=0\n",
            ),
        ]);
        let cgroup = Cgroup::find(&table);
        assert_eq!(lowest(&table), Some((1_048_576, 0)));
        assert_eq!(
            cgroup
                .pressure(&table, "memory")
                .map(|(psi, own)| (psi.some_10, own)),
            Some((3.0, true))
        );
        assert_eq!(
            cgroup
                .pressure(&table, "cpu")
                .map(|(psi, own)| (psi.some_10, own)),
            Some((9.0, false))
        );
    }

    #[test]
    fn missing_and_malformed_files_give_no_limit() {
        for files in [
            &[][..],
            &[
                ("/proc/self/cgroup", "garbage"),
                ("/proc/self/mountinfo", "1 2 3"),
            ],
            &[
                ("/proc/self/cgroup", "0::/../../x\n"),
                ("/proc/self/mountinfo", V2),
            ],
            &[
                ("/proc/self/cgroup", "0::/a\n"),
                ("/proc/self/mountinfo", V2),
                ("/sys/fs/cgroup/a/memory.max", "lots"),
            ],
            &[
                ("/proc/self/cgroup", "0::/a\n"),
                ("/proc/self/mountinfo", V2),
                ("/sys/fs/cgroup/a/memory.max", "0"),
            ],
        ] {
            let table = Table::new(files);
            let cgroup = Cgroup::find(&table);
            assert_eq!(lowest(&table), None);
            assert_eq!(
                (cgroup.quota(&table), cgroup.cpu_stat(&table)),
                (None, None)
            );
            assert_eq!(cgroup.pressure(&table, "memory"), None);
        }
    }

    #[test]
    fn a_mount_point_may_contain_a_space() {
        let table = Table::new(&[
            (
                "/proc/self/mountinfo",
                "30 1 0:26 / /mnt/c\\040g rw - cgroup2 cgroup2 rw\n",
            ),
            ("/proc/self/cgroup", "0::/\n"),
            ("/mnt/c g/memory.max", "1048576"),
            ("/mnt/c g/memory.current", "1"),
        ]);
        assert_eq!(lowest(&table), Some((1_048_576, 0)));
    }
}
