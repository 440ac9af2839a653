//! The files that are shipped for administrators say what Andrea Helpdesk's own documentation says, to the letter:
//! a proxy that works with its daemon works with this one. Comments are ours, directives are not.
//! What nginx, Apache or systemd make of them is tested elsewhere.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use andrea_chat_websocket::supervisor::ALLOCATOR;

const NGINX: &str = r#"
location /ws/chat {
    proxy_pass http://127.0.0.1:8090/ws/chat;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "Upgrade";
    proxy_set_header Host $host;
    proxy_read_timeout 3600;
}
"#;

const APACHE: &str = r#"
ProxyPreserveHost On
ProxyPass "/ws/chat"  "ws://127.0.0.1:8090/ws/chat"
ProxyPassReverse "/ws/chat"  "ws://127.0.0.1:8090/ws/chat"
"#;

/// As documented, but for `ExecStart`, which starts this program, and `Type`, since this program says when it is
/// ready.
const SYSTEMD: &str = r"
[Unit]
Description=Andrea Helpdesk Chat WebSocket Server
[Service]
Type=notify
WorkingDirectory=/var/www/andrea-helpdesk
ExecStart=/usr/local/bin/andrea-chat-websocket serve --root /var/www/andrea-helpdesk
Restart=always
RestartSec=5
User=www-data
Group=www-data
[Install]
WantedBy=multi-user.target
";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(in_repository(path))
        .unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// The lines that are neither empty nor a comment, as they stand, indentation included.
fn directives(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .collect()
}

#[test]
fn nginx_snippet_has_the_documented_directives() {
    assert_eq!(
        directives(&read("contrib/nginx/andrea-chat-websocket.conf")),
        directives(NGINX)
    );
}

#[test]
fn apache_snippet_has_the_documented_directives() {
    assert_eq!(
        directives(&read("contrib/apache/andrea-chat-websocket.conf")),
        directives(APACHE)
    );
}

#[test]
fn systemd_unit_has_the_documented_directives_in_their_order() {
    let unit = read("contrib/systemd/andrea-chat-websocket.service");
    let mut ours = directives(&unit).into_iter();
    for documented in directives(SYSTEMD) {
        assert!(
            ours.any(|line| line == documented),
            "the unit lacks, or has in another place: {documented}"
        );
    }
    let after = "After=network.target mysql.service";
    assert!(unit.lines().any(|line| line.starts_with(after)));
}

#[test]
fn every_way_to_start_the_daemon_sets_the_allocator_alike() {
    let expected = ALLOCATOR.map(|(name, value)| format!("{name}={value}"));
    for file in [
        "contrib/systemd/andrea-chat-websocket.service",
        "contrib/systemd/andrea-chat-websocket@.service",
        "contrib/runit/run",
        "contrib/container/Containerfile",
    ] {
        assert!(read(file).contains(&expected.join(" ")), "{file}");
    }
}

#[test]
fn every_contrib_file_stands_in_the_readme() {
    let readme = read("contrib/README.md");
    for entry in std::fs::read_dir(in_repository("contrib")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // A folder of generated files stands for all of them.
        let folder = readme.contains(&format!("`{name}/`"));
        let files = if entry.file_type().unwrap().is_dir() {
            std::fs::read_dir(entry.path())
                .unwrap()
                .map(|file| format!("{name}/{}", file.unwrap().file_name().to_str().unwrap()))
                .collect()
        } else {
            vec![name]
        };
        for file in files {
            assert!(
                file == "README.md" || folder || readme.contains(&format!("`{file}`")),
                "contrib/README.md lacks {file}"
            );
        }
    }
}

#[test]
fn scripts_are_executable_and_bash_can_read_them() {
    for script in [
        "contrib/test",
        "contrib/release",
        "tests/release/try",
        ".ci/run",
    ] {
        let path = in_repository(script);
        let mode = std::fs::metadata(&path)
            .unwrap_or_else(|error| panic!("{script}: {error}"))
            .permissions()
            .mode();
        assert_eq!(
            mode & 0o111,
            0o111,
            "{script} is not executable by everybody: mode {mode:o}"
        );
        let output = Command::new("bash")
            .arg("-n")
            .arg(&path)
            .output()
            .expect("bash starts");
        assert!(
            output.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
