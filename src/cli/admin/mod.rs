//! The subcommands around the daemon: arguments in, lines and an exit code out. `supervisor` and `admin` do the work.

mod healthcheck;
mod prune;
mod status;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::{Color, absolute, install, number};
use crate::admin::control::{self, ControlRequest};
use crate::admin::probe::Url;
use crate::admin::talk::Talk;
use crate::admin::{Database, Problem, check, connections, json_of, options, say, settings, token};
use crate::config::{self, Config, Variables, listen_address};
use crate::model::{AgentId, ChannelId, Conversation, ThreadId};
use crate::platform::exit_code;
use crate::platform::owned_file;
use crate::server::startup;
use crate::supervisor;

#[derive(Subcommand)]
pub(super) enum Operate {
    /// Run one supervisor pass (for cron, every minute)
    #[command(
        long_about = "Run one supervisor pass: start, stop or restart the service as the settings ask. Run it from cron \
                      every minute, as the web server's user.\n\n\
                      In management mode external it only records the service's status. Only one supervisor runs at a \
                      time; a second one, or the PHP application's own, exits at once and silently."
    )]
    Supervise(Root),
    /// Show the status of the service
    #[command(
        long_about = "Show the status of the service: the recorded status, its process, heartbeat and address, pending \
                      requests, the last error and the last lines of its log. With --watch the exit code is \
                      that of the last look."
    )]
    Status(status::StatusArgs),
    /// Ask the supervisor to start the service
    Start(Root),
    /// Ask the running service to stop
    Stop(Root),
    /// Ask the supervisor to restart the service
    Restart(Root),
    /// Show or change the chat's settings
    Settings {
        /// Folder of the helpdesk install, where its .env is
        #[arg(long, value_name = "DIR", default_value = ".", global = true)]
        root: PathBuf,
        #[command(subcommand)]
        command: SettingsCommand,
    },
    /// Show every option, its value and where it comes from
    #[command(
        long_about = "Show every option with its effective value and where that comes from: option, environment, .env, \
                      setting or default. Takes the options of serve and shows the values that serve would use. Secrets are \
                      shown as ***."
    )]
    Config(Box<ConfigOptions>),
    /// List the connected clients
    #[command(
        long_about = "List the connected clients: numbers of connection and agent, start, address, and the bytes queued \
                      for a slow reader. The running service answers over a Unix socket in STORAGE_PATH/runtime, and \
                      only its own user and root."
    )]
    Connections {
        #[command(flatten)]
        root: Root,
        /// Write a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Mark messages past their retention as deleted
    #[command(
        long_about = "Mark messages past the retention of their channel, or of direct messages, as deleted. \
                      Only counts them unless --run is given. Never removes a row.\n\n\
                      The report is text on a terminal, otherwise JSON; if standard error is a terminal, a bar shows progress, speed \
                      and remaining time. A run may be interrupted and repeated at any time."
    )]
    Prune(prune::Prune),
    /// Check configuration, database and environment
    #[command(
        long_about = "Check configuration, database and environment: .env, secret, time zone, storage, database, tables, \
                      privileges, clocks, address and, with --url, the connection through the web server. Changes \
                      nothing. Run it as the service's user.\n\n\
                      For https:// and wss:// it trusts Mozilla's roots and those of this machine (SSL_CERT_FILE \
                      names another file of certificates)."
    )]
    Check(Check),
    /// Set up systemd or cron to run the service
    #[command(long_about = install::INSTALL)]
    Install(install::InstallOptions),
    /// Remove the files written by install
    #[command(long_about = install::UNINSTALL)]
    Uninstall(install::UninstallOptions),
    /// Check the health of the running service (for containers)
    #[command(
        long_about = "Check the health of the running service, at the address from options, variables or settings. \
                      A hung service is unhealthy, whatever status the settings record."
    )]
    Healthcheck(Healthcheck),
    /// Create an access token for an agent (for tests)
    #[command(
        long_about = "Create a token like the one that the application gives to a logged-in agent, and write it to \
                      standard output.\n\n\
                      Until it expires it grants the same access as that agent's login, so protect it like a password."
    )]
    Token {
        #[command(flatten)]
        root: Root,
        /// Agent of the token
        #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number(1..=u64::MAX))]
        agent: u64,
        /// Lifetime in seconds
        #[arg(long, value_name = "S", default_value_t = 300, allow_negative_numbers = true,
              value_parser = number(1..=token::MAX_TTL))]
        ttl: u64,
    },
    /// Read and send chat messages as an agent
    Chat(ChatArgs),
    /// Run another subcommand in a new session
    #[command(name = supervisor::DETACHED, hide = true)]
    Detached {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
pub(super) struct Root {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub root: PathBuf,
}

#[derive(Subcommand)]
pub(super) enum SettingsCommand {
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
pub(super) struct ConfigOptions {
    #[command(flatten)]
    root: Root,
    /// Write a JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: super::LimitArgs,
}

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    root: Root,
    /// Also connect through the web server as a browser does, for example to wss://helpdesk.example/ws/chat
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    url: Option<Url>,
    /// Additional trusted certificates, in PEM
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Log in as this agent, which then appears online for about 30 s
    #[arg(long, value_name = "N", requires = "url", group = "login",
          value_parser = clap::value_parser!(u64).range(1..))]
    agent: Option<u64>,
    /// Log in with a token of the helpdesk, read from this file
    #[arg(long, value_name = "FILE", requires = "url", group = "login")]
    token_file: Option<PathBuf>,
    /// Send a message to this direct thread of the agent, and mark it deleted at once
    #[arg(long, value_name = "N", requires = "login",
          value_parser = clap::value_parser!(u64).range(1..))]
    thread: Option<u64>,
    /// Write a JSON list
    #[arg(long)]
    json: bool,
    /// Print only warnings and failures
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

impl Check {
    fn way(&self) -> Option<check::WebServerCheck> {
        Some(check::WebServerCheck {
            url: self.url.clone()?,
            ca: self.ca.clone(),
            login: match (self.agent, &self.token_file) {
                (Some(agent), _) => Some(check::Login::Agent(AgentId(agent))),
                (_, Some(file)) => Some(check::Login::File(file.clone())),
                _ => None,
            },
            thread: self.thread.map(ThreadId),
        })
    }
}

#[derive(Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    root: Root,
    /// Listen host of the service [default: as serve]
    #[arg(long)]
    host: Option<String>,
    /// Listen port of the service [default: as serve]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number(1..=65535))]
    port: Option<u64>,
    /// Time limit of the whole check, in seconds
    #[arg(long, value_name = "S", default_value_t = 5, allow_negative_numbers = true, value_parser = number(1..=300))]
    timeout: u64,
}

#[derive(Args)]
pub(super) struct ChatArgs {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: ChatCommand,
}

#[derive(Subcommand)]
enum ChatCommand {
    /// Show the newest messages of a conversation, then new ones as they arrive
    Tail {
        #[command(flatten)]
        place: ConversationArgs,
        /// Number of messages to start with
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10,
              allow_negative_numbers = true, value_parser = number(0..=200))]
        lines: u64,
        /// Exit after these messages
        #[arg(long)]
        no_follow: bool,
    },
    /// Send a message and wait until it is stored
    Send {
        #[command(flatten)]
        place: ConversationArgs,
        /// Text of the message; - reads it from standard input
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
}

#[derive(Args)]
struct ConversationArgs {
    /// Agent to act as
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = number(1..=u64::MAX))]
    agent: u64,
    #[command(flatten)]
    conversation: ChannelOrThread,
    /// Write each message as a line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct ChannelOrThread {
    /// Channel to read from or send to
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = number(1..=u64::MAX))]
    channel: Option<u64>,
    /// Direct thread to read from or send to
    #[arg(long, value_name = "ID", allow_negative_numbers = true, value_parser = number(1..=u64::MAX))]
    thread: Option<u64>,
}

/// An install whose configuration is valid; its database is not connected yet.
pub(super) struct OpenInstall {
    variables: Variables,
    pub config: Config,
}

impl OpenInstall {
    /// Reads the configuration with the rights of the user who runs the command.
    pub(super) fn read(root: &Path) -> Result<Self, Problem> {
        OpenInstall::with(root, Config::from_variables)
    }

    /// For subcommands that only observe or administer: they need no secret.
    fn without_secret(root: &Path) -> Result<Self, Problem> {
        OpenInstall::with(root, Config::without_secret)?.run_as_owner()
    }

    fn with(
        root: &Path,
        configure: fn(&Path, &Variables) -> Result<Config, config::Error>,
    ) -> Result<Self, Problem> {
        let root = absolute(root)?;
        let variables = Variables::load(&root)?;
        let config = configure(&root, &variables)?;
        Ok(OpenInstall { variables, config })
    }

    /// The same with the rights of the storage's owner, for subcommands that may write there: the owner could not write
    /// root's files later, and root must not follow the owner's links.
    pub(super) fn open(root: &Path) -> Result<Self, Problem> {
        OpenInstall::read(root)?.run_as_owner()
    }

    fn run_as_owner(self) -> Result<Self, Problem> {
        let storage = &self.config.storage;
        owned_file::become_owner(storage).map_err(|error| {
            Problem::of_path("use", storage, error)
                .with_remedy("run it as the user who owns that folder")
        })?;
        Ok(self)
    }

    pub(super) fn database(&self) -> Database {
        Database::new(startup::open_store(&self.config))
    }
}

/// Runs a subcommand and returns its exit code.
pub(super) fn run(command: Operate, color: Color) -> Result<u8, Problem> {
    let out = &mut io::stdout().lock();
    match command {
        Operate::Supervise(Root { root }) => {
            let config = OpenInstall::open(&root)?.config;
            let store = startup::open_store(&config);
            return Ok(supervisor::run(&config, store, out));
        }
        Operate::Status(options) => return status::run(&options, color.style(), out),
        Operate::Start(root) => request(ControlRequest::Start, &root, out)?,
        Operate::Stop(root) => request(ControlRequest::Stop, &root, out)?,
        Operate::Restart(root) => request(ControlRequest::Restart, &root, out)?,
        Operate::Settings { root, command } => {
            let install = OpenInstall::without_secret(&root)?;
            let (database, variables) = (&mut install.database(), &install.variables);
            match command {
                SettingsCommand::List { json } => settings::list(database, variables, json, out)?,
                SettingsCommand::Get { key } => settings::get(&key, database, variables, out)?,
                SettingsCommand::Set { key, value } => {
                    settings::set(&key, &value, database, variables, out)?;
                }
            }
        }
        Operate::Config(options) => show_options(*options, out)?,
        Operate::Connections { root, json } => {
            let config = OpenInstall::without_secret(&root.root)?.config;
            connections::list(&config.paths().inspection_socket, json, out)?;
        }
        Operate::Prune(options) => return prune::run(&options, out),
        Operate::Check(options) => {
            let root = absolute(&options.root.root)?;
            let way = options.way();
            let notes = &mut io::stderr();
            let findings = check::look(&root, startup::open_store, way.as_ref(), notes);
            let text = match options.json {
                true => json_of(&findings),
                false => check::text(&findings, options.quiet, color.style()),
            };
            say(out, &text)?;
            return Ok(check::exit_code(&findings));
        }
        Operate::Install(options) => install::install(&options, out)?,
        Operate::Uninstall(options) => install::uninstall(&options, out)?,
        Operate::Healthcheck(options) => healthcheck::run(options)?,
        Operate::Token { root, agent, ttl } => {
            let install = OpenInstall::open(&root.root)?;
            let (secret, database) = (&install.config.jwt_secret, &mut install.database());
            let notes = &mut io::stderr();
            return token::mint(secret, AgentId(agent), ttl, database, out, notes);
        }
        Operate::Chat(options) => chat(&options, out)?,
        Operate::Detached { arguments } => {
            let error = supervisor::serve_detached(&arguments);
            return Err(Problem::new(exit_code::SOFTWARE, "cannot run").because(error));
        }
    }
    Ok(exit_code::OK)
}

/// Shows what is known even if the configuration is wrong or the database does not answer.
fn show_options(options: ConfigOptions, out: &mut dyn Write) -> Result<(), Problem> {
    let root = absolute(&options.root.root)?;
    let mut variables = Variables::load(&root)?;
    options.options.apply(&mut variables);
    let rows = Config::from_variables(&root, &variables)
        .map_err(|error| Problem::from(error).with_code(exit_code::CONFIG))
        .and_then(|config| {
            let mut database = Database::new(startup::open_store(&config));
            database.run_again(|store| store.settings())
        });
    let entries = options::look(&variables, rows.as_ref().ok());
    options::write(&entries, options.json, out)?;
    rows.map(|_| ())
}

fn chat(options: &ChatArgs, out: &mut dyn Write) -> Result<(), Problem> {
    let install = OpenInstall::open(&options.root)?;
    let (ChatCommand::Tail { place, .. } | ChatCommand::Send { place, .. }) = &options.command;
    let rows = install.database().run_again(|store| store.settings())?;
    let (host, port, _) = listen_address(&install.config, &rows);
    let talk = Talk {
        secret: &install.config.jwt_secret,
        address: (host, port),
        agent: AgentId(place.agent),
        conversation: match (place.conversation.channel, place.conversation.thread) {
            (Some(id), _) => Conversation::Channel(ChannelId(id)),
            (None, id) => Conversation::Direct(ThreadId(id.unwrap_or_default())),
        },
        json: place.json,
    };
    match &options.command {
        ChatCommand::Tail {
            lines, no_follow, ..
        } => talk.tail(*lines, !no_follow, out, &mut io::stderr()),
        ChatCommand::Send { text, .. } if text == "-" => {
            let text = io::read_to_string(io::stdin()).map_err(|error| {
                let what = "cannot read the message from standard input";
                Problem::new(exit_code::FAILED, what).because(error)
            })?;
            talk.send(&text, out)
        }
        ChatCommand::Send { text, .. } => talk.send(text, out),
    }
}

fn request(request: ControlRequest, root: &Root, out: &mut dyn Write) -> Result<(), Problem> {
    let install = OpenInstall::without_secret(&root.root)?;
    control::request(request, &mut install.database(), out)
}
