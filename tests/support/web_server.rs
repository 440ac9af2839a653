//! Real nginx and Apache in front of daemons, each with a folder, a port and a configuration of its own, and nothing of
//! the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::needs::{self, Need};
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

impl WebServer {
    /// nginx with this inside its server block.
    pub fn nginx(snippet: &str) -> WebServer {
        WebServer::nginx_listening("", snippet, "")
    }

    /// The same, with a certificate for `localhost`; the second value is its file.
    pub fn nginx_with_tls(snippet: &str) -> (WebServer, PathBuf) {
        needs::demand(Need::OpenSsl);
        let folder = reaper::folder("web");
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
                "-addext",
                "basicConstraints=critical,CA:FALSE",
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
        let server = WebServer::nginx_with_certificate(snippet, &key, &certificate);
        (server, certificate)
    }

    /// The same, with this certificate.
    pub fn nginx_with_certificate(snippet: &str, key: &Path, certificate: &Path) -> WebServer {
        let snippet = format!(
            "ssl_certificate {};\nssl_certificate_key {};\n{snippet}",
            certificate.display(),
            key.display()
        );
        WebServer::nginx_listening("", &snippet, "ssl")
    }

    /// The same, with a certificate for `localhost` that was good between these two times (`20200101000000Z`).
    pub fn nginx_with_tls_between(snippet: &str, from: &str, to: &str) -> (WebServer, PathBuf) {
        needs::demand(Need::OpenSsl);
        let folder = reaper::folder("web");
        let configuration = "[ca]\ndefault_ca=this\n[this]\ndatabase=index\nnew_certs_dir=.\nserial=serial\npolicy=names\n\
             default_md=sha256\nx509_extensions=extensions\n[names]\ncommonName=supplied\n[extensions]\n\
             subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
        fs::write(folder.join("ca.conf"), configuration).expect("write the configuration");
        fs::write(folder.join("index"), "").expect("write the index");
        fs::write(folder.join("serial"), "01\n").expect("write the serial");
        let request =
            "req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem";
        let sign = format!(
            "ca -batch -notext -config ca.conf -selfsign -keyfile key.pem -in request.pem \
             -out certificate.pem -startdate {from} -enddate {to}"
        );
        for words in [request, &sign] {
            let made = Command::new("openssl")
                .args(words.split(' ').filter(|word| !word.is_empty()))
                .current_dir(&folder)
                .output()
                .expect("openssl runs");
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(made.status.success(), "{said}");
        }
        let certificate = folder.join("certificate.pem");
        let server =
            WebServer::nginx_with_certificate(snippet, &folder.join("key.pem"), &certificate);
        (server, certificate)
    }

    /// nginx with `http` in its http block, `snippet` in its server block, and listening so.
    pub fn nginx_listening(http: &str, snippet: &str, how: &str) -> WebServer {
        needs::demand(Need::Nginx);
        let folder = reaper::folder("web");
        let (port, shown) = (mariadb::free_port(), folder.display());
        let user = match rustix::process::geteuid().is_root() {
            true => "user root;",
            false => "",
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
            .concat();
        let limits = self::snippet("nginx/andrea-chat-websocket-limits.conf", &[]);
        let configuration = format!(
            "{user}\ndaemon off;\npid {shown}/pid;\nerror_log {shown}/log;\nworker_processes 1;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n{temporary}access_log off;\n{limits}\n{http}\n\
             server {{\nlisten 127.0.0.1:{port} {how};\n{snippet}\n}}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).expect("write the configuration");
        let mut command = Command::new(needs::program("nginx"));
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
        needs::demand(Need::Apache);
        let folder = reaper::folder("web");
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
        let mut command = Command::new(needs::program("apache2"));
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
