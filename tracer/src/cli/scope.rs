//! Which processes a command line means, where it does not number them.

use super::output::Usage;
use crate::{
    follow::scope::{Id, Name, Whom},
    target::{Target, TargetError, cgroup, listed, namespace},
    words::printable,
};

/// Most processes, or containers, that are listed.
const MOST_LISTED: usize = 5;

/// The name of a process.
pub(super) fn name(text: &str) -> Result<Name, String> {
    match text {
        "" => Err("no process has an empty name".to_owned()),
        text => Ok(Name::new(text.as_bytes())),
    }
}

/// The id of a container.
pub(super) fn container(text: &str) -> Result<Id, String> {
    Id::new(text).ok_or_else(|| {
        "an id of 6 to 64 hexadecimal digits, as `docker ps`, `podman ps` and `crictl ps` show it, and no name".to_owned()
    })
}

/// The name of a unit.
pub(super) fn unit(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Err("the name of a unit, such as nginx or nginx.service, and no path".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Which of these was asked for; `None`: none of them.
pub(super) fn whom(
    comm: Vec<Name>,
    cgroup: Option<&str>,
    container: Option<Id>,
    unit: Option<String>,
    system: bool,
) -> anyhow::Result<Option<Whom>> {
    if let Some(path) = cgroup {
        return Ok(Some(Whom::Cgroup(cgroup::find(path)?)));
    }
    if let Some(id) = container {
        return Ok(Some(Whom::Container(the_one(id)?)));
    }
    Ok(match (unit, system) {
        (Some(unit), _) => Some(Whom::Unit(unit)),
        (None, true) => Some(Whom::All),
        (None, false) => (!comm.is_empty()).then_some(Whom::Named(comm)),
    })
}

/// The one running container whose id begins so; what was given, if there is none yet.
fn the_one(id: Id) -> Result<Id, Usage> {
    let cgroups: Vec<String> = listed::all().flat_map(|listed| listed.cgroups).collect();
    let fitting = id.among(cgroups.iter().map(String::as_str));
    match &fitting[..] {
        [] => Ok(id),
        [one] => Ok(one.clone()),
        several => {
            let mut said = format!("--container {id}: the ids of several containers begin so:");
            for one in several.iter().take(MOST_LISTED) {
                said.push_str(&format!("\n    {}", one.whole()));
            }
            if several.len() > MOST_LISTED {
                said.push_str(&format!("\n    and {} more", several.len() - MOST_LISTED));
            }
            Err(Usage(said))
        }
    }
}

/// What a recording of it is called.
pub(super) fn file_name(whom: &Whom) -> String {
    match whom {
        Whom::Named(names) => names.first().map(Name::to_string).unwrap_or_default(),
        Whom::Cgroup(path) if path == "/" => "cgroup".to_owned(),
        Whom::Cgroup(path) => path.clone(),
        Whom::Container(id) => id.to_string(),
        Whom::Unit(name) => name.clone(),
        Whom::All => "system".to_owned(),
    }
}

/// An error that may be due to a number of another PID namespace: it says who has it there.
pub(super) fn of_another_namespace(error: TargetError) -> anyhow::Error {
    let TargetError::NoSuchProcess { pid } = error else {
        return error.into();
    };
    let elsewhere = namespace::elsewhere(pid);
    let named = elsewhere.iter().take(MOST_LISTED);
    let mut said = String::new();
    for target in named.filter_map(|&pid| Target::open(pid).ok()) {
        said.push_str(&format!(
            "\n{:>9}  {}",
            target.pid,
            printable(&target.command)
        ));
    }
    match said.is_empty() {
        true => error.into(),
        false => anyhow::Error::from(error).context(format!(
            "no process has pid {pid} here. In a PID namespace of its own (a container), this one has:{said}\n\nSo: highwater record -p \
             with the number that stands before it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_named_for_its_scope() {
        let id = Id::new(&"0123456789abcdef".repeat(4)).expect("an id");
        for (whom, expected) in [
            (
                Whom::Named(vec![Name::new(b"nginx"), Name::new(b"php")]),
                "nginx",
            ),
            (Whom::Cgroup("/".to_owned()), "cgroup"),
            (Whom::Cgroup("/a/b".to_owned()), "/a/b"),
            (Whom::Container(id), "0123456789ab"),
            (Whom::Unit("x.service".to_owned()), "x.service"),
            (Whom::All, "system"),
        ] {
            assert_eq!(file_name(&whom), expected);
        }
    }

    #[test]
    fn names_that_fit_nothing_are_refused() {
        assert!(name("").is_err() && name("sh").is_ok());
        assert!(unit("").is_err() && unit("/a/nginx.service").is_err() && unit("nginx").is_ok());
        assert!(container("12345").is_err() && container("nginx1").is_err());
        assert!(container("ABCDEF").is_ok());
    }
}
