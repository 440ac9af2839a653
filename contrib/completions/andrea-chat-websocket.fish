# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_andrea_chat_websocket_global_optspecs
    string join \n color= h/help V/version
end

function __fish_andrea_chat_websocket_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_andrea_chat_websocket_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_andrea_chat_websocket_using_subcommand
    set -l cmd (__fish_andrea_chat_websocket_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -s V -l version -d 'Print version'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "serve" -d 'Run the chat service in the foreground'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "supervise" -d 'Run one supervisor pass (for cron, every minute)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "install" -d 'Set up systemd or cron to run the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "uninstall" -d 'Remove the files written by install'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "status" -d 'Show the status of the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "start" -d 'Ask the supervisor to start the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "stop" -d 'Ask the running service to stop'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "restart" -d 'Ask the supervisor to restart the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "connections" -d 'List the connected clients'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "settings" -d 'Show or change the chat\'s settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "config" -d 'Show every option, its value and where it comes from'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "prune" -d 'Mark messages past their retention as deleted'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "check" -d 'Check configuration, database and environment'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "healthcheck" -d 'Check the health of the running service (for containers)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "demo" -d 'Run a demo: the service with its own database and a chat page'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "chat" -d 'Read and send chat messages as an agent'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "token" -d 'Create an access token for an agent (for tests)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l log-level -d 'Log level' -r -f -a "error\t''
warn\t''
info\t''
debug\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l host -d 'Listen host: a name, an IPv4 address, or an IPv6 address in brackets; if unset, the setting chat_websocket_host counts [CHAT_WEBSOCKET_HOST] [default: 127.0.0.1]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l port -d 'Listen port; --port 0 takes any free one, which the log names; if unset, the setting chat_websocket_port counts [CHAT_WEBSOCKET_PORT] [default: 8090]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l log-stderr -d 'Whether the log also goes to standard error: auto (if that is a terminal or a journal), always, never [CHAT_WEBSOCKET_LOG_STDERR] [default: auto]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l typing-interval -d 'Minimum interval between forwarded typing events of one socket in one conversation; 0 forwards all [CHAT_WEBSOCKET_TYPING_INTERVAL] [default: 1000]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l presence-grace -d 'Delay before an agent without a socket is shown as offline [CHAT_WEBSOCKET_PRESENCE_GRACE] [default: 5]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l enforce-expiry -d '1 closes a socket 30 s after its token expires [CHAT_WEBSOCKET_ENFORCE_EXPIRY] [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l rate -d 'Events a second that one socket may send; 0 for no limit [CHAT_WEBSOCKET_RATE] [default: 20]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l burst -d 'Events that one socket may send at once [CHAT_WEBSOCKET_BURST] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l agent-rate -d 'Events a second that all sockets of an agent may send together; 0 for no limit; if unset, three times CHAT_WEBSOCKET_RATE [CHAT_WEBSOCKET_AGENT_RATE] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l agent-burst -d 'Events that all sockets of an agent may send at once; if unset, three times CHAT_WEBSOCKET_BURST [CHAT_WEBSOCKET_AGENT_BURST] [default: 180]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l control-rate -d 'WebSocket pings and pongs a second that one socket may send; 0 for no limit [CHAT_WEBSOCKET_CONTROL_RATE] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l message-bytes -d 'Largest message; less than 1024 counts as 1024, and 0 as 65536, or as more if chat_max_message_length needs it [CHAT_WEBSOCKET_MESSAGE_BYTES] [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-connections -d 'Total sockets, bounded by the limits of open files and threads [CHAT_WEBSOCKET_MAX_CONNECTIONS] [default: 1024]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-per-agent -d 'Sockets of one agent [CHAT_WEBSOCKET_MAX_PER_AGENT] [default: 32]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-unauthenticated -d 'Sockets that have not authenticated yet; a newcomer closes the oldest silent one [CHAT_WEBSOCKET_MAX_UNAUTHENTICATED] [default: 512]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l db-connections -d 'Total database connections, opened when needed and closed after 60 s without use; one works, but is slower [CHAT_WEBSOCKET_DB_CONNECTIONS] [default: 3]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l handshake-timeout -d 'Time limit for a complete request head [CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l auth-timeout -d 'Time limit from the handshake to an accepted auth [CHAT_WEBSOCKET_AUTH_TIMEOUT] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l ping-interval -d 'Ping a peer that has been silent for this long [CHAT_WEBSOCKET_PING_INTERVAL] [default: 25]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l idle-timeout -d 'Drop a peer that has been silent for this long [CHAT_WEBSOCKET_IDLE_TIMEOUT] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l queue-bytes -d 'Most bytes queued for one slow reader before it is dropped [CHAT_WEBSOCKET_QUEUE_BYTES] [default: 1048576]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l queue-seconds -d 'Longest time that bytes may be queued for one slow reader before it is dropped [CHAT_WEBSOCKET_QUEUE_SECONDS] [default: 30]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l health-peers -d 'Peers besides this machine that may read /healthz and /metrics: addresses, networks, any [CHAT_WEBSOCKET_HEALTH_PEERS] [default: loopback]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l metrics-hosts -d 'Host names accepted for /metrics, besides localhost, addresses and the listen host; any other is answered 421 [CHAT_WEBSOCKET_METRICS_HOSTS] [default: none]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand supervise" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand supervise" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand supervise" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand install" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand install" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand install" -l socket -d 'Let systemd keep the port open while the service restarts'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand install" -l dry-run -d 'Only show the files'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand uninstall" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand uninstall" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand uninstall" -l dry-run -d 'Only list the files'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand uninstall" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l json -d 'Write one JSON object; with --watch, one per line'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l watch -d 'Repeat every 2 s until Ctrl-C; on a terminal, in place'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand start" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand start" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand start" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand stop" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand stop" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand stop" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand restart" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand restart" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand restart" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand connections" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand connections" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand connections" -l json -d 'Write a JSON list'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand connections" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "set" -d 'Change one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -l json -d 'Write one JSON object'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from get" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from get" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from set" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from set" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "set" -d 'Change one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l host -d 'Listen host: a name, an IPv4 address, or an IPv6 address in brackets; if unset, the setting chat_websocket_host counts [CHAT_WEBSOCKET_HOST] [default: 127.0.0.1]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l port -d 'Listen port; --port 0 takes any free one, which the log names; if unset, the setting chat_websocket_port counts [CHAT_WEBSOCKET_PORT] [default: 8090]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l log-stderr -d 'Whether the log also goes to standard error: auto (if that is a terminal or a journal), always, never [CHAT_WEBSOCKET_LOG_STDERR] [default: auto]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l typing-interval -d 'Minimum interval between forwarded typing events of one socket in one conversation; 0 forwards all [CHAT_WEBSOCKET_TYPING_INTERVAL] [default: 1000]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l presence-grace -d 'Delay before an agent without a socket is shown as offline [CHAT_WEBSOCKET_PRESENCE_GRACE] [default: 5]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l enforce-expiry -d '1 closes a socket 30 s after its token expires [CHAT_WEBSOCKET_ENFORCE_EXPIRY] [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l rate -d 'Events a second that one socket may send; 0 for no limit [CHAT_WEBSOCKET_RATE] [default: 20]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l burst -d 'Events that one socket may send at once [CHAT_WEBSOCKET_BURST] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l agent-rate -d 'Events a second that all sockets of an agent may send together; 0 for no limit; if unset, three times CHAT_WEBSOCKET_RATE [CHAT_WEBSOCKET_AGENT_RATE] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l agent-burst -d 'Events that all sockets of an agent may send at once; if unset, three times CHAT_WEBSOCKET_BURST [CHAT_WEBSOCKET_AGENT_BURST] [default: 180]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l control-rate -d 'WebSocket pings and pongs a second that one socket may send; 0 for no limit [CHAT_WEBSOCKET_CONTROL_RATE] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l message-bytes -d 'Largest message; less than 1024 counts as 1024, and 0 as 65536, or as more if chat_max_message_length needs it [CHAT_WEBSOCKET_MESSAGE_BYTES] [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l max-connections -d 'Total sockets, bounded by the limits of open files and threads [CHAT_WEBSOCKET_MAX_CONNECTIONS] [default: 1024]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l max-per-agent -d 'Sockets of one agent [CHAT_WEBSOCKET_MAX_PER_AGENT] [default: 32]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l max-unauthenticated -d 'Sockets that have not authenticated yet; a newcomer closes the oldest silent one [CHAT_WEBSOCKET_MAX_UNAUTHENTICATED] [default: 512]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l db-connections -d 'Total database connections, opened when needed and closed after 60 s without use; one works, but is slower [CHAT_WEBSOCKET_DB_CONNECTIONS] [default: 3]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l handshake-timeout -d 'Time limit for a complete request head [CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l auth-timeout -d 'Time limit from the handshake to an accepted auth [CHAT_WEBSOCKET_AUTH_TIMEOUT] [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l ping-interval -d 'Ping a peer that has been silent for this long [CHAT_WEBSOCKET_PING_INTERVAL] [default: 25]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l idle-timeout -d 'Drop a peer that has been silent for this long [CHAT_WEBSOCKET_IDLE_TIMEOUT] [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l queue-bytes -d 'Most bytes queued for one slow reader before it is dropped [CHAT_WEBSOCKET_QUEUE_BYTES] [default: 1048576]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l queue-seconds -d 'Longest time that bytes may be queued for one slow reader before it is dropped [CHAT_WEBSOCKET_QUEUE_SECONDS] [default: 30]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l health-peers -d 'Peers besides this machine that may read /healthz and /metrics: addresses, networks, any [CHAT_WEBSOCKET_HEALTH_PEERS] [default: loopback]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l metrics-hosts -d 'Host names accepted for /metrics, besides localhost, addresses and the listen host; any other is answered 421 [CHAT_WEBSOCKET_METRICS_HOSTS] [default: none]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -l json -d 'Write a JSON list'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l scope -d 'Messages to look at' -r -f -a "all\t''
channel\t''
direct\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l channel-id -d 'Only messages of this channel' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l dry-run -d 'Only count the messages (the default)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l run -d 'Mark the messages as deleted'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l json -d 'Write a JSON report (the default if standard output is not a terminal)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l url -d 'Also connect through the web server as a browser does, for example to wss://helpdesk.example/ws/chat' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l ca -d 'Additional trusted certificates, in PEM' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l agent -d 'Log in as this agent, which then appears online for about 30 s' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l token-file -d 'Log in with a token of the helpdesk, read from this file' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l thread -d 'Send a message to this direct thread of the agent, and mark it deleted at once' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l json -d 'Write a JSON list'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -s q -l quiet -d 'Print only warnings and failures'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -l host -d 'Listen host of the service [default: as serve]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -l port -d 'Listen port of the service [default: as serve]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -l timeout -d 'Time limit of the whole check, in seconds' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l data -d 'Folder for everything that the demo writes' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l port -d 'Port on this machine, or the next free one; 0 for any free port' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l log-level -d 'Log level of DIR/logs/chat-websocket.log' -r -f -a "error\t''
warn\t''
info\t''
debug\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -f -a "tail" -d 'Show the newest messages of a conversation, then new ones as they arrive'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -f -a "send" -d 'Send a message and wait until it is stored'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and not __fish_seen_subcommand_from tail send help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l agent -d 'Agent to act as' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l channel -d 'Channel to read from or send to' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l thread -d 'Direct thread to read from or send to' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -s n -l lines -d 'Number of messages to start with' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l json -d 'Write each message as a line of JSON'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -l no-follow -d 'Exit after these messages'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from tail" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l agent -d 'Agent to act as' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l channel -d 'Channel to read from or send to' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l thread -d 'Direct thread to read from or send to' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -l json -d 'Write each message as a line of JSON'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from send" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from help" -f -a "tail" -d 'Show the newest messages of a conversation, then new ones as they arrive'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from help" -f -a "send" -d 'Send a message and wait until it is stored'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand chat; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l agent -d 'Agent of the token' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l ttl -d 'Lifetime in seconds' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l color -d 'Colour what people read: auto (on a terminal, unless NO_COLOR has a value), always, never' -r -f -a "auto\t''
always\t''
never\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "serve" -d 'Run the chat service in the foreground'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "supervise" -d 'Run one supervisor pass (for cron, every minute)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "install" -d 'Set up systemd or cron to run the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "uninstall" -d 'Remove the files written by install'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "status" -d 'Show the status of the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "start" -d 'Ask the supervisor to start the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "stop" -d 'Ask the running service to stop'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "restart" -d 'Ask the supervisor to restart the service'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "connections" -d 'List the connected clients'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "settings" -d 'Show or change the chat\'s settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "config" -d 'Show every option, its value and where it comes from'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "prune" -d 'Mark messages past their retention as deleted'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "check" -d 'Check configuration, database and environment'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "healthcheck" -d 'Check the health of the running service (for containers)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "demo" -d 'Run a demo: the service with its own database and a chat page'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "chat" -d 'Read and send chat messages as an agent'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "token" -d 'Create an access token for an agent (for tests)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve supervise install uninstall status start stop restart connections settings config prune check healthcheck demo chat token help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "set" -d 'Change one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from chat" -f -a "tail" -d 'Show the newest messages of a conversation, then new ones as they arrive'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from chat" -f -a "send" -d 'Send a message and wait until it is stored'
