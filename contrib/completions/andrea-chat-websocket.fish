# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_andrea_chat_websocket_global_optspecs
    string join \n h/help V/version
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

complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -s V -l version -d 'Print version'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "serve" -d 'Run the chat service in the foreground'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "demo" -d 'Try it out: the service on a database of its own, and a page to chat on'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "supervise" -d 'Look after the service once; run by cron every minute'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "status" -d 'Show how the service is'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "start" -d 'Have the service started, by the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "stop" -d 'Have the service stopped, by itself or the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "restart" -d 'Have the service restarted, by the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "settings" -d 'Show or change the chat\'s settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "prune" -d 'Mark messages deleted that are older than they are to be kept'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "check" -d 'Look whether everything that the service needs is there'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "token" -d 'Make a token of an agent, for tests'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l host -d 'Listen host: a name, an IPv4 address or an IPv6 address in brackets [default: the setting, else 127.0.0.1]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l port -d 'Listen port; 0 takes any free one, the log says which [default: the setting, else 8090]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l log-level -d 'How much to log' -r -f -a "error\t''
warn\t''
info\t''
debug\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l typing-interval -d 'Between two typing events of one socket that are passed on; 0 passes all [default: 1000]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l presence-grace -d 'Before an agent without a socket goes offline [default: 5]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l enforce-expiry -d 'Close a socket 30 s after its token has expired [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l rate -d 'Events a second that one socket may send; 0 is no limit [default: 20]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l burst -d 'Events that one socket may send at once [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l control-rate -d 'WebSocket pings and pongs a second that one socket may send; 0 is no limit [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l control-burst -d 'WebSocket pings and pongs that one socket may send at once [default: 100]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l message-bytes -d 'Largest message, at least 1024; 0: 65536, or more where chat_max_message_length needs it [default: 0]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l fragments -d 'WebSocket frames that one message may come in [default: 1024]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l json-depth -d 'Lists and objects inside each other in one event, 1 to 120 [default: 32]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-connections -d 'Sockets in all, bounded by the limit of open files [default: 1024]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-per-agent -d 'Sockets of one agent [default: 32]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l max-unauthenticated -d 'Sockets that have not authenticated yet [default: 128]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l handshake-timeout -d 'For a complete request head; 3 at most while newcomers are refused [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l handshake-bytes -d 'For the whole request head [default: 16384]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l auth-timeout -d 'From the handshake to an accepted auth; 3 at most while newcomers are refused [default: 10]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l ping-interval -d 'A peer that is silent for so long is pinged [default: 25]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l idle-timeout -d 'A peer that is silent for so long is dropped [default: 60]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l queue-bytes -d 'What may wait for one slow reader before it is dropped [default: 1048576]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l queue-seconds -d 'For how long it may wait [default: 30]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -l health-peers -d 'Who beside this machine may see /healthz and /metrics: addresses, networks, any [default: loopback]' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l data -d 'Folder for everything that the demo writes' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l port -d 'Port on this machine, or the next one that is free; 0 takes any' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -l log-level -d 'How much to log to DIR/logs/chat-websocket.log' -r -f -a "error\t''
warn\t''
info\t''
debug\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand supervise" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand supervise" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -l json -d 'Write one JSON object'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand status" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand start" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand start" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand stop" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand stop" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand restart" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand restart" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "set" -d 'Change one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and not __fish_seen_subcommand_from list get set help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -l json -d 'Write one JSON object'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from get" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from set" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "set" -d 'Change one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand settings; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l scope -d 'Which messages' -r -f -a "all\t''
channel\t''
direct\t''"
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l channel-id -d 'Those of this channel alone' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l dry-run -d 'Only count the messages; this is the default'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -l run -d 'Mark them deleted'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l url -d 'Also shake hands through the web server, for example at wss://helpdesk.example/ws/chat' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -l json -d 'Write a JSON list'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l root -d 'Folder of the helpdesk install, where its .env is' -r -F
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l agent -d 'Whose token' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -l ttl -d 'For how many seconds it lives' -r
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "serve" -d 'Run the chat service in the foreground'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "demo" -d 'Try it out: the service on a database of its own, and a page to chat on'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "supervise" -d 'Look after the service once; run by cron every minute'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "status" -d 'Show how the service is'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "start" -d 'Have the service started, by the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "stop" -d 'Have the service stopped, by itself or the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "restart" -d 'Have the service restarted, by the supervisor'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "settings" -d 'Show or change the chat\'s settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "prune" -d 'Mark messages deleted that are older than they are to be kept'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "check" -d 'Look whether everything that the service needs is there'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "token" -d 'Make a token of an agent, for tests'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and not __fish_seen_subcommand_from serve demo supervise status start stop restart settings prune check token help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "list" -d 'Show all settings'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "get" -d 'Show the value of one setting'
complete -c andrea-chat-websocket -n "__fish_andrea_chat_websocket_using_subcommand help; and __fish_seen_subcommand_from settings" -f -a "set" -d 'Change one setting'
