<?php
/**
 * Plays the helpdesk's PHP supervisor, as it was recorded; that the daemon which it starts inherits its lock, and so
 * keeps every later run from its work, included.
 */

declare(strict_types=1);

require __DIR__ . '/settings.php';

chdir(Install::ROOT);
$lock = fopen('storage/runtime/chat-supervisor.lock', 'c');
if (!flock($lock, LOCK_EX | LOCK_NB)) {
    exit(0);
}
$install = new Install();
$say = static fn (string $text) => print('[' . Install::now() . "] {$text}\n");

/** Whether it has ended, within the five seconds that it has. */
$end = static function (int $pid): bool {
    exec("kill {$pid}");
    for ($try = 0; $try < 50; ++$try) {
        if (Install::livePid() !== $pid) {
            return true;
        }
        usleep(100_000);
    }

    return false;
};
$start = static function () use ($say): void {
    exec('nohup php bin/chat-websocket-server.php >> storage/logs/chat-websocket.log 2>&1 < /dev/null &');
    $say('started chat websocket daemon');
};

$pid = Install::livePid();
$status = $pid === null ? 'stopped' : ($install->isFresh() ? 'running' : 'stale');
if ($install->get('chat_websocket_management_mode') === 'external') {
    $install->set(['chat_websocket_status' => $status]);
    $say('external mode: status only');
    exit(0);
}
$wanted = $install->is('chat_enabled') && $install->is('chat_websocket_enabled') && $install->is('chat_websocket_autostart');
if ($pid !== null && ($install->is('chat_websocket_stop_requested') || !$wanted)) {
    $stopped = $end($pid) ? ['chat_websocket_status' => 'stopped', 'chat_websocket_stop_requested' => '0'] : ['chat_websocket_status' => 'stale'];
    $install->set($stopped);
} elseif ($pid !== null && $install->is('chat_websocket_restart_requested') || $status === 'stale') {
    if (!$end($pid)) {
        $install->set(['chat_websocket_status' => 'stale']);
        exit(1);
    }
    $install->set(['chat_websocket_restart_requested' => '0']);
    $start();
} elseif ($pid === null && $wanted) {
    $start();
} else {
    $install->set(['chat_websocket_status' => $status]);
    $say('chat websocket status checked');
}
