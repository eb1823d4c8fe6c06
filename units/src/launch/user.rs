//! Who the program runs as: an image config's `User` looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! Both files are the image's, so untrusted: they are read up to a bound, and lines that make no sense are skipped.

use crate::limits::ID_RANGE;

/// Groups that one user gets; the kernel takes 65,536, no real image needs more than a few.
const GROUPS: usize = 256;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Home folder, `/` if none is known.
    pub(super) home: String,
}

/// Resolves `""`, `user`, `user:group`; each a name or a number. As Docker does it: a name that looks like a number
/// is tried as a name first; a number need not be listed; without a group the user's own are taken.
pub(super) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();

    let entries = || passwd.lines().filter_map(Entry::parse);
    let entry = entries()
        .find(|e| e.name == user)
        .or_else(|| number.and_then(|uid| entries().find(|e| e.uid == uid)));
    let mut identity = match (&entry, number) {
        (Some(e), _) => Identity { uid: e.uid, gid: e.gid, groups: Vec::new(), home: e.home.to_owned() },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) => return Err(format!("the image has no user {user:?} in /etc/passwd")),
    };
    let groups = || group.lines().filter_map(group_entry);
    match wanted_group {
        Some(wanted) => {
            identity.gid = groups()
                .find(|(name, _, _)| *name == wanted)
                .map(|(_, gid, _)| gid)
                .or_else(|| wanted.parse().ok())
                .ok_or_else(|| format!("the image has no group {wanted:?} in /etc/group"))?;
        }
        None => {
            if let Some(entry) = &entry {
                identity.groups = groups()
                    .filter(|(_, _, members)| members.split(',').any(|m| m == entry.name))
                    .map(|(_, gid, _)| gid)
                    .take(GROUPS)
                    .collect();
            }
        }
    }
    if let Some(id) = [identity.uid, identity.gid].iter().chain(&identity.groups).find(|id| **id >= ID_RANGE)
    {
        return Err(format!("id {id} is outside the unit's range of {ID_RANGE} ids"));
    }
    Ok(identity)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = fields.nth(1).filter(|h| h.starts_with('/')).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }
}

fn group_entry(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/false\nbad line\nshort:x:7\n\
                          12:x:99:99::/n:\nfar:x:70000:0::/:\n";
    const GROUP: &str = "root:x:0:\nlog:x:40:web,other\nssl:x:41:other,web\nwww:x:34:\nnone:x:zz:web\n";

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let i = resolve(spec, PASSWD, GROUP).unwrap();
        (i.uid, i.gid, i.groups)
    }

    #[test]
    fn as_docker_does() {
        assert_eq!(ids(""), (0, 0, vec![]));
        assert_eq!(ids("web"), (33, 34, vec![40, 41]));
        assert_eq!(ids("33"), (33, 34, vec![40, 41]));
        assert_eq!(ids("web:log"), (33, 40, vec![]));
        assert_eq!(ids("web:7"), (33, 7, vec![]));
        assert_eq!(ids("1000"), (1000, 0, vec![]));
        assert_eq!(ids("1000:1000"), (1000, 1000, vec![]));
        assert_eq!(ids(":www"), (0, 34, vec![]));
        // A name first, then a number.
        assert_eq!(ids("12"), (99, 99, vec![]));
        assert_eq!(resolve("web", PASSWD, GROUP).unwrap().home, "/var/www");
        assert_eq!(resolve("1000", PASSWD, GROUP).unwrap().home, "/");
        assert_eq!(
            resolve("", "", "").unwrap(),
            Identity { uid: 0, gid: 0, groups: vec![], home: "/".into() }
        );
    }

    #[test]
    fn what_cannot_be() {
        assert!(resolve("nobody", PASSWD, GROUP).unwrap_err().contains("no user \"nobody\""));
        assert!(resolve("web:nogroup", PASSWD, GROUP).unwrap_err().contains("no group \"nogroup\""));
        assert!(resolve("70000", PASSWD, GROUP).unwrap_err().contains("outside"));
        assert!(resolve("far", PASSWD, GROUP).unwrap_err().contains("outside"));
        assert!(resolve("-1", PASSWD, GROUP).is_err());
    }
}
