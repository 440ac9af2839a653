<?php
/**
 * Plays the helpdesk's PHP daemon as recorded, as far as its supervisor can see: pid file, heartbeat, log, stop request,
 * SIGTERM, a granted handshake. It does not chat.
 */

declare(strict_types=1);

require __DIR__ . '/settings.php';

$install = new Install();
$log = static fn (string $text) => file_put_contents(
    Install::LOG_FILE,
    '[' . Install::now() . "] {$text}\n",
    FILE_APPEND
);
$running = Install::livePid();
if ($running !== null && $install->isFresh()) {
    fwrite(STDERR, "A healthy chat websocket daemon is already running with PID {$running}.\n");
    exit(0);
}
file_put_contents(Install::PID_FILE, (string) getmypid());
$heartbeat = static fn () => $install->set([
    'chat_websocket_status' => 'running',
    'chat_websocket_pid' => (string) getmypid(),
    'chat_websocket_last_seen_at' => Install::now(),
]);
$install->set(['chat_websocket_last_started_at' => Install::now()]);
$heartbeat();
$address = $install->get('chat_websocket_host') . ':' . $install->get('chat_websocket_port');
$listener = @stream_socket_server("tcp://{$address}", $code, $reason);
if ($listener === false) {
    $log("failed to listen on {$address}: {$reason} ({$code})");
    $install->set(['chat_websocket_status' => 'failed']);
    unlink(Install::PID_FILE);
    exit(1);
}
$log("listening on {$address}");

$ended = false;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, static function () use (&$ended): void {
        $ended = true;
    });
}
$last = time();
$sockets = [];
while (!$ended) {
    $readable = [$listener, ...$sockets];
    $none = null;
    // A signal interrupts it.
    if (@stream_select($readable, $none, $none, 0, 500_000) > 0) {
        foreach ($readable as $socket) {
            if ($socket === $listener) {
                $sockets[] = stream_socket_accept($listener);
                continue;
            }
            $head = (string) fread($socket, 8192);
            if (preg_match('~^GET /ws/chat .*^Sec-WebSocket-Key: *(\S+)~ims', $head, $found)) {
                $accept = base64_encode(sha1($found[1] . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11', true));
                fwrite($socket, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" .
                    "Sec-WebSocket-Accept: {$accept}\r\n\r\n");
                continue;
            }
            fclose($socket);
            $sockets = array_filter($sockets, 'is_resource');
        }
    }
    if (time() - $last >= 15) {
        $last = time();
        $heartbeat();
    }
    if ($install->is('chat_websocket_stop_requested')) {
        $log('stop requested');
        break;
    }
}
$log('stopped');
unlink(Install::PID_FILE);
$install->set([
    'chat_websocket_status' => 'stopped',
    'chat_websocket_pid' => '',
    'chat_websocket_stop_requested' => '0',
]);
