//! `prune`: marks messages deleted that are older than the retention of their channel or of direct messages (contract:
//! operations.md, "Retention"). Without `--run` it only counts. It never removes a row.
//!
//! It goes through all messages once, by id, in windows. A window is read without locks; its old messages are marked a
//! few hundred at a time in short transactions, with a pause after each for other clients of the database.

mod progress;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::progress::PruneProgress;
use super::{Database, Problem, json_of, say};
use crate::config::settings::{Rows, key};
use crate::model::{ChannelId, MessageId};
use crate::platform::exit_code;
use crate::platform::printable::printable;
use crate::store::operations::{AuditEntry, ChannelRetention, OldMessage};

/// Messages that are read at once: few queries, and little memory.
const WINDOW_ROWS: u32 = 10_000;
/// Messages that are marked in one transaction, which then holds its locks for only a few milliseconds.
const BATCH: usize = 500;
/// Longest pause after a transaction. The pause lasts as long as the transaction, so that others get half the time.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What to do, and how to show it.
pub(crate) struct Options<'a> {
    /// Which messages: `all`, `channel` or `direct`.
    pub scope: &'a str,
    /// Only those of this channel.
    pub channel: Option<ChannelId>,
    /// Whether to mark the messages; otherwise they are only counted.
    pub run: bool,
    /// Whether to write the report as JSON; otherwise in words.
    pub json: bool,
    /// Where progress is shown, if anywhere.
    pub progress: Option<&'a mut dyn Write>,
    /// Set by a signal to end the run early. What is marked by then stays marked and is reported.
    pub interrupted: &'a AtomicBool,
}

/// Messages of one kind, which share a retention.
struct Rule {
    name: String,
    days: i64,
    /// Messages created before this time are too old; `None` if they are kept for ever.
    before: Option<String>,
    found: u64,
    marked: u64,
}

/// Rules by channel; `None` is the key for direct messages.
type Rules = BTreeMap<Option<ChannelId>, Rule>;

/// Looks through all messages, marks or counts the old ones, and writes the report to `out`.
///
/// # Errors
/// There is no such channel, or the database cannot be asked.
pub(crate) fn prune(
    mut options: Options<'_>,
    database: &mut Database,
    out: &mut dyn Write,
) -> Result<u8, Problem> {
    let rows = database.run_again(|store| store.settings())?;
    let channels = database.run_again(|store| store.channel_retentions())?;
    if let Some(id) = options.channel
        && !channels.iter().any(|channel| channel.id == id)
    {
        let what = format!("there is no channel {id}");
        return Err(Problem::new(exit_code::FAILED, what));
    }
    let mut rules = rules(&rows, channels, &options);
    for rule in rules.values_mut().filter(|rule| rule.days > 0) {
        let days = rule.days.unsigned_abs();
        rule.before = database.run_again(|store| store.days_ago(days))?;
    }
    let walked = walk(&mut rules, &mut options, database);
    let total = |is_channel: bool, count: fn(&Rule) -> u64| -> u64 {
        let of_kind = rules.iter().filter(|(id, _)| id.is_some() == is_channel);
        of_kind.map(|(_, rule)| count(rule)).sum()
    };
    let channel_marked = total(true, |rule| rule.marked);
    let direct_marked = total(false, |rule| rule.marked);
    if options.run {
        let audit = AuditEntry {
            action: "chat_prune_run".to_owned(),
            subject_type: "chat_messages",
            payload: json!({
                "ip": "cli",
                "scope": options.scope,
                "channel_id": options.channel.map(|id| id.0),
                "channel_messages_deleted": channel_marked,
                "direct_messages_deleted": direct_marked,
            })
            .to_string(),
        };
        // Audited after a failure too, because what was marked before it stays marked.
        if walked.is_ok() || channel_marked + direct_marked > 0 {
            database.run(|store| store.change(&[], &audit))?;
        }
    }
    let complete = walked?;
    let report = json!({
        "dry_run": !options.run,
        "complete": complete,
        "scope": options.scope,
        "channel_id": options.channel.map(|id| id.0),
        "channel_messages": total(true, |rule| rule.found),
        "direct_messages": total(false, |rule| rule.found),
        "channel_messages_deleted": channel_marked,
        "direct_messages_deleted": direct_marked,
        "rules": rules.iter().map(|(id, rule)| describe(*id, rule)).collect::<Vec<Value>>(),
    });
    let text = match options.json {
        true => json_of(&report),
        false => words(&rules, options.run, complete),
    };
    say(out, &text)?;
    Ok(match complete {
        true => exit_code::OK,
        false => exit_code::FAILED,
    })
}

fn rules(rows: &Rows, channels: Vec<ChannelRetention>, options: &Options<'_>) -> Rules {
    let default = rows.integer(key::CHANNEL_RETENTION_DAYS, 90);
    let rule = |name: String, days: i64| Rule {
        name,
        days,
        before: None,
        found: 0,
        marked: 0,
    };
    let wanted =
        |id: ChannelId| options.scope != "direct" && options.channel.is_none_or(|only| only == id);
    let mut rules: Rules = channels
        .into_iter()
        .filter(|channel| wanted(channel.id))
        .map(|channel| {
            let days = channel.days.map_or(default, |days| days as i64);
            (Some(channel.id), rule(channel.name, days))
        })
        .collect();
    if options.scope != "channel" {
        let days = rows.integer(key::DIRECT_RETENTION_DAYS, 90);
        rules.insert(None, rule("direct messages".to_owned(), days));
    }
    rules
}

/// The report for people.
fn words(rules: &Rules, run: bool, complete: bool) -> String {
    let line = |rule: &Rule| {
        let kept = match rule.days > 0 {
            true => format!("kept for {} days", rule.days),
            false => "kept for ever".to_owned(),
        };
        let (name, found, marked) = (printable(&rule.name), rule.found, rule.marked);
        format!("{name}: {kept}; {found} too old, {marked} deleted\n")
    };
    let mut text: String = rules.values().map(line).collect();
    if !run {
        text.push_str("Nothing was changed; --run marks them deleted.\n");
    }
    if !complete {
        text.push_str("Interrupted: run it again for the rest.\n");
    }
    text
}

fn describe(id: Option<ChannelId>, rule: &Rule) -> Value {
    json!({
        "channel_id": id.map(|id| id.0),
        "name": rule.name,
        // Less than 1 day would mean every message. That is taken for a mistake, so nothing is too old.
        "retention_days": (rule.days > 0).then_some(rule.days),
        "before": rule.before,
        "messages": rule.found,
        "deleted": rule.marked,
    })
}

/// Goes through the messages, window by window; returns whether it came to the end.
fn walk(
    rules: &mut Rules,
    options: &mut Options<'_>,
    database: &mut Database,
) -> Result<bool, Problem> {
    let newest = rules.values().filter_map(|rule| rule.before.clone()).max();
    let ids = database.run_again(|store| store.message_ids())?;
    let (Some(before), Some((first, last))) = (newest, ids) else {
        return Ok(true);
    };
    let mut above = MessageId(first.0.saturating_sub(1));
    let mut progress = PruneProgress::new(options.progress.take(), first, last);
    loop {
        let window = database.run_again(|store| store.old_messages(above, WINDOW_ROWS, &before))?;
        let old: Vec<OldMessage> = window
            .messages
            .into_iter()
            .filter(|message| {
                rules.get_mut(&message.channel).is_some_and(|rule| {
                    let before = rule.before.as_ref();
                    let is_old = before.is_some_and(|before| message.created_at < *before);
                    rule.found += u64::from(is_old);
                    is_old
                })
            })
            .collect();
        if options.run {
            for batch in old.chunks(BATCH) {
                if options.interrupted.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                mark(batch, rules, database)?;
                if let Some(message) = batch.last() {
                    progress.show_in_a_while(message.id, rules);
                }
            }
        }
        let Some(end) = window.end else {
            break;
        };
        above = end;
        if options.interrupted.load(Ordering::Relaxed) {
            return Ok(false);
        }
        progress.show_in_a_while(above, rules);
    }
    progress.show(last, rules);
    Ok(true)
}

/// Marks one batch, then pauses for as long as that took.
fn mark(batch: &[OldMessage], rules: &mut Rules, database: &mut Database) -> Result<(), Problem> {
    let begun = Instant::now();
    // One transaction for each kind, because the server reports only one total of changed rows.
    let mut kinds: BTreeMap<Option<ChannelId>, Vec<MessageId>> = BTreeMap::new();
    for message in batch {
        kinds.entry(message.channel).or_default().push(message.id);
    }
    for (channel, ids) in kinds {
        let count = database.run_again(|store| store.mark_deleted(&ids))?;
        if let Some(rule) = rules.get_mut(&channel) {
            rule.marked += count;
        }
    }
    thread::sleep(begun.elapsed().min(LONGEST_PAUSE));
    Ok(())
}
