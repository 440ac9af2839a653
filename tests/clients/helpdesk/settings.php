<?php
/**
 * What the PHP daemon's stand-in and its supervisor's share: the install's `.env`, its settings, its pid file.
 */

declare(strict_types=1);

final class Install
{
    public const ROOT = __DIR__ . '/..';
    public const PID_FILE = self::ROOT . '/storage/runtime/chat-websocket.pid';
    public const LOG_FILE = self::ROOT . '/storage/logs/chat-websocket.log';

    private PDO $database;

    public function __construct()
    {
        $env = [];
        foreach (file(self::ROOT . '/.env', FILE_IGNORE_NEW_LINES) as $line) {
            [$name, $value] = explode('=', $line, 2);
            $env[$name] = trim($value, '"');
        }
        date_default_timezone_set($env['APP_TIMEZONE']);
        $this->database = new PDO(
            "mysql:host={$env['DB_HOST']};port={$env['DB_PORT']};dbname={$env['DB_DATABASE']}",
            $env['DB_USERNAME'],
            $env['DB_PASSWORD'],
            [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]
        );
    }

    public function get(string $name): string
    {
        $found = $this->database->prepare('SELECT value FROM settings WHERE key_name = ?');
        $found->execute([$name]);

        return (string) $found->fetchColumn();
    }

    public function is(string $name): bool
    {
        return (int) $this->get($name) === 1;
    }

    /** @param array<string, string> $values */
    public function set(array $values): void
    {
        foreach ($values as $name => $value) {
            $this->database->prepare('UPDATE settings SET value = ? WHERE key_name = ?')->execute([$value, $name]);
        }
    }

    public static function now(): string
    {
        return date('Y-m-d H:i:s');
    }

    /** The pid file's process, if it lives; whatever program that is. */
    public static function livePid(): ?int
    {
        $pid = (int) @file_get_contents(self::PID_FILE);

        return $pid > 0 && file_exists("/proc/{$pid}") ? $pid : null;
    }

    public function isFresh(): bool
    {
        $seen = strtotime($this->get('chat_websocket_last_seen_at'));

        return $seen !== false && time() - $seen <= 90;
    }
}
