//! Why a browser does not connect: each faulty set-up with its signs, meaning and remedy. The findings of `check` and
//! the table of `docs/troubleshooting.md` are made from these.

use std::fmt::{Display, Write};

use super::{Finding, Level};

/// One faulty set-up that keeps a browser from chatting.
#[derive(Debug, PartialEq, Eq)]
pub struct Symptom {
    /// The name of the set-up.
    pub setup: &'static str,
    /// What the browser's console or the close code shows.
    pub browser: &'static str,
    /// What the service's log says; text between backticks is verbatim.
    pub log: &'static str,
    /// The step of `check` that fails.
    pub step: &'static str,
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
        Finding::failed(
            about,
            format!("{tried}: {came}; {}", self.means),
            self.remedy,
        )
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
    ($($name:ident: $setup:literal, $browser:literal, $log:literal, $step:literal, $means:literal, $remedy:literal;)+) => {
        $(
            #[doc = $setup]
            pub static $name: Symptom = Symptom {
                setup: $setup,
                browser: $browser,
                log: $log,
                step: $step,
                means: $means,
                remedy: $remedy,
            };
        )+
        /// The table with the names of its entries, in the order of the steps.
        pub static ALL: &[(&str, &Symptom)] = &[$((stringify!($name), &$name)),+];
    };
}

symptoms! {
    NAME_UNKNOWN: "The name does not resolve",
        "`net::ERR_NAME_NOT_RESOLVED`",
        "nothing", "DNS",
        "this machine's resolver does not know the name",
        "correct the name in the URL, or add it to DNS or /etc/hosts";
    REFUSED: "Connection refused",
        "`net::ERR_CONNECTION_REFUSED`",
        "nothing", "TCP, `refused`",
        "nothing listens on this port there",
        "start the web server, or correct the port in the URL";
    DROPPED: "Packets are dropped",
        "`net::ERR_CONNECTION_TIMED_OUT`",
        "nothing", "TCP, `timed out`",
        "a firewall drops the packets, or the machine is off",
        "open the port in the firewall, and compare the address with that of the web server";
    UNREACHABLE: "No way to the machine",
        "`net::ERR_ADDRESS_UNREACHABLE`",
        "nothing", "TCP",
        "the network has no route to this address",
        "correct the address in DNS, or the routes of this machine";
    DEAD_ADDRESS: "One of several addresses is dead",
        "it connects late, or only on some machines",
        "nothing", "TCP, a warning",
        "browsers lose time on this address before they try the next",
        "take the address out of DNS, or let the web server listen there (IPv6: listen [::]:443)";
    CERTIFICATE_UNKNOWN: "The certificate's authority is unknown",
        "`net::ERR_CERT_AUTHORITY_INVALID`",
        "nothing", "TLS",
        "the certificate is self-signed, or signed by an authority that this machine does not trust, or the web server leaves out the intermediate certificate",
        "install the whole chain in the web server; if the authority is your own, name its certificate with --ca FILE and let the browsers trust it";
    CERTIFICATE_EXPIRED: "The certificate has expired",
        "`net::ERR_CERT_DATE_INVALID`",
        "nothing", "TLS",
        "the certificate has expired, or this machine's clock is ahead",
        "renew the certificate and reload the web server";
    CERTIFICATE_EARLY: "The certificate is not valid yet",
        "`net::ERR_CERT_DATE_INVALID`",
        "nothing", "TLS",
        "the certificate begins in the future, or this machine's clock is wrong",
        "let this machine follow a time server, or wait until the certificate is valid";
    CERTIFICATE_NAME: "The certificate is for another name",
        "`net::ERR_CERT_COMMON_NAME_INVALID`",
        "nothing", "TLS",
        "the certificate is for another name",
        "get a certificate for the name in the URL, or use the name that it is for";
    CERTIFICATE_FORM: "The certificate is of the wrong kind",
        "`net::ERR_CERT_INVALID`, or in Firefox `MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY`",
        "nothing", "TLS",
        "a server may not use this kind of certificate",
        "make one for a server: CA:FALSE, the name in subjectAltName, and current algorithms";
    NO_TLS: "Plain HTTP on a port for https",
        "`net::ERR_SSL_PROTOCOL_ERROR`",
        "nothing", "TLS",
        "what answers on this port speaks no TLS",
        "switch TLS on in the web server for this port, or use the port that has it";
    TLS_FAILED: "No agreement on TLS",
        "`net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH` or the like",
        "nothing", "TLS",
        "the web server and this program have no TLS version or cipher in common",
        "let the web server offer TLS 1.2 or 1.3; its error log says more";
    TLS_IS_ASKED: "https on a port for plain HTTP",
        "`Unexpected response code: 400`",
        "nothing", "proxy, 400",
        "this port speaks TLS only",
        "use https (wss) in the URL and in APP_URL";
    HTTP2_ONLY: "The port speaks only HTTP/2",
        "`net::ERR_INVALID_HTTP_RESPONSE`",
        "nothing", "proxy, or TLS",
        "a WebSocket begins with HTTP/1.1, and this port speaks only HTTP/2",
        "let the web server speak HTTP/1.1 on this port as well (nginx: no http2 on a listen without ssl; elsewhere: ALPN http/1.1 beside h2)";
    REDIRECTED: "The web server redirects",
        "`Unexpected response code: 301`",
        "nothing", "proxy, 301",
        "the web server wants another scheme, host or ending of the path, and a browser's WebSocket does not follow",
        "use the address to which it redirects, in the browser's bar and in APP_URL";
    SENT_ELSEWHERE: "The web server leads to another page",
        "`Unexpected response code: 302`",
        "nothing", "proxy, 302",
        "the web server leads the WebSocket to another page, such as a login",
        "leave /ws/chat out of redirects and logins: its location has to come before them (nginx: location = /ws/chat; Apache: ProxyPass above RewriteRule)";
    LOGIN_WANTED: "The web server wants a login",
        "`HTTP Authentication failed`",
        "nothing", "proxy, 401",
        "the web server asks for a password or certificate of its own",
        "leave /ws/chat out of the web server's password protection";
    SILENT: "No answer to the request",
        "pending, or `Connection closed before receiving a handshake response`",
        "nothing", "proxy, no answer",
        "the connection is accepted, and the request is not answered",
        "see the web server's error log; does the service behind it hang?";
    UPGRADE_LOST: "Upgrade is not passed on",
        "`Unexpected response code: 426` or `400`",
        "`refused with 4`", "proxy, 426 or 400 of the chat service",
        "the request reaches the chat service without the headers of a WebSocket",
        "nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade and Connection \"upgrade\"; Apache: ProxyPass to ws:// with mod_proxy_wstunnel, or to http:// with upgrade=websocket; see contrib/nginx, contrib/apache";
    NO_MODULE: "Apache lacks a module",
        "`Unexpected response code: 500`",
        "nothing; Apache's: No protocol handler was valid", "proxy, 500 of Apache",
        "Apache has no module loaded that passes ws:// on",
        "a2enmod proxy proxy_http proxy_wstunnel, then restart Apache; its error log says more";
    PATH_CHANGED: "Another path reaches the service",
        "`Unexpected response code: 404`",
        "`refused with 404`", "proxy, 404 of the chat service",
        "the request reaches the chat service under another path than /ws/chat",
        "correct the path in the URL, or let the proxy pass /ws/chat on unchanged; see contrib/nginx, contrib/apache";
    NOT_PASSED: "The proxy does not pass /ws/chat on",
        "`Unexpected response code: 404` or `200`",
        "nothing", "proxy, 404 or 200 of the web server",
        "the web server or another program answers, not the chat service",
        "add the snippet of contrib/nginx or contrib/apache to the web server's site, with the port of the service";
    ORIGIN_REFUSED: "Host is not passed on, and APP_URL is another",
        "`Unexpected response code: 403`",
        "`refused with 403`, with the Origin", "proxy, 403 of the chat service",
        "the page's host is neither that of APP_URL nor the Host that the proxy passes on",
        "set APP_URL to the address in the browser's bar and restart the service, or let the proxy pass Host on (nginx: proxy_set_header Host $http_host; Apache: ProxyPreserveHost On)";
    APP_URL_OTHER: "APP_URL is another address",
        "nothing, as long as the proxy passes Host on; then as above",
        "nothing", "APP_URL, a warning",
        "links in notifications lead elsewhere, and only the proxy's Host lets the browser in",
        "set APP_URL to the address in the browser's bar and restart the service";
    ORIGIN_STALE: "The proxy changes Origin, or the service has an older APP_URL",
        "`Unexpected response code: 403`",
        "`refused with 403`, with the Origin", "proxy, 403 of the chat service",
        "APP_URL is right, but the running service refuses the page's Origin",
        "restart the service, which reads APP_URL at its start; let the proxy pass Origin and Host on unchanged (the service's log shows the Origin that it got)";
    FORBIDDEN: "The web server forbids it",
        "`Unexpected response code: 403`, or 405, 406 and the like",
        "nothing", "proxy, 403 of the web server",
        "the web server refuses the request, not the chat service",
        "see the access rules for /ws/chat and the error log of the web server or its firewall module (mod_security, a WAF); where it replaces error pages (proxy_intercept_errors), the service's log has the reason";
    SERVER_FAILS: "The web server fails",
        "`Unexpected response code: 500`",
        "nothing", "proxy, 500 of the web server",
        "the web server fails over the request, before it asks the chat service",
        "see the web server's error log: a rule, a module or a subrequest (nginx: auth_request) for /ws/chat fails";
    LIMITED: "A limit of the proxy",
        "`Unexpected response code: 429` or `503`",
        "nothing", "proxy, 429, or 503 of nginx",
        "the proxy limits requests or connections",
        "raise the proxy's limits for /ws/chat (nginx: limit_req, limit_conn), for each open page holds a connection; or end its maintenance mode";
    CDN_FAILED: "The CDN does not reach the web server",
        "`Unexpected response code: 52x`",
        "nothing", "proxy, 520 to 530",
        "the CDN in front answers because it cannot reach the web server behind it",
        "compare address, port and certificate that the CDN has with those of the web server, and let WebSockets through there; check with the web server's own name says more";
    SERVICE_OFF: "The WebSocket service is switched off",
        "`Unexpected response code: 503`, in cron mode 502",
        "`refused with 503`, in cron mode nothing", "proxy, 503 of the chat service",
        "the chat's WebSocket service is switched off in the settings",
        "settings set chat_websocket_enabled 1, or the admin page of the chat service";
    SERVICE_FULL: "The service's limit is reached",
        "`Unexpected response code: 503`",
        "`was refused with 503`, with the limit", "proxy, 503 of the chat service",
        "the service has as many open connections as it accepts",
        "raise CHAT_WEBSOCKET_MAX_CONNECTIONS, and what the machine allows: see the lines room";
    STOPPED: "The service is stopped",
        "`Unexpected response code: 502` (nginx) or `503` (Apache)",
        "nothing", "proxy, and nothing at the service's address",
        "the web server passes the request on, and no chat service answers on this machine",
        "see status and the log, and start the service; if it runs on another machine, run check there";
    NO_UNIT: "External mode, and no unit",
        "`Unexpected response code: 502` or `503`",
        "nothing", "service, and proxy",
        "the mode is external, the service does not run, and no unit of systemd starts it",
        "install systemd (as root) writes the unit; or settings set chat_websocket_management_mode cron; with another service manager, see its log";
    NO_CRON: "Cron does not run the supervisor",
        "`Unexpected response code: 502` or `503`",
        "nothing", "service, and proxy",
        "the mode is cron, the service is wanted and does not run: no cron job starts it",
        "start cron (systemctl enable --now cron), and see that a crontab runs supervise every minute: install cron (as root) writes the line";
    PORT_WRONG: "The proxy uses a wrong port",
        "`Unexpected response code: 502` (nginx) or `503` (Apache)",
        "nothing", "proxy, although the service answers at its own address",
        "the service runs, but the web server connects to another address or cannot reach it",
        "compare http://, host and port in the web server's file with chat_websocket_host and chat_websocket_port (settings list); Apache asks again only 60 s after a failure; SELinux: setsebool -P httpd_can_network_connect 1";
    HANGS: "The service hangs",
        "`Unexpected response code: 504`, or pending",
        "nothing", "address, and proxy",
        "the service's process is there, and does not answer at its address",
        "see the log and status, then restart the service: restart, or systemctl restart";
    OTHER_PROGRAM: "Another program has the port",
        "`Unexpected response code: 404` or other",
        "nothing", "address, and proxy",
        "another program answers at the service's address",
        "end it (ss -ltnp names it), or choose another port for the service and the web server: settings set chat_websocket_port; a systemd socket unit of this service is meant to hold it";
    OTHER_INSTALL: "Another install has the port",
        "connected, then closed with 4401",
        "in the other install's log: another secret", "address, and proxy",
        "the chat service of another install answers at this install's address",
        "give each install a port of its own, here and in the web server: settings set chat_websocket_port";
    PHP_DAEMON: "The PHP daemon is still there",
        "connected, with the old daemon",
        "nothing", "service, address, and proxy",
        "the helpdesk's PHP daemon runs in this service's place",
        "end it, and take its line out of cron or systemd: docs/migrate-from-php.md";
    LED_ELSEWHERE: "The proxy leads to another install",
        "connected, then closed with 4401",
        "nothing; in the other install's log: another secret", "token",
        "the service of this install accepts the token, and the one behind the web server does not",
        "compare host and port in the web server's file with chat_websocket_host and chat_websocket_port (settings list)";
    OTHER_SERVER: "Another WebSocket server answers",
        "`Invalid frame header`, or connected and no chat",
        "nothing", "proxy, no event",
        "what answers is not the chat's server, or the proxy changes or stores its answer",
        "let the web server pass /ws/chat to this install's port, with all headers of question and answer, and past any cache";
    HELD_BACK: "The proxy holds frames back",
        "connected, then closed with 4408 after 10 s, or with 1006",
        "nothing", "proxy, no answer to a frame",
        "the handshake gets through, but frames do not",
        "let the proxy pass the connection through as a WebSocket, without buffering (nginx: proxy_buffering off)";
    TOKEN_REFUSED: "The token is refused",
        "closed with 4401",
        "`authentication failed`", "token",
        "the service refuses the token",
        "see the service's log, which says why";
    SECRET_OTHER: "JWT_SECRET is not the helpdesk's",
        "closed with 4401",
        "`signed under another secret`", "token, with --token-file",
        "the token was signed under another secret than the JWT_SECRET of this install",
        "set JWT_SECRET to the helpdesk's and restart the service";
    SECRET_STALE: "The running service has another JWT_SECRET",
        "closed with 4401",
        "`signed under another secret`", "token, with --agent",
        "the token matches the JWT_SECRET of this install, but the running service has another secret or clock",
        "restart the service; does it run with the same --root and .env?";
    TOKEN_OLD: "The token has expired",
        "closed with 4401",
        "`the token expired`", "token, with --token-file",
        "the token has expired, or this machine's clock is ahead",
        "take a new token; let this machine and the helpdesk's follow a time server";
    CLOCK_BEHIND: "The clock is behind",
        "closed with 4401",
        "`in the future; compare the clocks`", "token, with --token-file",
        "the helpdesk's clock is ahead of this machine's",
        "let both machines follow a time server";
    AGENT_INACTIVE: "The agent is inactive",
        "closed with 4401 or 4403",
        "`does not exist or is inactive`", "token",
        "the agent does not exist or is not active",
        "activate the agent in the helpdesk, or name another with --agent";
    AGENT_FULL: "The agent's limit is reached",
        "`too_many_connections`, closed with 1008",
        "`as many connections as one may have`", "token",
        "this agent has as many open connections as one agent may have",
        "close pages of the agent, or raise CHAT_WEBSOCKET_MAX_PER_AGENT";
    DATABASE_DOWN: "The database does not answer",
        "`database_unavailable`, or closed with 1013",
        "`the database is not available`", "database, and token or message",
        "the service cannot ask its database",
        "start the database, or correct DB_HOST, DB_PORT and the login: see the line database";
    DATABASE_READ_ONLY: "The database is read only",
        "`database_unavailable`",
        "`it is read only`", "rights, and message",
        "the database takes no writes",
        "name the primary in DB_HOST, or end the server's read_only and super_read_only mode";
    DATABASE_RIGHTS: "The database user lacks rights",
        "the error's text",
        "`the database user may not do this`", "rights, and message",
        "the database user may not write what the service writes",
        "grant the database user SELECT, INSERT, UPDATE and DELETE on the helpdesk's tables";
    STORAGE_FULL: "The disk of the storage is full",
        "nothing, or the service does not start",
        "nothing", "storage",
        "neither log nor pid file can be written",
        "make room on the disk: df -h and df -i show it";
    STORAGE_READ_ONLY: "The storage is read only",
        "nothing, or `502`: the service does not start",
        "nothing", "storage",
        "neither log nor pid file can be written",
        "mount it for writing (mount -o remount,rw; dmesg tells of a broken disk), or set STORAGE_PATH to a folder that is";
    CHAT_OFF: "The chat is switched off",
        "`Internal chat is disabled`, in cron mode 502",
        "nothing", "settings, and message with --thread",
        "the chat is switched off in the settings",
        "settings set chat_enabled 1, or the admin page of the chat";
    MESSAGE_REFUSED: "The message is refused",
        "the error's text",
        "nothing", "message, with --thread",
        "the service refuses the message",
        "name a direct thread in which the agent takes part, with another active agent";
    TIMEOUT_SHORT: "The proxy's time-out is below the ping interval",
        "closed with 1006 after a silence, again and again",
        "nothing", "silence, with --agent",
        "the proxy ends silent connections before the service pings them",
        "raise the proxy's time-out above the ping interval of 25 s (nginx: proxy_read_timeout 3600s; Apache: Timeout and ProxyTimeout, or timeout= of ProxyPass)";
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text = "| browser | log | line of `check` | set-up | what it means | remedy |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for (_, one) in ALL {
        let signs = [one.browser, one.log, one.step].join(" | ");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {signs} | {} | {} | {} |",
            one.setup, one.means, one.remedy
        );
    }
    text
}
