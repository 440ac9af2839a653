#!/usr/bin/env php
<?php
// Replaces Andrea Helpdesk's bin/chat-websocket-server.php: the PHP supervisor, which runs that script, then starts
// andrea-chat-websocket instead. Keep the original beside it, to roll back:
//
//     mv bin/chat-websocket-server.php bin/chat-websocket-server.php.php-daemon
//     cp .../contrib/php/chat-websocket-server.php bin/
//
// The program is looked for where ANDREA_CHAT_WEBSOCKET says, else in /usr/local/bin.

declare(strict_types=1);

$program = getenv('ANDREA_CHAT_WEBSOCKET') ?: '/usr/local/bin/andrea-chat-websocket';
$root = dirname(__DIR__);

if (PHP_SAPI !== 'cli') {
    exit(1);
}
if (!is_executable($program)) {
    fwrite(STDERR, "cannot start the chat daemon: $program is not there or not executable; install it, or name it in ANDREA_CHAT_WEBSOCKET\n");
    exit(1);
}

$arguments = array_merge(['serve', '--root', $root], array_slice($argv, 1));

// The PHP supervisor's lock is among the files that this process has inherited. A daemon that kept it would keep every
// later run of the supervisor from its work, so a shell closes them on the way.
$close = 'for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done; ';
$words = array_merge(['sh', $program], $arguments);

chdir($root);
if (function_exists('pcntl_exec')) {
    // Becomes the daemon, and returns only where that fails.
    @pcntl_exec('/bin/sh', array_merge(['-c', $close . 'exec "$@"'], $words), getenv());
}

// Without pcntl a process cannot become another one. The daemon is left in the background, which is all that the PHP
// supervisor asks; a service manager needs pcntl, or better the program itself in its unit.
$process = proc_open(
    array_merge(['/bin/sh', '-c', $close . '"$@" &'], $words),
    [0 => STDIN, 1 => STDOUT, 2 => STDERR],
    $pipes,
    $root
);
exit(is_resource($process) ? proc_close($process) : 1);
