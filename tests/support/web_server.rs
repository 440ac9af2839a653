//! Real nginx and Apache in front of daemons, each with a folder, a port and a configuration of its own, and nothing of
//! the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{mariadb, reaper, wait};

const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// A shipped snippet with other ports and time-outs than it has; each change must have its place.
pub fn snippet(file: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(file);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from}");
        text = text.replace(from, to);
    }
    text
}

pub struct WebServer {
    pub port: u16,
    child: Child,
    log: PathBuf,
}

fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = reaper::scratch().join(format!("web-{count}"));
    fs::create_dir(&folder).expect("make the folder");
    folder
}

impl WebServer {
    /// nginx with this inside its server block.
    pub fn nginx(snippet: &str) -> WebServer {
        WebServer::nginx_listening(snippet, "")
    }

    /// The same, with a certificate for `localhost`; the second value is its file.
    pub fn nginx_with_tls(snippet: &str) -> (WebServer, PathBuf) {
        let folder = folder();
        let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| folder.join(name));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let snippet = format!(
            "ssl_certificate {};\nssl_certificate_key {};\n{snippet}",
            certificate.display(),
            key.display()
        );
        (WebServer::nginx_listening(&snippet, "ssl"), certificate)
    }

    fn nginx_listening(snippet: &str, how: &str) -> WebServer {
        let folder = folder();
        let (port, shown) = (mariadb::free_port(), folder.display());
        let user = match rustix::process::geteuid().is_root() {
            true => "user root;",
            false => "",
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
            .concat();
        let configuration = format!(
            "{user}\ndaemon off;\npid {shown}/pid;\nerror_log {shown}/log;\nworker_processes 1;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n{temporary}access_log off;\n\
             server {{\nlisten 127.0.0.1:{port} {how};\n{snippet}\n}}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).expect("write the configuration");
        let mut command = Command::new(program("nginx"));
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"]);
        WebServer::start(command, port, folder.join("log"))
    }

    /// Apache with these modules, and this inside its virtual host.
    pub fn apache(modules: &[&str], snippet: &str) -> WebServer {
        let folder = folder();
        let (port, shown) = (mariadb::free_port(), folder.display());
        let modules: String = ["mpm_event", "authz_core"]
            .iter()
            .chain(modules)
            .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
            .collect();
        let user = match rustix::process::geteuid().is_root() {
            true => "User www-data\nGroup www-data\n",
            false => "",
        };
        let configuration = format!(
            "ServerRoot {shown}\n{modules}{user}PidFile {shown}/pid\nMutex file:{shown}\n\
             ErrorLog {shown}/log\nServerName helpdesk.example.test\nListen 127.0.0.1:{port}\n\
             <VirtualHost 127.0.0.1:{port}>\n{snippet}\n</VirtualHost>\n"
        );
        let file = folder.join("apache.conf");
        fs::write(&file, configuration).expect("write the configuration");
        let mut command = Command::new(program("apache2"));
        command.arg("-f").arg(&file).arg("-DFOREGROUND");
        WebServer::start(command, port, folder.join("log"))
    }

    fn start(mut command: Command, port: u16, log: PathBuf) -> WebServer {
        let output = fs::File::create(log.with_extension("output")).expect("make a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("another handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        reaper::watch(&child);
        let mut server = WebServer { port, child, log };
        let up = wait::until(wait::LIMIT, || {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(true);
            }
            server.child.try_wait().expect("ask").map(|_| false)
        });
        assert_eq!(
            up,
            Some(true),
            "the web server does not start:\n{}",
            server.log()
        );
        server
    }

    /// What it has said.
    pub fn log(&self) -> String {
        [self.log.clone(), self.log.with_extension("output")]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .concat()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the web server on port {}:\n{}", self.port, self.log());
        }
        // Its workers go with it only when it is asked.
        super::cron::signal(self.child.id(), rustix::process::Signal::TERM);
        let _ = self.child.wait();
        reaper::forget(&self.child);
    }
}

/// Servers lie in `sbin`, which an ordinary user's PATH may lack.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; contrib/test brings it"))
}
