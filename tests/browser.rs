//! The demo's page in a real browser. What is done there and checked stands in the scripts under tests/browser; here
//! the demo is started for them, and ended and started again when they ask for it.
//!
//! ANDREA_TEST_PICTURES=DIR leaves pictures of the page there, for the README: `docs/screenshots`.

use std::env;
use std::path::Path;

use rustix::process::Signal;

use crate::support::demo::{Demo, new_folder};
use crate::support::json::Json;
use crate::support::{needs, script};

#[test]
fn agents_in_windows_of_their_own_talk_and_cannot_inject_each_other() {
    needs!(Python, Browser);
    let pictures = env::var("ANDREA_TEST_PICTURES").map_or(Json::Null, |folder| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        folder.display().to_string().as_str().into()
    });
    run("browser/talk.py", &pictures);
}

#[test]
fn a_page_recovers_without_loss_when_the_service_goes_away() {
    needs!(Python, Browser);
    run("browser/recover.py", &Json::Null);
}

#[test]
fn the_page_works_at_phone_width_and_by_keyboard_alone() {
    needs!(Python, Browser);
    run("browser/reach.py", &Json::Null);
}

#[test]
fn the_service_panel_shows_sets_starts_and_stops() {
    needs!(Python, Browser);
    run("browser/service.py", &Json::Null);
}

#[test]
fn agents_find_each_other_and_what_was_said() {
    needs!(Python, Browser);
    run("browser/find.py", &Json::Null);
}

#[test]
fn only_what_was_on_the_screen_is_marked_read() {
    needs!(Python, Browser);
    run("browser/unread.py", &Json::Null);
}

#[test]
fn a_large_chat_is_as_quick_as_a_small_one() {
    needs!(Python, Browser);
    run("browser/scale.py", &Json::Null);
}

#[test]
fn axe_finds_no_fault_in_any_state() {
    needs!(Python, Browser, NodeJs);
    run("browser/access.py", &Json::Null);
}

fn run(name: &str, pictures: &Json) {
    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    let port = demo.port();
    let task = Json::object([
        ("url", demo.url().into()),
        ("data", data.display().to_string().into()),
        ("pid", i64::from(demo.pid()).into()),
        (
            "modules",
            needs::node_modules().map_or(Json::Null, |folder| folder.display().to_string().into()),
        ),
        ("pictures", pictures.clone()),
    ]);
    let programs = [script::PYTHON, script::CHROMEDRIVER, script::CHROMIUM];
    script::run(name, &programs, &task, |said| {
        let end_well = |demo: &mut Demo| {
            let status = demo.end(Signal::INT);
            assert!(status.success(), "the demo did not end well: {status}");
        };
        match said {
            "RESTART" => end_well(&mut demo),
            "FREEZE" => {
                demo.signal(Signal::STOP);
                return Some("DONE".to_owned());
            }
            "KILL" => drop(demo.end(Signal::KILL)),
            "DOWN" => {
                end_well(&mut demo);
                return Some("DONE".to_owned());
            }
            "UP" => {}
            _ => return None,
        }
        demo = Demo::start(&data, port);
        Some("DONE".to_owned())
    });
}
