//! Reads the container's CPU quota and its out-of-memory kills from its control groups.
//!
//! Both layouts are read, v1 (a hierarchy for each controller) and v2 (one for all): `cgroups(7)`,
//! Documentation/admin-guide/cgroup-v2.rst, Documentation/scheduler/sched-bwc.rst. `root` is `/` but in tests.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// The CPUs that this container may use: those of its affinity, and no more than its quota rounded up; at least 1.
pub fn cpus(root: &Path) -> u32 {
    let affinity = sched_getaffinity(Pid::from_raw(0))
        .map(|set| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count() as u32)
        .unwrap_or(1);
    let quota = cpu_quota(root).map_or(u32::MAX, |cpus| cpus.ceil() as u32);
    affinity.min(quota).max(1)
}

/// The CPU quota in CPUs, the smallest of this group's and of every ancestor's that can be seen. `None`: no limit.
pub fn cpu_quota(root: &Path) -> Option<f64> {
    let v2 = folders(root, None).into_iter().filter_map(|folder| {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    let v1 = folders(root, Some("cpu")).into_iter().filter_map(|folder| {
        let quota = number(&folder.join("cpu.cfs_quota_us"))?;
        let period = number(&folder.join("cpu.cfs_period_us"))?;
        (quota > 0.0).then_some(quota / period)
    });
    v2.chain(v1).filter(|cpus| cpus.is_finite() && *cpus > 0.0).min_by(f64::total_cmp)
}

/// The number of kills by the out-of-memory killer in this container. `None`: the kernel has no such counter.
pub fn oom_kills(root: &Path) -> Option<u64> {
    let counter = |folder: &Path, file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    };
    let v2 = folders(root, None).first().and_then(|folder| counter(folder, "memory.events"));
    v2.or_else(|| folders(root, Some("memory")).first().and_then(|folder| counter(folder, "memory.oom_control")))
}

fn number(file: &Path) -> Option<f64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The folders of this process' group in the hierarchy of that v1 controller (or in the v2 one), its own first, then
/// its ancestors up to the mount.
pub(super) fn folders(root: &Path, controller: Option<&str>) -> Vec<PathBuf> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let group = read("proc/self/cgroup").lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        found.then(|| group.to_owned())
    });
    let mounts = read("proc/self/mountinfo");
    let mount = mounts.lines().filter_map(Mount::parse).find(|mount| mount.carries(controller));
    let (top, inside) = match (&mount, &group) {
        (Some(mount), Some(group)) => (relative(root, mount.point), mount.inside(group)),
        // Without /proc: the place at which every engine mounts it.
        _ => (root.join("sys/fs/cgroup").join(controller.unwrap_or("")), PathBuf::new()),
    };
    let own = top.join(inside);
    own.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_owned).collect()
}

/// A line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Mount { root: left.next()?, point: left.next()?, kind: right.next()?, options: right.nth(1)? })
    }

    fn carries(&self, controller: Option<&str>) -> bool {
        match controller {
            Some(name) => self.kind == "cgroup" && self.options.split(',').any(|option| option == name),
            None => self.kind == "cgroup2",
        }
    }

    /// The group's path below the mount point. A group outside of the mount cannot be seen: the mount's own top stands
    /// for it.
    fn inside(&self, group: &str) -> PathBuf {
        let path = Path::new(group);
        let inside = path.strip_prefix(self.root).unwrap_or(Path::new(""));
        if inside.components().any(|part| part == std::path::Component::ParentDir) {
            PathBuf::new()
        } else {
            inside.into()
        }
    }
}

fn relative(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder of files laid out as the kernel does.
    pub(in crate::sys) fn laid_out(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    const V2: [(&str, &str); 2] = [
        ("proc/self/cgroup", "0::/pod/app\n"),
        ("proc/self/mountinfo", "31 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
    ];
    const V1: [(&str, &str); 2] = [
        ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
        (
            "proc/self/mountinfo",
            "41 30 0:35 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
             42 30 0:36 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
        ),
    ];

    #[test]
    fn v2_takes_the_smallest_quota_of_all_ancestors() {
        let mut files = V2.to_vec();
        files.extend([
            ("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ]);
        assert_eq!(cpu_quota(laid_out(&files).path()), Some(1.5));
        files[3].1 = "max 100000\n";
        files[4].1 = "max 100000\n";
        assert_eq!(cpu_quota(laid_out(&files).path()), None);
    }

    #[test]
    fn v2_in_a_namespace_of_its_own_is_read_at_the_mount() {
        let root = laid_out(&[("proc/self/cgroup", "0::/\n"), V2[1], ("sys/fs/cgroup/cpu.max", "50000 100000\n")]);
        assert_eq!(cpu_quota(root.path()), Some(0.5));
    }

    #[test]
    fn v1_is_read_below_what_docker_mounts() {
        let mut files = V1.to_vec();
        files.extend([
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(cpu_quota(laid_out(&files).path()), Some(2.5));
        files[2].1 = "-1\n";
        assert_eq!(cpu_quota(laid_out(&files).path()), None);
    }

    #[test]
    fn without_proc_the_usual_places_are_tried() {
        assert_eq!(cpu_quota(laid_out(&[("sys/fs/cgroup/cpu.max", "300000 100000\n")]).path()), Some(3.0));
        let v1 =
            [("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"), ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n")];
        assert_eq!(cpu_quota(laid_out(&v1).path()), Some(2.0));
        assert_eq!(cpu_quota(laid_out(&[]).path()), None);
    }

    #[test]
    fn the_count_of_cpus_is_the_quota_rounded_up_and_at_least_one() {
        let with = |quota: &str| cpus(laid_out(&[("sys/fs/cgroup/cpu.max", quota)]).path());
        assert_eq!(with("10000 100000\n"), 1);
        assert!(with("110000 100000\n") <= 2);
        assert_eq!(with("garbage\n"), cpus(Path::new("/nowhere")));
    }

    #[test]
    fn oom_kills_are_counted_in_both_layouts() {
        let mut v2 = V2.to_vec();
        v2.push(("sys/fs/cgroup/pod/app/memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 0\n"));
        assert_eq!(oom_kills(laid_out(&v2).path()), Some(3));
        let mut v1 = V1.to_vec();
        v1.push(("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert_eq!(oom_kills(laid_out(&v1).path()), Some(2));
        assert_eq!(oom_kills(laid_out(&[]).path()), None);
    }
}
