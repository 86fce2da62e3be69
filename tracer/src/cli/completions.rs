//! `highwater completions`: what a shell needs to complete our words.

use std::io::{self, Write as _};

use clap::Args;
use clap_complete::Shell;

/// Write completions for a shell to standard output
#[derive(Debug, Args)]
#[command(
    after_help = "bash: highwater completions bash > /etc/bash_completion.d/highwater\n\
                  zsh:  highwater completions zsh > \"${fpath[1]}/_highwater\"\n\
                  fish: highwater completions fish > ~/.config/fish/completions/highwater.fish"
)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = super::command();
    // In memory first: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "highwater", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
