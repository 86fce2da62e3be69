//! The same done to several processes, of which some may fail.

use super::SessionError;
use crate::words::say;

/// Whether it is said of each of several processes why it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// It is.
    Each,
    /// Nothing is said: of one process the error says it, or something else will.
    Nothing,
}

impl Tells {
    /// Of so many processes that were asked for.
    pub(super) fn of(count: usize) -> Self {
        match count {
            0 | 1 => Self::Nothing,
            _ => Self::Each,
        }
    }
}

/// Does something to each of several processes, and gives those for which that went well. If it did for none, that is the first error.
pub(super) fn each_of<T>(
    tells: Tells,
    pids: impl IntoIterator<Item = u32>,
    mut work: impl FnMut(u32) -> Result<T, SessionError>,
) -> Result<Vec<(u32, T)>, SessionError> {
    let mut done = Vec::new();
    let mut failed = None;
    for pid in pids {
        match work(pid) {
            Ok(result) => done.push((pid, result)),
            Err(error) => {
                if tells == Tells::Each {
                    say!("process {pid} is not traced: {error}");
                }
                failed = failed.or(Some(error));
            }
        }
    }
    match failed {
        Some(error) if done.is_empty() => Err(error),
        _ => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetError;

    #[test]
    fn of_several_processes_those_that_work_are_kept_and_the_first_error_counts_if_none_does() {
        let odd = |pid: u32| match pid % 2 {
            1 => Ok(pid * 10),
            _ => Err(TargetError::Gone { pid }.into()),
        };
        let of = |pids: &[u32]| each_of(Tells::Nothing, pids.iter().copied(), odd);
        assert_eq!(of(&[2, 3, 4, 5]).unwrap(), [(3, 30), (5, 50)]);
        let error = of(&[4, 2]).unwrap_err();
        assert!(
            matches!(error, SessionError::Target(TargetError::Gone { pid: 4 })),
            "{error}"
        );
        assert_eq!(of(&[]).unwrap(), []);
    }
}
