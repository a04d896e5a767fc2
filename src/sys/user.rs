//! Users and groups, by number or by name.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::path::PathBuf;

/// Who a worker is to be.
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
    /// `/etc/passwd`, or 0 for a number that has no entry there.
    ///
    /// # Errors
    /// A name that is not known here.
    pub fn parse(text: &str) -> Result<Credentials, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let entry = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).ok().flatten(),
            Err(_) => User::from_name(user).ok().flatten(),
        };
        let uid = match (&entry, user.parse()) {
            (Some(entry), _) => entry.uid,
            (None, Ok(number)) => Uid::from_raw(number),
            (None, Err(_)) => return Err(format!("no user {user:?} in /etc/passwd")),
        };
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

    /// Whether this process is that user already.
    pub fn is_current(&self) -> bool {
        self.uid == nix::unistd::getuid() && self.gid == nix::unistd::getgid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
