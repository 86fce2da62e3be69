//! Which processes belong to a scope: what is known of one goes in, whether it is to be followed comes out. Pure: no I/O, no clock.
//!
//! All that a process is judged by (its name, the names of its cgroups) may be of its own choosing, or of who runs in its container. So it
//! is compared, and never looked up.

use std::fmt;

use crate::record::Cgroup;

/// Bytes that the kernel keeps of a process's name.
const MOST_NAME: usize = 15;
/// Digits of a container's id that have to be given, at least.
const LEAST_ID: usize = 6;
/// Digits of a container's id, all told.
const WHOLE_ID: usize = 64;
/// Digits of a container's id that are shown, as its runtimes do.
const SHOWN_ID: usize = 12;

/// The name that the kernel has for a process: that of its program, or what it calls itself; 15 bytes of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Of as many bytes as the kernel keeps; a zero ends it.
    pub fn new(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len()).min(MOST_NAME)];
        Self(bytes.to_vec())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Those of these names.
    Named(Vec<Name>),
    /// Those in this cgroup, as `/proc/PID/cgroup` names it, or below it.
    Cgroup(String),
    /// Those in the container of this id, or of the one whose id begins so.
    Container(Id),
    /// Those in the cgroup of this unit of systemd, or below it.
    Unit(String),
    /// All of the machine.
    All,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => {
                let names: Vec<String> = names.iter().map(Name::to_string).collect();
                write!(f, "processes named {}", names.join(", "))
            }
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Container(id) => write!(f, "container {id}"),
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::All => f.write_str("the whole system"),
        }
    }
}

/// The id of a container, or its first digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// Of hexadecimal digits; `None` of anything else, of too few, and of too many.
    pub fn new(text: &str) -> Option<Self> {
        let is_id = (LEAST_ID..=WHOLE_ID).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_ascii_lowercase()))
    }

    /// All of its digits that are known.
    pub fn whole(&self) -> &str {
        &self.0
    }

    /// The containers that this may stand for, each once, of those that processes in these cgroups are in.
    pub fn among<'a>(&self, cgroups: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let ids = cgroups.into_iter().filter_map(Cgroup::container_in);
        let mut ids: Vec<Self> = ids
            .filter(|id| id.starts_with(&self.0))
            .map(|id| Self(id.to_owned()))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..SHOWN_ID).unwrap_or(&self.0))
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// The process.
    pub pid: u32,
    /// The process that made it, or took it over.
    pub parent: u32,
    /// Its name.
    pub name: Name,
    /// Its cgroups, one a hierarchy, as `/proc/PID/cgroup` names them.
    pub cgroups: &'a [String],
    /// It is a thread of the kernel, and has no memory of its own.
    pub is_kernels: bool,
}

/// Why a process is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It is highwater itself, or a child of it.
    Ours,
    /// It has no memory of its own.
    Kernels,
    /// Its name is one of those that were left out.
    LeftOut,
    /// It is none of those that were asked for.
    Others,
}

/// Which processes are to be followed, and which of them are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Which are.
    pub whom: Whom,
    /// Those that have one of these names are not.
    pub except: Vec<Name>,
}

impl Scope {
    /// Whether a process is to be followed, where `us` is our own pid.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn admit(&self, us: u32, known: &Known<'_>) -> Result<(), WhyNot> {
        if known.pid == us || known.parent == us {
            return Err(WhyNot::Ours);
        }
        if known.is_kernels {
            return Err(WhyNot::Kernels);
        }
        if self.except.contains(&known.name) {
            return Err(WhyNot::LeftOut);
        }
        let in_one = |is: &dyn Fn(&str) -> bool| known.cgroups.iter().any(|path| is(path));
        let is_meant = match &self.whom {
            Whom::Named(names) => names.contains(&known.name),
            Whom::Cgroup(above) => in_one(&|path| is_below(path, above)),
            Whom::Container(Id(id)) => in_one(&|path| {
                Cgroup::container_in(path).is_some_and(|found| found.starts_with(id))
            }),
            Whom::Unit(unit) => in_one(&|path| path.split('/').any(|part| is_unit(part, unit))),
            Whom::All => true,
        };
        match is_meant {
            true => Ok(()),
            false => Err(WhyNot::Others),
        }
    }

    /// Whether one that ended before its cgroups were read, and of which only the name is known, may have been one of them.
    pub fn may_have_been(&self, name: &Name) -> bool {
        let is_meant = match &self.whom {
            Whom::Named(names) => names.contains(name),
            _ => true,
        };
        is_meant && !self.except.contains(name)
    }
}

/// Whether a cgroup is that one or lies below it.
fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a part of a cgroup's path is a unit's; a service may be named without saying that it is one.
fn is_unit(part: &str, unit: &str) -> bool {
    part.strip_prefix(unit)
        .is_some_and(|rest| rest.is_empty() || rest == ".service")
}

#[cfg(test)]
mod tests;
