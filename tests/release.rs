//! What is given to others: version and change log agree, `contrib/release` makes whole files of it, and these install, chat,
//! upgrade and go again on bare roots of Debian (`release/try`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::support::json::Json;
use crate::support::reaper;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(source().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a command to its end; what it has printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command
        .current_dir(source())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = !output.status.success();
    assert!(!failed, "{command:?}: {}", last_lines(&output));
    text
}

/// The end of what it has said, where the reason stands; a build has hundreds of lines before.
fn last_lines(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(12)..].join("\n");
    format!("{}\n{last}", output.status)
}

/// Beside the tests' own folder, so that it is made once and not with every run.
fn beside(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tests.parent().expect("a folder").join(name)
}

/// The files of `contrib/release`, of a build without optimisation.
fn files() -> &'static Path {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = beside("test-release");
        run(Command::new("contrib/release")
            .args(["--profile", "dev", "--out"])
            .arg(&folder));
        folder
    })
}

/// The one file there whose name ends so.
fn file(end: &str) -> PathBuf {
    let entries = fs::read_dir(files()).expect("the folder");
    let mut found = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(end));
    let path = found.next().unwrap_or_else(|| panic!("no {end}"));
    assert_eq!(found.next(), None, "{end}");
    path
}

#[test]
fn version_and_change_log_agree() {
    let log = read("CHANGELOG.md");
    let headings: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("## ["))
        .collect();
    assert_eq!(headings.first(), Some(&"Unreleased]"));
    // Before the first release there is none; after it the newest is that of Cargo.toml.
    if let Some(newest) = headings.get(1) {
        let (version, date) = newest.split_once("] - ").expect("[version] - date");
        assert_eq!(version, VERSION, "Cargo.toml");
        assert_eq!(date.len(), "2026-01-31".len(), "{date}");
    }
    assert!(read(&format!("contrib/man/{NAME}.1")).contains(VERSION));
}

#[test]
fn a_tag_that_does_not_agree_is_refused() {
    needs!(Debian);
    let clone = reaper::path("tagged");
    run(Command::new("git")
        .args(["clone", "--quiet", "--no-tags", "."])
        .arg(&clone));
    let refused = |tag: &str, change_log: &str, words: &str| {
        fs::write(clone.join("CHANGELOG.md"), change_log).expect("write");
        run(Command::new("git").arg("-C").arg(&clone).args(["tag", tag]));
        let output = Command::new(clone.join("contrib/release"))
            .args(["--program", "/bin/true"])
            .output()
            .expect("it runs");
        run(Command::new("git")
            .arg("-C")
            .arg(&clone)
            .args(["tag", "--delete", tag]));
        let said = last_lines(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(!clone.join("target/release-files").exists());
    };
    let own = format!("v{VERSION}");
    let section = format!("## [Unreleased]\n\n## [{VERSION}] - 2026-01-31\n");
    let other = format!("the commit's tag is v9.9.9, Cargo.toml has {VERSION}");
    refused("v9.9.9", &section, &other);
    refused(&own, "## [Unreleased]\n", "CHANGELOG.md has no section");
    // A change log that is not the commit's.
    refused(&own, &section, "files differ from those of the tag");
}

#[test]
fn what_a_build_needs_stands_beside_the_first_command() {
    let readme = read("README.md");
    let first = readme.find("cargo run").expect("a first command");
    let beside = &readme[first..first + 600];
    let rust = env!("CARGO_PKG_RUST_VERSION");
    for words in [format!("Rust {rust} or later"), "gcc libc6-dev".to_owned()] {
        assert!(beside.contains(&words), "{words} in:\n{beside}");
    }
    // An old cargo reads on until it says which edition it lacks; a word in the place of a number stops it before that.
    let manifest = read("Cargo.toml");
    assert!(!manifest.contains("\ndebug = \""), "belongs into .cargo");
}

#[test]
fn the_release_is_whole() {
    needs!(Time, Debian);
    let folder = files();
    run(Command::new("sh")
        .args([
            "-c",
            "cd \"$1\" && sha256sum --check --quiet SHA256SUMS",
            "sh",
        ])
        .arg(folder));
    let bill = fs::read_to_string(file("sbom.cdx.json")).expect("a bill of materials");
    let bill = Json::parse(&bill).expect("JSON");
    let crates = bill.need("components").items();
    assert!(crates.len() > 100, "{}", crates.len());
    for one in crates {
        assert!(
            one.need("purl")
                .str()
                .expect("text")
                .starts_with("pkg:cargo/")
        );
        let hash = one.need("hashes").items()[0].need("content").str();
        assert_eq!(hash.expect("text").len(), 64, "{one:?}");
    }

    let tarball = run(Command::new("tar").arg("-tf").arg(file(".tar.gz")));
    let package = run(Command::new("dpkg-deb").arg("--contents").arg(file(".deb")));
    let pages = fs::read_dir(source().join("contrib/man")).expect("the pages");
    for page in pages {
        let page = page.expect("an entry").file_name();
        let page = page.to_str().expect("UTF-8");
        assert!(tarball.contains(&format!("/man/{page}")), "{page}");
        let (_, section) = page.rsplit_once('.').expect("a section");
        let packed = format!("/man{section}/{page}.gz");
        assert!(package.contains(&packed), "{page}");
    }
    for name in [
        "LICENSE",
        "SHA256SUMS",
        "sbom.cdx.json",
        "systemd/",
        "examples/nginx/",
    ] {
        assert!(tarball.contains(&format!("/{name}")), "{name}\n{tarball}");
    }
    for name in [
        format!("/usr/lib/systemd/system/{NAME}@.service"),
        format!("/usr/share/bash-completion/completions/{NAME}"),
        format!("/etc/logrotate.d/{NAME}"),
        format!("/usr/share/doc/{NAME}/copyright"),
    ] {
        assert!(package.contains(&name), "{name}\n{package}");
    }
    let unpacked = reaper::path("package");
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(file(".deb"))
        .arg(&unpacked));
    for entry in fs::read_dir(unpacked.join("usr/lib/systemd/system")).expect("units") {
        let unit = fs::read_to_string(entry.expect("an entry").path()).expect("a unit");
        assert!(!unit.contains("/usr/local/"), "{unit}");
    }
    run(Command::new("lintian")
        .args([
            "--allow-root",
            "--fail-on",
            "error",
            "--suppress-tags",
            "unstripped-binary-or-object",
        ])
        .arg(file(".deb")));
}

/// The archive is for `podman load` and `docker load`; both keep its health check.
#[test]
fn the_image_is_what_the_containerfile_says() {
    needs!(Time, Debian);
    let archive = reaper::folder("image");
    run(Command::new("tar")
        .arg("-xf")
        .arg(file("-image.tar"))
        .arg("-C")
        .arg(&archive));
    let json = |path: &Path| Json::parse(&fs::read_to_string(path).expect("a file")).expect("JSON");
    let manifest = json(&archive.join("manifest.json"));
    let manifest = &manifest.items()[0];
    let named = |text: &Json| text.str().expect("a name").to_owned();
    let config_file = named(manifest.need("Config"));
    let config = json(&archive.join(&config_file));
    let config = config.need("config");
    let health = config.need("Healthcheck").need("Test").items();
    assert_eq!(health[0].str(), Some("CMD"));
    assert_eq!(config.need("User").str(), Some("65532:65532"));
    let environment = config.need("Env").items();
    assert_eq!(
        environment[0].str(),
        Some("CHAT_WEBSOCKET_LOG_STDERR=always")
    );
    let layer_file = named(&manifest.need("Layers").items()[0]);
    let layer = run(Command::new("tar")
        .arg("-tf")
        .arg(archive.join(&layer_file)));
    assert_eq!(layer, format!("./\n./{NAME}\n./helpdesk/\n"));

    // The layout has the same two, each under its checksum.
    let blobs = files().join("image/blobs/sha256");
    for (file, end) in [(&config_file, ".json"), (&layer_file, ".tar")] {
        assert!(blobs.join(file.trim_end_matches(end)).exists(), "{file}");
    }
    for entry in fs::read_dir(&blobs).expect("blobs") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(run(Command::new("sha256sum").arg(&path)).starts_with(&*name));
    }
    let index = json(&files().join("image/index.json"));
    let digest = named(index.need("manifests").items()[0].need("digest"));
    let inner = json(&blobs.join(digest.trim_start_matches("sha256:")));
    let inner = named(inner.need("config").need("digest"));
    assert_eq!(format!("{}.json", &inner["sha256:".len()..]), config_file);
}

#[track_caller]
fn trial(way: &str, release: &str) {
    let said = run(Command::new("tests/release/try")
        .args([way, release])
        .arg(files())
        .arg(beside("test-roots")));
    assert!(said.ends_with("ok\n"), "{said}");
    println!("{said}");
}

/// That of this machine, by its name.
fn own_release() -> String {
    let text = fs::read_to_string("/etc/os-release").expect("os-release");
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match name {
        Some(name) if text.contains("\nID=debian\n") => name.to_owned(),
        _ => "bookworm".to_owned(),
    }
}

#[test]
fn the_package_serves_upgrades_and_goes_on_this_release() {
    needs!(Time, Root, Namespaces, Debian);
    trial("package", &own_release());
}

#[test]
fn the_tarball_serves_upgrades_and_goes_on_this_release() {
    needs!(Time, Root, Namespaces, Debian);
    trial("tarball", &own_release());
}

#[test]
fn package_and_tarball_serve_upgrade_and_go_on_debian_11_12_and_13() {
    needs!(MuchTime, Root, Namespaces, Debian);
    for release in ["bullseye", "bookworm", "trixie"] {
        trial("package", release);
        trial("tarball", release);
    }
}

#[test]
fn a_booted_systemd_runs_the_package() {
    needs!(MuchTime, Root, Namespaces, Debian, Nspawn);
    for release in ["bookworm", "trixie"] {
        trial("booted", release);
    }
}

#[test]
fn two_builds_in_other_folders_and_homes_have_the_same_bytes() {
    needs!(MuchTime, Debian);
    let folder = reaper::path("twice");
    let clone = reaper::path("clone");
    run(Command::new("git")
        .args(["clone", "--quiet", "."])
        .arg(&clone));
    let said = run(Command::new(clone.join("contrib/release"))
        .args(["--twice", "--out"])
        .arg(&folder));
    assert!(said.contains("has the same bytes"), "{said}");
}
