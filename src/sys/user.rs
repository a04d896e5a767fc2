//! Resolves users and groups by number or name, and knows what rinit needs to run and signal workers as another user.

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgid, getgrouplist, getgroups, getuid};
use std::ffi::CString;
use std::path::PathBuf;

/// A worker's user and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
    /// All groups.
    pub groups: Vec<Gid>,
    /// The home in the user's passwd entry, if there is one.
    pub home: Option<PathBuf>,
}

impl Credentials {
    /// Reads `UID[:GID]`, numbers or names, as Docker's `--user` does: without a group it is the user's own in
    /// `/etc/passwd`, or 0 for a number that has no entry there. For this process' own user it is its own group and groups.
    ///
    /// # Errors
    /// A name that `/etc/passwd` or `/etc/group` does not have; the number 4294967295, which is -1 to setresuid(2): no change.
    pub fn parse(text: &str) -> Result<Credentials, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let no_change = u32::MAX.to_string();
        if user == no_change || group == Some(&no_change) {
            return Err(format!("{no_change} is nobody's number: the highest is {}", u32::MAX - 1));
        }
        let entry = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).ok().flatten(),
            Err(_) => User::from_name(user).ok().flatten(),
        };
        let uid = match (&entry, user.parse()) {
            (Some(entry), _) => entry.uid,
            (None, Ok(number)) => Uid::from_raw(number),
            (None, Err(_)) => return Err(format!("no user {user:?} in /etc/passwd")),
        };
        if group.is_none() && uid == getuid() {
            let groups = getgroups().unwrap_or_else(|_| vec![getgid()]);
            return Ok(Credentials { uid, gid: getgid(), groups, home: entry.map(|entry| entry.dir) });
        }
        let gid = match group {
            Some(group) => match (group.parse(), Group::from_name(group)) {
                (Ok(number), _) => Gid::from_raw(number),
                (Err(_), Ok(Some(entry))) => entry.gid,
                (Err(_), _) => return Err(format!("no group {group:?} in /etc/group")),
            },
            None => entry.as_ref().map_or(Gid::from_raw(0), |entry| entry.gid),
        };
        let name = entry.as_ref().filter(|_| group.is_none()).and_then(|entry| CString::new(&*entry.name).ok());
        let groups = name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
        Ok(Credentials { uid, gid, groups, home: entry.map(|entry| entry.dir) })
    }

    /// True if this process has that user and group already.
    pub fn is_current(&self) -> bool {
        self.uid == getuid() && self.gid == getgid()
    }

    /// The capabilities that this process lacks to start a process of that user and to signal it. None where the kernel
    /// does not tell (no `/proc`).
    pub fn missing_capabilities(&self) -> Vec<&'static str> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        effective.map_or_else(Vec::new, |effective| self.missing_of(effective, (getuid(), geteuid(), getgid())))
    }

    /// The same, for a process with these effective capabilities, user, effective user and group.
    fn missing_of(&self, effective: u64, (uid, euid, gid): (Uid, Uid, Gid)) -> Vec<&'static str> {
        // kill(2): the sender's real or effective user is the target's real or saved one.
        let is_other_user = self.uid != uid && self.uid != euid;
        let needed = [
            ("CAP_KILL", 5, is_other_user),
            ("CAP_SETGID", 6, self.gid != gid || self.uid != uid),
            ("CAP_SETUID", 7, self.uid != uid),
        ];
        let missing = needed.into_iter().filter(|(_, bit, is_needed)| *is_needed && effective & 1 << bit == 0);
        missing.map(|(name, ..)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_number_means_ones_own_group() {
        let own = Credentials::parse(&getuid().to_string()).unwrap();
        assert_eq!((own.uid, own.gid), (getuid(), getgid()));
        assert!(own.is_current());
    }

    #[test]
    fn another_user_takes_the_capabilities_to_become_it_and_to_signal_it() {
        let worker = Credentials::parse("61234:61234").unwrap();
        let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
        let missing = |effective| worker.missing_of(effective, (root, root, group));
        assert_eq!(missing(1 << 5 | 1 << 6 | 1 << 7), [""; 0]);
        assert_eq!(missing(1 << 6 | 1 << 7), ["CAP_KILL"]);
        assert_eq!(missing(0), ["CAP_KILL", "CAP_SETGID", "CAP_SETUID"]);
        let (own, own_group) = (Uid::from_raw(61234), Gid::from_raw(61234));
        assert_eq!(worker.missing_of(0, (own, own, own_group)), [""; 0]);
        assert_eq!(worker.missing_of(0, (own, own, group)), ["CAP_SETGID"]);
    }

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        let random = Credentials::parse("61234").unwrap();
        assert_eq!((random.uid.as_raw(), random.gid.as_raw(), random.home), (61234, 0, None));
        let both = Credentials::parse("61234:777").unwrap();
        assert_eq!((both.gid.as_raw(), both.groups.len()), (777, 1));
        assert_eq!(Credentials::parse("root").unwrap().uid.as_raw(), 0);
        assert!(Credentials::parse("nobody-of-that-name").unwrap_err().contains("/etc/passwd"));
        assert!(Credentials::parse("0:no-such-group").unwrap_err().contains("/etc/group"));
        assert!(Credentials::parse("").is_err());
        for text in ["4294967295", "0:4294967295"] {
            assert!(Credentials::parse(text).unwrap_err().contains("the highest is 4294967294"));
        }
    }
}
