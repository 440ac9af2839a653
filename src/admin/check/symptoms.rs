//! Why a browser does not connect: each faulty set-up with its meaning and remedy, for the findings of `check`.
//! `docs/troubleshooting.md` has them too, with the signs of each; `tests/doctor.rs` compares.

use std::fmt::Display;

use super::{Finding, Level};

/// One faulty set-up that keeps a browser from chatting.
#[derive(Debug, PartialEq, Eq)]
pub struct Symptom {
    /// What it means.
    pub means: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Symptom {
    pub(super) fn failed(
        &self,
        about: &'static str,
        tried: impl Display,
        came: impl Display,
    ) -> Finding {
        let detail = format!("{tried}: {came}; {}", self.means);
        Finding::failed(about, detail, self.remedy)
    }

    pub(super) fn warning(
        &self,
        about: &'static str,
        tried: impl Display,
        came: impl Display,
    ) -> Finding {
        Finding {
            level: Level::Warning,
            ..self.failed(about, tried, came)
        }
    }
}

macro_rules! symptoms {
    ($($name:ident: $means:literal, $remedy:literal;)+) => {
        $(
            #[doc = $means]
            pub static $name: Symptom = Symptom { means: $means, remedy: $remedy };
        )+
        /// All with their names, in the order of the steps.
        pub static ALL: &[(&str, &Symptom)] = &[$((stringify!($name), &$name)),+];
    };
}

symptoms! {
    NAME_UNKNOWN:
        "this machine's resolver does not know the name",
        "correct the name in the URL, or add it to DNS or /etc/hosts";
    REFUSED:
        "nothing listens on this port there",
        "start the web server, or correct the port in the URL";
    DROPPED:
        "a firewall drops the packets, or the machine is off",
        "open the port in the firewall, and compare the address with that of the web server";
    UNREACHABLE:
        "the network has no route to this address",
        "correct the address in DNS, or the routes of this machine";
    DEAD_ADDRESS:
        "browsers lose time on this address before they try the next",
        "take the address out of DNS, or let the web server listen there (IPv6: listen [::]:443)";
    CERTIFICATE_UNKNOWN:
        "the certificate is self-signed, or signed by an authority that this machine does not trust, or the web server leaves out the intermediate certificate",
        "install the whole chain in the web server; if the authority is your own, name its certificate with --ca FILE and let the browsers trust it";
    CERTIFICATE_EXPIRED:
        "the certificate has expired, or this machine's clock is ahead",
        "renew the certificate and reload the web server";
    CERTIFICATE_EARLY:
        "the certificate begins in the future, or this machine's clock is wrong",
        "let this machine follow a time server, or wait until the certificate is valid";
    CERTIFICATE_NAME:
        "the certificate is for another name",
        "get a certificate for the name in the URL, or use the name that it is for";
    CERTIFICATE_FORM:
        "a server may not use this kind of certificate",
        "make one for a server: CA:FALSE, the name in subjectAltName, and current algorithms";
    NO_TLS:
        "what answers on this port speaks no TLS",
        "switch TLS on in the web server for this port, or use the port that has it";
    TLS_FAILED:
        "the web server and this program have no TLS version or cipher in common",
        "let the web server offer TLS 1.2 or 1.3; its error log says more";
    TLS_IS_ASKED:
        "this port speaks TLS only",
        "use https (wss) in the URL and in APP_URL";
    HTTP2_ONLY:
        "a WebSocket begins with HTTP/1.1, and this port speaks only HTTP/2",
        "let the web server speak HTTP/1.1 on this port as well (nginx: no http2 on a listen without ssl; elsewhere: ALPN http/1.1 beside h2)";
    REDIRECTED:
        "the web server wants another scheme, host or ending of the path, and a browser's WebSocket does not follow",
        "use the address to which it redirects, in the browser's bar and in APP_URL";
    SENT_ELSEWHERE:
        "the web server leads the WebSocket to another page, such as a login",
        "leave /ws/chat out of redirects and logins: its location has to come before them (nginx: location = /ws/chat; Apache: ProxyPass above RewriteRule)";
    LOGIN_WANTED:
        "the web server asks for a password or certificate of its own",
        "leave /ws/chat out of the web server's password protection";
    SILENT:
        "the connection is accepted, and the request is not answered",
        "see the web server's error log; does the service behind it hang?";
    UPGRADE_LOST:
        "the request reaches the chat service without the headers of a WebSocket",
        "nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade and Connection \"upgrade\"; Apache: ProxyPass to ws:// with mod_proxy_wstunnel, or to http:// with upgrade=websocket; see contrib/nginx, contrib/apache";
    NO_MODULE:
        "Apache has no module loaded that passes ws:// on",
        "a2enmod proxy proxy_http proxy_wstunnel, then restart Apache; its error log says more";
    PATH_CHANGED:
        "the request reaches the chat service under another path than /ws/chat",
        "correct the path in the URL, or let the proxy pass /ws/chat on unchanged; see contrib/nginx, contrib/apache";
    NOT_PASSED:
        "the web server or another program answers, not the chat service",
        "add the snippet of contrib/nginx or contrib/apache to the web server's site, with the port of the service";
    ORIGIN_REFUSED:
        "the page's host is neither that of APP_URL nor the Host that the proxy passes on",
        "set APP_URL to the address in the browser's bar and restart the service, or let the proxy pass Host on (nginx: proxy_set_header Host $http_host; Apache: ProxyPreserveHost On)";
    APP_URL_OTHER:
        "links in notifications lead elsewhere, and only the proxy's Host lets the browser in",
        "set APP_URL to the address in the browser's bar and restart the service";
    ORIGIN_STALE:
        "APP_URL is right, but the running service refuses the page's Origin",
        "restart the service, which reads APP_URL at its start; let the proxy pass Origin and Host on unchanged (the service's log shows the Origin that it got)";
    FORBIDDEN:
        "the web server refuses the request, not the chat service",
        "see the access rules for /ws/chat and the error log of the web server or its firewall module (mod_security, a WAF); where it replaces error pages (proxy_intercept_errors), the service's log has the reason";
    SERVER_FAILS:
        "the web server fails over the request, before it asks the chat service",
        "see the web server's error log: a rule, a module or a subrequest (nginx: auth_request) for /ws/chat fails";
    LIMITED:
        "the proxy limits requests or connections",
        "raise the proxy's limits for /ws/chat (nginx: limit_req, limit_conn), for each open page holds a connection; or end its maintenance mode";
    CDN_FAILED:
        "the CDN in front answers because it cannot reach the web server behind it",
        "compare address, port and certificate that the CDN has with those of the web server, and let WebSockets through there; check with the web server's own name says more";
    SERVICE_OFF:
        "the chat's WebSocket service is switched off in the settings",
        "settings set chat_websocket_enabled 1, or the admin page of the chat service";
    SERVICE_FULL:
        "the service has as many open connections as it accepts",
        "raise CHAT_WEBSOCKET_MAX_CONNECTIONS, and what the machine allows: see the lines room";
    STOPPED:
        "the web server passes the request on, and no chat service answers on this machine",
        "see status and the log, and start the service; if it runs on another machine, run check there";
    NO_UNIT:
        "the mode is external, the service does not run, and no unit of systemd starts it",
        "install systemd (as root) writes the unit; or settings set chat_websocket_management_mode cron; with another service manager, see its log";
    NO_CRON:
        "the mode is cron, the service is wanted and does not run: no cron job starts it",
        "start cron (systemctl enable --now cron), and see that a crontab runs supervise every minute: install cron (as root) writes the line";
    PORT_WRONG:
        "the service runs, but the web server connects to another address or cannot reach it",
        "compare http://, host and port in the web server's file with chat_websocket_host and chat_websocket_port (settings list); Apache asks again only 60 s after a failure; SELinux: setsebool -P httpd_can_network_connect 1";
    HANGS:
        "the service's process is there, and does not answer at its address",
        "see the log and status, then restart the service: restart, or systemctl restart";
    OTHER_PROGRAM:
        "another program answers at the service's address",
        "end it (ss -ltnp names it), or choose another port for the service and the web server: settings set chat_websocket_port; a systemd socket unit of this service is meant to hold it";
    OTHER_INSTALL:
        "the chat service of another install answers at this install's address",
        "give each install a port of its own, here and in the web server: settings set chat_websocket_port";
    PHP_DAEMON:
        "the helpdesk's PHP daemon runs in this service's place",
        "end it, and take its line out of cron or systemd: docs/migrate-from-php.md";
    LED_ELSEWHERE:
        "the service of this install accepts the token, and the one behind the web server does not",
        "compare host and port in the web server's file with chat_websocket_host and chat_websocket_port (settings list)";
    OTHER_SERVER:
        "what answers is not the chat's server, or the proxy changes or stores its answer",
        "let the web server pass /ws/chat to this install's port, with all headers of question and answer, and past any cache";
    HELD_BACK:
        "the handshake gets through, but frames do not",
        "let the proxy pass the connection through as a WebSocket, without buffering (nginx: proxy_buffering off)";
    TOKEN_REFUSED:
        "the service refuses the token",
        "see the service's log, which says why";
    SECRET_OTHER:
        "the token was signed under another secret than the JWT_SECRET of this install",
        "set JWT_SECRET to the helpdesk's and restart the service";
    SECRET_STALE:
        "the token matches the JWT_SECRET of this install, but the running service has another secret or clock",
        "restart the service; does it run with the same --root and .env?";
    TOKEN_OLD:
        "the token has expired, or this machine's clock is ahead",
        "take a new token; let this machine and the helpdesk's follow a time server";
    CLOCK_BEHIND:
        "the helpdesk's clock is ahead of this machine's",
        "let both machines follow a time server";
    AGENT_INACTIVE:
        "the agent does not exist or is not active",
        "activate the agent in the helpdesk, or name another with --agent";
    AGENT_FULL:
        "this agent has as many open connections as one agent may have",
        "close pages of the agent, or raise CHAT_WEBSOCKET_MAX_PER_AGENT";
    DATABASE_DOWN:
        "the service cannot ask its database",
        "start the database, or correct DB_HOST, DB_PORT and the login: see the line database";
    DATABASE_READ_ONLY:
        "the database takes no writes",
        "name the primary in DB_HOST, or end the server's read_only and super_read_only mode";
    DATABASE_RIGHTS:
        "the database user may not write what the service writes",
        "grant the database user SELECT, INSERT, UPDATE and DELETE on the helpdesk's tables";
    STORAGE_FULL:
        "neither log nor pid file can be written",
        "make room on the disk: df -h and df -i show it";
    STORAGE_READ_ONLY:
        "neither log nor pid file can be written",
        "mount it for writing (mount -o remount,rw; dmesg tells of a broken disk), or set STORAGE_PATH to a folder that is";
    CHAT_OFF:
        "the chat is switched off in the settings",
        "settings set chat_enabled 1, or the admin page of the chat";
    MESSAGE_REFUSED:
        "the service refuses the message",
        "name a direct thread in which the agent takes part, with another active agent";
    TIMEOUT_SHORT:
        "the proxy ends silent connections before the service pings them",
        "raise the proxy's time-out above the ping interval of 25 s (nginx: proxy_read_timeout 3600s; Apache: Timeout and ProxyTimeout, or timeout= of ProxyPass)";
}
