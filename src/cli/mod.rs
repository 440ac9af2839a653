//! The command line: completely parsed and validated before anything acts; help needs no configuration. Only this
//! module prints, and only this module uses the argument parser.

mod admin;
mod help;
mod install;
pub mod manual;
mod version;

use std::env;
use std::io::{self, IsTerminal, Write, stderr};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::admin::style::Style;
use crate::config::Variables;
use crate::config::options::{OPTIONS, PRECEDENCE, Spec, Topic};
use crate::platform::clock::AppClock;
use crate::platform::exit_code;
use crate::platform::log_file;
use crate::platform::printable::printable;
use crate::platform::problem::Problem;
use crate::server;

/// The agents' internal chat of Andrea Helpdesk over WebSocket.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        value_enum,
        hide_possible_values = true
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// The style for standard output.
    fn style(self) -> Style {
        match self {
            Color::Auto => Style::of(io::stdout().is_terminal(), |name| std::env::var(name).ok()),
            Color::Always => Style::coloured(),
            Color::Never => Style::plain(),
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the chat service in the foreground
    #[command(
        long_about = format!(
            "Run the chat service in the foreground until SIGTERM, SIGINT or a stop request.\n\n\
             Reads ROOT/.env and the helpdesk's settings. {} Writes the log to \
             STORAGE_PATH/logs/chat-websocket.log.",
            PRECEDENCE.replace('`', "")
        )
    )]
    Serve(Box<Serve>),
    /// Run a demo: the service with its own database and a chat page
    #[cfg(feature = "embedded")]
    #[command(
        long_about = "Run a demo: the same service with its own database, a few agents with a chat history, and a chat \
                      page for the browser. Only this machine can reach it.\n\n\
                      The demo keeps all its files in one folder and continues from there at the next start. Delete the \
                      folder to start over."
    )]
    Demo(DemoArgs),
    #[command(flatten)]
    Operate(admin::Operate),
}

#[cfg(feature = "embedded")]
#[derive(Args)]
struct DemoArgs {
    /// Folder for everything that the demo writes
    #[arg(long, value_name = "DIR", default_value = "andrea-chat-demo")]
    data: PathBuf,
    /// Port on this machine, or the next free one; 0 for any free port
    #[arg(long, value_name = "N", default_value_t = 8090, allow_negative_numbers = true,
          value_parser = clap::builder::TypedValueParser::map(number(0..=65535), |port| port as u16))]
    port: u16,
    /// Log level of DIR/logs/chat-websocket.log
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug"])]
    log_level: String,
}

#[derive(Args)]
struct Serve {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Log level
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug"])]
    log_level: String,
    /// Started by the supervisor, so what goes to standard error stands in the log
    #[arg(long, hide = true)]
    supervised: bool,
    #[command(flatten)]
    options: LimitArgs,
}

/// The options of the table that `serve` takes, as they were given.
struct LimitArgs(Vec<(&'static Spec, String)>);

/// The entries of the table that have an option of `serve`, with its name.
fn flags() -> impl Iterator<Item = (&'static Spec, &'static str)> {
    let flags = OPTIONS.iter();
    flags.filter_map(|spec| spec.flag.map(|flag| (spec, flag)))
}

impl Args for LimitArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = command.next_help_heading("Options that are also variables");
        flags().fold(command, |command, (spec, flag)| {
            let meaning = spec.meaning.replace('`', "");
            let (first, rest) = meaning.split_at(1);
            let default = match spec.default {
                "" => "none",
                default => default,
            };
            let help = format!(
                "{}{rest} [{}] [default: {default}]",
                first.to_uppercase(),
                spec.name
            );
            let option = clap::Arg::new(spec.name)
                .long(&flag[2..])
                .value_name(spec.unit);
            let option = option.help(help).allow_negative_numbers(true);
            command.arg(option.hide(spec.topic == Topic::Retired))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl LimitArgs {
    fn apply(self, variables: &mut Variables) {
        for (spec, value) in self.0 {
            variables.set_option(spec.name, spec.flag.unwrap_or_default(), Some(value));
        }
    }
}

impl FromArgMatches for LimitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = flags().filter_map(|(spec, _)| {
            let value = matches.get_one::<String>(spec.name)?;
            Some((spec, value.clone()))
        });
        Ok(LimitArgs(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The parser, for the completions and man pages that are made from it.
pub fn command() -> clap::Command {
    help::complete(Cli::command())
}

/// Restarts the program with one heap for all threads if address space is short (ulimit -v, below 1 GiB): the C library
/// reserves 64 MiB for each further heap. If the restart fails, the process goes on as it is.
fn save_address_space() {
    const NAME: &str = "MALLOC_ARENA_MAX";
    const ENOUGH: u64 = 1 << 30;
    let is_short = getrlimit(Resource::As)
        .current
        .is_some_and(|space| space < ENOUGH);
    let mut arguments = env::args_os();
    if is_short
        && env::var_os(NAME).is_none_or(|value| value != "1")
        && let (Ok(program), Some(name)) = (env::current_exe(), arguments.next())
    {
        let _ = process::Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(NAME, "1")
            .exec();
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    // Checked before the first hash table, which would panic without random numbers.
    if let Err(error) = getrandom(&mut [0; 1], GetRandomFlags::empty()) {
        eprintln!(
            "andrea-chat-websocket: the system gives out no random numbers (getrandom: {error}); allow that system call where a \
             container's or unit's filter forbids it"
        );
        return ExitCode::from(exit_code::CONFIG);
    }
    let parsed = command()
        .version(version::LONG)
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, errors to standard error.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::from(exit_code::OK),
                _ => ExitCode::from(exit_code::USAGE),
            };
        }
    };
    let log_of = match &cli.command {
        Command::Serve(options) if options.supervised => Some(options.root.clone()),
        _ => None,
    };
    let outcome = match cli.command {
        Command::Serve(options) => serve(*options).map(|()| exit_code::OK),
        #[cfg(feature = "embedded")]
        Command::Demo(options) => demo(options).map(|()| exit_code::OK),
        Command::Operate(command) => admin::run(command, cli.color),
    };
    ExitCode::from(outcome.unwrap_or_else(|problem| {
        let message = printable(&problem.to_string());
        match (log_file::unsaid(&message, log_of.is_some()), log_of) {
            (None, _) => {}
            (Some(rest), Some(root)) => {
                // The reader of standard error may be gone.
                let _ = writeln!(stderr(), "[{}] {rest}", clock_of(&root).now_text());
            }
            (Some(rest), None) => log_file::complain(rest),
        }
        problem.code
    }))
}

#[cfg(feature = "embedded")]
fn demo(options: DemoArgs) -> Result<(), Problem> {
    use std::io::stdout;

    let options = crate::demo::run::DemoOptions {
        data: options.data,
        port: options.port,
        level: options.log_level.parse().unwrap_or(log::LevelFilter::Info),
    };
    crate::demo::run::demo(&options, |url, data| {
        let data = data.display();
        // If standard output is closed, the page is served all the same.
        let _ = writeln!(
            stdout(),
            "The chat is at {url}\nOpen it in two windows. Ctrl-C stops it; what is said stays in {data}"
        );
    })
}

fn serve(options: Serve) -> Result<(), Problem> {
    save_address_space();
    let level = options.log_level.parse().unwrap_or(log::LevelFilter::Info);
    let root = options.root;
    let mut alone = Variables::default().gathering();
    options.options.apply(&mut alone);
    alone.check_options()?;
    let root = absolute(&root)?;
    let variables = Variables::load(&root)?.with_options_of(alone);
    server::serve(&root, &variables, level)
}

/// The install's clock; UTC if the configuration cannot be read.
fn clock_of(root: &Path) -> AppClock {
    Variables::load(root)
        .ok()
        .and_then(|variables| variables.get("APP_TIMEZONE"))
        .and_then(|zone| AppClock::of_zone(&zone))
        .unwrap_or(AppClock::utc())
}

fn absolute(root: &Path) -> Result<PathBuf, Problem> {
    let error = match root.canonicalize() {
        Ok(folder) if folder.is_dir() => return Ok(folder),
        Ok(_) => io::Error::other("it is no folder"),
        Err(error) => error,
    };
    Err(Problem::of_path("open the install's folder", root, error)
        .with_code(exit_code::CONFIG)
        .with_remedy("name it with --root DIR"))
}

/// A parser for the whole number of an option, within a range.
fn number(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, Problem> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| {
            let what = format!("expected a whole number from {least} to {most}");
            Problem::new(exit_code::USAGE, what)
        })
    }
}
