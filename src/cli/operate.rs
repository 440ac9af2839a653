//! The subcommands around the daemon: arguments in, lines and an exit code out. What they do stands in
//! `supervise` and `operate`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Stop, absolute};
use crate::config::{Config, Variables};
use crate::model::{AgentId, ChannelId};
use crate::operate::probe::Url;
use crate::operate::prune::{self, Scope};
use crate::operate::style::Style;
use crate::operate::{Database, Problem, check, control, settings, status, token};
use crate::{daemon, exit_code, supervise};

#[derive(Subcommand)]
pub enum Operate {
    /// Look after the service once; run by cron every minute
    #[command(
        long_about = "Look after the service once: start, stop or restart it as the settings ask. Run it from cron \
                      every minute, as the web server's user.\n\n\
                      In management mode external it only writes how things stand. Only one supervisor runs at a \
                      time; a second one, and the PHP application's own, ends at once and silently.",
        after_help = "Exit codes: 0 done, or another supervisor runs; 1 the daemon does not start or does not end, \
                      or the database does not answer; 64 wrong command line; 78 wrong configuration."
    )]
    Supervise(Root),
    /// Show how the service is
    #[command(
        after_help = "Exit codes: 0 running; 1 stopped; 2 stale: called running, but without a sign of life; \
                            3 the last start failed; 4 cannot tell; 64 wrong command line."
    )]
    Status(Status),
    /// Have the service started, by the supervisor
    #[command(after_help = CONTROL_CODES)]
    Start(Root),
    /// Have the service stopped, by itself or the supervisor
    #[command(after_help = CONTROL_CODES)]
    Stop(Root),
    /// Have the service restarted, by the supervisor
    #[command(after_help = CONTROL_CODES)]
    Restart(Root),
    /// Show or change the chat's settings
    #[command(
        after_help = "Exit codes: 0 done; 64 no such setting, or a value that cannot be; 69 no database; \
                            78 wrong configuration."
    )]
    Settings(Settings),
    /// Mark messages deleted that are older than they are to be kept
    #[command(
        long_about = "Mark messages deleted that are older than their channel, or direct messages, are to be kept. \
                      Counts them only, unless --run is given. No row is ever removed.\n\n\
                      Standard output is a JSON report; progress is shown where standard error is a terminal. A run \
                      may be interrupted and repeated at any time.",
        after_help = "Exit codes: 0 done; 1 interrupted, or no such channel; 64 wrong command line; 69 no database; \
                      78 wrong configuration."
    )]
    Prune(Prune),
    /// Look whether everything that the service needs is there
    #[command(
        long_about = "Look whether everything that the service needs is there: .env, secret, time zone, storage, \
                      database, tables, rights, clocks, address and, with --url, the way through the web server. \
                      Changes nothing. Run it as the user that the service runs as.\n\n\
                      https:// and wss:// are reached by way of the program openssl, which must be installed; \
                      http:// and ws:// need nothing.",
        after_help = "Exit codes: 0 all well, or warnings only; 1 something has failed; 64 wrong command line."
    )]
    Check(Check),
    /// Make a token of an agent, for tests
    #[command(
        long_about = "Make a token like the one that the application gives to an agent who has logged in, and write \
                      it to standard output.\n\n\
                      For as long as it lives it is as good as that agent's login, so keep it as you would keep a \
                      password.",
        after_help = "Exit codes: 0 done; 64 wrong command line; 78 wrong configuration."
    )]
    Token(Token),
    /// Become another subcommand in a session of its own
    #[command(name = supervise::DETACHED, hide = true)]
    Detached {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

const CONTROL_CODES: &str = "Exit codes: 0 the request is left for the supervisor; 1 a service manager has to be \
                             asked (management mode external); 64 wrong command line; 69 no database; \
                             78 wrong configuration.";

#[derive(Args)]
pub struct Root {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    root: Root,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Settings {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: SettingsCommand,
}

#[derive(Subcommand)]
enum SettingsCommand {
    /// Show all settings
    List {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the value of one setting
    Get {
        #[arg(value_parser = PossibleValuesParser::new(settings::keys()))]
        key: String,
    },
    /// Change one setting
    Set {
        #[arg(value_parser = PossibleValuesParser::new(settings::keys()))]
        key: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
}

#[derive(Args)]
pub struct Prune {
    #[command(flatten)]
    root: Root,
    /// Only count the messages; this is the default
    #[arg(long, conflicts_with = "run")]
    dry_run: bool,
    /// Mark them deleted
    #[arg(long)]
    run: bool,
    /// Which messages
    #[arg(long, value_enum, default_value_t = ScopeWord::All)]
    scope: ScopeWord,
    /// Those of this channel alone
    #[arg(long, value_name = "N")]
    channel_id: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScopeWord {
    All,
    Channel,
    Direct,
}

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    root: Root,
    /// Also shake hands through the web server, for example at wss://helpdesk.example/ws/chat
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    url: Option<Url>,
    /// Write a JSON list
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Token {
    #[command(flatten)]
    root: Root,
    /// Whose token
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    agent: u64,
    /// For how many seconds it lives
    #[arg(long, value_name = "S", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=token::MAX_TTL))]
    ttl: u64,
}

/// An install whose configuration is valid; its database is not asked yet.
struct Install {
    root: PathBuf,
    variables: Variables,
    config: Config,
}

impl Install {
    fn open(root: &Path) -> Result<Self, Stop> {
        let root = absolute(root)?;
        let wrong = |error: crate::config::ConfigError| (error.to_string(), exit_code::CONFIG);
        let variables = Variables::load(&root).map_err(wrong)?;
        let config = Config::from_variables(&root, &variables).map_err(wrong)?;
        Ok(Install {
            root,
            variables,
            config,
        })
    }

    fn database(&self) -> Database {
        Database::new(daemon::open_store(&self.config))
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        (problem.to_string(), problem.code)
    }
}

/// Runs one of them; the exit code.
pub fn run(command: Operate) -> Result<u8, Stop> {
    let out = &mut io::stdout().lock();
    match command {
        Operate::Supervise(Root { root }) => {
            let install = Install::open(&root)?;
            let store = daemon::open_store(&install.config);
            Ok(supervise::run(&install.root, &install.config, store, out))
        }
        Operate::Status(options) => status(&options, out),
        Operate::Start(root) => request(control::Request::Start, &root, out),
        Operate::Stop(root) => request(control::Request::Stop, &root, out),
        Operate::Restart(root) => request(control::Request::Restart, &root, out),
        Operate::Settings(options) => {
            let install = Install::open(&options.root)?;
            let database = &mut install.database();
            Ok(match options.command {
                SettingsCommand::List { json } => settings::list(database, json, out),
                SettingsCommand::Get { key } => settings::get(&key, database, out),
                SettingsCommand::Set { key, value } => {
                    settings::set(&key, &value, database, &install.variables, out)
                }
            }?)
        }
        Operate::Prune(options) => prune(&options, out),
        Operate::Check(options) => {
            let root = absolute(&options.root.root)?;
            let findings = check::look(&root, daemon::open_store, options.url.as_ref());
            match options.json {
                true => check::write_json(&findings, out)?,
                false => check::write_text(&findings, style(), out)?,
            }
            Ok(check::exit_code(&findings))
        }
        Operate::Token(options) => {
            let install = Install::open(&options.root.root)?;
            let minted = token::mint(
                &install.config.jwt_secret,
                AgentId(options.agent),
                options.ttl,
                &mut install.database(),
                out,
                &mut io::stderr(),
            );
            Ok(minted?)
        }
        Operate::Detached { arguments } => Err((
            format!("cannot run: {}", supervise::serve_detached(&arguments)),
            exit_code::SOFTWARE,
        )),
    }
}

/// That of standard output.
fn style() -> Style {
    Style::of(io::stdout().is_terminal(), |name| std::env::var(name).ok())
}

fn status(options: &Status, out: &mut dyn Write) -> Result<u8, Stop> {
    let report = match Install::open(&options.root.root) {
        Ok(install) => status::look(&install.config, &mut install.database()),
        Err((message, _)) => status::Report::unknown(message),
    };
    match options.json {
        true => report.write_json(out)?,
        false => report.write_text(style(), out)?,
    }
    Ok(report.exit_code())
}

fn request(request: control::Request, root: &Root, out: &mut dyn Write) -> Result<u8, Stop> {
    let install = Install::open(&root.root)?;
    Ok(control::request(request, &mut install.database(), out)?)
}

fn prune(options: &Prune, out: &mut dyn Write) -> Result<u8, Stop> {
    let scope = match (options.scope, options.channel_id) {
        (ScopeWord::Direct, Some(_)) => {
            return Err((
                "--channel-id and --scope direct exclude each other".to_owned(),
                exit_code::USAGE,
            ));
        }
        (_, Some(id)) => Scope::Channel(Some(ChannelId(id))),
        (ScopeWord::All, None) => Scope::All,
        (ScopeWord::Channel, None) => Scope::Channel(None),
        (ScopeWord::Direct, None) => Scope::Direct,
    };
    let install = Install::open(&options.root.root)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Refused only where the system is out of memory; then an interruption is a plain end.
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    let stderr = io::stderr();
    let mut progress = stderr.is_terminal().then(|| stderr.lock());
    let pruned = prune::prune(
        prune::Options {
            scope,
            run: options.run,
            progress: progress.as_mut().map(|one| one as &mut dyn Write),
            interrupted: &interrupted,
        },
        &mut install.database(),
        out,
    );
    Ok(pruned?)
}
