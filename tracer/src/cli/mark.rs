//! `highwater mark`: gives this moment a name.

use clap::Args;

use super::output::Usage;
use crate::record::MarkKind;
use crate::session::marks::{MarkError, send};
use crate::words::say;

/// Name this moment, or a span, in the recordings under way
#[derive(Debug, Args)]
#[command(
    after_help = "Ask for it by its name: `highwater report FILE --at NAME`, `--between NAME` for a span, `--between NAME1..NAME2`.\n\n\
                  A traced program names a moment itself by writing `highwater:NAME`, `highwater:begin:NAME` or `highwater:end:NAME` \
                  to file descriptor -1: write(-1, \"highwater:warm\", 14). Without a recorder that does nothing."
)]
pub(super) struct Arguments {
    /// The name, 64 bytes at most
    #[arg(value_name = "NAME")]
    name: String,
    /// A span of this name begins
    #[arg(long, conflicts_with = "end")]
    begin: bool,
    /// The span of this name ends
    #[arg(long)]
    end: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let kind = match (arguments.begin, arguments.end) {
        (true, _) => MarkKind::Begin,
        (_, true) => MarkKind::End,
        _ => MarkKind::Moment,
    };
    let took = match send(kind, &arguments.name) {
        Err(error @ MarkError::Name(_)) => return Err(Usage(error.to_string()).into()),
        took => took?,
    };
    for path in took {
        say!("marked in {path}");
    }
    Ok(())
}
