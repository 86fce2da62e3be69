//! `highwater tree`: who held the memory, as a tree of calls.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use clap::Args;
use serde::Serialize;

use super::question::{self, Asked};
use super::recording::Recording;
use super::report::text_options;
use crate::report::{
    Threads,
    answer::Answer,
    export::csv::Table,
    text,
    tree::{Root, Tree},
};
use crate::words;

/// What is smaller than one part in so many is summed up, where `--min` says nothing.
const SMALLEST_SHARE: u64 = 100;

/// Show who held the memory as a tree of calls
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// From who asked for the memory to `main`
    #[arg(long)]
    inverted: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, one row for each node
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Serialize)]
struct Row<'a> {
    depth: usize,
    name: &'a str,
    place: Option<&'a str>,
    bytes: u64,
    blocks: u64,
    own_bytes: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut question = arguments.asked.question()?;
    // In a tree, what is small is summed up and not left out.
    let least = std::mem::take(&mut question.least);
    let profile =
        question::read_for_answer(&arguments.recording.path()?, &question, Threads::Together)?;
    let answer = Answer::of(&profile, &question);
    let root = match arguments.inverted {
        false => Root::Main,
        true => Root::Asker,
    };
    let is_text = !arguments.json && !arguments.csv;
    let least = match least {
        0 if is_text => answer.bytes / SMALLEST_SHARE,
        least if is_text => least,
        _ => 0,
    };
    let tree = Tree::of(&profile, &answer, root, least);
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        words::json_on_one_line(&tree, &mut out)?;
    } else if arguments.csv {
        let mut table = Table::new(&mut out);
        let mut pending = vec![(0, tree.root())];
        while let Some((depth, node)) = pending.pop() {
            table.row(&Row {
                depth,
                name: tree.name(node),
                place: tree.place(node),
                bytes: node.bytes,
                blocks: node.blocks,
                own_bytes: node.own_bytes,
            })?;
            pending.extend(tree.children(node).rev().map(|child| (depth + 1, child)));
        }
        table.finish()?;
    } else {
        let options = text_options(io::stdout().is_terminal());
        text::write_tree(&profile, &answer, &tree, least, &options, &mut out)?;
    }
    out.flush()?;
    Ok(())
}
