//! `d config`: the configuration file, and what is in force.

mod edit;
mod force;

use clap::{Args as ClapArgs, Subcommand};

use super::args::Common;
use super::exit::CliError;
use super::output::{self, Table};
use super::peers::Format;
use super::settings::{Settings, own_config};
pub(super) use edit::Edit;

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Show what is in force, and where it comes from
    #[command(after_help = "Examples:\n  d config show\n  d config show --json")]
    Show(ConfigShow),
    /// Write a setting into the configuration file
    #[command(
        after_help = "Examples:\n  d config set nats nats://10.0.0.1:4222\n  d config set tags '[\"home\", \"build\"]'\n  d config set env.LANG C.UTF-8\n  d config set tasks.pull.directory /srv/app"
    )]
    Set(ConfigSet),
    /// Take a setting out of the configuration file
    #[command(after_help = "Examples:\n  d config unset database_url\n  d config unset env.LANG")]
    Unset(ConfigUnset),
    /// Say which configuration file it is
    #[command(after_help = "Example:\n  cat \"$(d config path)\"")]
    Path,
}

/// What `d config show` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct ConfigShow {
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything, however wide the terminal is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What `d config set` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct ConfigSet {
    /// The setting's name, with dots between a table and its key
    key: String,
    /// Its value: a text, or a number or list as in TOML
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// What `d config unset` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct ConfigUnset {
    /// The setting's name, with dots between a table and its key
    key: String,
}

/// `d config`
pub(super) fn run(common: &Common, verb: Config) -> Result<u8, CliError> {
    match verb {
        Config::Show(args) => show(common, &args)?,
        Config::Set(args) => {
            let mut edit = Edit::open(own_config(common))?;
            edit.set_text(&args.key, &args.value)?;
            edit.save()?;
        }
        Config::Unset(args) => {
            let mut edit = Edit::open(own_config(common))?;
            edit.unset(&args.key)?;
            edit.save()?;
        }
        Config::Path => output::line(&own_config(common).display().to_string())?,
    }
    Ok(0)
}

fn show(common: &Common, args: &ConfigShow) -> Result<(), CliError> {
    let settings = Settings::read(common)?;
    let in_force = force::all(&settings, &own_config(common))?;
    if args.json {
        return in_force.iter().try_for_each(output::json);
    }
    let mut table = Table::of(&["SETTING", "VALUE", "FROM"]).wide(args.output == Some(Format::Wide));
    in_force.into_iter().for_each(|one| table.row([one.key, one.value, one.from]));
    output::list(&table, "no settings")
}
