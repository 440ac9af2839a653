//! The command line, parsed and validated whole before anything acts; help needs no configuration. The only place
//! that prints, and the only one that names the argument parser.

mod operate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::clock::AppClock;
use crate::config::Variables;
use crate::{daemon, exit_code};

/// The agents' internal chat of Andrea Helpdesk over WebSocket.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the chat service in the foreground
    #[command(
        long_about = "Run the chat service in the foreground until SIGTERM, SIGINT or a stop request.\n\n\
                      Reads ROOT/.env and the helpdesk's settings; an option wins over the environment, the \
                      environment over .env, that over the settings. Writes the log to \
                      STORAGE_PATH/logs/chat-websocket.log.",
        after_help = "Exit codes: 0 stopped, or a healthy daemon runs already; 1 address or pid file taken; \
                      64 wrong command line; 69 no database; 70 fault of the service; 73 cannot write to the \
                      storage; 78 wrong configuration."
    )]
    Serve(Box<Serve>),
    /// Try it out: the service on a database of its own, and a page to chat on
    #[cfg(feature = "embedded")]
    #[command(
        long_about = "Try it out: the same service on a database of its own, with a few agents who have something to say, \
                      and a page to chat on in the browser. Only this machine can reach it.\n\n\
                      Everything it writes is in one folder; whoever starts it again finds what was said before, and \
                      whoever deletes the folder begins anew.",
        after_help = "Exit codes: 0 stopped; 1 no port free, or a demo with this data runs already; 64 wrong command \
                      line; 69 the database cannot be used; 70 fault of the service; 73 cannot write to the folder; \
                      78 wrong configuration."
    )]
    Demo(Demo),
    #[command(flatten)]
    Operate(operate::Operate),
}

#[cfg(feature = "embedded")]
#[derive(Args)]
struct Demo {
    /// Folder for everything that the demo writes
    #[arg(long, value_name = "DIR", default_value = "andrea-chat-demo")]
    data: PathBuf,
    /// Port on this machine, or the next one that is free; 0 takes any
    #[arg(long, value_name = "N", default_value_t = 8090)]
    port: u16,
    /// How much to log to DIR/logs/chat-websocket.log
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug"])]
    log_level: String,
}

/// Why a subcommand does not do what it was asked, for people, and the exit code.
type Stop = (String, u8);

#[derive(Args)]
struct Serve {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Listen host: a name, an IPv4 address or an IPv6 address in brackets [default: the setting, else 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Listen port; 0 takes any free one, the log says which [default: the setting, else 8090]
    #[arg(long)]
    port: Option<String>,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug"])]
    log_level: String,
    /// Started by the supervisor, so what goes to standard error stands in the log
    #[arg(long, hide = true)]
    supervised: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

/// Each option, the variable it stands for, and its help.
macro_rules! limit_options {
    ($($field:ident, $flag:literal, $variable:literal, $unit:literal, $help:literal;)*) => {
        #[derive(Args)]
        #[command(next_help_heading = "Limits and intervals (each also as a variable CHAT_WEBSOCKET_…)")]
        struct LimitOptions {
            $(
                #[doc = $help]
                #[arg(long = $flag, value_name = $unit)]
                $field: Option<String>,
            )*
        }

        impl LimitOptions {
            fn apply(self, variables: &mut Variables) {
                $( variables.set_option($variable, concat!("--", $flag), self.$field); )*
            }
        }
    };
}

limit_options! {
    typing_interval, "typing-interval", "CHAT_WEBSOCKET_TYPING_INTERVAL", "MS",
        "Between two typing events of one socket that are passed on; 0 passes all [default: 1000]";
    presence_grace, "presence-grace", "CHAT_WEBSOCKET_PRESENCE_GRACE", "S",
        "Before an agent without a socket goes offline [default: 5]";
    enforce_expiry, "enforce-expiry", "CHAT_WEBSOCKET_ENFORCE_EXPIRY", "0|1",
        "Close a socket 30 s after its token has expired [default: 0]";
    rate, "rate", "CHAT_WEBSOCKET_RATE", "N",
        "Events a second that one socket may send; 0 is no limit [default: 20]";
    burst, "burst", "CHAT_WEBSOCKET_BURST", "N",
        "Events that one socket may send at once [default: 60]";
    control_rate, "control-rate", "CHAT_WEBSOCKET_CONTROL_RATE", "N",
        "WebSocket pings and pongs a second that one socket may send; 0 is no limit [default: 10]";
    control_burst, "control-burst", "CHAT_WEBSOCKET_CONTROL_BURST", "N",
        "WebSocket pings and pongs that one socket may send at once [default: 100]";
    message_bytes, "message-bytes", "CHAT_WEBSOCKET_MESSAGE_BYTES", "BYTES",
        "Largest message, at least 1024; 0: 65536, or more where chat_max_message_length needs it [default: 0]";
    fragments, "fragments", "CHAT_WEBSOCKET_FRAGMENTS", "N",
        "WebSocket frames that one message may come in [default: 1024]";
    json_depth, "json-depth", "CHAT_WEBSOCKET_JSON_DEPTH", "N",
        "Lists and objects inside each other in one event, 1 to 120 [default: 32]";
    max_connections, "max-connections", "CHAT_WEBSOCKET_MAX_CONNECTIONS", "N",
        "Sockets in all, bounded by the limit of open files [default: 1024]";
    max_per_agent, "max-per-agent", "CHAT_WEBSOCKET_MAX_PER_AGENT", "N",
        "Sockets of one agent [default: 32]";
    max_unauthenticated, "max-unauthenticated", "CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", "N",
        "Sockets that have not authenticated yet [default: 128]";
    handshake_timeout, "handshake-timeout", "CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "S",
        "For a complete request head; 3 at most while newcomers are refused [default: 10]";
    handshake_bytes, "handshake-bytes", "CHAT_WEBSOCKET_HANDSHAKE_BYTES", "BYTES",
        "For the whole request head [default: 16384]";
    auth_timeout, "auth-timeout", "CHAT_WEBSOCKET_AUTH_TIMEOUT", "S",
        "From the handshake to an accepted auth; 3 at most while newcomers are refused [default: 10]";
    ping_interval, "ping-interval", "CHAT_WEBSOCKET_PING_INTERVAL", "S",
        "A peer that is silent for so long is pinged [default: 25]";
    idle_timeout, "idle-timeout", "CHAT_WEBSOCKET_IDLE_TIMEOUT", "S",
        "A peer that is silent for so long is dropped [default: 60]";
    queue_bytes, "queue-bytes", "CHAT_WEBSOCKET_QUEUE_BYTES", "BYTES",
        "What may wait for one slow reader before it is dropped [default: 1048576]";
    queue_seconds, "queue-seconds", "CHAT_WEBSOCKET_QUEUE_SECONDS", "S",
        "For how long it may wait [default: 30]";
    health_peers, "health-peers", "CHAT_WEBSOCKET_HEALTH_PEERS", "LIST",
        "Who beside this machine may see /healthz and /metrics: addresses, networks, any [default: loopback]";
}

/// The parser, for the completions and man pages that are made from it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output or standard error, as the kind of error asks.
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
        Command::Operate(command) => operate::run(command),
    };
    ExitCode::from(outcome.unwrap_or_else(|(message, code)| {
        match log_of {
            Some(root) => eprintln!("[{}] {message}", clock_of(&root).now_text()),
            None => eprintln!("andrea-chat-websocket: {message}"),
        }
        code
    }))
}

#[cfg(feature = "embedded")]
fn demo(options: Demo) -> Result<(), Stop> {
    use std::io::{Write, stdout};

    let options = daemon::DemoOptions {
        data: options.data,
        port: options.port,
        level: options.log_level.parse().unwrap_or(log::LevelFilter::Info),
    };
    daemon::demo(&options, |demo| {
        // Nobody may be reading; the page is there all the same.
        let _ = writeln!(
            stdout(),
            "The chat is at {}\nOpen it in two windows. Ctrl-C stops it; what is said stays in {}",
            demo.url,
            demo.data.display()
        );
    })
    .map_err(|failure| (failure.message, failure.code))
}

fn serve(options: Serve) -> Result<(), Stop> {
    let level = options.log_level.parse().unwrap_or(log::LevelFilter::Info);
    let root = absolute(&options.root)?;
    let mut variables =
        Variables::load(&root).map_err(|error| (error.to_string(), exit_code::CONFIG))?;
    variables.set_option("CHAT_WEBSOCKET_HOST", "--host", options.host);
    variables.set_option("CHAT_WEBSOCKET_PORT", "--port", options.port);
    options.limits.apply(&mut variables);
    daemon::serve(&root, &variables, level).map_err(|failure| (failure.message, failure.code))
}

/// The clock of an install whose configuration may be the very thing that is wrong.
fn clock_of(root: &Path) -> AppClock {
    Variables::load(root)
        .ok()
        .and_then(|variables| variables.get("APP_TIMEZONE"))
        .and_then(|zone| AppClock::of_zone(&zone))
        .unwrap_or(AppClock::utc())
}

fn absolute(root: &Path) -> Result<PathBuf, Stop> {
    root.canonicalize().map_err(|error| {
        (
            format!(
                "cannot open the install's folder {}: {error}; name it with --root",
                root.display()
            ),
            exit_code::CONFIG,
        )
    })
}
