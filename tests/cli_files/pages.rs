//! The man pages, from the command line's definitions and from the tables that help and documents are made of.

use std::collections::BTreeMap;

use andrea_chat_websocket::admin::settings;
use andrea_chat_websocket::cli::manual::{self, EXAMPLES, GROUPS, MANUALS, Manual};
use andrea_chat_websocket::config::env_file::FORM;
use andrea_chat_websocket::config::options::{
    CACHE_NOTE, EXAMPLE, OPTIONS, PRECEDENCE, RELOADED, Spec, Topic, spec,
};
use andrea_chat_websocket::platform::exit_code;
use clap::{Arg, Command};

use super::facts::{
    self, ENV_FILE, FILES, FOLDERS, File, OVERVIEW, REMEDIES, SAME_IN_ENVIRONMENT, Variable,
};
use super::roff::{bold, italic, item, literal, paragraphs, prose, sentence, typed, wrap};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The page of the configuration, in section 5.
const ENV_PAGE: &str = "andrea-chat-websocket.env";
/// Readers see it twice in one line of 80 columns, with the date between: the names of the pages are too long for that.
const TITLE: &str = "ANDREA-CHAT";

struct Page {
    text: String,
}

impl Page {
    fn new(name: &str, title: &str, section: u8, date: &str, about: &str) -> Self {
        let mut letters = about.chars();
        let first = letters.next().map(|c| c.to_lowercase().to_string());
        let about = format!("{}{}", first.unwrap_or_default(), letters.as_str());
        // A blank middle of the header, where readers would put words that do not fit.
        let head =
            format!(".TH {title} {section} {date} \"Andrea chat {VERSION}\" \" \"\n.ad l\n.nh\n");
        let text = format!(
            "{head}.SH NAME\n{}",
            wrap(&format!("{} \\- {about}", literal(name)))
        );
        Page { text }
    }

    fn section(&mut self, heading: &str, text: &str) {
        let heading = match heading.contains(' ') {
            true => format!("\"{heading}\""),
            false => heading.to_owned(),
        };
        // A paragraph behind a heading has its space already.
        let text = text.strip_prefix(".PP\n").unwrap_or(text);
        self.text += &format!(".SH {heading}\n{text}");
    }
}

/// Every page by its file's name; `date` of one by the same.
pub fn all(parser: &Command, date: &dyn Fn(&str) -> String) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut add = |name: String, page: Page| pages.insert(name, page.text);
    let file = format!("{NAME}.1");
    add(file.clone(), main_page(parser, &date(&file)));
    for command in parser
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
    {
        let manual = manual::of(command.get_name()).expect("it has a manual");
        let file = format!("{NAME}-{}.1", command.get_name());
        add(file.clone(), subcommand(command, manual, &date(&file)));
    }
    let file = format!("{ENV_PAGE}.5");
    add(file.clone(), env_page(&date(&file)));
    pages
}

fn main_page(parser: &Command, date: &str) -> Page {
    let about = about_of(parser);
    let title = format!("{TITLE}-WEBSOCKET");
    let mut page = Page::new(NAME, &title, 1, date, about.trim_end_matches('.'));
    page.section("SYNOPSIS", &synopsis(parser));
    page.section("DESCRIPTION", &paragraphs(OVERVIEW));
    let mut list = String::new();
    for (heading, names) in GROUPS {
        list += &format!(".SS {heading}\n");
        for command in names
            .split(' ')
            .filter_map(|name| parser.find_subcommand(name))
        {
            if command.get_name() != "help" {
                let tag = reference(&format!("{NAME}-{}", command.get_name()), 1);
                list += &item(&tag, &sentence(&about_of(command)));
            }
        }
    }
    page.section("SUBCOMMANDS", &list);
    page.section("OPTIONS", &options(parser));
    let codes = exit_code::ALL
        .iter()
        .map(|(code, meaning)| item(&bold(&code.to_string()), &sentence(meaning)));
    let codes: String = codes.collect();
    let note = ".PP\nThe page of each subcommand says which of them it gives, and when.\n";
    page.section("EXIT STATUS", &format!("{codes}{note}"));
    page.section("FILES", &files(FILES.iter()));
    let mut variables: Vec<&Variable> = Vec::new();
    for variable in facts::ALL.iter().flat_map(|one| one.variables) {
        if !variables.contains(&variable) {
            variables.push(variable);
        }
    }
    variables.sort();
    page.section("ENVIRONMENT", &environment(true, variables.into_iter()));
    page.section("EXAMPLES", &examples(EXAMPLES.iter()));
    let names = MANUALS.iter().map(|manual| manual.name);
    page.section("SEE ALSO", &see_also(names, &[], true));
    page
}

fn subcommand(command: &Command, manual: &Manual, date: &str) -> Page {
    let name = format!("{NAME}-{}", manual.name);
    let title = format!("{TITLE}-{}", manual.name.to_uppercase());
    let mut page = Page::new(&name, &title, 1, date, &about_of(command));
    page.section("SYNOPSIS", &synopsis(command));
    let long = command.get_long_about().or(command.get_about());
    let long = long.map(ToString::to_string).unwrap_or_default();
    page.section("DESCRIPTION", &paragraphs(&with_end(&long)));
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
        .collect();
    if !below.is_empty() {
        let one = |one: &&Command| {
            let heading = format!("{} {}", manual.name, one.get_name());
            let about = prose(&with_end(&about_of(one)));
            format!(".SS {heading}\n{about}{}", options_beyond(command, one))
        };
        let list: String = below.iter().map(one).collect();
        page.section("SUBCOMMANDS", &list);
    }
    page.section("OPTIONS", &options(command));
    if manual.name == "settings" {
        let setting = |one: &settings::Setting| {
            let text = format!(
                "{} It {}. Default: `{}`.",
                sentence(one.about),
                one.kind,
                one.default
            );
            item(&bold(one.key), &text)
        };
        let list: String = settings::ALL.iter().map(setting).collect();
        page.section("SETTINGS", &list);
    }
    let codes = manual
        .codes
        .iter()
        .enumerate()
        .map(|(at, (code, meaning))| {
            let remedy = match (manual.name, REMEDIES.get(at)) {
                ("serve", Some(&remedy)) if remedy != "nothing" => format!(" {}", sentence(remedy)),
                _ => String::new(),
            };
            let text = format!("{}{remedy}", sentence(meaning));
            item(&bold(&code.to_string()), &text)
        });
    page.section("EXIT STATUS", &codes.collect::<String>());
    let facts = facts::of(manual.name);
    let has_own = facts.files.iter().any(|(path, _)| path.ends_with("/.env"));
    let env = (facts.is_configured && !has_own).then_some(&ENV_FILE);
    page.section("FILES", &files(env.into_iter().chain(facts.files)));
    let variables = environment(facts.is_configured, facts.variables.iter());
    page.section("ENVIRONMENT", &variables);
    page.section("EXAMPLES", &examples(manual.examples.iter()));
    page.section(
        "SEE ALSO",
        &see_also(facts.related.iter().copied(), &[NAME], true),
    );
    page
}

fn env_page(date: &str) -> Page {
    let about = "configuration of the agents' chat service of Andrea Helpdesk";
    let title = format!("{TITLE}.ENV");
    let mut page = Page::new(ENV_PAGE, &title, 5, date, about);
    page.section("SYNOPSIS", &format!("{}/.env\n", italic("ROOT")));
    let read = "The service and its subcommands read their configuration from the file `.env` in the install's folder (`--root`), \
                which the helpdesk reads as well, and from the environment. They read it once, when they start, so a change counts \
                after a restart. The user that the service runs as must be able to read the file.";
    let rest = "An empty value counts as not set. A name that begins with `CHAT_` and is not listed here causes a warning. \
                `andrea-chat-websocket config` shows each variable with its value and where that comes from, and \
                `andrea-chat-websocket check` says what is wrong.";
    let text = [read, PRECEDENCE, RELOADED, rest].join("\n\n");
    page.section("DESCRIPTION", &paragraphs(&text));
    let size = "The file is text in UTF-8, of at most 1 MiB.";
    let form = FORM.map(|(form, meaning)| item(&bold(form), &sentence(meaning)));
    page.section("FILE FORMAT", &format!("{}{}", prose(size), form.concat()));
    let mut list = String::new();
    for topic in Topic::SHOWN {
        list += &format!(".SS {}\n", topic.heading());
        let options = OPTIONS.iter().filter(|spec| spec.topic == topic);
        list += &options.map(variable_of).collect::<String>();
        if topic == Topic::Cache {
            list += &prose_after(CACHE_NOTE);
        }
    }
    page.section("VARIABLES", &list);
    page.section("FILES", &files(FILES.iter()));
    page.section("ENVIRONMENT", &paragraphs(SAME_IN_ENVIRONMENT));
    let before = prose("A helpdesk on this machine, whose chat listens on another port:");
    page.section("EXAMPLES", &format!("{before}{}", typed(EXAMPLE)));
    let names = ["config", "check", "serve", "settings"];
    page.section("SEE ALSO", &see_also(names.into_iter(), &[NAME], false));
    page
}

fn variable_of(spec: &'static Spec) -> String {
    let flag = spec
        .flag
        .map_or(String::new(), |flag| format!(" ({})", bold(flag)));
    item(
        &format!("{}{flag}", bold(spec.name)),
        &format!("{} {}", sentence(spec.meaning), default_and_range(spec)),
    )
}

fn default_and_range(spec: &Spec) -> String {
    let unit = spec.unit_word();
    let default = match spec.default {
        "" => "none".to_owned(),
        default => format!("`{default}`{unit}"),
    };
    let range = spec.range.as_ref().map_or(String::new(), |range| {
        format!(" Range: {} to {}.", range.start(), range.end())
    });
    format!("Default: {default}.{range}")
}

fn about_of(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_default()
}

fn with_end(text: &str) -> String {
    match text.ends_with('.') {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

fn prose_after(text: &str) -> String {
    format!(".PP\n{}", prose(text))
}

/// As the help has it, with what is to be typed in bold.
fn synopsis(command: &Command) -> String {
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
        .collect();
    let lines = match below
        .first()
        .is_some_and(|one| manual::of(one.get_name()).is_none())
    {
        true => below,
        false => vec![command],
    };
    let lines: Vec<String> = lines
        .iter()
        .map(|one| usage(&(*one).clone().render_usage().to_string()))
        .collect();
    lines.join(".br\n")
}

fn usage(line: &str) -> String {
    let line = line.trim_start_matches("Usage: ");
    let mut out = String::new();
    let mut word = String::new();
    // What closes each pointed bracket: those around a name go, those around a choice become braces.
    let mut ends = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if !"<>[]| .".contains(c) {
            word.push(c);
            continue;
        }
        out += &styled(&std::mem::take(&mut word));
        match c {
            '<' if rest.peek() == Some(&'-') => {
                out.push('{');
                ends.push("}");
            }
            '<' => ends.push(""),
            '>' => out += ends.pop().unwrap_or_default(),
            '|' => out += " | ",
            c => out.push(c),
        }
    }
    format!("{out}{}\n", styled(&word))
}

/// A word of the synopsis: capitals stand for something else.
fn styled(word: &str) -> String {
    match word {
        "" => String::new(),
        word if word.chars().any(char::is_lowercase) => bold(word),
        word => italic(word),
    }
}

fn options(command: &Command) -> String {
    let mut text = own_options(command);
    let with_heading = command.get_arguments().find_map(Arg::get_help_heading);
    if let Some(heading) = with_heading {
        let own = command.get_arguments();
        let own = own.filter(|one| one.get_help_heading() == Some(heading));
        text += &format!(".SS {heading}\n{}", own.map(argument).collect::<String>());
    }
    text
}

/// Those that the subcommand above it does not have.
fn options_beyond(above: &Command, command: &Command) -> String {
    let is_known = |arg: &Arg| {
        above
            .get_arguments()
            .any(|one| one.get_id() == arg.get_id())
    };
    let own = command.get_arguments().filter(|one| !is_known(one));
    own.map(argument).collect()
}

/// Without those that stand below a heading.
fn own_options(command: &Command) -> String {
    let own = command.get_arguments();
    let own = own.filter(|one| one.get_help_heading().is_none());
    // What all subcommands take, last.
    let (common, own): (Vec<&Arg>, Vec<&Arg>) =
        own.partition(|one| ["color", "help", "version"].contains(&one.get_id().as_str()));
    own.into_iter().chain(common).map(argument).collect()
}

fn argument(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first());
    let takes_value = arg.get_action().takes_values();
    let value = value.filter(|_| takes_value).map(|name| italic(name));
    let mut names = Vec::new();
    names.extend(arg.get_short().map(|short| bold(&format!("-{short}"))));
    names.extend(arg.get_long().map(|long| bold(&format!("--{long}"))));
    let tag = match (names.is_empty(), value) {
        (true, _) => italic(&arg.get_id().as_str().to_uppercase()),
        (false, Some(value)) => format!("{} {value}", names.join(", ")),
        (false, None) => names.join(", "),
    };
    if let Some(spec) = spec(arg.get_id().as_str()) {
        let text = format!(
            "{} {} Variable: `{}`.",
            sentence(spec.meaning),
            default_and_range(spec),
            spec.name
        );
        return item(&tag, &text);
    }
    let help = arg.get_help().map(ToString::to_string);
    let mut text = help.map_or(String::new(), |help| sentence(&help));
    if arg.get_id() == "help" {
        text = "Print help.".to_owned();
    } else if arg.get_id() == "key" {
        text = "One of the settings below.".to_owned();
    } else if arg.get_id() == "value" {
        text = "Its new value.".to_owned();
    } else if takes_value && !arg.is_hide_possible_values_set() {
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| {
                let help = value.get_help().map(|help| format!(" ({})", lower(help)));
                format!("`{}`{}", value.get_name(), help.unwrap_or_default())
            })
            .collect();
        if !values.is_empty() {
            text += &format!(" One of {}.", values.join(", "));
        }
    }
    let defaults = arg.get_default_values();
    if let Some(default) = defaults
        .first()
        .filter(|_| takes_value && !arg.is_hide_default_value_set())
    {
        text += &match default.to_str() {
            Some(".") => " Default: the current folder.".to_owned(),
            _ => format!(" Default: `{}`.", default.to_string_lossy()),
        };
    }
    item(&tag, &text)
}

fn lower(help: &clap::builder::StyledStr) -> String {
    let text = help.to_string();
    let (first, rest) = text.split_at(1);
    format!("{}{rest}", first.to_lowercase())
}

/// With what the folders in their paths stand for.
fn files<'a>(files: impl Iterator<Item = &'a File>) -> String {
    let files: Vec<&File> = files.collect();
    let list = files.iter().map(|file| {
        let about = match **file == ENV_FILE {
            true => format!("{}; see `{ENV_PAGE}`(5)", file.1),
            false => file.1.to_owned(),
        };
        item(&italic(file.0), &sentence(&about))
    });
    let list: String = list.collect();
    let used = FOLDERS
        .iter()
        .filter(|(folder, _)| files.iter().any(|(path, _)| path.starts_with(folder)));
    let notes: Vec<&str> = used.map(|(_, note)| *note).collect();
    match notes.is_empty() {
        true => list,
        false => list + &prose_after(&notes.join(" ")),
    }
}

fn environment<'a>(is_configured: bool, variables: impl Iterator<Item = &'a Variable>) -> String {
    let configured = match is_configured {
        true => prose(&format!(
            "{SAME_IN_ENVIRONMENT} `{ENV_PAGE}`(5) lists them."
        )),
        false => String::new(),
    };
    let variables = variables.map(|(name, about)| item(&bold(name), &sentence(about)));
    configured + &variables.collect::<String>()
}

fn examples<'a>(examples: impl Iterator<Item = &'a (&'static str, &'static str)>) -> String {
    examples
        .map(|(purpose, line)| {
            let purpose = prose_after(&format!("{purpose}:"));
            format!("{purpose}{}", typed(&format!("{NAME} {line}")))
        })
        .collect()
}

fn reference(name: &str, section: u8) -> String {
    format!("{}({section})", bold(name))
}

/// Pages of subcommands and others of the first section, by name; then that of the configuration, unless it is the page
/// itself.
fn see_also<'a>(
    subcommands: impl Iterator<Item = &'a str>,
    others: &[&str],
    with_env: bool,
) -> String {
    let names = subcommands.map(|name| format!("{NAME}-{name}"));
    let mut names: Vec<String> = names
        .chain(others.iter().map(|&name| name.to_owned()))
        .collect();
    names.sort();
    let references = names.iter().map(|name| reference(name, 1));
    let env = with_env.then(|| reference(ENV_PAGE, 5));
    let references: Vec<String> = references.chain(env).collect();
    references.join(",\n") + "\n"
}
